"""Metrics of ranking are the arithmetic written beside them, scikit-learn's numbers, and those of the slow way."""

import pickle
import time
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

from louder.errors import InputError
from louder.evaluation.ranking_metrics import RankingMetrics


def metrics_of(probabilities, labels, users, requests=None) -> dict:
    """The report of one action, given as lists."""
    found = RankingMetrics(["like"])
    found.update(np.array(probabilities)[:, None], np.array(labels)[:, None], users, requests)
    return found.report()["actions"]["like"]


def near(value, rel=1e-12):
    return None if value is None else pytest.approx(value, rel=rel)


def slow_auc(probabilities, labels) -> float | None:
    positive = [p for p, y in zip(probabilities, labels) if y]
    negative = [p for p, y in zip(probabilities, labels) if not y]
    if not positive or not negative:
        return None
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    return wins / (len(positive) * len(negative))


def slow_gauc(probabilities, labels, groups) -> tuple[float | None, int]:
    total = weight = counted = 0
    for group in set(groups):
        own = [i for i, g in enumerate(groups) if g == group]
        auc = slow_auc([probabilities[i] for i in own], [labels[i] for i in own])
        if auc is not None:
            total, weight, counted = total + auc * len(own), weight + len(own), counted + 1
    return (total / weight if counted else None), counted


# known by construction


def test_metrics_are_the_written_out_arithmetic():
    # user 1: the like is above one of two others and ties with the second; user 2 has likes only; user 3 is inverted
    found = metrics_of([0.5, 0.25, 0.5, 0.75, 0.25, 0.75], [1, 0, 0, 1, 1, 0], [1, 1, 1, 2, 3, 3])
    assert found["auc"] == ((1 + 1 / 2 + 0) + (1 + 1 + 1 / 2) + (1 / 2 + 0 + 0)) / 9  # like by like
    assert found["gauc_user"] == ((1 + 1 / 2) / 2 * 3 + 0 * 2) / 5
    assert found["gauc_user_groups"] == 2
    assert (found["gauc_request"], found["gauc_request_groups"]) == (None, 0)
    expected = -(log(1 / 2) + log(3 / 4) + log(1 / 2) + log(3 / 4) + log(1 / 4) + log(1 / 4)) / 6
    assert found["log_loss"] == pytest.approx(expected)
    assert found["ne"] == pytest.approx(expected / log(2))  # half are likes
    assert found["calibration"] == 3 / 3
    assert (found["positives"], found["impressions"]) == (3, 6)


