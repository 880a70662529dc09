"""The test that may be looked at at any time: how often it is wrong, and how soon it is right."""

import math

import numpy as np
import pytest

from louder.evaluation.sequential import mixture_variance, p_value, radius, ratio_mean, sample_ratio

TRIALS, LOOKS, NEW = 400, 100, 40  # of each of both variants, users who come between two looks


def first_alarm(lift, seed, bound):
    """[TRIALS] the look at which the difference is first outside `bound`(variances [n], mixtures [n]); LOOKS where never.

    A user asks 1 to 5 times, and has a rate of their own of mean .2."""
    draw = np.random.default_rng(seed)
    sides = []
    for factor in 1.0, 1 + lift:
        requests = draw.integers(1, 6, (TRIALS, LOOKS, NEW))
        rewards = draw.poisson(requests * draw.gamma(2, 0.1, requests.shape) * factor)
        parts = requests, rewards, requests**2, rewards * requests, rewards**2
        n, x, nn, xn, xx = (part.sum(2).cumsum(1).astype(float) for part in parts)
        mean, users = x / n, NEW * np.arange(1, LOOKS + 1)
        sides.append((mean, (xx - 2 * mean * xn + mean**2 * nn) / n**2 * users / (users - 1)))
    (ours, our_variance), (theirs, their_variance) = sides
    variance, mixture = our_variance + their_variance, mixture_variance(1.0) * (ours[:, 2] + theirs[:, 2]) ** 2 / 4
    outside = np.abs(theirs - ours) > bound(variance, np.broadcast_to(mixture[:, None], variance.shape))
    outside[:, :2] = False  # of fewer than a hundred users no mean is normal
    return np.where(outside.any(1), outside.argmax(1), LOOKS)


def sequence(variance, mixture):
    return np.vectorize(radius)(variance, mixture, 0.05)


def one_look(variance, mixture):
    return 1.96 * np.sqrt(variance)


def test_without_an_effect_all_looks_together_alarm_less_often_than_alpha():
    assert (first_alarm(0.0, 1, sequence) < LOOKS).mean() < 0.05
    assert (first_alarm(0.0, 1, one_look) < LOOKS).mean() > 0.2  # what looking often does to an interval for one look


def test_an_effect_is_found_and_the_sooner_the_larger_it_is():
    small, large = (first_alarm(lift, 2, sequence) for lift in (0.1, 0.3))
    assert (small < LOOKS).mean() > 0.4 and (large < LOOKS).mean() > 0.99
    assert np.median(large) < LOOKS / 4


def test_p_is_alpha_where_the_interval_ends():
    for variance, mixture, alpha in (1e-4, 4e-4, 0.05), (3.0, 0.5, 0.01):
        edge = radius(variance, mixture, alpha)
        assert p_value(edge, variance, mixture) == pytest.approx(alpha)
        assert p_value(-edge, variance, mixture) == pytest.approx(alpha)
        assert p_value(0.0, variance, mixture) == 1.0
    # by hand: variance = mixture = 1: exp(-d² / 4) · √2
    assert p_value(4.0, 1.0, 1.0) == pytest.approx(math.sqrt(2) * math.exp(-4))
    assert radius(1.0, 0.0, 0.05) == math.inf and radius(0.0, 1.0, 0.05) == 0.0 and p_value(100.0, 1e-9, 1.0) == 0.0


def test_requests_of_a_user_are_not_independent():
    rewards, requests = np.array([4.0, 0.0, 2.0]), np.array([4.0, 2.0, 4.0])
    found = ratio_mean(rewards, requests)
    assert found.mean == 0.6
    rest = [4 - 2.4, -1.2, 2 - 2.4]  # reward less what the mean gives for so many requests
    assert found.variance == pytest.approx(3 / 2 * sum(x * x for x in rest) / 100)
    means = ratio_mean(np.array([1.0, 3.0, 5.0, 7.0]), np.ones(4))
    assert means == (4.0, pytest.approx(20 / 3 / 4))  # the variance of a mean, as everybody knows it
    assert math.isnan(ratio_mean(rewards[:1], requests[:1]).variance)


def test_the_variance_is_that_of_many_draws():
    draw = np.random.default_rng(5)
    found = []
    for _ in range(200):
        requests = draw.integers(1, 6, 300)
        found.append(ratio_mean(draw.poisson(requests * draw.gamma(2, 0.1, 300)).astype(float), requests.astype(float)))
    means = np.array([x.mean for x in found])
    assert np.mean([x.variance for x in found]) == pytest.approx(means.var(), rel=0.3)


def test_a_mismatch_of_shares_is_found():
    assert sample_ratio([60, 40], [0.5, 0.5]) == (pytest.approx(4.0), pytest.approx(0.0455, abs=1e-4))
    assert sample_ratio([5_000, 5_010], [0.5, 0.5]).p > 0.5
    assert sample_ratio([8_000, 1_000, 1_000], [0.8, 0.1, 0.1]).p == pytest.approx(1.0)
    assert sample_ratio([10_000, 9_300], [0.5, 0.5]).p < 0.001
