"""Intervals whose answer is known."""

import numpy as np
import pytest

from louder.evaluation.bootstrap import gain, interval


def test_an_interval_is_that_of_the_normal_approximation():
    hits = np.arange(2_000) % 4 == 0
    low, high = interval(hits)
    half = 1.96 * (0.25 * 0.75 / 2_000) ** 0.5
    assert (low, high) == (pytest.approx(0.25 - half, abs=0.003), pytest.approx(0.25 + half, abs=0.003))


def test_a_gain_is_paired_and_so_narrower_than_two_intervals_apart():
    draw = np.random.default_rng(0)
    those = draw.random(1_000) < 0.3
    these = those | (draw.random(1_000) < 0.05)  # never worse
    found = gain(these, those)
    assert found.mean == pytest.approx(these.mean() - those.mean())
    assert 0 < found.low < found.mean < found.high
    assert found.ratio == pytest.approx(these.mean() / those.mean() - 1)
    assert found.ratio_low < found.ratio < found.ratio_high
    half = 1.96 * ((these & ~those).mean() * (1 - (these & ~those).mean()) / 1_000) ** 0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    assert gain(those, these).mean == -found.mean


def test_equals_have_no_gain_and_above_nothing_there_is_no_ratio():
    same = np.ones(10)
    assert gain(same, same)[:3] == (0, 0, 0)
    assert gain(same, np.zeros(10)) == (1, 1, 1, None, None, None)


def test_two_runs_draw_alike():
    values = np.random.default_rng(0).random(100)
    assert interval(values) == interval(values) != interval(values, seed=1)
