"""Scores of some candidates for each row, in blocks: no [rows, candidates, width] tensor for the whole batch."""

import torch
from torch import Tensor

from louder.ops.autograd import Context

BLOCK_ROWS = 512


def candidate_scores(states: Tensor, table: Tensor, ids: Tensor) -> Tensor:
    """states [L, D], table [I, D], ids [L, R] int64  ->  [L, R] dot products of row l with table[ids[l, r]]"""
    return CandidateScores.apply(states, table, ids)


class CandidateScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, states: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(states, table, ids)
        out = states.new_empty(ids.shape)
        for rows in blocks(len(states)):
            torch.bmm(table[ids[rows]], states[rows].unsqueeze(-1), out=out[rows].unsqueeze(-1))
        return out

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        states, table, ids = ctx.saved_tensors
        d_states, d_table = torch.empty_like(states), torch.zeros_like(table)
        for rows in blocks(len(states)):
            d_states[rows] = torch.bmm(grad[rows].unsqueeze(1), table[ids[rows]]).squeeze(1)
            outer = grad[rows].unsqueeze(-1) * states[rows].unsqueeze(1)  # [rows, R, D]
            d_table.index_add_(0, ids[rows].flatten(), outer.flatten(0, 1))
        return d_states, d_table, None


def blocks(rows: int) -> list[slice]:
    return [slice(start, min(start + BLOCK_ROWS, rows)) for start in range(0, rows, BLOCK_ROWS)]
