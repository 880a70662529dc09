"""Metrics are the arithmetic that is written beside them."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from louder.evaluation.retrieval_metrics import by_gap, by_length, retrieval_metrics

RANKS = np.array([1, 3, 10, 11, 250])


def test_metrics_are_the_written_out_arithmetic():
    found = retrieval_metrics(RANKS)
    assert found["hr@1"] == 1 / 5
    assert found["hr@10"] == found["recall@10"] == 3 / 5
    assert found["hr@50"] == found["hr@200"] == 4 / 5
    assert found["ndcg@1"] == 1 / 5
    assert found["ndcg@10"] == pytest.approx((1 / log2(2) + 1 / log2(4) + 1 / log2(11)) / 5)
    assert found["ndcg@200"] == pytest.approx((1 / log2(2) + 1 / log2(4) + 1 / log2(11) + 1 / log2(12)) / 5)
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 11 + 1 / 250) / 5)


def test_a_rank_half_way_between_two_is_no_hit_of_the_first():
    found = retrieval_metrics(np.array([1.5, 10.5]))
    assert (found["hr@1"], found["hr@10"], found["hr@50"]) == (0, 1 / 2, 1)
    assert found["ndcg@10"] == pytest.approx(1 / log2(2.5) / 2)


@given(st.lists(st.floats(1, 10**6), min_size=1, max_size=30))
def test_metrics_are_shares_that_grow_with_the_cutoff(ranks):
    found = retrieval_metrics(np.array(ranks))
    assert all(0 <= value <= 1 for value in found.values())
    for name in "hr", "recall", "ndcg":
        values = [found[f"{name}@{k}"] for k in (1, 10, 50, 200)]
        assert values == sorted(values)
    assert all(found[f"ndcg@{k}"] <= found[f"hr@{k}"] for k in (1, 10, 50, 200))


def test_groups_by_length_hold_everybody_once():
    lengths = np.array([1, 10, 11, 200, 5000])
    groups = by_length(RANKS, lengths)
    assert [(g["history"], g["users"]) for g in groups] == [("1-10", 2), ("11-20", 1), ("101-200", 1), ("201+", 1)]
    assert groups[0]["mrr"] == pytest.approx((1 + 1 / 3) / 2)
    assert groups[3]["hr@200"] == 0


def test_groups_by_gap_hold_everybody_once():
    gaps = np.array([0, 60, 61, 90_000, 0])
    groups = by_gap(RANKS, gaps)
    found = [(g["gap"], g["users"]) for g in groups]
    assert found == [("same second", 2), ("a minute", 1), ("an hour", 1), ("longer", 1)]
    assert groups[0]["mrr"] == pytest.approx((1 / RANKS[0] + 1 / RANKS[4]) / 2)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=30))
def test_the_groups_mean_is_the_whole(pairs):
    ranks, lengths = (np.array(column) for column in zip(*pairs))
    groups = by_length(ranks, lengths)
    assert sum(g["users"] for g in groups) == len(pairs)
    mean = sum(g["users"] * g["mrr"] for g in groups) / len(pairs)
    assert mean == pytest.approx(retrieval_metrics(ranks)["mrr"])
