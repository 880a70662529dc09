"""Histories of users, kept outside of any model: raw ids, so that a newer model reads them too.

store = open_store("histories")              # a folder (LMDB)
store = open_store("redis://localhost:6379/0")
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from louder.ids import RawId


@dataclass(frozen=True)
class Names:
    """What the columns of a store mean. Fixed when it is made; actions may be added at the end."""

    actions: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Events:
    """Events of one user, oldest first (ties in the order of their arrival).

    items     T raw ids: int64 array, or an object array of texts
    times     [T] int64 seconds
    actions   [T] int64 bits, by Names.actions
    values    [T, V] float32, NaN where absent
    requests  [T] int64, the same number for items of one request; -1 = none
    version   grows with every event stored; what was computed from an equal version is still right
    total     events ever stored of the user, of which the latest are here
    """

    items: np.ndarray
    times: np.ndarray
    actions: np.ndarray
    values: np.ndarray
    requests: np.ndarray
    version: int = 0
    total: int = 0


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
    """The store cannot be reached (Redis). Requests that carry their history can still be answered."""


class HistoryStore(Protocol):
    """All methods may be called from several threads; `append` returns when the events survive a crash."""

    names: Names

    def history(self, user: RawId) -> Events: ...  # empty for an unknown user
    def version(self, user: RawId) -> int: ...  # of `history`, without reading it
    def append(self, events: Sequence[NewEvent]) -> Stored: ...  # raises InputError for an unknown action or value
    def fill(self, histories: Iterable[tuple[RawId, Events]]) -> int: ...  # first contents, from a table; users written
    def filled(self) -> bool: ...
    def users(self, prefix: str = "", limit: int = 20) -> list[RawId]: ...
    def __iter__(self) -> Iterator[RawId]: ...
    def close(self) -> None: ...
