"""Counts of items: as time goes on, the same as of a whole log."""

from dataclasses import replace

import numpy as np
import pytest
from tables import ranking_table

from louder.data.counters import count
from louder.data.item_counts import ItemCounts, item_counters
from louder.errors import InputError
from louder.schema import ENGAGEMENT

ITEMS = 6


def log(seed=1):
    """Times with many ties, requests, and entries of a series between the events."""
    return ranking_table(seed, requests="contiguous", users=40, longest=20, items=ITEMS)


def test_counts_that_can_be_made_by_hand():
    counts = ItemCounts(3, 2)
    #              item 0 twice, item 1 in between; bits: 1 = the first action, 2 = the second
    counts.add(np.array([0, 1, 0]), np.array([10, 20, 30]), np.array([1, 3, 2]))
    asked = [(0, 10), (0, 11), (0, 31), (1, 20), (1, 21), (2, 99), (-1, 99)]
    items, times = (np.array(column) for column in zip(*asked))
    found, expected = counts.at(items, times)
    assert found.shown.tolist() == [0, 1, 2, 0, 1, 0, 0]  # what happens at the very second is not before it
    assert found.actions.tolist() == [[0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0, 0], [0, 0]]
    rates = [[1 / 2, 1 / 2], [2 / 3, 1 / 3], [3 / 5, 3 / 5], [2 / 3, 1 / 3], [3 / 4, 2 / 4], [3 / 5, 3 / 5]]
    np.testing.assert_allclose(expected, [*rates, rates[-1]], rtol=1e-6)
    features = counts.features(items, times)
    # one of two impressions with each action, where three of five are expected
    np.testing.assert_allclose(features[2], np.log([3, 2, 2]).tolist() + [(1 + 10 * 3 / 5) / 12] * 2, rtol=1e-6)
    np.testing.assert_array_equal(features[5], features[6])  # an item of which nothing is known is one never shown


@pytest.mark.parametrize("seed", [1, 2])
def test_they_are_what_impression_level_rankers_count(seed):
    table = log(seed)
    values, names = count(table, [])
    columns = [n for n, name in enumerate(names) if name.startswith("item.")]
    assert [names[n] for n in columns] == [f"item.{x}" for x in ("shown", "like", "share", "like_rate", "share_rate")]
    np.testing.assert_array_equal(item_counters(table), values[:, columns])


@pytest.mark.parametrize("late", [0, 25])
def test_a_loop_that_adds_events_as_they_come_counts_what_a_whole_log_tells(late):
    """The events of each moment are asked about first, then added; what is older than `late` seconds is folded."""
    table = log()
    rows = np.flatnonzero(table.kinds == ENGAGEMENT)
    expected = item_counters(table)
    heads = table.request_rows()
    live = ItemCounts(ITEMS, 2)
    for now in np.unique(table.times[rows]):
        happening = rows[table.times[rows] == now]
        assert (table.times[heads[happening]] == now).all()
        found = live.features(table.ids[happening], np.full(len(happening), now))
        np.testing.assert_array_equal(found, expected[happening])
        live.add(table.ids[happening], table.times[happening], table.actions[happening])
        live.fold(int(now) - late)
        assert live.state[1].times.min(initial=now) >= now - late  # what is kept is bounded
    assert expected[rows].max() > 2


def test_after_folding_later_times_are_counted_as_before_and_earlier_ones_see_all_of_it():
    table = log()
    rows = np.flatnonzero(table.kinds == ENGAGEMENT)
    whole, folded = ItemCounts.of_table(table), ItemCounts.of_table(table)
    folded.fold(50)
    items, times = np.tile(np.arange(ITEMS), 60), np.repeat(np.arange(50, 110), ITEMS)
    np.testing.assert_array_equal(folded.features(items, times), whole.features(items, times))
    early, fifty = np.full(ITEMS, 10), np.full(ITEMS, 50)
    found = folded.at(np.arange(ITEMS), early)[0].shown
    np.testing.assert_array_equal(found, whole.at(np.arange(ITEMS), fifty)[0].shown)
    assert found.sum() == (table.times[rows] < 50).sum()


def test_new_items_are_counted_from_their_first_event_and_change_no_other():
    table, more = log(), np.array([ITEMS + 2])
    grown, whole = ItemCounts.of_table(table), ItemCounts.of_table(table)
    grown.grow(2)
    every, now = np.arange(ITEMS), np.full(ITEMS, 200)
    np.testing.assert_array_equal(grown.features(every, now), whole.features(every, now))
    np.testing.assert_array_equal(grown.features(more, now[:1]), whole.features(np.array([-1]), now[:1]))
    grown.add(more, np.array([150]), np.array([1]))
    assert grown.items == ITEMS + 3
    found, _ = grown.at(more, np.array([151]))
    assert (found.shown.tolist(), found.actions.tolist()) == ([1], [[1, 0]])
    np.testing.assert_array_equal(grown.features(every, now - 60), whole.features(every, now - 60))


def test_neither_items_of_the_same_request_nor_what_comes_later_is_counted():
    """One user is shown an item twice in a request that lasts; another meets it at the second at which that begins."""
    table = log()
    rows = np.array([0, 1, 2])
    small = replace(
        table.taken(rows, np.array([0, 2, 3])),
        kinds=np.zeros(3, np.uint8),
        ids=np.array([4, 4, 4]),
        times=np.array([10, 12, 10]),
        actions=np.array([1, 1, 1]),
        requests=np.array([7, 7, -1]),
    )
    np.testing.assert_allclose(item_counters(small), [[0, 0, 0, 0.5, 0.5]] * 3)
    apart = replace(small, requests=np.array([7, 8, -1]))
    np.testing.assert_allclose(item_counters(apart)[1, :3], np.log([3, 3, 1]), rtol=1e-6)  # both of the tenth second


def test_a_log_without_times_has_no_counts():
    table = log()
    with pytest.raises(InputError, match="t has no times"):
        item_counters(replace(table, manifest=replace(table.manifest, has_times=False)))
