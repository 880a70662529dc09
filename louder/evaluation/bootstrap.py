"""How sure is a gain? A paired bootstrap over users: both systems are asked about the same users, drawn again and again."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
AT_ONCE = 50  # resamples that are drawn together
INTERVAL = 2.5, 97.5  # per cent


class Gain(NamedTuple):
    """By how much the mean of some users' metric is above another's, with a 95 % interval; `ratio` is the gain as a share
    of the other's mean, with its interval, None where that is zero."""

    mean: float
    low: float
    high: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None


def resampled_means(columns: np.ndarray, seed: int) -> np.ndarray:
    """[RESAMPLES, C] the means of columns [U, C] over as many users, drawn with replacement."""
    draw, users = np.random.default_rng(seed), len(columns)
    means = []
    for _ in range(0, RESAMPLES, AT_ONCE):
        counts = draw.multinomial(users, np.full(users, 1 / users), size=AT_ONCE)
        means.append(counts @ columns / users)
    return np.concatenate(means)


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Of the mean of values [U], one a user."""
    low, high = np.percentile(resampled_means(values[:, None].astype(float), seed)[:, 0], INTERVAL)
    return float(low), float(high)


def gain(these: np.ndarray, those: np.ndarray, seed: int = 0) -> Gain:
    """Of these values [U] above those [U] of the same users."""
    columns = np.stack([these, those], axis=1).astype(float)
    means = resampled_means(columns, seed)
    low, high = np.percentile(means[:, 0] - means[:, 1], INTERVAL)
    mine, other = columns.mean(0)
    if (means[:, 1] <= 0).any():
        return Gain(float(mine - other), float(low), float(high), None, None, None)
    ratio_low, ratio_high = np.percentile(means[:, 0] / means[:, 1] - 1, INTERVAL)
    return Gain(
        float(mine - other), float(low), float(high), float(mine / other - 1), float(ratio_low), float(ratio_high)
    )
