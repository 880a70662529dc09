"""What becomes of a history when events arrive, by examples that a person can check."""

import numpy as np
import pytest

from louder.histories import Deleted, Stored, StoreDamaged
from louder.histories.merging import added, filled, forgotten, merged, without
from louder.histories.record import REMEMBERED, Record, packed_ids, record_of
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


def test_of_what_is_dropped_the_items_stay_each_once_the_latest_last():
    events = history(*((item, time) for time, item in enumerate([5, 6, 5, 7, 8, 6, 9])), total=7)
    for item in merged(history(), events, 2), merged(merged(history(), events, 5), history(), 2):
        assert pairs(item) == [(6, 5), (9, 6)] and item.older.tolist() == [6, 5, 7, 8]
    more = merged(item, history((6, 7), (5, 8), (4, -1), total=3), 2)
    assert pairs(more) == [(6, 7), (5, 8)] and more.older.tolist() == [5, 7, 8, 4, 6, 9]
    assert (more.total, more.dropped) == (10, 8)


def test_items_of_what_is_dropped_are_bounded(monkeypatch):
    monkeypatch.setattr("louder.histories.merging.MOST_OLDER", 3)
    kept = merged(history(), history(*((n, n) for n in range(9)), total=9), 2)
    assert kept.older.tolist() == [4, 5, 6] and merged(kept, history((9, 9), total=1), 2).older.tolist() == [5, 6, 7]


def record_with(events, ids, **more):
    return Record(events, len(ids), np.array(ids), np.zeros(len(ids), bool), np.arange(len(events)), **more)


def test_only_what_was_not_seen_is_added_and_counted():
    record = Record(history(), 1, np.array([7]), np.array([False]))
    after, count = added(record, history((1, 10), (2, 20), (3, 30), (4, 5)), [8, 7, 8, 9], keep=9)
    assert pairs(after.history) == [(4, 5), (1, 10)] and count == Stored(2, 2)
    assert after.ids.tolist() == [7, 8, 9] and after.places.tolist() == [2, 1]
    assert after.appended == 3 and after.history.total == 2
    same, count = added(after, history((1, 10)), [9], keep=9)
    assert same is after and count == Stored(0, 1)


def test_the_ids_that_came_last_are_remembered():
    many = history(*((n, n) for n in range(REMEMBERED + 3)))
    record, count = added(Record(history()), many, list(range(REMEMBERED + 3)), keep=REMEMBERED + 2)
    assert count == Stored(REMEMBERED + 3, 0) and record.ids.tolist() == list(range(3, REMEMBERED + 3))
    assert record.places.tolist() == [-1, -1, *range(REMEMBERED)]
    after, _ = added(record, history((9, -9), (9, 9999)), [-1, -2], keep=4)
    assert after.ids.tolist() == [*range(5, REMEMBERED + 3), -1, -2]
    assert after.places.tolist() == [REMEMBERED - 5, REMEMBERED - 4, REMEMBERED - 3, REMEMBERED - 1]


def test_first_contents_go_under_what_was_appended():
    empty = Record(history())
    record, _ = added(empty, history((9, 15)), [1], keep=3)
    full = filled(record, history((1, 10), (2, 15), (3, 20), total=8), keep=3)
    assert pairs(full.history) == [(2, 15), (9, 15), (3, 20)] and full.places.tolist() == [-1, 0, -1]
    assert (full.history.total, full.appended, full.ids.tolist()) == (9, 1, [1])
    assert full.history.version > record.history.version and full.history.older.tolist() == [1]
    again = filled(full, history((1, 10), (2, 15), (3, 20), total=8), keep=3)
    assert again is full


def test_first_contents_are_written_anew_where_nothing_was_appended():
    first = filled(Record(history()), history((1, 10), (2, 20), total=2), keep=1)
    again = filled(first, history((1, 10), (2, 20), (3, 30), total=3), keep=2)
    assert pairs(first.history) == [(2, 20)] and pairs(again.history) == [(2, 20), (3, 30)]
    assert first.history.older.tolist() == again.history.older.tolist() == [1]
    assert again.history.total == 3 and again.appended == 0 and again.history.version > first.history.version


