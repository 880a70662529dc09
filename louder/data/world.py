"""A world to recommend to, whose truth is known: people with tastes that drift, items that are launched every hour and fade, and
what people do with what they are shown. Numpy only.

    P(click) = EXAMINED(position) · sigmoid(BIAS + STRENGTH · taste · topic + quality - age / fade), 0 for what was had before
    P(like | click) = sigmoid of the same, less LIKE

Nothing reads a clock: `step` is told the time, and the same seed and the same lists give the same events. Who comes, what is
launched and how tastes drift does not depend on what is shown, so ways to recommend can be compared in one world.
"""

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from louder.data.synthetic import FIRST_TIME, require
from louder.data.synthetic_ranking import sigmoid
from louder.histories import Arrival
from louder.ids import RawId

HOUR = 3_600
BIAS, STRENGTH, QUALITY, LIKE = -1.8, 1.3, 0.9, 1.0
SPREAD = 0.25  # of an item's direction around its topic
MOST_FADED = 5.0  # on the scale of the logit
POPULAR_S = 12 * HOUR  # of clicks that popularity counts
CLICK_S, LIKE_S = 40, 1_800  # mean seconds until an action; likes come late
CLICK, LIKED = "click", "like"
TOPICS = (
    "news", "sport", "music", "film", "travel", "food", "science", "games", "art", "nature", "money", "home"
)  # fmt: skip


@dataclass(frozen=True)
class Impression:
    """What a user was shown, the first position first, at a time in seconds."""

    request: str
    user: int
    time: int
    items: tuple[RawId, ...]


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """launches    items an hour, on average
    fade_hours   in which an item loses one of its logit
    drift_hours  in which a taste forgets half of what it was
    visits       of a user a day, on average
    """

    users: int = 500
    items: int = 240  # that are there at the start
    launches: float = 4.0
    fade_hours: float = 48.0
    drift_hours: float = 72.0
    visits: float = 12.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.users >= 1, "users", self.users, "at least 1")
        require(self.items >= 1, "items", self.items, "at least 1")
        for name in "launches", "visits":
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in "fade_hours", "drift_hours":
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")


def examined(positions: int) -> np.ndarray:
    """[positions] the probability that a position is looked at."""
    return 1 / np.sqrt(np.arange(1, positions + 1))


