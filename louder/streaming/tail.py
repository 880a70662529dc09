"""The end of one partition, for the writer of the log."""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from louder.folders import sync_folder
from louder.streaming.segments import (
    RECORD,
    SEGMENT,
    LogFolder,
    framed,
    frames,
    head_of_segment,
    read_end,
    require_segment,
    segment_path,
    segments,
    write_end,
)

ROLLS = 8  # segments at least of the time that is kept, so that what is dropped is not much older
sync_data = getattr(os, "fdatasync", os.fsync)


class Tail:
    """`next` is the offset of the next record, `end` that up to which records are acknowledged.

    At the start, what a crash left unfinished is cut off: it was never acknowledged. Where acknowledged records are missing,
    their offsets stay empty, so that a reader learns of it, and no offset ever stands for two records.
    """

    def __init__(self, log: LogFolder, partition: int, segment_bytes: int, keep_s: float, counts: Counter[str]) -> None:
        self.log, self.partition, self.folder = log, partition, log.partition(partition)
        self.segment_bytes, self.keep_ms, self.counts = segment_bytes, int(1000 * keep_s), counts
        self.end = read_end(self.folder)
        self.sizes = {first: segment_path(self.folder, first).stat().st_size for first in segments(self.folder)}
        self.newest = dict[int, int]()  # stamps after which nothing was written to segments that are full
        self.next = self.end
        self.stamp = self.since = self.first = 0  # of the last record, of the first one in its segment; that segment
        self.file = -1
        self.pending: list[bytes] = []
        self.recover()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.file >= 0:
            os.close(self.file)

    def recover(self) -> None:
        found = sorted(self.sizes)
        self.newest = {first: first_stamp(segment_path(self.folder, after)) for first, after in pairwise(found)}
        last = self.last_segment(found[-1]) if found else None
        if last is None:
            self.counts["cut"] += self.end if not found else 0
            self.begin()
        else:
            self.first = last
            self.file = os.open(segment_path(self.folder, last), os.O_WRONLY | os.O_APPEND)
            os.ftruncate(self.file, self.sizes[last])
            os.fsync(self.file)
        self.end = self.next
        write_end(self.folder, self.end)

    def last_segment(self, last: int) -> int | None:
        """The segment to go on in, if that is possible; `next` and its size are where."""
        path = segment_path(self.folder, last)
        data = path.read_bytes()
        whole = require_segment(data, self.log.id, path)
        if not whole and self.end <= last:  # a crash while it was made
            path.unlink()
            del self.sizes[last]
            return None
        good, reached = SEGMENT.size, last
        for at, frame in frames(data) if whole else ():
            good, reached, self.stamp = at + frame.size, frame.offset + 1, frame.stamp
            self.since = self.since or frame.stamp
        self.next = max(reached, self.end)
        if reached < self.end:  # what is left is for readers to find; go on in a new one
            self.counts["cut"] += self.end - reached
            self.newest[last] = self.stamp
            return None
        self.counts["torn"] += len(data) - good
        self.sizes[last] = good
        return last

    def begin(self) -> None:
        """A new segment, empty."""
        path = segment_path(self.folder, self.next)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_whole(file, head_of_segment(self.log.id, self.next))
            os.fsync(file)
            sync_folder(self.folder)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        if self.file >= 0:
            os.close(self.file)
        self.file, self.first, self.since = file, self.next, 0
        self.sizes[self.first] = SEGMENT.size

    def add(self, body: bytes, stamp: int) -> int:
        """The offset of the record, which `write` puts into the file."""
        offset = self.next
        self.pending.append(framed(body, stamp, offset))
        self.next, self.stamp, self.since = offset + 1, stamp, self.since or stamp
        return offset

    def write(self) -> None:
        write_whole(self.file, b"".join(self.pending))

    def sync(self) -> None:
        sync_data(self.file)

    def acknowledge(self) -> None:
        self.sizes[self.first] += sum(map(len, self.pending))
        self.pending, self.end = [], self.next
        write_end(self.folder, self.end)

    def take_back(self) -> None:
        """What was added since the last acknowledgement."""
        self.pending, self.next = [], self.end
        os.ftruncate(self.file, self.sizes[self.first])

    def roll_if_due(self, now: int) -> bool:
        size, age = self.sizes[self.first], now - self.since
        if self.first == self.next or (size < self.segment_bytes and age < self.keep_ms // ROLLS):
            return False
        self.newest[self.first] = self.stamp
        self.begin()
        return True

    # --- retention ----------------------------------------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())

    @property
    def oldest(self) -> float:
        """The stamp of the newest record of the first segment; of the one that is written infinity."""
        return self.newest.get(min(self.sizes), float("inf"))

    def drop_old(self, now: int) -> None:
        while self.oldest < now - self.keep_ms and self.drop_first():
            pass

    def drop_first(self) -> bool:
        first = min(self.sizes)
        if first == self.first:
            return False
        segment_path(self.folder, first).unlink(missing_ok=True)
        del self.sizes[first]
        self.newest.pop(first, None)
        self.counts["dropped"] += 1
        return True


def first_stamp(path: Path) -> int:
    """No record of the segment before was written later."""
    with open(path, "rb") as file:
        head = file.read(SEGMENT.size + RECORD.size)[SEGMENT.size :]
    return RECORD.unpack(head)[3] if len(head) == RECORD.size else 0


def write_whole(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