def test_an_event_is_deleted_by_its_id_and_does_not_come_again():
    record, _ = added(Record(history((1, 5), total=1)), history((2, 10), (3, 10), (3, 10)), [7, 8, 9], keep=9)
    after, found = without(record, 8)
    assert found == Deleted(True, True) and pairs(after.history) == [(1, 5), (2, 10), (3, 10)]
    assert after.places.tolist() == [-1, 0, 2] and (after.appended, after.history.total) == (2, 3)
    assert after.history.version == record.history.version + 1
    assert without(after, 8) == (after, Deleted(False, True))
    same, count = added(after, history((3, 10), (2, 10)), [8, 7], keep=9)
    assert same is after and count == Stored(0, 1, deleted=1)


def test_an_event_that_is_deleted_before_it_comes_is_not_taken():
    record = record_with(history((2, 10), total=1), [7])
    after, found = without(record, 8)
    assert found == Deleted(False, False) and pairs(after.history) == [(2, 10)] and after.appended == 1
    assert after.ids.tolist() == [7, 8] and after.deleted.tolist() == [False, True]
    assert without(after, 8)[1] == Deleted(False, True)
    assert added(after, history((4, 30), (5, 40)), [8, 9], keep=9)[1] == Stored(1, 0, deleted=1)


def test_an_event_that_is_not_kept_any_more_is_known():
    record, _ = added(Record(history()), history((2, 10), (3, 20)), [7, 8], keep=1)
    after, found = without(record, 7)
    assert found == Deleted(False, True) and pairs(after.history) == [(3, 20)]
    assert after.history.total == 2 and after.history.older.tolist() == [2]
    assert added(after, history((2, 10)), [7], keep=1)[1] == Stored(0, 0, deleted=1)


def test_deleting_leaves_the_number_of_events_before_each_as_it_was():
    record, _ = added(Record(history()), history(*((n, n) for n in range(6))), list(range(6)), keep=4)
    assert record.history.dropped == 2
    assert without(record, 5)[0].history.dropped == 2 and without(record, 0)[0].history.dropped == 2


def test_of_a_deleted_user_the_time_is_left():
    day = 86_400
    for latest, since in (90, 100), (100 + day, 100 + day), (101 + day, 100):  # a clock that is ahead; a mistake
        gone = forgotten(record_with(history((3, latest), total=9), [7]), now=100)
        assert (len(gone.history), gone.history.total, len(gone.ids), gone.since) == (0, 0, 0, since)
        after, count = added(gone, history((1, since), (2, since + 1)), [7, 8], keep=9)
        assert pairs(after.history) == [(2, since + 1)] and count == Stored(1, 0, deleted=1) and after.since == since
        assert filled(gone, history((1, 10), total=1), keep=9) is gone
        assert filled(after, history((1, 10), total=1), keep=9) is after


def test_ids_come_back_and_damage_is_told():
    events = history((1, 10), (2, 20), (3, 30))
    record = Record(events, 5, np.array([-1, 1 << 62, 3]), np.array([False, True, False]), np.array([2, -1, 0]), 9)
    packed = packed_ids(record)
    back = record_of(events, packed, since=9)
    assert (back.appended, back.ids.tolist()) == (5, [-1, 1 << 62, 3]) and back.since == 9
    assert back.deleted.tolist() == [False, True, False] and back.places.tolist() == [2, -1, 0]
    changed = [bytes(byte ^ (at == n) for n, byte in enumerate(packed)) for at in range(len(packed))]
    for damaged in b"", b"1234567", packed[:-1], *changed:
        with pytest.raises(StoreDamaged, match=f"they have {len(damaged)} bytes"):
            record_of(events, damaged)


def test_ids_of_an_older_store_are_read():
    """It kept how many were appended, and the ids, without which event was which."""
    back = record_of(history((1, 10), (2, 20)), np.array([5, -1, 1 << 62], "<i8").tobytes())
    assert (back.appended, back.ids.tolist(), back.places.tolist()) == (5, [-1, 1 << 62], [-1, -1])
    assert without(back, -1)[1] == Deleted(False, True)
    assert added(back, history((3, 30)), [1 << 62], keep=9)[1] == Stored(0, 1)
