"""The histories that a trainer reads: the contract of all stores, in a scratch file that goes into each checkpoint whole.

Nothing is synced, since what counts after a crash is the checkpoint.
"""

import math
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from louder.errors import InputError
from louder.folders import full_disk, told_when_full
from louder.histories import Arrival, HistoryStore, Names, Stored
from louder.histories.arrivals import by_user
from louder.histories.keys import key_of
from louder.histories.merging import total
from louder.histories.settings import StoreSettings, read, written
from louder.histories.store import Change, digest_of, parts_of
from louder.ids import RawId

CACHE_KIB = 64 << 10
SETTINGS = b"settings"
TABLES = ("events", "seen", "deleted")  # as in store.Parts


class WorkingStore(HistoryStore):
    """place    of the scratch file, made anew
    restore  a file that `save` wrote, to go on from there
    """

    def __init__(self, place: Path, restore: Path | None, *, names: Names, keep: int) -> None:
        self.file, self.place = place, str(place)
        place.unlink(missing_ok=True)
        if restore is not None:
            shutil.copyfile(restore, place)
        self.db = sqlite3.connect(place, isolation_level=None)
        try:
            for line in ("journal_mode = off", "synchronous = off", f"cache_size = -{CACHE_KIB}"):
                self._sql(f"pragma {line}")
            if restore is None:
                for name in (*TABLES, "about"):
                    self._sql(f"create table {name} (key blob primary key, value blob) without rowid")
            self._sql("begin")
            super().__init__(names, keep)
        except sqlite3.DatabaseError as error:
            self.db.close()
            raise InputError(
                f"{restore} does not hold histories ({error}). Go on from another checkpoint, or begin anew."
            ) from error

    def save(self, path: Path) -> None:
        """All of it, into one file."""
        self._sql("commit")
        with told_when_full(path.parent):
            shutil.copyfile(self.file, path)
        self._sql("begin")

    def _checked(self, events: Sequence[Arrival]) -> tuple[dict[RawId, list[Arrival]], dict[RawId, bytes]]:
        """No clock is read here: the feed has compared the times with the log's own."""
        users = by_user(events, self.names, self.settings, math.inf)
        self._settle(events[0].user, events[0].item)
        return users, {user: key_of(user) for user in users}

    def durability(self) -> str:
        return "What is stored survives when a checkpoint has been written."

    def close(self) -> None:
        self.db.close()
        self.file.unlink(missing_ok=True)

    def _sql(self, text: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self.db.execute(text, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise full_disk(self.file.parent) from error
            raise

    def _get(self, table: str, key: bytes) -> bytes | None:
        row = self._sql(f"select value from {table} where key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def _put(self, table: str, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._sql(f"delete from {table} where key = ?", (key,))
        else:
            self._sql(f"replace into {table} values (?, ?)", (key, value))

    def _packed(self, key: bytes) -> bytes | None:
        return self._get("events", key)

    def _keys(self, low: bytes, high: bytes, limit: int) -> list[bytes]:
        query = "select key from events where key >= ? and key < ? order by key limit ?"
        return [bytes(key) for (key,) in self._sql(query, (low, high, limit))]

    def _update(self, changes: Mapping[bytes, Change]) -> Stored:
        counts = list[Stored]()
        for key, change in changes.items():
            keys = key, key, digest_of(key)
            before = self._record([self._get(table, own) for table, own in zip(TABLES, keys)])
            after, count = change(before)
            if after is not before:
                for table, own, value in zip(TABLES, keys, parts_of(after)):
                    self._put(table, own, value)
            counts.append(count)
        return total(counts)

    def _change_settings(self, change: Callable[[StoreSettings | None], StoreSettings]) -> StoreSettings:
        old = read(self._get("about", SETTINGS))
        new = change(old)
        if new != old:
            self._put("about", SETTINGS, written(new))
        return new
