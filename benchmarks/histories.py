"""Seeded histories to measure on: how long they are, and when their events happened."""

from collections.abc import Sequence

import numpy as np
import torch

from louder.batch import SequenceBatch
from louder.data import stochastic_length

FIRST_TIME = 1_600_000_000
RANKS = 8


def uniform(max_len: int, tokens: int) -> list[int]:
    """As many histories of max_len events as `tokens` has room for, at least one."""
    return [max_len] * max(1, tokens // max_len)


def zipf(max_len: int, tokens: int, *, exponent: float = 1.0, seed: int = 0) -> list[int]:
    """Zipf's law: max_len / rank^exponent events, ranks 1 to 8 and again from 1, in random order.

    As many users as it takes to reach `tokens`, at least 4; the first rank has max_len events. With 8 users of
    exponent 1, a third of the padded batch is filled.
    """
    lengths: list[int] = []
    while len(lengths) < 4 or sum(lengths) < tokens:
        lengths.append(max(1, int(max_len / (1 + len(lengths) % RANKS) ** exponent)))
    return np.random.default_rng(seed).permutation(lengths).tolist()


def ml1m(users: int, *, max_len: int = 200, seed: int = 0) -> list[int]:
    """As long as in MovieLens-1M: log-normal with median 96, at least 20, cut to max_len; the mean is then about 110."""
    drawn = np.random.default_rng(seed).lognormal(np.log(96), 1.0, users)
    return np.clip(drawn, min(20, max_len), max_len).astype(int).tolist()


def month(max_len: int, users: int, *, seed: int = 0) -> list[int]:
    """30 days of a large service, cut to max_len: 1 - mean / max_len is that of the paper's Table 3 without stochastic
    length, 3.1 % at 1024, 6.6 % at 2048, 29.1 % at 4096 and 64.1 % at 8192, to within half of one.

    12 % of the users have uniformly 0 to 2048 events, the others log-normally many with median 3125 and deviation
    0.25. The lengths are evenly spaced quantiles of that, in random order, so that few users have its mean too.
    """
    rng = np.random.default_rng(seed)
    few, many = rng.uniform(0, 2048, 12_000), rng.lognormal(np.log(3125), 0.25, 88_000)
    lengths = np.quantile(np.concatenate([few, many]), (np.arange(users) + 0.5) / users)
    return rng.permutation(np.clip(lengths, 1, max_len).astype(int)).tolist()


def shortened(lengths: Sequence[int], max_len: int, alpha: float, *, seed: int = 0) -> list[int]:
    """The lengths after stochastic length."""
    given = np.array(lengths)
    kept = np.random.default_rng(seed).random(len(given)) < stochastic_length.keep_probability(given, max_len, alpha)
    return np.where(kept, given, stochastic_length.threshold(max_len, alpha)).tolist()


def histories(lengths: Sequence[int], *, items: int = 1, same_second: float = 0.0, seed: int = 0) -> SequenceBatch:
    """Random items; log-normal gaps with a median of a minute, some of a year. An event shares the second of the one
    before with the probability `same_second`."""
    rng = np.random.default_rng(seed)
    tokens = sum(lengths)
    gaps = np.minimum(rng.lognormal(np.log(60), 3.0, tokens + 1), 3e7).astype(np.int64)
    gaps[rng.random(tokens + 1) < same_second] = 0
    times = FIRST_TIME + np.cumsum(gaps)  # users one after the other: only gaps within one matter
    return SequenceBatch(
        ids=torch.from_numpy(rng.integers(0, items, tokens)),
        timestamps=torch.from_numpy(times[:-1]),
        query_timestamps=torch.from_numpy(times[1:]),
        offsets=torch.tensor([0, *lengths]).cumsum(0),
    )
