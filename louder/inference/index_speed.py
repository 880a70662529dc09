"""How fast an index answers, and how large it is: of use where one is built and in the benchmarks."""

import statistics
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from louder.inference.index import Approximate, Index, faiss

AT_ONCE = 1, 64


def latencies(
    indices: Mapping[str, Index], queries: Tensor, k: int, at_once: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds a query of `repeats` searches for the best k, each of the next `at_once` queries: A B C A B C ..., so
    that whatever else the machine does meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in indices}
    for turn in range(-1, repeats):  # the first is to warm up
        own = queries[torch.arange(turn * at_once, (turn + 1) * at_once) % len(queries)]
        for name, index in indices.items():
            start = time.perf_counter()
            index.search(own, k)
            if turn >= 0:
                seconds[name].append((time.perf_counter() - start) / at_once)
    return seconds


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """The fields of a row about times of one query."""
    ordered = sorted(seconds)
    at_99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    numbers = {"median_s": statistics.median(ordered), "p99_s": at_99, "min_s": ordered[0], "max_s": ordered[-1]}
    return {name: round(value, 7) for name, value in numbers.items()} | {"runs": len(ordered)}


def index_bytes(index: Index) -> int:
    """What a search reads, vectors included: faiss has its own copy of them."""
    if isinstance(index, Approximate):
        return int(faiss().serialize_index(index.index).nbytes)
    return index.vectors.nbytes
