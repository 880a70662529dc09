"""The items whose vectors have the largest inner products with a query, found and put in order by one op; see cpu.cpp.

Its reference implementation is louder.inference.index.Exact, which searches so where there is no compiler.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops import build

BLOCK = 96  # items whose numbers lie beside each other; also in cpu.cpp


def available(*vectors: Tensor) -> bool:
    """Whether cpu.cpp can work with these: float32 on a CPU, where there is a compiler."""
    return build.kernel_for("best_items", *vectors)


def packed(vectors: Tensor) -> Tensor:
    """[I, D] -> [I / BLOCK, D, BLOCK], as best_items takes them"""
    return F.pad(vectors, (0, 0, 0, -len(vectors) % BLOCK)).unflatten(0, (-1, BLOCK)).transpose(1, 2).contiguous()


def replace(items: Tensor, rows: Tensor, vectors: Tensor) -> None:
    """New vectors [R, D] in the rows [R] int64 of packed ones, in place."""
    items[rows // BLOCK, :, rows % BLOCK] = vectors


def best_items(
    queries: Tensor, items: Tensor, count: int, k: int, excluded: Tensor, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """queries [B, D], packed vectors of `count` items -> ids [B, k] int64, scores [B, k] float32, best first, and of equal
    scores the lower id.

    excluded  [B, E] int64 ids that a query must not get; below 0 is nobody
    allowed   [I] bool: the items that anybody may get; None: all

    Where fewer than k are left, ids are -1 and scores -inf at the end.
    """
    return torch.ops.louder_cpu.best_items(queries, items, count, k, excluded, allowed)


def pair_scores(queries: Tensor, vectors: Tensor, ids: Tensor) -> Tensor:
    """queries [B, D], vectors [I, D], ids [B, K] int64 -> [B, K] the same scores; -inf where an id is below 0."""
    return torch.ops.louder_cpu.pair_scores(queries, vectors, ids)
