"""The crowd of a live demo: who comes asks the service, does with the answer what the world says, and tells the service."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from louder.data.world import HOUR, Impression, World
from louder.histories import Arrival
from louder.results import Row
from louder.serving.client import Client, ItemIn, NewEvent
from louder.serving.messages import Answer, RecommendRequest

SHOWN = 10
AT_ONCE = 50  # requests of one call
TOLD_AT_ONCE = 1_000
LATELY = 14  # events that the page shows


@dataclass
class Tally:
    """What lists earned, as the world knows it: expected clicks, by hour and by who made them."""

    start: int
    sums: dict[str, dict[int, float]] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(self, who: str, time: int, reward: float) -> None:
        hour = (time - self.start) // HOUR
        sums, counts = self.sums.setdefault(who, {}), self.counts.setdefault(who, {})
        sums[hour], counts[hour] = sums.get(hour, 0.0) + reward, counts.get(hour, 0) + 1

    def means(self, who: str, hours: int, over: int = 3) -> list[float | None]:
        """Of each hour, with those before it: `over` in all."""
        sums, counts = self.sums.get(who, {}), self.counts.get(who, {})
        found: list[float | None] = []
        for hour in range(hours):
            span = range(max(0, hour - over + 1), hour + 1)
            n = sum(counts.get(x, 0) for x in span)
            found.append(sum(sums.get(x, 0.0) for x in span) / n if n else None)
        return found


class Crowd:
    """client  of the service
    shown   what was shown by whom: `tally` has the rewards of the variants, of an oracle and of popularity for the same people
    """

    def __init__(self, world: World, client: Client, items: int) -> None:
        self.world, self.client, self.tally = world, client, Tally(world.now)
        self.variant_of = dict[str, str]()  # of each request
        self.lately = deque[Row](maxlen=LATELY)
        self.requests = self.clicks = self.failed = 0
        self.known = len(world.topic)
        self.tell_items(range(self.known + 1, items + 1), available=False)

    def tell_items(self, items: Sequence[int], *, available: bool) -> None:
        for first in range(0, len(items), TOLD_AT_ONCE):
            part = items[first : first + TOLD_AT_ONCE]
            self.client.update_items([ItemIn(item=item, available=available) for item in part])

    def step(self, until: int) -> None:
        """All that happens up to a time."""
        world, shown = self.world, list[Impression]()
        visitors = world.visitors(until)
        for first in range(0, len(visitors), AT_ONCE):
            part = visitors[first : first + AT_ONCE]
            asked = [RecommendRequest(user=user, k=SHOWN, at=time) for time, user in part]
            for (time, user), answer in zip(part, self.client.recommend_batch(asked)):
                if isinstance(answer, Answer):
                    shown.append(self.seen(time, user, answer))
                else:
                    self.failed += 1
        events = world.step(until, shown)
        for first in range(0, len(events), TOLD_AT_ONCE):
            self.client.add_events([self.told(event) for event in events[first : first + TOLD_AT_ONCE]])
        if len(world.topic) > self.known:
            self.tell_items(range(self.known + 1, len(world.topic) + 1), available=True)
            self.known = len(world.topic)

    def seen(self, time: int, user: int, answer: Answer) -> Impression:
        items = tuple(x.item for x in answer.items)
        self.requests += 1
        self.variant_of[answer.request] = answer.variant
        others = {"oracle": self.world.oracle(user, SHOWN), "popularity": self.world.popular(user, SHOWN)}
        for who, some in ({answer.variant: items} | others).items():
            self.tally.add(who, time, self.world.reward(user, some))
        return Impression(answer.request, user, time, items)

    def told(self, event: Arrival) -> NewEvent:
        item = int(event.item)
        self.clicks += event.actions == ("click",)
        self.lately.appendleft(
            {
                "user": event.user,
                "item": self.world.title(item),
                "action": event.actions[0],
                "variant": self.variant_of.get(event.request or "", ""),
                "age_s": int(event.time - self.world.launched[item - 1]),
                "time": event.time,
            }
        )
        user, actions = int(event.user), list(event.actions)
        return NewEvent(user=user, id=event.id, item=item, time=event.time, actions=actions, request=event.request)

    def share_of_new(self) -> float:
        """Of the latest events, those of items that were launched since the beginning."""
        return float(np.mean([x["time"] - x["age_s"] > self.tally.start for x in self.lately])) if self.lately else 0.0
