"""Groups of exposures: the whole as one group is what RankingMetrics reports; groups and intervals, known by construction."""

from types import SimpleNamespace

import numpy as np
import pytest

from louder.evaluation.ranking_metrics import RankingMetrics
from louder.evaluation.ranking_slices import (
    by_length,
    by_popularity,
    by_probability,
    by_time,
    item_shares,
    mean_auc,
    slices,
)


def drawn(exposures=4000, users=200, seed=0):
    draw = np.random.default_rng(seed)
    probabilities = draw.uniform(0.05, 0.95, exposures).astype(np.float32)
    return probabilities, draw.random(exposures) < probabilities, draw.integers(0, users, exposures) * 7


def test_all_in_one_group_is_what_the_metrics_report():
    probabilities, labels, users = drawn()
    metrics = RankingMetrics(["like"])
    metrics.update(probabilities[:, None], labels[:, None], users)
    expected = metrics.report()["actions"]["like"]
    (found,) = slices(probabilities, labels, users, np.zeros(len(labels), dtype=np.int64), ["all"])
    assert found.ne.value == pytest.approx(expected["ne"])
    assert found.calibration.value == pytest.approx(expected["calibration"])
    assert found.share.value == pytest.approx(expected["positives"] / expected["impressions"])
    assert mean_auc(probabilities, labels, users).value == pytest.approx(expected["gauc_user"])
    for estimate in found.ne, found.calibration, found.share, mean_auc(probabilities, labels, users):
        assert estimate.low < estimate.value < estimate.high


def test_labels_drawn_by_their_probabilities_are_calibrated_in_every_bin():
    probabilities, labels, users = drawn()
    groups, names = by_probability(probabilities)
    found = slices(probabilities, labels, users, groups, names)
    assert [x.exposures for x in found] == [400] * 10
    inside = sum(x.share.low <= x.predicted <= x.share.high for x in found)
    assert inside >= 8  # of ten intervals of 95 %
    twice = slices(probabilities / 2, labels, users, groups, names)
    assert all(x.calibration.high < 0.7 for x in twice)


def test_more_events_of_one_user_say_little_more():
    """The interval knows that exposures of one person are alike: said a hundred times, they are no surer."""
    probabilities, labels, users = drawn(400, 40)
    once = slices(probabilities, labels, users, np.zeros(400, dtype=np.int64), ["all"])[0].ne
    again = [np.tile(x, 100) for x in (probabilities, labels, users)]
    many = slices(*again, np.zeros(40_000, dtype=np.int64), ["all"])[0].ne
    assert many == pytest.approx(once)


def test_a_group_of_labels_that_are_alike_has_no_entropy_and_an_empty_one_is_left_out():
    labels = np.array([True, True, True, False])
    found = slices(np.full(4, 0.5), labels, np.arange(4), np.array([0, 0, 2, 2]), ["a", "b", "c"])
    assert [(x.name, x.exposures) for x in found] == [("a", 2), ("c", 2)]
    assert np.isnan(found[0].ne.value)
    assert found[1].ne.value == pytest.approx(1.0)
    assert np.isnan(mean_auc(np.full(2, 0.5, np.float32), labels[:2], np.arange(2)).value)


# two users: 12 events, of which the second is an entry of a series, and 2 events
TABLE = SimpleNamespace(
    kinds=np.array([0, 1, *[0] * 10, 0, 0], np.uint8),
    offsets=np.array([0, 12, 14]),
    ids=np.array([5, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4, 5, 3]),
    actions=np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0]),
    items=6,
    request_rows=lambda: np.array(
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 12, 12]
    ),  # the last of each came with the first
)


def test_events_before_are_counted_without_entries_of_series():
    groups, names = by_length(TABLE, np.array([0, 2, 11, 12, 13]))
    assert [names[group] for group in groups] == ["0", "1-10", "0", "0", "0"]
    everything = np.arange(300)
    longer = SimpleNamespace(kinds=np.zeros(300, np.uint8), offsets=np.array([0, 300]), request_rows=lambda: everything)
    groups, names = by_length(longer, np.array([10, 11, 200, 201, 299]))
    assert [names[group] for group in groups] == ["1-10", "11-20", "101-200", "201+", "201+"]


def test_items_are_grouped_and_rated_by_training_alone():
    training = np.ones(14, dtype=bool)
    training[[1, 13]] = False  # the series, and what is predicted
    groups, names = by_popularity(TABLE, np.array([13, 11, 12]), training)
    assert [names[group] for group in groups] == ["0", "1-9", "10-99"]
    average = 3 / 12
    shares = item_shares(TABLE, 0, training)
    assert shares[[3, 4, 5]] == pytest.approx([average, (1 + 10 * average) / 11, (2 + 10 * average) / 21])


def test_times_are_cut_in_equal_parts_as_far_as_they_differ():
    day = 86_400
    groups, names = by_time(np.arange(100) * day)
    assert np.bincount(groups).tolist() == [10] * 10 or np.bincount(groups).max() <= 11
    assert names[0] == "1970-01-01"
    assert len(set(names)) == len(names)
    groups, names = by_time(np.full(7, 60))
    assert (groups.tolist(), names) == ([0] * 7, ["1970-01-01"])
    assert by_time(np.array([0, 60, 120]))[1] == ["1970-01-01 00:00", "1970-01-01 00:01", "1970-01-01 00:02"]
