"""Histories of users, kept outside of any model: raw ids, so that a newer model reads them too.

store = open_store("histories")              # a folder (LMDB)
store = open_store("redis://localhost:6379/0")
"""

from louder.errors import InputError
from louder.histories.arrivals import Arrival
from louder.histories.errors import StoreDamaged, StoreGone
from louder.histories.history import History, Names
from louder.histories.merging import Deleted, Stored
from louder.histories.store import KEEP, HistoryStore

__all__ = [
    "KEEP",
    "Arrival",
    "Deleted",
    "History",
    "HistoryStore",
    "Names",
    "StoreDamaged",
    "StoreGone",
    "Stored",
    "open_store",
]


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
