"""What becomes of a history when events arrive, by examples that a person can check."""

import numpy as np
import pytest

from louder.histories import Stored, StoreDamaged
from louder.histories.merging import REMEMBERED, Record, added, filled, merged, packed_seen, unpacked_seen
from tests.histories.events import events_of, rows


def history(*pairs, version=0, total=0):
    """(item, time) pairs"""
    items, times = zip(*pairs) if pairs else ((), ())
    return events_of(items or [0], times or [0], version=version, total=total).select(slice(0, len(pairs)))


def pairs(events):
    return list(zip(events.items.tolist(), events.times.tolist()))


def test_the_latest_are_kept_in_order_of_time_then_of_arrival():
    old, new = history((1, 10), (2, 20), total=2, version=5), history((3, 20), (4, 10), (5, 5), total=3)
    both = merged(old, new, 9)
    assert pairs(both) == [(5, 5), (1, 10), (4, 10), (2, 20), (3, 20)]
    assert (both.version, both.total) == (8, 5)
    assert pairs(merged(old, new, 3)) == [(4, 10), (2, 20), (3, 20)]
    assert pairs(merged(old, new, 1)) == [(3, 20)]


def test_all_columns_move_together():
    old = events_of([1, 2], [10, 30])
    new = events_of([3], [20])
    for number, one in enumerate((old, new)):
        one.actions[:], one.requests[:], one.values[:] = number + 5, number + 50, number + 500
    none = 500.0, 500.0
    assert rows(merged(old, new, 9)) == [(1, 10, 5, none, 50), (3, 20, 6, (501.0, 501.0), 51), (2, 30, 5, none, 50)]


def test_only_what_was_not_seen_is_added_and_counted():
    record = Record(history(), seen=np.array([7]), appended=1)
    after, count = added(record, history((1, 10), (2, 20), (3, 30), (4, 40)), [8, 7, 8, 9], keep=9)
    assert pairs(after.history) == [(1, 10), (4, 40)] and count == Stored(2, 2)
    assert after.seen.tolist() == [7, 8, 9] and after.appended == 3 and after.history.total == 2
    same, count = added(after, history((1, 10)), [9], keep=9)
    assert same is after and count == Stored(0, 1)


def test_the_ids_that_came_last_are_remembered():
    record, count = added(Record(history()), history(*((n, n) for n in range(5))), [1, 2, 3, 4, 5], keep=2)
    record = Record(record.history, record.appended, np.arange(REMEMBERED))
    after, _ = added(record, history((9, 9), (9, 9)), [-1, -2], keep=2)
    assert after.seen.tolist() == [*range(2, REMEMBERED), -1, -2] and count == Stored(5, 0)


def test_first_contents_go_under_what_was_appended():
    empty = Record(history())
    record, _ = added(empty, history((9, 15)), [1], keep=3)
    full = filled(record, history((1, 10), (2, 15), (3, 20), total=8), keep=3)
    assert pairs(full.history) == [(2, 15), (9, 15), (3, 20)]
    assert (full.history.total, full.appended, full.seen.tolist()) == (9, 1, [1])
    assert full.history.version > record.history.version
    again = filled(full, history((1, 10), (2, 15), (3, 20), total=8), keep=3)
    assert again is full


def test_first_contents_are_written_anew_where_nothing_was_appended():
    first = filled(Record(history()), history((1, 10), (2, 20), total=2), keep=1)
    again = filled(first, history((1, 10), (2, 20), (3, 30), total=3), keep=2)
    assert pairs(first.history) == [(2, 20)] and pairs(again.history) == [(2, 20), (3, 30)]
    assert again.history.total == 3 and again.appended == 0 and again.history.version > first.history.version


def test_ids_come_back_and_damage_is_told():
    record = Record(history(), 5, np.array([-1, 1 << 62]))
    appended, seen = unpacked_seen(packed_seen(record))
    assert (appended, seen.tolist()) == (5, [-1, 1 << 62])
    for damaged in b"", b"1234567", packed_seen(record)[:-1]:
        with pytest.raises(StoreDamaged, match=f"they have {len(damaged)} bytes"):
            unpacked_seen(damaged)
