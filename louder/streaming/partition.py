"""Reading one partition, segment by segment."""

from collections.abc import Callable
from io import FileIO

from louder.streaming.dead_letters import KEPT_BYTES, DeadLetter
from louder.streaming.segments import (
    RECORD_MAGIC,
    SEGMENT,
    Frame,
    LogFolder,
    frame_at,
    read_end,
    require_segment,
    segment_path,
    segments,
)

CHUNK = 1 << 20  # bytes read at once
DAMAGED = "its checksum differs"
CUT = "their segment was cut short, or has gone"
EXPIRED = "they were kept no longer than told, and not read until then"


class PartitionReader:
    """`offset` is that of the next record. No more than what is on the disk is read, so nothing that a crash may take back.

    start  None: the first record that is kept
    bury   told of records that are missing or damaged
    """

    def __init__(self, log: LogFolder, partition: int, start: int | None, bury: Callable[[DeadLetter], None]) -> None:
        self.log, self.partition, self.folder, self.bury = log, partition, log.partition(partition), bury
        self.offset = min(segments(self.folder), default=0) if start is None else start
        self.end = 0
        self.file: FileIO | None = None
        self.first = -1  # of the segment that is read
        self.buffer, self.at = b"", 0
        self.damaged, self.over = b"", False  # what was passed over, and whether that was the last of its segment

    def read(self, limit: int) -> list[Frame]:
        """At most `limit` records, in order."""
        found: list[Frame] = []
        if (end := read_end(self.folder)) != self.end:
            self.end = end
            self.read_again()
        while len(found) < limit and (frame := self.frame()):
            found.append(frame)
        return found

    def frame(self) -> Frame | None:
        """The next record; None at the end, where those that are missing are buried."""
        while self.offset < self.end:
            if self.file is None and not self.open_segment():
                return None
            frame = frame_at(self.buffer, self.at)
            if frame is None:
                if not self.fill():
                    self.pass_over()
            elif frame.offset >= self.end:
                self.missing(self.end)
            else:
                self.at += frame.size
                if frame.offset >= self.offset:  # others are on the way to where reading begins
                    self.missing(frame.offset)
                    self.offset = frame.offset + 1
                    return frame
        return None

    def open_segment(self) -> bool:
        """The segment after the one that was read, or at first that which holds the offset; False if there is none."""
        while True:
            known = segments(self.folder)
            if self.first >= 0:
                later = [first for first in known if first > self.first]
            else:
                later = [first for first in known if first <= self.offset][-1:] or known
            if not later:
                self.missing(self.end)
                self.first = -1  # what comes later may be in the segment that was read
                return False
            if later[0] == known[0] and self.offset < known[0]:
                self.lost(min(known[0], self.end), "expired", EXPIRED)
            self.first, path = later[0], segment_path(self.folder, later[0])
            try:
                self.file = FileIO(path)
            except FileNotFoundError:
                continue  # retention was faster
            self.buffer, self.at = self.file.read(CHUNK), SEGMENT.size
            if require_segment(self.buffer, self.log.id, path):
                return True
            self.close()

    def fill(self) -> bool:
        """More of the segment into the buffer; False at its end."""
        assert self.file is not None
        more = self.file.read(CHUNK)
        self.buffer, self.at = self.buffer[self.at :] + more, 0
        return bool(more)

    def read_again(self) -> None:
        """What was not on the disk yet may be other bytes now."""
        if self.file is not None:
            self.file.seek(self.at - len(self.buffer), 1)
            self.buffer, self.at = b"", 0

    def pass_over(self) -> None:
        """Nothing can be read here: go on at the next record of the segment that can, or after the segment."""
        if self.at < len(self.buffer):
            self.damaged = self.damaged or self.buffer[self.at : self.at + KEPT_BYTES]
            found = self.buffer.find(RECORD_MAGIC, self.at + 1)
            if found >= 0:
                self.at = found
                return
        self.over = bool(self.damaged)
        self.close()

    def missing(self, until: int) -> None:
        """The records before `until` that were not read are damaged, or not there."""
        if until > self.offset:
            poison = self.damaged and not self.over
            self.lost(until, *(("poison", DAMAGED) if poison else ("cut", CUT)))
        self.damaged, self.over = b"", False

    def lost(self, until: int, kind: str, reason: str) -> None:
        self.bury(DeadLetter(kind, reason, self.partition, self.offset, until, self.damaged))
        self.offset, self.damaged, self.over = until, b"", False

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.file, self.buffer, self.at = None, b"", 0
