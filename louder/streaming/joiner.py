"""What was shown, joined with what was done: by request id, in the order of the times at which it happened.

Records may come in any order. They wait until the watermark has passed their time, and are then taken in order, so what is
told does not depend on the order in which they came. What comes later than that is told at once, as a correction where it
needs to be. Nothing is told twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from louder.histories import Arrival
from louder.ids import RawId
from louder.streaming.joiner_state import CACHE_BYTES, MOST_BYTES, JoinerState
from louder.streaming.records import Deletion, LogRecord, Shown

WAIT_S = 600
HORIZON_S = 86_400
SWEEPS = 8  # times in a horizon that what is beyond it is dropped
END = 1 << 62  # a watermark after everything


@dataclass(frozen=True)
class Exposure:
    """An item of an answer; `position` 1 is the first."""

    request: str
    user: RawId
    item: RawId
    position: int
    score: float
    propensity: float
    version: str
    time: int
    variant: str = ""


@dataclass(frozen=True)
class Outcome:
    """An event, with what it came of; or an exposure that nothing came of.

    exposure  None: the event names no request, or none that is known to have shown the item
    event     None: for as long as was waited, nothing was done with the item
    corrects  what was told before and is taken back by this: that "nothing" came of the exposure, or that the event stood
              "alone"
    """

    exposure: Exposure | None
    event: Arrival | None
    corrects: Literal["", "nothing", "alone"] = ""


class Joiner:
    """place        a file for what is held. It is scratch, and made anew: `save` is what a checkpoint keeps
    restore      a file that `save` wrote, to go on from there
    wait_s       seconds after which an exposure counts as one that nothing came of
    horizon_s    for so long after it was shown an item can be joined with what is done, and it is known what was told
    cache_bytes  of memory for what is held
    most_bytes   of the disk; beyond, the oldest is forgotten before the horizon
    counts       "done", "nothing", "alone", "corrections", and of records "late", "too_late" (beyond the horizon: not told),
                 "duplicates", "deleted" (of users or events that were deleted), "forgotten" (before the horizon)
    """

    def __init__(
        self,
        place: Path,
        restore: Path | None = None,
        *,
        wait_s: int = WAIT_S,
        horizon_s: int = HORIZON_S,
        cache_bytes: int = CACHE_BYTES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.wait_s, self.horizon_s = wait_s, horizon_s
        self.state = JoinerState(place, restore, cache_bytes, most_bytes)
        saved = self.state.saved()
        self.watermark: int | None = saved.get("watermark")
        self.swept: int | None = saved.get("swept")
        self.counts = Counter[str](saved.get("counts", {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, records: Iterable[LogRecord]) -> None:
        """Raises InputError where too much has to be held at once."""
        kept = []
        for record in records:
            if self.watermark is not None and record.time <= self.watermark:
                self.counts["late"] += 1
                if record.time < self.watermark - self.horizon_s:
                    self.counts["too_late"] += 1
                    continue
            kept.append(record)
        self.state.wait(kept)
        self.counts["forgotten"] += self.state.make_room()

    def advance(self, watermark: int = END) -> Iterator[Outcome]:
        """What is known when all that happened up to a time, in seconds, has come; by default at the end of all. Take all of
        it: what is held moves on with it."""
        before = self.watermark
        if before is not None and watermark < before:
            return
        self.watermark, second = watermark, None
        for record in self.state.waiting(watermark):
            if record.time != second:
                second = record.time
                yield from self.overdue(second - 1)
            yield from self.taken(record)
        yield from self.overdue(watermark)
        # all of it is gone through for this, so not each time
        if self.swept is None or watermark - self.swept > self.horizon_s // SWEEPS:
            self.swept = watermark
            self.state.drop(watermark - self.horizon_s)

    def overdue(self, until: int) -> Iterator[Outcome]:
        """Exposures that nothing came of for as long as is waited, at times up to `until`."""
        for shown, done in self.state.overdue(until):
            for row in range(len(shown.items)):
                if not done >> row & 1:
                    self.counts["nothing"] += 1
                    yield Outcome(exposure(shown, row), None)

    def taken(self, record: LogRecord) -> Iterator[Outcome]:
        if self.state.deleted(record.user, record.time) and not isinstance(record, Deletion):
            self.counts["deleted"] += 1
        elif isinstance(record, Deletion):
            self.state.delete(record)
        elif not self.state.first_time(record):
            self.counts["duplicates"] += 1
        elif isinstance(record, Shown):
            yield from self.shown(record)
        else:
            yield self.done(record)

    def shown(self, record: Shown) -> Iterator[Outcome]:
        done = 0
        for event in self.state.alone(record):  # whose clocks are ahead of the service's, or which came before it
            if event.item in record.items and record.time - event.time <= self.horizon_s:
                row = record.items.index(event.item)
                done |= 1 << row
                self.counts["corrections"] += 1
                yield Outcome(exposure(record, row), event, "alone")
        self.state.show(record, record.time + self.wait_s, done)

    def done(self, event: Arrival) -> Outcome:
        found = self.state.shown(event) if event.request is not None else None
        if found is not None and event.time - found.record.time > self.horizon_s:
            found = None
        if found is None or event.item not in found.record.items:
            if event.request is not None and found is None:
                self.state.stand_alone(event)
            self.counts["alone"] += 1
            return Outcome(None, event)
        row = found.record.items.index(event.item)
        again = bool(found.done >> row & 1)
        self.state.mark_done(found, row)
        if found.told and not again:
            self.counts["corrections"] += 1
            return Outcome(exposure(found.record, row), event, "nothing")
        self.counts["done"] += 1
        return Outcome(exposure(found.record, row), event)

    def save(self, path: Path) -> None:
        """All that is held, into one file."""
        values = {"watermark": self.watermark, "swept": self.swept, "counts": dict(self.counts)}
        self.state.save(path, values)

    def close(self) -> None:
        self.state.close()


def exposure(shown: Shown, row: int) -> Exposure:
    item, score, propensity = shown.items[row], shown.scores[row], shown.propensities[row]
    return Exposure(
        shown.request, shown.user, item, row + 1, score, propensity, shown.version, shown.time, shown.variant
    )
