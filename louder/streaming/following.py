"""A store of histories that follows a log: whatever changes it is in the log first, and an event is acknowledged when that has it.

So the store can be made anew from the log, and nothing is ever in the store alone. It is brought up to the log's end when
it is opened, and after it could not be reached.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from louder.errors import InputError
from louder.histories import Arrival, Deleted, HistoryStore, Stored, StoreGone
from louder.histories.times import request_time
from louder.ids import RawId
from louder.streaming.dead_letters import DeadLetter
from louder.streaming.reader import Logged, LogReader, Position
from louder.streaming.records import Deletion, LogRecord, Shown
from louder.streaming.writer import LogGone, LogWriter, Place

T = TypeVar("T")
EVERY_S = 1.0  # the place up to which the store has the log is written, and a store that is behind is tried again
AT_ONCE = 1_000


class Applied:
    """Up to which offset all records of each partition have reached the store, where they do so in any order."""

    def __init__(self, offsets: dict[int, int]) -> None:
        self.offsets, self.ahead = offsets, {partition: set[int]() for partition in offsets}

    def add(self, places: Sequence[Place]) -> None:
        for partition, offset in places:
            if offset >= self.offsets[partition]:
                self.ahead[partition].add(offset)
                self.move(partition)

    def jump(self, offsets: Mapping[int, int]) -> None:
        """All before these have."""
        for partition, offset in offsets.items():
            self.offsets[partition] = max(offset, self.offsets[partition])
            self.ahead[partition] = {other for other in self.ahead[partition] if other >= offset}
            self.move(partition)

    def move(self, partition: int) -> None:
        ahead = self.ahead[partition]
        while (offset := self.offsets[partition]) in ahead:
            ahead.remove(offset)
            self.offsets[partition] = offset + 1


class FollowingStore:
    """Changes a store by way of a log. All methods may be called from several threads; the log has no other writer.

    Raises InputError if the log cannot be opened or is not the one that the store has followed up to now, StoreGone if the
    store cannot be reached.
    """

    def __init__(
        self,
        store: HistoryStore,
        folder: Path,
        *,
        every_s: float = EVERY_S,
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        self.store, self.folder, self.tell = store, folder, tell
        try:
            self.writer = LogWriter(folder)
        except OSError as error:
            raise InputError(
                f"The event log {folder} cannot be opened ({error.strerror or error}). Choose another folder: --events NAME."
            ) from error
        self.changing = threading.Lock()  # of what has been applied
        self.behind = False  # whether there are records that the store did not take when they came
        self.answers_lost = 0
        try:
            self.applied = Applied(self.kept())
            self.caught_up = self.catch_up()
        except BaseException:
            self.writer.close()
            raise
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(every_s,), name="store follows", daemon=True)
        self.thread.start()

    def durability(self) -> str:
        return (
            f"An acknowledged event is in the event log {self.folder}, on the disk, and survives a crash of the service and of "
            "the machine; the store follows."
        )

    # --- what changes the store ---------------------------------------------------------------------------------------

    def append(self, events: Sequence[Arrival]) -> Stored:
        """What became of them. While the store cannot be reached they are acknowledged, since the log has them, and are
        counted nowhere. Raises InputError as `HistoryStore.append`, then none is in the log; LogGone if the log fails."""
        self.store.check(events)
        try:
            return self.logged(events, lambda: self.store.append(events))
        except LogGone:
            raise
        except StoreGone:
            return Stored(0, 0)

    def delete_user(self, user: RawId) -> int:
        at = request_time(self.store.history(user).times, int(time.time()))
        return self.logged([Deletion(user, at)], lambda: self.store.delete_user(user, at))

    def delete_event(self, user: RawId, id: str) -> Deleted:
        self.store.history(user)  # an id of the wrong kind is refused before it is in the log
        return self.logged([Deletion(user, int(time.time()), id)], lambda: self.store.delete_event(user, id))

    def show(self, record: Shown) -> None:
        """Log an answer, without waiting: it is given also where that fails."""
        try:
            self.writer.submit([record]).add_done_callback(self.shown)
        except (LogGone, InputError):
            self.answers_lost += 1

    def shown(self, done: Future[list[Place]]) -> None:
        if done.exception() is None:
            self.reached(done.result())
        else:
            self.answers_lost += 1

    def logged(self, records: Sequence[LogRecord], change: Callable[[], T]) -> T:
        places = self.writer.append(records)
        try:
            found = change()
        except BaseException:
            # also where it is refused, by what another process did meanwhile: it goes to the dead letters
            self.behind = True
            raise
        self.reached(places)
        return found

    def reached(self, places: Sequence[Place]) -> None:
        with self.changing:
            self.applied.add(places)

    # --- following ----------------------------------------------------------------------------------------------------

    def catch_up(self) -> int:
        """Bring the store up to the end of the log; how many records that were. To apply one twice changes nothing."""
        with self.changing:
            position = Position(self.writer.log.id, dict(self.applied.offsets))
        ends, count = self.writer.ends(), 0
        with LogReader(self.folder, position, dead=self.folder / "dead.jsonl", tell=self.tell) as reader:
            while any(reader.position.offsets[n] < end for n, end in ends.items()) and (found := reader.read(AT_ONCE)):
                for deletes, group in groupby(found, lambda logged: isinstance(logged.record, Deletion)):
                    (self.delete if deletes else self.put)(list(group), reader)
                count += len(found)
            with self.changing:
                self.applied.jump(reader.position.offsets)
        self.keep()
        return count

    def put(self, found: Sequence[Logged], reader: LogReader) -> None:
        events = [logged.record for logged in found if isinstance(logged.record, Arrival)]
        try:
            self.store.append(events)
        except InputError as error:
            if len(found) > 1:
                for logged in found:
                    self.put([logged], reader)
            else:
                self.bury(found[0], error, reader)

    def delete(self, found: Sequence[Logged], reader: LogReader) -> None:
        for logged in found:
            record = logged.record
            assert isinstance(record, Deletion)
            try:
                if record.id is None:
                    self.store.delete_user(record.user, record.time)
                else:
                    self.store.delete_event(record.user, record.id)
            except InputError as error:
                self.bury(logged, error, reader)

    def bury(self, logged: Logged, error: InputError, reader: LogReader) -> None:
        reason = str(error).removesuffix(".")
        reader.bury(DeadLetter("refused", reason, logged.partition, logged.offset, logged.offset + 1))

    def kept(self) -> dict[int, int]:
        """The place up to which the store has the log: its beginning where it never followed it."""
        with LogReader(self.folder) as reader:
            first = {number: bounds[0] for number, bounds in reader.bounds().items()}
        return first | self.store.followed(self.writer.log.id)

    def keep(self) -> None:
        with self.changing:
            offsets = dict(self.applied.offsets)
        self.store.follow(self.writer.log.id, offsets)

    def lag(self) -> int:
        """Records that the log has and the store may not have."""
        with self.changing:
            return sum(end - self.applied.offsets[number] for number, end in self.writer.ends().items())

    def run(self, every_s: float) -> None:
        kept: dict[int, int] = {}
        while not self.ending.wait(every_s):
            try:
                if self.behind:
                    self.behind = False
                    self.catch_up()
                elif kept != self.applied.offsets:
                    kept = dict(self.applied.offsets)
                    self.keep()
            except (StoreGone, InputError) as error:
                self.behind = self.behind or isinstance(error, StoreGone)
                self.tell(str(error))

    def close(self) -> None:
        """The store stays open."""
        self.ending.set()
        self.thread.join()
        self.writer.close()
        try:
            self.keep()
        except StoreGone as error:
            self.tell(str(error))  # it catches up when it is opened
