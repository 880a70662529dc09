"""A test of a difference that may be looked at at any time, and a guard for how users were drawn. Numpy alone.

An interval of 95 % holds for one look. Who looks every hour and stops when it leaves zero out is wrong far more often than in
5 %. Those here hold for all looks together, however many and whenever one stops: the mixture sequential probability ratio
test of Robbins ("Statistical methods related to the law of the iterated logarithm", 1970) as Johari, Pekelis and Walsh use it
("Always valid inference: continuous monitoring of A/B tests", Operations Research 70(3), 2022). A difference of means is
normal only with many users, so they hold as Waudby-Smith et al. show of asymptotic confidence sequences ("Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6), 2024).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

EXPECTED = (
    0.1  # effects that the test is quickest for, as a share of the mean: larger and smaller ones take little longer
)


class RatioMean(NamedTuple):
    """A reward per request (or per user), and the variance of that estimate."""

    mean: float
    variance: float


class Mismatch(NamedTuple):
    """How the counted users compare with the shares that they were drawn by."""

    statistic: float
    p: float


def ratio_mean(rewards: np.ndarray, requests: np.ndarray) -> RatioMean:
    """Σ rewards / Σ requests of users [U], with the variance by the delta method: requests of one user are not independent,
    users are. (Deng, Knoblich and Lu, "Applying the delta method in metric analytics", KDD 2018.) NaN where
    there are too few users to tell."""
    users, total = len(rewards), float(requests.sum())
    if users < 2:
        return RatioMean(float(rewards.sum()) / total if total else math.nan, math.nan)
    mean = float(rewards.sum()) / total
    rest = rewards - mean * requests
    return RatioMean(mean, float(rest @ rest) * users / (users - 1) / total**2)


def mixture_variance(mean: float) -> float:
    """Of the effects that the test is quickest for. It must not depend on what the difference turns out to be, so it is taken
    from the mean of both sides, which is known early."""
    return (EXPECTED * mean) ** 2


def radius(variance: float, mixture: float, alpha: float) -> float:
    """Half the width of the interval of a confidence sequence: with a probability of 1 - alpha the true difference is never
    outside it.

    variance  of the estimate now
    mixture   mixture_variance, the same for all looks
    """
    if not mixture > 0 or not variance >= 0:
        return math.inf
    if variance == 0:
        return 0.0
    ratio = (variance + mixture) / variance
    return math.sqrt(variance * (variance + mixture) / mixture * (2 * math.log(1 / alpha) + math.log(ratio)))


def p_value(difference: float, variance: float, mixture: float) -> float:
    """Of no difference, at this look. The least of all looks so far is valid at any time."""
    if not mixture > 0 or not variance > 0:
        return 1.0
    both = variance + mixture
    log_ratio = 0.5 * math.log(variance / both) + difference**2 * mixture / (2 * variance * both)
    return min(1.0, math.exp(-log_ratio)) if log_ratio < 700 else 0.0


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> Mismatch:
    """Pearson's chi-square test of the users counted in each variant against the shares that they were drawn by (Fabijan et
    al., "Diagnosing sample ratio mismatch in online controlled experiments", KDD 2019)."""
    observed, expected = np.asarray(counts, float), np.asarray(shares, float)
    expected = expected / expected.sum() * observed.sum()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return Mismatch(statistic, float(chi2.sf(statistic, len(counts) - 1)))