def test_always_saying_the_base_rate_has_an_ne_of_one_and_an_auc_of_half():
    labels = np.arange(100) % 5 == 0
    found = metrics_of(np.full(100, 0.2), labels, np.arange(100) // 10)
    assert found["ne"] == pytest.approx(1)
    assert found["auc"] == found["gauc_user"] == 1 / 2
    assert found["calibration"] == pytest.approx(1)


def test_values_that_are_absent_count_nowhere():
    found = RankingMetrics([], ["watch", "rating"])
    empty = np.zeros((3, 0))
    found.update(empty, empty, [1, 2, 3], None, [[1, 2], [5, np.nan], [4, 0]], [[2, np.nan], [3, np.nan], [4, np.nan]])
    report = found.report()
    assert report["values"]["watch"] == {"rmse": pytest.approx(sqrt((1 + 4 + 0) / 3)), "mae": 3 / 3, "count": 3}
    assert report["values"]["rating"] == {"rmse": None, "mae": None, "count": 0}
    assert report["impressions"] == 3


def test_labels_of_one_class_leave_out_what_needs_two():
    for labels in [0, 0], [1, 1]:
        found = metrics_of([0.5, 0.25], labels, [1, 1])
        assert found["ne"] is found["auc"] is found["gauc_user"] is None
        assert found["log_loss"] > 0
    assert metrics_of([0.5], [0], [1])["calibration"] is None


def test_without_impressions_nothing_is_defined():
    found = RankingMetrics(["like"], ["watch"])
    for _ in range(2):
        report = found.report()
        assert report["actions"]["like"]["impressions"] == report["values"]["watch"]["count"] == 0
        assert report["actions"]["like"]["auc"] is report["actions"]["like"]["log_loss"] is None
        found.update(np.zeros((0, 1)), np.zeros((0, 1)), [], [], np.zeros((0, 1)), np.zeros((0, 1)))


def test_a_certain_prediction_that_is_wrong_costs_no_infinity():
    assert metrics_of([1.0, 0.0], [0, 1], [1, 1])["log_loss"] == pytest.approx(-log(1e-7))
    assert metrics_of([1.0, 0.0], [1, 0], [1, 1])["log_loss"] == pytest.approx(1e-7)


def test_zero_and_minus_zero_tie():
    assert metrics_of([-0.0, 0.0], [1, 0], [1, 1])["auc"] == 1 / 2
    assert metrics_of([-0.0, 1.0], [1, 0], [1, 1])["auc"] == 0


def test_a_request_is_one_users_and_none_is_no_request():
    found = metrics_of([0.9, 0.1, 0.1, 0.9, 0.9, 0.1], [1, 0, 1, 0, 0, 1], [1, 1, 2, 2, 3, 3], [7, 7, 7, 7, -1, -1])
    assert (found["gauc_request"], found["gauc_request_groups"]) == (1 / 2, 2)
    assert (found["gauc_user"], found["gauc_user_groups"]) == (1 / 3, 3)


# beside other ways to compute them


def test_scikit_learn_finds_the_same():
    rng = np.random.default_rng(0)
    probabilities = rng.random((5_000, 2)).astype(np.float32).clip(1e-6, 1 - 1e-6)
    probabilities[:, 1] = probabilities[:, 1].round(2).clip(0.01, 0.99)  # with ties
    labels = (rng.random((5_000, 2)) < probabilities**2).astype(np.int64)
    values, true_values = rng.normal(size=(2, 5_000, 1))
    found = RankingMetrics(["like", "share"], ["watch"])
    found.update(probabilities, labels, rng.integers(0, 100, 5_000), None, values, true_values)
    report = found.report()
    for j, name in enumerate(("like", "share")):
        action = report["actions"][name]
        assert action["auc"] == pytest.approx(roc_auc_score(labels[:, j], probabilities[:, j]), abs=1e-12)
        exact = probabilities[:, j].astype(np.float64)
        assert action["log_loss"] == pytest.approx(log_loss(labels[:, j], exact), rel=1e-12)
        base = np.full(5_000, labels[:, j].mean())
        assert action["ne"] == pytest.approx(action["log_loss"] / log_loss(labels[:, j], base), rel=1e-12)
        assert action["calibration"] == pytest.approx(exact.mean() / labels[:, j].mean(), rel=1e-12)
    assert report["values"]["watch"]["rmse"] == pytest.approx(sqrt(mean_squared_error(true_values, values)), rel=1e-12)
    assert report["values"]["watch"]["mae"] == pytest.approx(mean_absolute_error(true_values, values), rel=1e-12)


# few probabilities make ties, few users make groups of one class
impressions = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32),
        st.booleans(),
        st.integers(-3, 3) | st.sampled_from([2**62, -(2**62)]),
        st.integers(-1, 2),
    ),
    min_size=1,
    max_size=40,
)


@given(impressions)
def test_auc_is_that_of_all_pairs(rows):
    probabilities, labels, users, requests = map(list, zip(*rows))
    found = metrics_of(probabilities, labels, users, requests)
    assert found["auc"] == near(slow_auc(probabilities, labels))
    gauc = slow_gauc(probabilities, labels, users)
    assert (found["gauc_user"], found["gauc_user_groups"]) == (near(gauc[0]), gauc[1])
    asked = [row for row in rows if row[3] >= 0]
    gauc = slow_gauc([row[0] for row in asked], [row[1] for row in asked], [row[2:] for row in asked])
    assert (found["gauc_request"], found["gauc_request_groups"]) == (near(gauc[0]), gauc[1])


