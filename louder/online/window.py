"""What happened in a window, by user: events that are new to the histories, and items that were shown with what was done."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from louder.histories import Arrival, Names
from louder.histories.keys import key_of
from louder.ids import RawId
from louder.streaming import Exposure, Outcome


@dataclass
class Answer:
    """What a user was shown at once, as far as it was told in this window: of each item what was done, None for nothing."""

    time: int
    done: dict[RawId, Arrival | None] = field(default_factory=dict)


@dataclass
class UserWindow:
    """events   new ones, in the order of their times, those that came late first
    alone    ids of those that came of no answer
    answers  by the id of the request
    """

    events: deque[Arrival]
    alone: set[str] = field(default_factory=set)
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass
class Window:
    """users   in the order of their ids
    counts  "events", "negatives", "corrections", and what is "left_out" of users with too much
    """

    users: dict[RawId, UserWindow]
    counts: Counter[str]
    first: int | None  # times of the first and the last event
    last: int | None


def gather(outcomes: Iterable[Outcome], names: Names, most_events: int) -> Window:
    """Each outcome into the window of its user. `names` are the actions and values that the model knows; others are dropped."""
    found: dict[RawId, UserWindow] = {}
    counts, first, last = Counter[str](), None, None
    for outcome in outcomes:
        event, exposure = outcome.event, outcome.exposure
        counts["corrections"] += bool(outcome.corrects)
        if event is not None and outcome.corrects == "alone":
            continue  # it was trained on as one that stood alone, and an event is trained on once
        user = event.user if event is not None else exposure.user if exposure is not None else None
        assert user is not None
        own = found.setdefault(user, UserWindow(deque(maxlen=most_events)))
        if event is not None:
            counts["events"] += 1
            counts["left_out"] += len(own.events) == most_events
            first = event.time if first is None else min(first, event.time)
            last = event.time if last is None else max(last, event.time)
            event = known(event, names)
            own.events.append(event)
            if exposure is None:
                own.alone.add(event.id)
        if exposure is not None:
            counts["negatives"] += event is None
            note(own, exposure, event, most_events, counts)
    return Window({user: found[user] for user in sorted(found, key=key_of)}, counts, first, last)


def note(own: UserWindow, exposure: Exposure, event: Arrival | None, most: int, counts: Counter[str]) -> None:
    answer = own.answers.get(exposure.request)
    if answer is None:
        if len(own.answers) == most:
            counts["left_out"] += 1
            return
        answer = own.answers[exposure.request] = Answer(exposure.time)
    before = answer.done.get(exposure.item)
    answer.done[exposure.item] = both(before, event) if before is not None and event is not None else event or before


def both(before: Arrival, after: Arrival) -> Arrival:
    """What was done with an item twice in a window, such as first seen and then liked."""
    actions = tuple(dict.fromkeys((*before.actions, *after.actions)))
    return replace(after, actions=actions, values=before.values | after.values)


def known(event: Arrival, names: Names) -> Arrival:
    if all(name in names.actions for name in event.actions) and all(name in names.values for name in event.values):
        return event
    actions = tuple(name for name in event.actions if name in names.actions)
    return replace(event, actions=actions, values={k: v for k, v in event.values.items() if k in names.values})
