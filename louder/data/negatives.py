"""Items drawn to be told apart from a target."""

import torch
from torch import Tensor


def uniform(rows: int, negatives: int, items: int, *, generator: torch.Generator | None = None) -> Tensor:
    """[rows, negatives] int64, each item equally likely, with replacement, each row on its own (as the official code)."""
    return torch.randint(items, (rows, negatives), generator=generator)


def in_batch(
    targets: Tensor, negatives: int, *, rows: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """[rows, negatives] int64, drawn with replacement from all the targets; as many rows as targets, if not said."""
    rows = len(targets) if rows is None else rows
    return targets[torch.randint(len(targets), (rows, negatives), generator=generator, device=targets.device)]


def popularity(rows: int, negatives: int, cumulative: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """[rows, negatives] int64, items drawn by how often they occur; `cumulative` [I] float64 ends at 1."""
    drawn = torch.rand(rows, negatives, dtype=torch.float64, generator=generator)
    return torch.searchsorted(cumulative, drawn).clamp_(max=len(cumulative) - 1)
