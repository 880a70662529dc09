"""The log, cut into windows of event time. A cut is written down before its window is trained on, so that whoever comes
back after a crash reads the same records into the same window."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from louder.folders import read_json, write_text
from louder.histories.times import MARGIN_S
from louder.online.config import StreamConfig
from louder.streaming import Deletion, Joiner, Logged, LogGone, LogRecord, Position, Watermark
from louder.streaming.dead_letters import DeadLetter
from louder.streaming.logs import Reader, open_reader
from louder.streaming.reader import checked

CUT = "cut.json"
QUIET_READS = 10  # that find nothing, before it is said that a log has ended
PAUSE_S = 0.2  # of a reader at the end of a log that goes on


@dataclass(frozen=True)
class Cut:
    """Where a window ends.

    window   number, from 1
    upto     the last second of event time in it
    log      the log, by its own id, and the offset after the last record of each partition that was read for it
    idle     partitions that were not waited for
    ends     whether the log ended there, so that the window may be shorter than the others
    """

    window: int
    upto: int
    log: str
    offsets: dict[int, int]
    idle: list[int]
    ends: bool = False

    @property
    def position(self) -> Position:
        return Position(self.log, self.offsets)


def cut_of(values: dict[str, object]) -> Cut:
    """As it came from JSON, where keys are texts."""
    cut = Cut(**values)  # type: ignore[arg-type]
    return replace(cut, offsets={int(part): offset for part, offset in cut.offsets.items()})


def write_cut(folder: Path, cut: Cut) -> None:
    write_text(folder / CUT, json.dumps(asdict(cut)) + "\n")


def read_cut(folder: Path) -> Cut | None:
    if not (folder / CUT).is_file():
        return None
    return cut_of(read_json(folder / CUT, "cut of a window", dict, "what louder stream wrote"))


class Feed:
    """What comes from the log for a trainer, a window at a time.

    A window takes of each partition what was appended up to `lateness_s` after its end, so a cut is a fact of the log and
    not of how it was read; but for partitions that are idle, of which the cut keeps what was decided.

    position   where the last window ended, and `seen` the stamps up to there: see `state`
    joiner     holds what waits
    refuse     tells why a record is not taken; "" takes it
    """

    def __init__(
        self,
        source: str,
        position: Position | None,
        joiner: Joiner,
        settings: StreamConfig,
        seen: Mapping[str, int],
        refuse: Callable[[LogRecord], str],
        *,
        dead: Path,
        tell: Callable[[str], None],
    ) -> None:
        self.settings, self.joiner, self.refuse = settings, joiner, refuse
        self.reader: Reader = open_reader(source, position, dead=dead, tell=tell)
        parts = range(self.reader.log.partitions)
        self.ahead = {part: deque[Logged]() for part in parts}  # read, but of a later window
        self.seen = {
            int(part): stamp for part, stamp in seen.items()
        }  # the latest stamp that was taken of each partition
        self.watermark = Watermark(len(parts), lateness_s=settings.lateness_s, idle_s=settings.idle_s)
        self.watermark.stamps = dict(self.seen)
        self.watermark.began = min(self.seen.values(), default=None)
        self.deletions = list[Deletion]()
        self.source, self.told_away = source, False

    def state(self) -> dict[str, int]:
        return {str(part): stamp for part, stamp in self.seen.items()}

    def next_cut(self, window: int, upto: int | None, *, until_end: bool, waiting: Callable[[], None]) -> Cut | None:
        """Read until all of the next window has come; `upto` is where the one before ended. With `until_end` the log's end
        ends the last window, and then there is None. `waiting` is called when there is nothing to read."""
        while True:
            if upto is None and self.watermark.began is not None:
                upto = self.end_after(self.watermark.began // 1000 - 1) - self.settings.window_s
            unread = self.unread()
            if upto is not None:
                end = self.end_after(upto)
                self.take_until(end + self.settings.lateness_s)
                if (now := self.watermark.advance(unread)) is not None and now > end:
                    return self.cut(window, end)
            if until_end and not unread and self.is_quiet():
                newest = max(self.watermark.stamps.values(), default=0) // 1000
                if upto is None or newest <= upto:
                    return None
                if newest > end:
                    return self.cut(window, end)
                self.take_until(newest)
                return self.cut(window, newest, ends=True)
            if not self.read():
                waiting()
                time.sleep(PAUSE_S)

    def is_quiet(self) -> bool:
        """Whether nothing comes: a broker may tell an end that is too low, and takes a moment before its first record."""
        return not any(self.read() for _ in range(QUIET_READS))

    def read(self) -> int:
        try:
            found = self.reader.read()
        except LogGone as error:
            self.away(error)
            return 0
        self.told_away = False
        for logged in found:
            self.watermark.see(logged)
            self.ahead[logged.partition].append(logged)
        return len(found)

    def unread(self) -> set[int]:
        """Partitions that hold more than was read. Of a broker that is away nothing is known, so all are waited for."""
        try:
            offsets, bounds = self.reader.position.offsets, self.reader.bounds()
        except LogGone as error:
            self.away(error)
            return set(self.ahead)
        return {part for part, (_, end) in bounds.items() if offsets[part] < end}

    def away(self, error: LogGone) -> None:
        self.reader.counts["away"] += 1
        if not self.told_away:
            self.reader.tell(f"{error} It is waited for.")
        self.told_away = True

    def take_until(self, second: int) -> None:
        self.take(lambda logged: logged.stamp // 1000 <= second)

    def take(self, inside: Callable[[Logged], bool]) -> None:
        """Give the joiner what comes first in each partition, as long as it is in the window."""
        good = []
        for part, ahead in self.ahead.items():
            while ahead and inside(ahead[0]):
                logged = ahead.popleft()
                self.seen[part] = max(logged.stamp, self.seen.get(part, 0))
                if reason := self.wrong(logged):
                    self.reader.bury(DeadLetter("refused", reason, part, logged.offset, logged.offset + 1))
                    continue
                good.append(logged.record)
                if isinstance(logged.record, Deletion):
                    self.deletions.append(logged.record)
        self.joiner.add(good)

    def end_after(self, second: int) -> int:
        """The last second of the window that the second after this one is in."""
        size = self.settings.window_s
        return (second + 1) // size * size + size - 1

    def cut(self, window: int, upto: int, *, ends: bool = False) -> Cut:
        position = self.reader.position
        first = {part: ahead[0].offset for part, ahead in self.ahead.items() if ahead}
        return Cut(window, upto, position.log, {**position.offsets, **first}, self.watermark.idle(), ends)

    def again(self, cut: Cut) -> None:
        """Read what a cut says, no record more. Raises InputError if the log does not have it any more."""
        checked(cut.position, self.source, self.reader.log.id, self.reader.bounds())
        while any(self.reader.position.offsets[part] < end for part, end in cut.offsets.items()):
            self.read()
            self.take(lambda logged: logged.offset < cut.offsets[logged.partition])
        self.take(lambda logged: logged.offset < cut.offsets[logged.partition])

    def wrong(self, logged: Logged) -> str:
        """Why a record is put aside. Its time is compared with the log's own stamp, since a replay must tell the same."""
        record, stamp = logged.record, logged.stamp // 1000
        if isinstance(record, Deletion):
            return ""
        if record.time > stamp + MARGIN_S:
            return f"its time {record.time} is more than a day after it came, at {stamp}"
        return self.refuse(record)

    def close(self) -> None:
        self.reader.close()
