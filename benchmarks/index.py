"""Approximate indices beside the exact one: how soon they are built, how much they find, how fast."""

import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import require_known
from louder.inference.index import KINDS, Approximate, Exact, Index, recall
from louder.inference.index_speed import AT_ONCE, index_bytes, latencies, summary
from louder.results import Row

K = 100
ITEMS_OF_A_CLUSTER = 100
SPREAD = 0.7  # length of what sets an item apart from its cluster, whose centre has length 1
QUICK: Row = {"sizes": (10_000, 100_000), "width": 64, "kinds": tuple(KINDS)}
FULL = QUICK | {"sizes": (10_000, 100_000, 1_000_000)}


def rows(sizes: Sequence[int], width: int, kinds: Sequence[str], repeats: int) -> Iterator[list[Row]]:
    """The rows of each size and number of queries at once: clustered items and queries near them, of length 1."""
    require_known("kind", kinds, KINDS)
    builders: dict[str, Callable[[Tensor], Index]] = {"exact": Exact} | {kind: KINDS[kind].build for kind in kinds}
    for size in sizes:
        items, queries = clustered(size, width, queries=1024, seed=0)
        indices, seconds = {}, {}
        for name, build in builders.items():
            start = time.perf_counter()
            indices[name] = build(items)
            seconds[name] = round(time.perf_counter() - start, 3)
        right, _ = indices["exact"].search(queries, K)
        for at_once in AT_ONCE:
            times = latencies(indices, queries, K, at_once, repeats)
            case = f"{size:,} items, {at_once} quer{'y' if at_once == 1 else 'ies'} at once"
            where: Row = {"device": "cpu", "threads": torch.get_num_threads(), "dtype": "float32"}
            where |= {"items": size, "width": width}
            found = []
            for name, index in indices.items():
                row: Row = {"case": case, "implementation": name, "reference": "exact", **summary(times[name])}
                row |= {"queries_at_once": at_once, "build_s": seconds[name]}
                row[f"recall@{K}"] = round(recall(index.search(queries, K)[0], right), 4)
                row |= {"index_bytes": index_bytes(index), **where}
                found.append(row | (index.settings if isinstance(index, Approximate) else {}))
            yield found


def clustered(items: int, width: int, queries: int, seed: int) -> tuple[Tensor, Tensor]:
    """items [I, D], queries [Q, D]: both are a centre and noise, so a query has near items that are not its own."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(max(1, items // ITEMS_OF_A_CLUSTER), width, generator=generator), dim=1)

    def near(count: int) -> Tensor:
        own = centres[torch.randint(len(centres), (count,), generator=generator)]
        return F.normalize(own + SPREAD / width**0.5 * torch.randn(count, width, generator=generator), dim=1)

    return near(items), near(queries)
