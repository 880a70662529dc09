"""Jagged HSTU attention, the slow way: one user at a time, the equation as it is written."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from louder.ops.layout import Layout, visible

Table = Tensor | None  # a bias by distance [P] or by time bucket [T], if there is one
BUCKET_WIDTH = 0.301  # natural logarithm; a bucket spans a factor of 1.35 in time


def time_buckets(seconds: Tensor, buckets: int) -> Tensor:
    """Time differences (int64 seconds, any shape) -> bucket 0 .. buckets - 1, the last one open-ended.

    bucket(d) = trunc(ln(max(|d|, 1)) / 0.301), computed in float32 as the official code does.
    """
    logarithm = seconds.abs().clamp(min=1).to(torch.float32).log()
    return (logarithm / BUCKET_WIDTH).to(torch.int64).clamp(max=buckets - 1)


def distances(queries: Tensor, keys: Tensor, position_bias: Tensor) -> Tensor:
    """The entry of position_bias [P] for the prefix lengths of queries [M] and keys [N]: [M, N], 0 for a key that is not
    earlier."""
    return (queries[:, None] - keys).clamp(0, len(position_bias) - 1)


class User(NamedTuple):
    """What the equation needs to know of one user: M queries, N keys."""

    queries: slice  # rows of q
    keys: slice  # rows of k and v
    visible: Tensor  # [M, N] bool
    bias: Tensor | float  # rab [M, N]; 0.0 where there is none
    distances: Tensor | None  # [M, N] entry of position_bias
    buckets: Tensor | None  # [M, N] entry of time_bias


def users(layout: Layout, position_bias: Table, time_bias: Table) -> Iterator[User]:
    bounds, query_offsets = layout.offsets.tolist(), layout.query_offsets
    query_bounds = bounds if query_offsets is None else query_offsets.tolist()
    for rows, keys in zip(slices(query_bounds), slices(bounds)):
        M, N = rows.stop - rows.start, keys.stop - keys.start
        index = torch.arange(N, device=layout.offsets.device)
        prefix_lengths = index if layout.prefix_lengths is None else layout.prefix_lengths[keys]
        bias: Tensor | float = 0.0
        entries = buckets = None
        if position_bias is not None:
            entries = distances(prefix_lengths[N - M :], prefix_lengths, position_bias)
            bias = bias + exact(position_bias)[entries]
        if time_bias is not None and layout.query_times is not None and layout.key_times is not None:
            buckets = time_buckets(layout.query_times[rows, None] - layout.key_times[keys], len(time_bias))
            bias = bias + exact(time_bias)[buckets]
        sees = visible(index[N - M :], prefix_lengths[N - M :], N, layout.window, layout.global_prefix)
        yield User(rows, keys, sees, bias, entries, buckets)


def slices(bounds: list[int]) -> list[slice]:
    return [slice(start, end) for start, end in pairwise(bounds)]


def exact(x: Tensor) -> Tensor:
    """float32, or float64 as it is"""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def hstu_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, position_bias: Table, time_bias: Table
) -> Tensor:
    """See louder.ops.hstu_attention. Differentiable by plain autograd; keeps an [H, M, N] tensor per user."""
    out = []
    for user in users(layout, position_bias, time_bias):
        scores = torch.einsum("mhk,nhk->hmn", exact(q[user.queries]), exact(k[user.keys])) + user.bias
        weights = (scores * scores.sigmoid() * scale).masked_fill(~user.visible, 0.0)
        out.append(torch.einsum("hmn,nhv->mhv", weights, exact(v[user.keys])).to(v.dtype))
    return torch.cat(out) if out else v.new_zeros(0, *v.shape[1:])


def hstu_attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, position_bias: Table, time_bias: Table
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, position_bias and time_bias; the last two are empty where there is no table.

    Written out, since autograd does not record inside a registered op. It computes the scores again.
    """
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    tables = tuple(q.new_zeros(0) if x is None else x for x in (position_bias, time_bias))
    d_position, d_time = (exact(torch.zeros_like(x)) for x in tables)
    for user in users(layout, position_bias, time_bias):
        q_MHK, grad_MHV = exact(q[user.queries]), exact(grad[user.queries])
        k_NHK, v_NHV = exact(k[user.keys]), exact(v[user.keys])
        scores = torch.einsum("mhk,nhk->hmn", q_MHK, k_NHK) + user.bias
        sigmoid = scores.sigmoid()
        weights = (scores * sigmoid * scale).masked_fill(~user.visible, 0.0)  # [H, M, N]
        d_silu = sigmoid * (1 + scores * (1 - sigmoid)) * scale
        d_scores = (torch.einsum("mhv,nhv->hmn", grad_MHV, v_NHV) * d_silu).masked_fill(~user.visible, 0.0)
        dq[user.queries] = torch.einsum("hmn,nhk->mhk", d_scores, k_NHK).to(q.dtype)
        dk[user.keys] = torch.einsum("hmn,mhk->nhk", d_scores, q_MHK).to(k.dtype)
        dv[user.keys] = torch.einsum("hmn,mhv->nhv", weights, grad_MHV).to(v.dtype)
        d_bias = d_scores.sum(0).flatten()
        if user.distances is not None:
            d_position.index_add_(0, user.distances.flatten(), d_bias.to(d_position.dtype))
        if user.buckets is not None:
            d_time.index_add_(0, user.buckets.flatten(), d_bias.to(d_time.dtype))
    return dq, dk, dv, d_position.to(tables[0].dtype), d_time.to(tables[1].dtype)
