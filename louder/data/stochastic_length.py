"""Stochastic length: train on a part of long histories ("Actions Speak Louder than Words", section 2.3.1, eq. 4)."""

from dataclasses import dataclass

import numpy as np

from louder.config import require_one_of
from louder.errors import InputError


@dataclass(frozen=True, kw_only=True)
class StochasticLength:
    """With N the longest history, a history of n > T = N^(alpha/2) events is cut to T of them with probability
    1 - N^alpha / n², so that attention costs O(N^alpha). Training only; inference uses full histories.

    Which T are kept (appendix F.1), with f_i = the age of event i:
        recent    the latest T
        random    any T, with equal probability
        weighted  T drawn without replacement, with weight 1 - f_i / sum f_j
    """

    alpha: float = 2.0
    selection: str = "weighted"

    def __post_init__(self) -> None:
        if not 1 < self.alpha <= 2:
            raise InputError(f"data.stochastic_length.alpha must be in (1, 2], but it is {self.alpha}.")
        require_one_of("data.stochastic_length", self, selection=("recent", "random", "weighted"))


def threshold(max_len: int, alpha: float) -> int:
    """T = floor(N^(alpha/2)), at least 1."""
    return max(1, int(max_len ** (alpha / 2)))


def keep_probability(lengths: np.ndarray, max_len: int, alpha: float) -> np.ndarray:
    """[B] probability that a history of `lengths` [B] events stays whole."""
    n = np.maximum(lengths, 1).astype(np.float64)
    return np.where(lengths <= threshold(max_len, alpha), 1.0, np.minimum(1.0, max_len**alpha / n**2))


def subsequence(times: np.ndarray, length: int, selection: str, random: np.random.Generator) -> np.ndarray:
    """Rows [length] to keep of a history with `times` [n] in seconds, in time order; length <= n."""
    n = len(times)
    if selection == "recent":
        return np.arange(n - length, n)
    if selection == "random":
        return np.sort(random.choice(n, length, replace=False))
    age = (times[-1] - times).astype(np.float64)
    weight = 1.0 - age / age.sum() if age.sum() > 0 else np.ones(n)
    # the largest of log(uniform) / weight: weighted sampling without replacement (Efraimidis and Spirakis, 2006)
    with np.errstate(divide="ignore"):
        keys = np.where(weight > 0, np.log(random.random(n)) / np.maximum(weight, 1e-12), -np.inf)
    return np.sort(np.argpartition(keys, n - length)[n - length :])
