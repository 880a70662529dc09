"""New events -> columns, one set per user. All are checked before any is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from louder.errors import InputError
from louder.histories.history import History, Names
from louder.histories.settings import StoreSettings, require_kind, settled
from louder.histories.times import wrong_time
from louder.ids import RawId, digest, key_of_text

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Arrival:
    """An event to store; `id` makes it idempotent."""

    user: RawId
    id: str
    item: RawId
    time: int
    actions: tuple[str, ...] = ()
    values: dict[str, float] = field(default_factory=dict)
    request: str | None = None


def columns(events: Sequence[Arrival], names: Names) -> History:
    """Events of one user, in the order of their arrival."""
    values = np.full((len(events), len(names.values)), np.nan, np.float32)
    for row, event in enumerate(events):
        for name, value in event.values.items():
            values[row, names.values.index(name)] = value
    items = np.empty(len(events), object if isinstance(events[0].item, str) else np.int64)
    items[:] = [event.item for event in events]
    times = np.array([event.time for event in events], np.int64)
    actions = np.array([bits(event.actions, names) for event in events], np.int64)
    requests = np.array([request_number(event.request) for event in events], np.int64)
    return History(items, times, actions, values, requests, names, total=len(events))


def event_ids(events: Sequence[Arrival]) -> list[int]:
    """64-bit hashes of the events' ids."""
    return [key_of_text(event.id) for event in events]


def by_user(events: Sequence[Arrival], names: Names, settings: StoreSettings, now: float) -> dict[RawId, list[Arrival]]:
    """Raises InputError for an unknown action or value, an id of the wrong kind, a number that does not fit, or a time that
    is not yet."""
    settings = settled(settings, events[0].user, events[0].item)
    users: dict[RawId, list[Arrival]] = {}
    for event in events:
        require_kind("user", event.user, settings.users)
        require_kind("item", event.item, settings.items)
        check(event, names, now)
        users.setdefault(event.user, []).append(event)
    return users


def check(event: Arrival, names: Names, now: float) -> None:
    for kind, known, given in (("action", names.actions, event.actions), ("value", names.values, event.values)):
        for name in given:
            if name not in known:
                have = f"its {kind}s are {', '.join(known)}" if known else f"it has no {kind}s"
                raise InputError(f"The store has no {kind} {name!r}; {have}. Send one of them, or none.")
    for name, value in event.values.items():
        if abs(value) > LARGEST:
            raise InputError(f"The value {name!r} is {value}, which 32 bits do not hold. Send one below {LARGEST:.3g}.")
    if event.time < -(1 << 63):
        raise InputError(f"The time {event.time} does not fit into 64 bits. Send seconds since 1970.")
    if wrong := wrong_time(event.time, now):
        raise InputError(wrong)


def bits(actions: Sequence[str], names: Names) -> int:
    return sum(1 << names.actions.index(name) for name in set(actions))


def request_number(request: str | None) -> int:
    """63 bits of the request's hash, so that equal texts give equal numbers for good; -1 for none."""
    return -1 if request is None else int.from_bytes(digest(request), "little") >> 1
