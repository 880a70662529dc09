"""Ranks in, numbers out. One relevant item a user, so recall@k equals HR@k."""

from itertools import pairwise

import numpy as np

from louder.results import Row

CUTOFFS = (1, 10, 50, 200)
GAPS = ("same second", 0.0), ("a minute", 60.0), ("an hour", 3600.0), ("a day", 86_400.0), ("longer", np.inf)  # at most
GROUPS = (10, 20, 50, 100, 200)  # upper ends of the history-length groups; the last is open


def hit_rate(ranks: np.ndarray, k: int) -> float:
    """Share of targets among the first k. ranks [U], 1 = best; a rank may end in .5 where scores tie."""
    return float((ranks <= k).mean())


def ndcg(ranks: np.ndarray, k: int) -> float:
    """Mean of 1 / log2(rank + 1) for ranks up to k, 0 beyond."""
    return float(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0).mean())


def mean_reciprocal_rank(ranks: np.ndarray) -> float:
    """The mean of 1 / rank, over users."""
    return float((1 / ranks).mean())


def retrieval_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Every metric of ranks [U], by name: hr@k, recall@k, ndcg@k for each cutoff, and mrr."""
    of_cutoff = {"hr": hit_rate, "recall": hit_rate, "ndcg": ndcg}
    metrics = {f"{name}@{k}": metric(ranks, k) for name, metric in of_cutoff.items() for k in CUTOFFS}
    return metrics | {"mrr": mean_reciprocal_rank(ranks)}


def by_length(ranks: np.ndarray, lengths: np.ndarray) -> list[Row]:
    """Metrics for each group of users by history length [U]."""
    rows: list[Row] = []
    for below, high in pairwise((0, *GROUPS, np.inf)):
        chosen = (lengths > below) & (lengths <= high)
        if chosen.any():
            name = f"{below + 1}-{high}" if high < np.inf else f"{below + 1}+"
            rows.append({"history": name, "users": int(chosen.sum())} | retrieval_metrics(ranks[chosen]))
    return rows


def by_gap(ranks: np.ndarray, gaps: np.ndarray) -> list[Row]:
    """Metrics for each group of users by the seconds [U] between their latest event and the target: what comes next within a
    burst is another question than what somebody who returns will choose."""
    rows: list[Row] = []
    for (name, high), (_, below) in zip(GAPS, (("", -1.0), *GAPS)):
        chosen = (gaps > below) & (gaps <= high)
        if chosen.any():
            rows.append({"gap": name, "users": int(chosen.sum())} | retrieval_metrics(ranks[chosen]))
    return rows
