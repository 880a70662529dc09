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
from louder.streaming.logs import Reader, in_kafka, open_reader, open_writer
from louder.streaming.reader import Logged, Position
from louder.streaming.records import Deletion, LogRecord, Shown
from louder.streaming.writer import LogGone, Place

T = TypeVar("T")
EVERY_S = 1.0  # the place up to which the store has the log is written, and a store that is behind is tried again
AT_ONCE = 1_000
STALLED_S = 30.0  # without a record that is known to be there


class Applied:
    """Up to which offset all records of each partition have reached the store, where they do so in any order."""

    def __init__(self, offsets: dict[int, int]) -> None:
        self.offsets, self.ahead = offsets, {partition: set[int]() for partition in offsets}

    def add(self, places: Sequence[Place]) -> None:
        for partition, offset in places:
            if offset >= self.offsets[partition]:
                self.ahead[partition].add(offset)
                self.move(partition)

    def has(self, place: Place) -> bool:
        return place.offset < self.offsets[place.partition] or place.offset in self.ahead[place.partition]

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
    """Changes a store by way of a log. All methods may be called from several threads.

    A folder has no other writer. A topic may have some, such as replicas of a service that share the store: what they write
    is read from it, and is in the store within `every_s`.

    Raises InputError if the log cannot be opened or is not the one that the store has followed up to now, StoreGone if the
    store cannot be reached.
    """

    def __init__(
        self,
        store: HistoryStore,
        log: str,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.time,
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        self.store, self.name, self.tell, self.shared, self.clock = store, log, tell, in_kafka(log), clock
        self.reader: Reader | None = None
        try:
            self.writer = open_writer(log, clock)
        except OSError as error:
            raise InputError(
                f"The event log {log} cannot be opened ({error.strerror or error}). Choose another folder: --events NAME."
            ) from error
        self.changing = threading.Lock()  # of what has been applied
        self.behind = False  # whether there are records that the store did not take when they came
        self.answers_lost = 0
        try:
            self.applied = Applied(self.kept())
            self.caught_up = self.catch_up()
        except BaseException:
            self.leave()
            self.writer.close()
            raise
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(every_s,), name="store follows", daemon=True)
        self.thread.start()

    def durability(self) -> str:
        if self.shared:
            return f"An acknowledged event is in {self.name}, as safe as the topic is set up to be; the store follows."
        return (
            f"An acknowledged event is in the event log {self.name}, on the disk, and survives a crash of the service and of "
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
        at = request_time(self.store.history(user).times, int(self.clock()))
        return self.logged([Deletion(user, at)], lambda: self.store.delete_user(user, at))

    def delete_event(self, user: RawId, id: str) -> Deleted:
        self.store.history(user)  # an id of the wrong kind is refused before it is in the log
        return self.logged([Deletion(user, int(self.clock()), id)], lambda: self.store.delete_event(user, id))

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
        try:
            reader = self.reader = self.reader or self.opened()
            ends, count, until = self.ends(reader), 0, time.monotonic() + STALLED_S
            while any(reader.position.offsets[n] < end for n, end in ends.items()):
                before, found = reader.position, reader.read(AT_ONCE)
                if reader.position != before:
                    until = time.monotonic() + STALLED_S
                elif time.monotonic() > until:
                    raise LogGone(f"The event log {self.name} has more than it gives.")
                count += self.apply([x for x in found if not self.has(x)], reader)
                with self.changing:
                    self.applied.jump(reader.position.offsets)
        except BaseException:
            self.leave()  # to begin again at what was applied
            raise
        if not self.shared:
            self.leave()
        self.keep()
        return count

    def opened(self) -> Reader:
        with self.changing:
            position = Position(self.writer.log.id, dict(self.applied.offsets))
        dead = None if self.shared else Path(self.name) / "dead.jsonl"
        return open_reader(self.name, position, dead=dead, tell=self.tell)

    def ends(self, reader: Reader) -> dict[int, int]:
        told, own = reader.bounds(), self.writer.ends()
        return {number: max(end, own[number]) for number, (_, end) in told.items()}

    def has(self, logged: Logged) -> bool:
        with self.changing:
            return self.applied.has(Place(logged.partition, logged.offset))

    def apply(self, found: Sequence[Logged], reader: Reader) -> int:
        for deletes, group in groupby(found, lambda logged: isinstance(logged.record, Deletion)):
            (self.delete if deletes else self.put)(list(group), reader)
        return len(found)

    def leave(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()

    def put(self, found: Sequence[Logged], reader: Reader) -> None:
        events = [logged.record for logged in found if isinstance(logged.record, Arrival)]
        try:
            self.store.append(events)
        except InputError as error:
            if len(found) > 1:
                for logged in found:
                    self.put([logged], reader)
            else:
                self.bury(found[0], error, reader)

    def delete(self, found: Sequence[Logged], reader: Reader) -> None:
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

    def bury(self, logged: Logged, error: InputError, reader: Reader) -> None:
        reason = str(error).removesuffix(".")
        reader.bury(DeadLetter("refused", reason, logged.partition, logged.offset, logged.offset + 1))

    def kept(self) -> dict[int, int]:
        """The place up to which the store has the log: its beginning where it never followed it."""
        with open_reader(self.name) as reader:
            first = {number: bounds[0] for number, bounds in reader.bounds().items()}
        return first | self.store.followed(self.writer.log.id)

    def keep(self) -> None:
        with self.changing:
            offsets = dict(self.applied.offsets)
        self.store.follow(self.writer.log.id, offsets)

    def lag(self) -> int:
        """Records that the log has and the store may not have."""
        with self.changing:
            return sum(max(0, end - self.applied.offsets[number]) for number, end in self.writer.ends().items())

    def run(self, every_s: float) -> None:
        kept, told = dict[int, int](), ""
        while not self.ending.wait(every_s):
            try:
                if self.behind or self.shared:
                    self.behind = False
                    self.catch_up()
                elif kept != self.applied.offsets:
                    kept = dict(self.applied.offsets)
                    self.keep()
            except (StoreGone, InputError) as error:
                self.behind = self.behind or isinstance(error, StoreGone)
                if str(error) != told:
                    self.tell(told := str(error))

    def close(self) -> None:
        """The store stays open."""
        self.ending.set()
        self.thread.join()
        self.leave()
        self.writer.close()
        try:
            self.keep()
        except StoreGone as error:
            self.tell(str(error))  # it catches up when it is opened
