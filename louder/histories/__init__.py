"""Histories of users, kept outside of any model: raw ids, so that a newer model reads them too.

store = open_store("histories")              # a folder (LMDB)
store = open_store("redis://localhost:6379/0")
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from louder.errors import InputError
from louder.histories.history import History, Names
from louder.ids import RawId

KEEP = 1_000  # latest events of a user that stay, unless told otherwise


@dataclass(frozen=True)
class NewEvent:
    """An event to store; `id` makes it idempotent."""

    user: RawId
    id: str
    item: RawId
    time: int
    actions: tuple[str, ...] = ()
    values: dict[str, float] = field(default_factory=dict)
    request: str | None = None


@dataclass(frozen=True)
class Stored:
    stored: int
    duplicates: int


class StoreGone(Exception):
    """The store cannot be reached (Redis) or written (a full disk). Requests that carry their history can be answered."""


class StoreDamaged(InputError):
    """What is stored is not what was written. Whoever runs the service can fix it, not the one who asks."""


class HistoryStore(Protocol):
    """All methods may be called from several threads; `append` returns when the events survive a crash.

    A store holds one kind of user ids and one of item ids, integers or texts: those that came first. The other kind is
    refused with an InputError, also where it is only asked for.

    An event is stored once per user and id; ids of the latest 2,000 events of each user are remembered. Events that
    come late are put in their place by time, and those of the same time stay in the order of their arrival.
    """

    names: Names

    def history(self, user: RawId) -> History: ...  # empty for an unknown user
    def version(self, user: RawId) -> int: ...  # of `history`, without reading it
    def append(self, events: Sequence[NewEvent]) -> Stored: ...  # raises InputError for an unknown action or value
    def fill(self, histories: Iterable[tuple[RawId, History]]) -> int: ...  # first contents, from a table; users in it
    def filled(self) -> bool: ...
    def users(self, prefix: str = "", limit: int = 20) -> list[RawId]: ...
    def __iter__(self) -> Iterator[RawId]: ...
    def durability(self) -> str: ...  # a sentence: what an acknowledged event survives
    def close(self) -> None: ...


def open_store(url: str, *, names: Names | None = None, keep: int = KEEP) -> HistoryStore:
    """Open a store, made when it is not there yet: a folder, or redis://, rediss:// or unix:// with a Redis server.

    A new store takes its `names`. One that is there already must have the same; actions may be added at the end, and a
    service that goes back to fewer of them is served as well. Without `names`, those of the store count.

    Raises InputError if it has other names or is no store, StoreGone if the server does not answer.
    """
    if keep < 1:
        raise InputError(f"A store must keep at least 1 event of a user, but was told {keep}: --keep 1000.")
    scheme, found, _ = url.partition("://")
    if not found:
        from louder.histories.files import FileStore

        return FileStore(url, names=names, keep=keep)
    if scheme not in ("redis", "rediss", "unix"):
        raise InputError(f"There is no store for {scheme}://. Give a folder, or redis://HOST:PORT/NUMBER.")
    from louder.histories.redis import RedisStore

    return RedisStore(url, names=names, keep=keep)
