"""Events made up for tests, and events of a store as plain rows."""

import math

import numpy as np

from louder.histories import Arrival
from louder.histories.history import History, Names

NAMES = Names(("click", "like"), ("seconds", "rating"))


def event(user, id, time=0, item=7, **more):
    return Arrival(user=user, id=str(id), item=item, time=time, **more)


def events_of(items, times, names=NAMES, **more):
    count = len(items)
    kind = object if isinstance(items[0], str) else np.int64
    return History(
        items=np.array(items, kind),
        times=np.array(times, np.int64),
        actions=np.zeros(count, np.int64),
        values=np.full((count, len(names.values)), np.nan, np.float32),
        requests=np.full(count, -1, np.int64),
        names=names,
        **more,
    )


def rows(events):
    """[(item, time, actions, values with None where absent, request)]"""
    values = [tuple(None if math.isnan(value) else value for value in row) for row in events.values.tolist()]
    columns = (column.tolist() for column in (events.items, events.times, events.actions, events.requests))
    items, times, actions, requests = columns
    return list(zip(items, times, actions, values, requests))
