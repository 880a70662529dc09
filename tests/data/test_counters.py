"""Counters against two loops over the log, and a proof that they do not look ahead."""

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.data.attributes import Attribute
from louder.data.counters import NEVER_S, count
from louder.data.item_counts import STRENGTH
from louder.data.table import Table
from louder.errors import InputError
from louder.schema import Manifest

ITEMS, ACTIONS = 5, 2


def attribute(name, lists, size):
    offsets = np.cumsum([0, *map(len, lists)])
    codes = torch.tensor([code for codes in lists for code in codes], dtype=torch.int64)
    labels = ("", *(str(code) for code in range(1, size)))
    return Attribute(name, size, codes, torch.from_numpy(offsets), labels)


# unknown, an item without values, and a repeat among them
ATTRIBUTES = [
    attribute("author", [[1], [2], [1], [0], [2]], size=3),
    attribute("tags", [[1, 2], [], [2, 2, 3], [0, 1], [3]], size=4),
]


def table_of(users, has_requests=True, actions=ACTIONS, has_times=True):
    """users: lists of (kind, item, time, actions, request), in the order of their times"""
    rows = [row for user in users for row in user]
    kinds, ids, times, bits, requests = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(5))
    manifest = Manifest(
        louder="0", command="", name="small", sources=[], users=len(users), items=ITEMS, events=len(rows),
        tokens=len(rows), has_times=has_times, first_time=0, last_time=0, dropped={}, filters={},
        actions=["click", "like", "share"][:actions], has_requests=has_requests,
    )  # fmt: skip
    return Table(
        path=Path("small"),
        manifest=manifest,
        offsets=np.cumsum([0, *map(len, users)]),
        kinds=kinds.astype(np.uint8),
        ids=ids,
        times=times,
        actions=bits if actions else None,
        values={},
        requests=requests if has_requests else None,
    )


@st.composite
def tables(draw, least_users=0):
    row = st.tuples(
        st.sampled_from([0, 0, 0, 1]),
        st.integers(0, ITEMS - 1),
        st.integers(0, 4),  # times, with many ties
        st.integers(0, 2**ACTIONS - 1),
        st.integers(-1, 2),
    )
    users = draw(st.lists(st.lists(row, max_size=7), min_size=least_users, max_size=4))
    # an entry of a series belongs to no request
    users = [sorted(((*row[:4], -1 if row[0] else row[4]) for row in user), key=lambda row: row[2]) for user in users]
    return table_of(users, draw(st.booleans()), draw(st.sampled_from([0, ACTIONS])))


def expected_of(table, row, begins):
    """The counters of one row by their definitions: one loop over all other rows."""
    names = table.manifest.actions
    owner = np.repeat(np.arange(table.users), np.diff(table.offsets))
    seen = [r for r in range(len(table.ids)) if table.kinds[r] == 0]
    now, begin = int(table.times[begins[row]]), int(begins[row])
    mine = [r for r in seen if owner[r] == owner[row] and r < begin]
    earlier = [r for r in seen if table.times[r] < now]

    def actions(rows):
        return [sum(int(table.actions[r]) >> a & 1 for r in rows) for a in range(len(names))]

    def logs(rows):
        return [math.log1p(n) for n in (len(rows), *actions(rows))]

    def rates(rows, prior):
        return [(n + STRENGTH * p) / (len(rows) + STRENGTH) for n, p in zip(actions(rows), prior)]

    def since(rows):
        return [math.log1p(now - int(table.times[rows[-1]]) if rows else NEVER_S)]

    def values(item):
        return list(dict.fromkeys(code for code in of_item(item) if code > 0))

    everybody = [(n + 1) / (len(earlier) + 2) for n in actions(earlier)]
    item = int(table.ids[row])
    user_rates = rates(mine, everybody)
    found = [*logs(mine), *user_rates, *since(mine)]
    of_it = [r for r in earlier if table.ids[r] == item]
    found += [*logs(of_it), *rates(of_it, everybody), *logs([r for r in mine if table.ids[r] == item])]
    for known in ATTRIBUTES:

        def of_item(i, known=known):
            return known.codes[known.offsets[i] : known.offsets[i + 1]].tolist()

        shared = [[r for r in mine if value in values(table.ids[r])] for value in values(item)]
        each = [logs(rows) + rates(rows, user_rates) for rows in shared]
        found += np.mean(each, axis=0).tolist() if each else [0.0] * (1 + len(names)) + user_rates
        found += since(shared[0] if shared else [])
    return found


@settings(max_examples=60)
@given(tables())
def test_counters_are_what_two_loops_find(table):
    values, names = count(table, ATTRIBUTES)
    assert values.shape == (len(table.ids), len(names)) and values.dtype == np.float32
    assert len(set(names)) == len(names)
    begins = table.request_rows()
    for row in range(len(table.ids)):
        expected = expected_of(table, row, begins) if table.kinds[row] == 0 else np.zeros(len(names))
        np.testing.assert_allclose(values[row], expected, rtol=1e-5, atol=1e-6, err_msg=str((row, names)))


@settings(max_examples=100)
@given(tables(least_users=1), st.data())
def test_nothing_at_or_after_the_request_changes_a_counter(table, data):
    if not (table.kinds == 0).any():
        return
    row = data.draw(st.sampled_from(np.flatnonzero(table.kinds == 0).tolist()))
    before, _ = count(table, ATTRIBUTES)
    begin = int(table.request_rows()[row])
    owner = np.searchsorted(table.offsets, np.arange(len(table.ids)), side="right")
    later = np.where(owner == owner[row], np.arange(len(owner)) >= begin, table.times >= table.times[begin])
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    actions = None
    if table.actions is not None:
        actions = np.where(later, random.integers(0, 2**ACTIONS, len(owner)), table.actions)
    ids = np.where(later & (np.arange(len(owner)) != row), random.integers(0, ITEMS, len(owner)), table.ids)
    times = np.where(later & (table.times > table.times[begin]), table.times + 100, table.times)
    after, _ = count(replace(table, ids=ids, actions=actions, times=times), ATTRIBUTES)
    np.testing.assert_array_equal(after[row], before[row])


def test_counters_of_a_log_that_can_be_counted_by_hand():
    day = 86400
    table = table_of([[(0, 0, 0, 1, -1), (0, 2, day, 0, -1), (0, 0, 3 * day, 3, -1)], [(0, 0, day, 3, -1)]])
    values, names = count(table, ATTRIBUTES[:1])
    found = defaultdict(float, zip(names, values[2].tolist()))
    expected = {
        "user.shown": math.log(3), "user.click": math.log(2), "user.like": 0.0,
        "user.seconds_since": math.log(2 * day + 1),
        # three impressions and two clicks of everybody: 3 / 5 is expected
        "item.shown": math.log(3), "item.click": math.log(3), "item.click_rate": (2 + 10 * 3 / 5) / 12,
        "user.item.shown": math.log(2), "user.item.click": math.log(2), "user.item.like": 0.0,
        "user.author.shown": math.log(3), "user.author.seconds_since": math.log(2 * day + 1),
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert values[0, names.index("user.seconds_since")] == pytest.approx(math.log1p(NEVER_S))


def test_a_log_without_times_is_refused():
    with pytest.raises(InputError, match="small has no times"):
        count(table_of([[(0, 0, 0, 1, -1)]], has_times=False), [])