class World:
    """Users are 1 .. users, items 1, 2, 3 … in the order of their launch.

    now       seconds; `step` moves it
    tastes    [U, K] of each user for each topic, standard normal at any time
    topic     [I] int64 of the items launched so far      direction [I, K]   quality [I]
    launched  [I] int64 seconds
    """

    def __init__(self, settings: WorldSettings = WorldSettings(), start: int = FIRST_TIME) -> None:
        self.settings, self.start, self.now = settings, start, start
        draw = self.draw("begin", 0)
        self.tastes = draw.normal(size=(settings.users, len(TOPICS)))
        self.rates = draw.gamma(4, settings.visits / 4, settings.users)  # visits a day
        self.topic = np.zeros(0, np.int64)
        self.direction, self.quality = np.zeros((0, len(TOPICS))), np.zeros(0)
        self.launched = np.zeros(0, np.int64)
        ages = np.sort(draw.integers(0, int(2 * settings.fade_hours * HOUR), settings.items))[::-1]
        self.launch(start - ages, draw)
        self.had: list[set[int]] = [set() for _ in range(settings.users)]
        self.due: list[tuple[int, int, str, Arrival]] = []  # a heap of what will happen, by time
        self.clicks = deque[tuple[int, int]]()  # (time, item) of the last hours
        self.counts = Counter[int]()
        self.hour = 0  # that has begun

    def draw(self, what: str, number: int) -> np.random.Generator:
        """Of one thing at one time, whatever else was drawn."""
        return np.random.default_rng([self.settings.seed, *what.encode(), number])

    def launch(self, times: np.ndarray, draw: np.random.Generator) -> None:
        n = len(times)
        topic = draw.integers(0, len(TOPICS), n)
        direction = np.eye(len(TOPICS))[topic] + SPREAD * draw.normal(size=(n, len(TOPICS)))
        self.topic, self.launched = np.append(self.topic, topic), np.append(self.launched, times)
        self.direction = np.concatenate([self.direction, direction])
        self.quality = np.append(self.quality, draw.normal(0, QUALITY, n))

    def visitors(self, until: int) -> list[tuple[int, int]]:
        """(time, user) of those who come from now to before `until`, in order. They may be asked for again."""
        found = []
        for hour in range((self.now - self.start) // HOUR, (until - self.start - 1) // HOUR + 1):
            draw, begin = self.draw("visits", hour), self.start + hour * HOUR
            by_day = 1 + 0.7 * np.sin(2 * np.pi * (hour / 24 - 0.25))  # least at night
            users = np.repeat(np.arange(1, len(self.rates) + 1), draw.poisson(self.rates / 24 * by_day))
            times = begin + draw.integers(0, HOUR, len(users))
            found += [(t, u) for t, u in zip(times.tolist(), users.tolist()) if self.now <= t < until]
        return sorted(found)

    def probabilities(self, user: int) -> np.ndarray:
        """[I] of a click on each item by a user who looks at it now."""
        faded = np.minimum((self.now - self.launched) / (self.settings.fade_hours * HOUR), MOST_FADED)
        wanted = sigmoid(BIAS + STRENGTH * self.direction @ self.tastes[user - 1] + self.quality - faded)
        wanted[[item - 1 for item in self.had[user - 1]]] = 0.0
        return wanted

    def reward(self, user: int, items: Sequence[RawId]) -> float:
        """Clicks that are expected of a list now; items that there are not earn nothing."""
        wanted = self.probabilities(user)
        by_item = [wanted[int(x) - 1] if 1 <= int(x) <= len(wanted) else 0.0 for x in items]
        return float(examined(len(items)) @ np.array(by_item)) if by_item else 0.0

    def oracle(self, user: int, k: int) -> list[int]:
        """The list with the largest reward."""
        return (np.argsort(-self.probabilities(user), kind="stable")[:k] + 1).tolist()

    def popular(self, user: int, k: int) -> list[int]:
        """What was clicked most in the last twelve hours, without what the user had; then the latest items."""
        had = self.had[user - 1]
        ranked = [item for item, _ in sorted(self.counts.items(), key=lambda x: (-x[1], x[0])) if item not in had]
        latest = (item for item in range(len(self.topic), 0, -1) if item not in had)
        return list(dict.fromkeys([*ranked[:k], *(next(latest, 1) for _ in range(k))]))[:k]

    def random(self, user: int, k: int) -> list[int]:
        """Any items, by the user and the time."""
        draw = self.draw(f"list {user}", self.now)
        return (draw.permutation(len(self.topic))[:k] + 1).tolist()

    def step(self, now: int, shown: Sequence[Impression] = ()) -> list[Arrival]:
        """Go on to a time; what users did up to then, in order, also with what they were shown before. `shown` is what users were
        shown since, each at a time that is not after `now`.

        Raises ValueError for a time that is past.
        """
        if now < self.now:
            raise ValueError(f"the world is at {self.now}, and {now} is before that")
        for impression in sorted(shown, key=lambda x: (x.time, x.request)):
            self.go_on(max(impression.time, self.now))
            self.react(impression)
        self.go_on(now)
        events = []
        while self.due and self.due[0][0] <= now:
            events.append(heapq.heappop(self.due)[-1])
        return events

    def go_on(self, now: int) -> None:
        """Tastes drift and items are launched at the beginning of each hour."""
        keep = 0.5 ** (1 / self.settings.drift_hours)
        while self.start + (self.hour + 1) * HOUR <= now:
            self.hour += 1
            draw, begin = self.draw("hour", self.hour), self.start + self.hour * HOUR
            self.tastes = keep * self.tastes + np.sqrt(1 - keep**2) * draw.normal(size=self.tastes.shape)
            self.launch(np.full(draw.poisson(self.settings.launches), begin), draw)
        self.now = now
        while self.clicks and self.clicks[0][0] < now - POPULAR_S:
            self.counts[self.clicks.popleft()[1]] -= 1

    def react(self, impression: Impression) -> None:
        user, draw = impression.user, self.draw(impression.request, impression.user)
        wanted, looks = self.probabilities(user), examined(len(impression.items))
        for position, raw in enumerate(impression.items):
            looked, clicked, liked, soon, late = draw.random(3).tolist() + draw.exponential(1.0, 2).tolist()
            item = int(raw)
            if not 1 <= item <= len(wanted) or item in self.had[user - 1]:
                continue
            if looked >= looks[position] or clicked >= wanted[item - 1]:
                continue
            self.had[user - 1].add(item)
            self.clicks.append((self.now, item))
            self.counts[item] += 1
            at = impression.time + 1 + int(CLICK_S * soon)
            self.happen(impression, item, at, CLICK)
            odds = wanted[item - 1] / (1 - wanted[item - 1]) * np.exp(-LIKE)
            if liked < odds / (1 + odds):
                self.happen(impression, item, at + 1 + int(LIKE_S * late), LIKED)

    def happen(self, impression: Impression, item: int, time: int, action: str) -> None:
        id = f"{impression.request}-{item}-{action}"
        event = Arrival(impression.user, id, item, time, (action,), {}, impression.request)
        heapq.heappush(self.due, (time, impression.user, id, event))

    def title(self, item: int) -> str:
        return f"{TOPICS[self.topic[item - 1]].capitalize()} {item}"
