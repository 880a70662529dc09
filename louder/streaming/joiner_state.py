"""What a joiner holds, in SQLite: a bounded part of it in memory, the rest in a file that needs no syncing."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from louder.errors import InputError
from louder.folders import full_disk, told_when_full
from louder.histories import Arrival
from louder.histories.keys import key_of
from louder.ids import RawId
from louder.streaming.records import Deletion, LogRecord, Shown, pack, unpack

CACHE_BYTES = 64 << 20
MOST_BYTES = 8 << 30
PAGE = 1_000  # rows that are read at once
FORGET = 8  # the share of what is held that goes at once when there is no room: one of so many
ORDER: dict[type, int] = {Shown: 0, Arrival: 1, Deletion: 2}  # of the same second

TABLES = """
create table waiting (time integer, kind integer, number integer, body blob, primary key (time, kind, number)) without rowid;
create table shown (key blob primary key, time integer, due integer, done blob, told integer, body blob) without rowid;
create index due on shown (due, key) where told = 0;
create table alone (key blob, time integer, number integer, body blob, primary key (key, time, number)) without rowid;
create table met (key blob primary key, time integer) without rowid;
create table deleted (key blob primary key, time integer) without rowid;
create table saved (text text);
"""


class Found(NamedTuple):
    """An answer, and its key; `done` has a bit for each of its items, and `told` is whether it was told that nothing came of the others."""

    key: bytes
    record: Shown
    done: int
    told: bool


class JoinerState:
    def __init__(self, place: Path, restore: Path | None, cache_bytes: int, most_bytes: int) -> None:
        self.place, self.most_bytes = place, most_bytes
        place.unlink(missing_ok=True)
        if restore is not None:
            shutil.copyfile(restore, place)
        self.db = sqlite3.connect(place, isolation_level=None)
        try:
            for line in ("journal_mode = off", "synchronous = off", f"cache_size = -{max(cache_bytes >> 10, 100)}"):
                self.db.execute(f"pragma {line}")
            if restore is None:
                self.db.executescript(TABLES)
            self.number = max(self.newest("waiting"), self.newest("alone"))
            self.deletions = bool(self.db.execute("select count(*) from deleted").fetchone()[0])
        except sqlite3.DatabaseError as error:
            self.db.close()
            raise InputError(
                f"{restore} is not what a joiner wrote ({error}). Go on from another checkpoint, or begin anew."
            ) from error
        self.db.execute("begin")

    def newest(self, table: str) -> int:
        return self.db.execute(f"select coalesce(max(number), 0) from {table}").fetchone()[0]

    def sql(self, text: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self.db.execute(text, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise full_disk(self.place.parent) from error
            raise

    # --- records that wait for the watermark --------------------------------------------------------------------------

    def wait(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            self.number += 1
            row = record.time, ORDER[type(record)], self.number, pack(record)
            self.sql("insert into waiting values (?, ?, ?, ?)", row)

    def waiting(self, until: int) -> Iterator[LogRecord]:
        """Those of times up to `until`, in order: of a second what was shown, what was done, what was deleted, each as it
        came."""
        query = "select time, kind, number, body from waiting where time <= ? order by time, kind, number limit ?"
        while rows := self.sql(query, (until, PAGE)).fetchall():
            self.sql("delete from waiting where (time, kind, number) <= (?, ?, ?)", rows[-1][:3])
            yield from (unpack(row[3]) for row in rows)

    def first_time(self, record: Shown | Arrival) -> bool:
        kind, id = (b"s", record.request) if isinstance(record, Shown) else (b"e", record.id)
        return self.meet(digest(kind, record.user, id), record.time)

    def meet(self, key: bytes, time: int) -> bool:
        return self.sql("insert or ignore into met values (?, ?)", (key, time)).rowcount == 1

    # --- what was shown -----------------------------------------------------------------------------------------------

    def show(self, record: Shown, due: int, done: int) -> None:
        key = digest(b"r", record.user, record.request)
        row = key, record.time, due, bits(done), 0, pack(record)
        self.sql("insert into shown values (?, ?, ?, ?, ?, ?)", row)

    def shown(self, event: Arrival) -> Found | None:
        key = digest(b"r", event.user, event.request or "")
        row = self.sql("select body, done, told from shown where key = ?", (key,)).fetchone()
        return None if row is None else Found(key, shown_of(row[0]), int.from_bytes(row[1], "little"), bool(row[2]))

    def mark_done(self, found: Found, row: int) -> None:
        self.sql("update shown set done = ? where key = ?", (bits(found.done | 1 << row), found.key))

    def overdue(self, until: int) -> Iterator[tuple[Shown, int]]:
        """Answers that are due up to a time, once each, with what was done."""
        query = "select key, done, body from shown where told = 0 and due <= ? order by due, key limit ?"
        while rows := self.sql(query, (until, PAGE)).fetchall():
            for key, done, body in rows:
                self.sql("update shown set told = 1 where key = ?", (key,))
                yield shown_of(body), int.from_bytes(done, "little")

    # --- events that name an answer which is not known yet ------------------------------------------------------------

    def stand_alone(self, event: Arrival) -> None:
        self.number += 1
        key = digest(b"r", event.user, event.request or "")
        self.sql("insert into alone values (?, ?, ?, ?)", (key, event.time, self.number, pack(event)))

    def alone(self, record: Shown) -> list[Arrival]:
        key = digest(b"r", record.user, record.request)
        rows = self.sql("select body from alone where key = ? order by time, number", (key,)).fetchall()
        if rows:
            self.sql("delete from alone where key = ?", (key,))
        events = [unpack(body) for (body,) in rows]
        return [event for event in events if isinstance(event, Arrival)]

    # --- deletions ----------------------------------------------------------------------------------------------------

    def deleted(self, user: RawId, time: int) -> bool:
        if not self.deletions:
            return False
        row = self.sql("select time from deleted where key = ?", (user_key(user),)).fetchone()
        return row is not None and time <= row[0]

    def delete(self, record: Deletion) -> None:
        """An event is not told if it comes later; of a user nothing more is told of the time before."""
        if record.id is not None:
            self.meet(digest(b"e", record.user, record.id), record.time)
            return
        key, self.deletions = user_key(record.user), True
        self.sql(
            "insert into deleted values (?, ?) on conflict (key) do update set time = max(time, excluded.time)",
            (key, record.time),
        )
        for table in "shown", "alone":  # of a user all keys begin alike
            self.sql(f"delete from {table} where key >= ? and key < ? and time <= ?", (key, key + b"\xff", record.time))

    # --- bounds -------------------------------------------------------------------------------------------------------

    def drop(self, before: int) -> int:
        gone = self.sql("delete from shown where told = 1 and time < ?", (before,)).rowcount
        for table in "alone", "met", "deleted":
            gone += self.sql(f"delete from {table} where time < ?", (before,)).rowcount
        return gone

    def bytes(self) -> int:
        pages, free, size = (
            self.sql(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def make_room(self) -> int:
        """Forget the oldest until what is held fits; how many records that are."""
        gone = 0
        while self.bytes() > self.most_bytes:
            count = self.sql("select count(*) from met").fetchone()[0]
            nth = self.sql("select time from met order by time limit 1 offset ?", (count // FORGET,)).fetchone()
            dropped = self.drop(nth[0] + 1) if nth else 0
            if not dropped:
                raise InputError(
                    f"What waits to be joined takes more than {self.most_bytes:,} bytes. Give it more (most_bytes), or wait less "
                    "(wait_s)."
                )
            gone += dropped
        return gone

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, path: Path, values: Mapping[str, object]) -> None:
        self.sql("delete from saved")
        self.sql("insert into saved values (?)", (json.dumps(values),))
        self.sql("commit")
        with told_when_full(path.parent):
            shutil.copyfile(self.place, path)
        self.sql("begin")

    def saved(self) -> dict[str, Any]:
        row = self.sql("select text from saved").fetchone()
        return json.loads(row[0]) if row else {}

    def close(self) -> None:
        self.db.close()
        self.place.unlink(missing_ok=True)


def user_key(user: RawId) -> bytes:
    return hashlib.blake2b(key_of(user), digest_size=12).digest()


def digest(kind: bytes, user: RawId, text: str) -> bytes:
    """Keys of a user begin alike. No two of different kinds, users or texts are equal, within what 20 bytes can tell."""
    own = hashlib.blake2b(kind + text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
    return user_key(user) + own


def bits(done: int) -> bytes:
    return done.to_bytes((done.bit_length() + 7) // 8, "little")


def shown_of(body: bytes) -> Shown:
    record = unpack(body)
    assert isinstance(record, Shown)
    return record
