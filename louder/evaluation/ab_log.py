"""What an A/B test left in a log of events and answers: who was asked for how often, and what came of it."""

import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from louder.errors import InputError
from louder.histories.keys import key_of
from louder.streaming import Joiner, Outcome, Shown, Watermark
from louder.streaming.joiner import END
from louder.streaming.logs import open_reader

AT_ONCE = 10_000  # records


@dataclass(frozen=True)
class TestLog:
    """V variants, the control first, and U users.

    shares         [V] of the users, as they were drawn
    variant        [U] int64, place of the user's variant; -1 for users who were answered by more than one
    requests_user  [R] int64 place of the user     requests_time  [R] int64 seconds
    events_user    [E] of events that came of an answer    events_time  [E]    events_actions  [E] bits, by `actions`
    """

    __test__ = False  # no test of pytest's

    variants: tuple[str, ...]
    shares: np.ndarray
    actions: tuple[str, ...]
    variant: np.ndarray
    requests_user: np.ndarray
    requests_time: np.ndarray
    events_user: np.ndarray
    events_time: np.ndarray
    events_actions: np.ndarray


class Collected:
    """A log while it is read."""

    def __init__(self, since: int, until: int) -> None:
        self.since, self.until = since, until
        self.users = dict[bytes, int]()
        self.variants, self.actions = dict[str, int](), dict[str, int]()
        self.shares = dict[str, dict[float, int]]()  # of each variant, and since when it was so
        self.variant = array("q")
        self.requests_user, self.requests_time = array("q"), array("q")
        self.events_user, self.events_time, self.events_actions = array("q"), array("q"), array("Q")
        self.answered = set[int]()

    def shown(self, record: Shown) -> None:
        if not record.variant or not self.since <= record.time < self.until:
            return
        key = key_of(record.user)
        again = hash((key, record.request))
        if again in self.answered:
            return
        self.answered.add(again)
        since = self.shares.setdefault(record.variant, {})
        since[record.share] = min(record.time, since.get(record.share, record.time))
        variant = self.variants.setdefault(record.variant, len(self.variants))
        user = self.users.setdefault(key, len(self.users))
        if user == len(self.variant):
            self.variant.append(variant)
        elif self.variant[user] != variant:
            self.variant[user] = -1
        self.requests_user.append(user)
        self.requests_time.append(record.time)

    def done(self, outcome: Outcome) -> None:
        exposure, event = outcome.exposure, outcome.event
        if exposure is None or event is None or not exposure.variant or not self.since <= exposure.time < self.until:
            return
        self.events_user.append(self.users[key_of(exposure.user)])
        self.events_time.append(event.time)
        places = {self.actions.setdefault(name, len(self.actions)) for name in event.actions}
        self.events_actions.append(sum(1 << place for place in places if place < 64))


def read_test(log: str, *, since: int = 0, until: int = END) -> TestLog:
    """Read a log to its end: a folder, or kafka://HOST:PORT/TOPIC. Answers at times from `since` to before `until`, in seconds,
    and whatever came of them.

    Raises InputError if there is no log, or none of its answers is of a variant, or shares changed.
    """
    found = Collected(since, until)
    with tempfile.TemporaryDirectory(prefix="louder-ab-") as scratch, open_reader(log) as reader:
        with Joiner(Path(scratch) / "joiner") as joiner:
            watermark = Watermark(len(reader.bounds()))
            while records := reader.read(AT_ONCE):
                for logged in records:
                    watermark.see(logged)
                    if isinstance(logged.record, Shown):
                        found.shown(logged.record)
                joiner.add(logged.record for logged in records)
                if (now := watermark.advance()) is not None:
                    for outcome in joiner.advance(now):
                        found.done(outcome)
            for outcome in joiner.advance():
                found.done(outcome)
    return arrays(found, log)


def arrays(found: Collected, log: str) -> TestLog:
    names = sorted(found.variants, key=lambda name: (name != "control", found.variants[name]))
    if len(names) < 2:
        only = f"all are of {names[0]}" if names else "none is of a variant"
        raise InputError(
            f"In {log} there are no answers of two variants to compare ({only}). Serve them: louder serve RUN --variant "
            f"NAME=OTHER:0.5 --events {log}."
        )
    for name, since in found.shares.items():
        if len(since) > 1:
            *_, was, became = sorted(since, key=lambda share: since[share])
            raise InputError(
                f"The share of the variant {name} was {was:g} and became {became:g}, and what was drawn by one cannot be compared "
                f"with what was drawn by the other. Look at what came since: --since {since[became]}."
            )
    place = np.full(len(names) + 1, -1)  # the last is for users with several
    for new, name in enumerate(names):
        place[found.variants[name]] = new
    return TestLog(
        variants=tuple(names),
        shares=np.array([next(iter(found.shares[name])) for name in names]),
        actions=tuple(found.actions),
        variant=place[np.array(found.variant, np.int64)],
        requests_user=np.array(found.requests_user, np.int64),
        requests_time=np.array(found.requests_time, np.int64),
        events_user=np.array(found.events_user, np.int64),
        events_time=np.array(found.events_time, np.int64),
        events_actions=np.array(found.events_actions, np.uint64),
    )
