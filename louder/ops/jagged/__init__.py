"""Between jagged [L, ...] and padded [B, N, ...]. Padding is at the end of each row and zero."""

import torch
from torch import Tensor


def indices(offsets: Tensor, rows: int) -> Tensor:
    """[rows] the index of each jagged row in its own history"""
    return torch.arange(rows, device=offsets.device) - per_row(offsets[:-1], offsets, rows)


def per_row(x: Tensor, offsets: Tensor, rows: int) -> Tensor:
    """x [B] -> [rows], a history's entry for each of its rows"""
    return x.repeat_interleave(offsets.diff(), output_size=rows)


def padded_rows(offsets: Tensor, rows: int, length: int) -> Tensor:
    """[rows] where each jagged row stands in a padded [B * length, ...]"""
    users = torch.arange(len(offsets) - 1, device=offsets.device)
    return indices(offsets, rows) + per_row(users * length, offsets, rows)


def to_padded(x: Tensor, offsets: Tensor, length: int) -> Tensor:
    """x [L, ...] -> [B, length, ...]; no history may be longer than `length`."""
    users = len(offsets) - 1
    flat = x.new_zeros(users * length, *x.shape[1:])
    return flat.index_copy(0, padded_rows(offsets, len(x), length), x).unflatten(0, (users, length))


def to_jagged(x: Tensor, offsets: Tensor, rows: int) -> Tensor:
    """x [B, N, ...] -> [rows, ...], without the padding."""
    return x.flatten(0, 1).index_select(0, padded_rows(offsets, rows, x.shape[1]))
