"""What is told of items after a training: titles, attributes, whether they are to be had. Kept beside histories.

items = open_items(open_store("histories"))      # histories/items.sqlite

Any number of processes share it: each change has a version, so a process asks for what has changed since it last did.
"""

import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from louder.errors import InputError
from louder.histories.errors import StoreGone
from louder.histories.store import HistoryStore
from louder.ids import RawId

AttributeValue: TypeAlias = str | float | bool | Sequence[str | float | bool] | None  # as JSON has it

WAIT_S = 5.0  # for a write of another process


@dataclass(frozen=True)
class ItemFacts:
    """What was told of an item: None and {} where nothing was."""

    title: str | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    available: bool = True


@dataclass(frozen=True)
class ItemUpdate:
    """What changes of an item; None: stays as it is. Attributes that are not named stay, and null takes back what was told
    of one."""

    item: RawId
    title: str | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    available: bool | None = None


def changed(facts: ItemFacts, update: ItemUpdate) -> ItemFacts:
    attributes = {**facts.attributes, **update.attributes}
    return ItemFacts(
        title=facts.title if update.title is None else update.title,
        attributes={name: value for name, value in attributes.items() if value is not None},
        available=facts.available if update.available is None else update.available,
    )


class ItemStore(ABC):
    """All methods may be called from several threads; `update` returns when what it wrote survives what an event does."""

    def update(self, updates: Sequence[ItemUpdate]) -> None:
        """Of one item in their order, and all at once: nobody reads half of them."""
        changes: dict[str, list[ItemUpdate]] = {}
        for update in updates:
            changes.setdefault(json.dumps(update.item), []).append(update)

        def change(key: str, old: str | None) -> str:
            facts = ItemFacts(**json.loads(old)) if old else ItemFacts()
            for update in changes[key]:
                facts = changed(facts, update)
            return json.dumps(asdict(facts))

        self._replace(list(changes), change)

    def since(self, version: int) -> tuple[int, dict[RawId, ItemFacts]]:
        """What changed after a version, 0 for all that is known; and the version to ask from next time."""
        newest, found = self._since(version)
        return newest, {json.loads(key): ItemFacts(**json.loads(text)) for key, text in found}

    @abstractmethod
    def _replace(self, keys: Sequence[str], change: Callable[[str, str | None], str]) -> None:
        """Replace the text of each key by what `change` makes of it, all under a new version, atomically."""

    @abstractmethod
    def _since(self, version: int) -> tuple[int, list[tuple[str, str]]]:
        """The newest version, and keys and texts of a newer one than the given."""

    @abstractmethod
    def close(self) -> None: ...


class FileItems(ItemStore):
    """A file of SQLite, since its index by version finds what has changed."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        with self._reached():
            self._file = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")  # who reads does not wait for who writes
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute("CREATE TABLE IF NOT EXISTS items (key TEXT PRIMARY KEY, version INTEGER, facts TEXT)")
            self._file.execute("CREATE INDEX IF NOT EXISTS changes ON items (version)")

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _replace(self, keys: Sequence[str], change: Callable[[str, str | None], str]) -> None:
        with self._lock, self._reached(), self._file:
            self._file.execute("BEGIN IMMEDIATE")
            version = self._newest() + 1
            for key in keys:
                found = self._file.execute("SELECT facts FROM items WHERE key = ?", (key,)).fetchone()
                row = (key, version, change(key, found[0] if found else None))
                self._file.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", row)

    def _since(self, version: int) -> tuple[int, list[tuple[str, str]]]:
        with self._lock, self._reached(), self._file:
            self._file.execute("BEGIN")  # both questions are of one moment
            newest = self._newest()
            if newest == version:
                return newest, []
            asked = "SELECT key, facts FROM items WHERE version > ?"
            return newest, self._file.execute(asked, (version,)).fetchall()

    def _newest(self) -> int:
        return int(self._file.execute("SELECT COALESCE(MAX(version), 0) FROM items").fetchone()[0])

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreGone(f"What is known of items cannot be read or written ({error}): {self._path}.") from error


def open_items(store: HistoryStore) -> ItemStore:
    """Those beside a store of histories. Raises InputError where they cannot be kept there."""
    from louder.histories.files import FileStore

    if isinstance(store, FileStore):
        try:
            return FileItems(store.folder / "items.sqlite")
        except StoreGone as error:
            raise InputError(f"{error} Choose another folder for the store.") from error
    from louder.histories.redis import RedisStore
    from louder.histories.redis_items import RedisItems

    assert isinstance(store, RedisStore)
    return RedisItems(store)
