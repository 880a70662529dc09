"""What the official research code computes, with torch ops on padded tensors, as it does: [B, H, N, N] scores,
[B, N, N] bias, [L, R, D] negatives. Only to measure beside, and to test that the numbers are the same."""

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.models.sequential import NORM_EPS
from louder.ops.hstu_attention.naive import time_buckets
from louder.ops.jagged import to_jagged, to_padded
from louder.ops.layout import Layout, visible

COLLISION = -5e4  # logit of a negative that is the row's target


def hstu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    *,
    scale: float,
    length: int,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """See louder.ops.hstu_attention; every history is padded to `length`. The bias by position is that of a causal mask."""
    offsets = layout.offsets
    q_BNHK, k_BNHK, v_BNHV = (to_padded(x, offsets, length) for x in (q, k, v))
    scores = torch.einsum("bnhk,bmhk->bhnm", q_BNHK, k_BNHK)
    if position_bias is not None:
        scores = scores + toeplitz(position_bias, length).to(q.dtype)
    if time_bias is not None:
        assert layout.query_times is not None
        assert layout.key_times is not None
        times = (to_padded(x, offsets, length) for x in (layout.query_times, layout.key_times))
        scores = scores + time_differences(time_bias, *times).unsqueeze(1).to(q.dtype)
    weights = F.silu(scores) * scale
    weights = weights * seen(layout, length).to(q.dtype)
    return to_jagged(torch.einsum("bhnm,bmhv->bnhv", weights, v_BNHV), offsets, len(q))


def toeplitz(position_bias: Tensor, length: int) -> Tensor:
    """[N, N] with position_bias[i - j] at row i, column j <= i; made without an index, by rows that shift by one."""
    assert len(position_bias) >= length
    past_and_future = F.pad(position_bias[:length].flip(0), (0, 2 * length - 1))  # [3N - 1]
    rows = past_and_future.repeat(length)[:-length].view(length, 3 * length - 2)
    return rows[:, length - 1 : 2 * length - 1]


def time_differences(time_bias: Tensor, query_times: Tensor, key_times: Tensor) -> Tensor:
    """[B, N, N] of padded times [B, N]"""
    buckets = time_buckets(query_times.unsqueeze(2) - key_times.unsqueeze(1), len(time_bias))
    return time_bias.index_select(0, buckets.view(-1)).view(buckets.shape)


def seen(layout: Layout, length: int) -> Tensor:
    """Which keys (columns) a query sees: [N, N] if all users are alike, else [B, 1, N, N]."""
    row = torch.arange(length, device=layout.offsets.device)
    prefix = row
    if layout.prefix_lengths is not None:
        prefix = to_padded(layout.prefix_lengths, layout.offsets, length)[:, None]
    return visible(row, prefix, length, layout.window, layout.global_prefix)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *, scale: float, dropout: float) -> Tensor:
    """Causal, of users that all have the same number of rows, padding among them."""
    q, k, v = (x.unflatten(0, (len(offsets) - 1, -1)).transpose(1, 2) for x in (q, k, v))  # [B, H, N, ...]
    future = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
    weights = torch.softmax((q @ k.transpose(-1, -2) * scale).masked_fill(future, -torch.inf), -1)
    return (F.dropout(weights, dropout) @ v).transpose(1, 2).flatten(0, 1)


def sampled_softmax(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, *, temperature: float, normalised: bool = False
) -> Tensor:
    """See louder.ops.sampled_softmax. Normalises what it gathered, if anything."""
    positive, negative = table[targets], table[negatives]  # [L, D] and [L, R, D]
    if normalised:
        positive, negative = (F.normalize(x, dim=-1, eps=NORM_EPS) for x in (positive, negative))
    against = torch.einsum("ld,lrd->lr", states, negative) / temperature
    against = torch.where(negatives == targets[:, None], COLLISION, against)
    own = (states * positive).sum(-1, keepdim=True) / temperature
    return F.cross_entropy(torch.cat([own, against], 1), torch.zeros_like(targets), reduction="none")