@given(impressions, st.data())
def test_batches_their_order_and_processes_change_nothing(rows, data):
    def columns(some) -> tuple:
        probability, label, user, request = (np.array(column) for column in zip(*some))
        watch = np.where(label, probability, np.nan)[:, None]  # a true value that is absent now and then
        return probability[:, None], label[:, None], user, request, 1 - watch, watch

    whole = RankingMetrics(["like"], ["watch"])
    whole.update(*columns(rows))
    shuffled = data.draw(st.permutations(rows))
    parts = RankingMetrics(["like"], ["watch"]), RankingMetrics(["like"], ["watch"])
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        data.draw(st.sampled_from(parts)).update(*columns(shuffled[:size]))
        shuffled = shuffled[size:]
    parts[0].merge(pickle.loads(pickle.dumps(parts[1])))

    expected, found = whole.report(), parts[0].report()
    sums = "ne", "log_loss", "calibration"
    for name, value in expected["actions"]["like"].items():
        assert found["actions"]["like"][name] == (near(value, 1e-9) if name in sums else value), name
    for name, value in expected["values"]["watch"].items():
        assert found["values"]["watch"][name] == near(value, 1e-9), name
    assert found["impressions"] == expected["impressions"]


def test_a_million_impressions_of_a_hundred_thousand_users_take_a_second():
    rng = np.random.default_rng(0)
    probabilities = rng.random((1_000_000, 1), dtype=np.float32)
    labels = rng.random((1_000_000, 1)) < probabilities
    users = rng.integers(0, 100_000, 1_000_000)
    start = time.process_time()
    found = RankingMetrics(["like"])
    found.update(probabilities, labels, users, users)
    action = found.report()["actions"]["like"]
    assert time.process_time() - start < 10  # about one; a loop over the groups would take minutes
    # a probability and its like have the density 2p, so P(positive above negative) = ∫ 2p (1 - (1 - p)²) dp = 5/6
    assert action["auc"] == pytest.approx(5 / 6, abs=2e-3)
    assert action["gauc_user"] == action["gauc_request"] == pytest.approx(5 / 6, abs=2e-3)


# what is refused

GOOD = {
    "probabilities": np.full((2, 1), 0.5),
    "labels": np.array([[0], [1]]),
    "users": np.array([1, 2]),
    "requests": np.array([1, -1]),
    "values": np.zeros((2, 1)),
    "true_values": np.array([[1.0], [np.nan]]),
}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"probabilities": [[0.5], [1.5]]}, "The probability of 'like' is 1.5 at impression 1, but must be between 0"),
        ({"probabilities": [[np.nan], [0.5]]}, "The probability of 'like' is nan at impression 0"),
        ({"probabilities": [0.5, 0.5]}, r"probabilities have the shape \[2\], but 2 users need \[2, 1\]"),
        ({"labels": [[0], [2]]}, "The label of 'like' is 2 at impression 1, but must be 0 or 1"),
        ({"labels": [[np.nan], [1]]}, "The label of 'like' is nan"),
        ({"labels": [[0, 1], [1, 0]]}, r"labels have the shape \[2, 2\]"),
        ({"users": [1.0, 2.0]}, "users must be integers"),
        ({"users": [[1], [2]]}, "users must be integers"),
        ({"requests": [1]}, "requests have the shape"),
        ({"values": None}, r"values have the shape \[2, 0\], but 2 users need \[2, 1\]"),
        ({"values": [[np.inf], [0]]}, "The value of 'watch' is inf at impression 0, but must be finite"),
        ({"true_values": [[0], [-np.inf]]}, "The true value of 'watch' is -inf at impression 1"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_of_it_counts(wrong, sentence):
    found = RankingMetrics(["like"], ["watch"])
    found.update(**GOOD)
    before = found.report()
    with pytest.raises(InputError, match=sentence):
        found.update(**(GOOD | wrong))
    assert found.report() == before


def test_metrics_of_other_actions_cannot_be_merged():
    with pytest.raises(InputError, match=r"\['share'\].*\['like', 'watch'\]"):
        RankingMetrics(["like"], ["watch"]).merge(RankingMetrics(["share"]))
