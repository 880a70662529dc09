"""The one writer of a log. What many threads append is synced together (group commit), and each waits until its own is."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from louder.errors import InputError
from louder.folders import one_writer
from louder.histories import StoreGone
from louder.streaming.records import LogRecord, pack, partition_of
from louder.streaming.segments import LogFolder, make_folder, open_folder
from louder.streaming.tail import Tail

PARTITIONS = 4
SEGMENT_BYTES = 64 << 20
KEEP_S = 7 * 86_400.0
KEEP_BYTES = 20 << 30
GROUP_BYTES = 8 << 20  # that are synced together
WAITING_BYTES = 64 << 20  # that may wait for it


class LogGone(StoreGone):
    """The log cannot be written, such as on a full disk. Nothing of this append was acknowledged."""


class Place(NamedTuple):
    partition: int
    offset: int


class Waiting(NamedTuple):
    """What one call appends."""

    bodies: list[tuple[int, bytes]]  # with their partitions
    stamps: Sequence[int] | None
    bytes: int
    done: Future[list[Place]]


class LogWriter:
    """All methods may be called from several threads.

    partitions     of a log that is new; users are spread over them
    segment_bytes  after which a partition begins a new file
    keep_s         for so long records are kept, in whole segments: up to an eighth longer
    keep_bytes     of all partitions; the oldest segments go first
    clock          seconds since 1970, what records are stamped with. Stamps never go back, also where the clock does
    counts         "records" acknowledged, "syncs", "torn" (bytes of records that a crash cut off before they were
                   acknowledged), "cut" (acknowledged records that were missing at the start), "dropped" (segments, by
                   retention), "refused" (records, such as on a full disk)

    Raises InputError while another process writes the log, and for a folder that is no log.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        partitions: int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        keep_s: float = KEEP_S,
        keep_bytes: int = KEEP_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.clock, self.counts = Path(folder), clock, Counter[str]()
        self.keep_bytes = keep_bytes
        self.broken, self.closed = "", False
        self.closing = threading.Lock()  # held while something is added to the queue, and by the end
        self.queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self.waiting = 0
        with ExitStack() as stack:
            if not self.folder.exists():
                self.folder.mkdir(parents=True)
            else:
                open_folder(self.folder)  # a lock is a file, which a folder of something else does not want
            stack.enter_context(one_writer(self.folder, "--events NAME"))
            self.log = opened(self.folder, partitions)
            self.tails = [
                stack.enter_context(Tail(self.log, number, segment_bytes, keep_s, self.counts))
                for number in range(self.log.partitions)
            ]
            self.stamp = max(tail.stamp for tail in self.tails)
            self.retain()
            self.syncing = stack.enter_context(ThreadPoolExecutor(self.log.partitions, "sync of the event log"))
            self.opened = stack.pop_all()
        self.thread = threading.Thread(target=self.run, name="event log", daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def append(self, records: Sequence[LogRecord], stamps: Sequence[int] | None = None) -> list[Place]:
        """Returns when the records survive a power cut. Raises LogGone; then some of them may be in the log, and to send
        them again is right, since readers know events by their ids.

        stamps  [n] milliseconds since 1970, in place of the clock's
        """
        return self.submit(records, stamps).result()

    def submit(self, records: Sequence[LogRecord], stamps: Sequence[int] | None = None) -> Future[list[Place]]:
        """`append` without waiting. Raises LogGone where too much waits already."""
        bodies = [(partition_of(record.user, len(self.tails)), pack(record)) for record in records]
        new = Waiting(bodies, stamps, sum(len(body) for _, body in bodies), Future())
        new.done.set_running_or_notify_cancel()  # what is on its way to the disk cannot be cancelled
        with self.closing:
            if self.broken or self.closed:
                raise LogGone(self.broken or f"The event log {self.folder} is closed.")
            if self.waiting and self.waiting + new.bytes > WAITING_BYTES:
                self.counts["refused"] += len(bodies)
                raise LogGone(f"The event log {self.folder} is written more slowly than events come.")
            self.waiting += new.bytes
            self.queue.put(new)
        return new.done

    def ends(self) -> dict[int, int]:
        """The offset after the last acknowledged record of each partition."""
        return {tail.partition: tail.end for tail in self.tails}

    def close(self) -> None:
        """What was submitted is written."""
        with self.closing:
            if self.closed:
                return
            self.closed = True
            self.queue.put(None)
        self.thread.join()
        self.opened.close()

    # --- in the thread that writes ------------------------------------------------------------------------------------

    def run(self) -> None:
        while (first := self.queue.get()) is not None:
            group, size, ended = [first], first.bytes, False
            while size < GROUP_BYTES:
                try:
                    more = self.queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ended = True
                    break
                group.append(more)
                size += more.bytes
            try:
                self.commit(group)
            except Exception as error:  # a mistake of ours: nobody waits for ever
                self.broken = f"The event log {self.folder} cannot be written ({error!r})."
                self.fail([waiting for waiting in group if not waiting.done.done()], self.broken)
            with self.closing:
                self.waiting -= size
            if ended:
                return

    def commit(self, group: Sequence[Waiting]) -> None:
        if self.broken:
            self.fail(group, self.broken)
            return
        if any(waiting.stamps is None for waiting in group):
            self.stamp = max(self.stamp, int(1000 * self.clock()))
        places = [list[Place]() for _ in group]
        touched = [self.tails[n] for n in sorted({n for waiting in group for n, _ in waiting.bodies})]
        try:
            rolled = [tail.roll_if_due(self.stamp) for tail in touched]
            for waiting, own in zip(group, places):
                stamps = waiting.stamps or [self.stamp] * len(waiting.bodies)
                for (n, body), stamp in zip(waiting.bodies, stamps, strict=True):
                    self.stamp = max(self.stamp, stamp)
                    own.append(Place(n, self.tails[n].add(body, self.stamp)))
            for tail in touched:
                tail.write()
            for _ in self.syncing.map(Tail.sync, touched):  # at once: the disk joins them
                pass
        except OSError as error:
            why = f"The event log {self.folder} cannot be written ({error.strerror or error})."
            try:
                for tail in touched:
                    tail.take_back()
            except OSError:
                self.broken = f"{why} Start the service again when it can."
            self.fail(group, f"{why} Free some space, or choose another place with --events.")
            return
        try:
            for tail in touched:
                tail.acknowledge()
        except OSError as error:
            self.broken = f"The event log {self.folder} cannot be written ({error.strerror or error})."
            self.fail(group, self.broken)
            return
        self.counts["syncs"] += 1
        for waiting, own in zip(group, places):
            self.counts["records"] += len(own)
            waiting.done.set_result(own)
        if any(rolled):
            self.retain()

    def fail(self, group: Sequence[Waiting], why: str) -> None:
        for waiting in group:
            self.counts["refused"] += len(waiting.bodies)
            waiting.done.set_exception(LogGone(why))

    def retain(self) -> None:
        """Drop segments that are too old, then the oldest of all until the log is small enough."""
        now = max(self.stamp, int(1000 * self.clock()))
        for tail in self.tails:
            tail.drop_old(now)
        while sum(tail.bytes for tail in self.tails) > self.keep_bytes:
            oldest = min(self.tails, key=lambda tail: tail.oldest)
            if not oldest.drop_first():
                return


def opened(folder: Path, partitions: int | None) -> LogFolder:
    found = open_folder(folder)
    if found is None:
        return make_folder(folder, PARTITIONS if partitions is None else partitions)
    if partitions not in (None, found.partitions):
        raise InputError(
            f"The event log {folder} has {found.partitions} partitions, and that cannot be changed to {partitions}, since users "
            "would move. Choose another folder for the log."
        )
    missing = [number for number in range(found.partitions) if not found.partition(number).is_dir()]
    if missing:
        raise InputError(
            f"The partition {found.partition(missing[0])} of the event log has gone. Bring the folder back, or begin a new "
            "log in another one."
        )
    return found
