"""Reading a log from any place on. What cannot be read is told, counted and put aside, and never ends the reading."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from louder.errors import InputError
from louder.streaming.dead_letters import DeadLetter, DeadLetters
from louder.streaming.partition import PartitionReader
from louder.streaming.records import BadRecord, LogRecord, unpack
from louder.streaming.segments import open_folder, read_end, segments


class Logged(NamedTuple):
    """A record and its place; `stamp` is when it was appended, in milliseconds since 1970."""

    partition: int
    offset: int
    stamp: int
    record: LogRecord


@dataclass(frozen=True)
class Position:
    """Where a reader of a log stands: in each partition the offset of the next record."""

    log: str
    offsets: Mapping[int, int]


class LogReader:
    """A reader of its own thread; any number of them may read a log while it is written.

    position  of a reader before, to go on from there; None: the oldest records that are kept
    dead      a file for what cannot be read; None: it is told and counted only
    tell      what is told of it, a sentence each
    counts    "records" read, and those that could not be, by DeadLetter.kind

    Raises InputError for a folder that is no log, and for a position that the log does not have: one of another log, beyond
    its end, or in a partition that is not there. Records that retention dropped before they were read are a DeadLetter.
    """

    def __init__(
        self,
        folder: Path | str,
        position: Position | None = None,
        *,
        dead: Path | None = None,
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        self.folder, self.tell, self.counts = Path(folder), tell, Counter[str]()
        self.dead = None if dead is None else DeadLetters(dead)
        found = open_folder(self.folder)
        if found is None:
            raise InputError(f"There is no event log at {folder}. Start one: louder serve RUN --events {folder}.")
        self.log = found
        bounds = self.bounds()
        starts = {} if position is None else checked(position, self.folder, found.id, bounds)
        self.parts = [
            PartitionReader(found, number, starts.get(number), self.bury) for number in range(found.partitions)
        ]
        self.turn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def read(self, limit: int = 1_000) -> list[Logged]:
        """What has come, at most `limit` records, those of a partition in order; none when the reader is at the end.

        Partitions take turns, so that none waits for another that is long.
        """
        found: list[Logged] = []
        for _ in self.parts:
            part = self.parts[self.turn]
            self.turn = (self.turn + 1) % len(self.parts)
            for frame in part.read(limit - len(found)):
                try:
                    found.append(Logged(part.partition, frame.offset, frame.stamp, unpack(frame.body)))
                except BadRecord as error:
                    place = part.partition, frame.offset, frame.offset + 1
                    self.bury(DeadLetter(error.kind, str(error), *place, frame.body))
            if len(found) >= limit:
                break
        self.counts["records"] += len(found)
        return found

    @property
    def position(self) -> Position:
        return Position(self.log.id, {part.partition: part.offset for part in self.parts})

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Of each partition the offset of the first record that is kept, and the one after the last."""
        folders = {number: self.log.partition(number) for number in range(self.log.partitions)}
        ends = {number: read_end(folder) for number, folder in folders.items()}
        return {number: (min([*segments(folder), ends[number]]), ends[number]) for number, folder in folders.items()}

    def lag(self) -> int:
        """Records that were not read yet."""
        return sum(read_end(part.folder) - part.offset for part in self.parts)

    def bury(self, letter: DeadLetter) -> None:
        self.counts[letter.kind] += letter.count
        self.tell(str(letter))
        if self.dead is not None:
            self.dead.add(letter)

    def close(self) -> None:
        for part in self.parts:
            part.close()


def checked(
    position: Position, folder: Path | str, log: str, bounds: Mapping[int, tuple[int, int]]
) -> Mapping[int, int]:
    """The offsets of a position. Raises InputError if the log does not have it."""
    if position.log != log:
        raise InputError(
            f"{folder} is the event log {log}, and what was read before is {position.log}: it was replaced. Bring the other one "
            "back, or begin anew from this one."
        )
    for number, offset in position.offsets.items():
        if number not in bounds:
            raise InputError(
                f"The event log {folder} has {len(bounds)} partitions, and number {number} of those that were read before is "
                "not there. Bring it back, or begin anew."
            )
        if offset > bounds[number][1]:
            raise InputError(
                f"Partition {number} of the event log {folder} ends at {bounds[number][1]}, but was read up to {offset}: it was "
                "cut or replaced. Bring the missing records back, or begin anew."
            )
    return position.offsets
