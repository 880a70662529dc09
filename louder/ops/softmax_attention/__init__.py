"""Causal softmax attention over jagged histories, on torch's scaled_dot_product_attention."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops import hstu_attention as hstu
from louder.ops.dropout import dropout as drop
from louder.ops.hstu_attention.naive import distances, time_buckets
from louder.ops.jagged import indices, per_row, to_jagged, to_padded

GROUPS = 4  # users of like length are padded together, so that little of the work is padding


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    *,
    scale: float,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    query_times: Tensor | None = None,
    key_times: Tensor | None = None,
    num_targets: Tensor | None = None,
    prefix_lengths: Tensor | None = None,
    query_offsets: Tensor | None = None,
) -> Tensor:
    """Softmax attention of each event over itself and that user's earlier events.

    Arguments as in louder.ops.hstu_attention; `scale` multiplies q·k inside the softmax, `dropout` is of the weights.
    Returns [M, H, V]. Users are padded to the longest of their group: no event sees the padding, so a user's result does
    not depend on the others. Raises ValueError for integers that do not fit.
    """
    hstu.check_integers(q, k, offsets, query_times, key_times, query_offsets, num_targets, prefix_lengths)
    causal = num_targets is None and prefix_lengths is None and query_offsets is None
    biased = position_bias is not None or time_bias is not None
    query_times, key_times, query_offsets, num_targets, prefix_lengths, *_ = hstu.prepare(
        offsets,
        len(q),
        len(k),
        time_bias,
        query_times,
        key_times,
        num_targets,
        prefix_lengths,
        None,
        0,
        0,
        query_offsets,
    )
    hstu.check_offsets(q, k, offsets, query_offsets, num_targets, prefix_lengths)
    if len(q) == 0:
        return v[:0].clone()
    index = indices(offsets, len(k))
    if prefix_lengths is None:
        prefix_lengths = index.minimum(per_row(offsets.diff() - num_targets, offsets, len(k)))
    key_of_query = torch.arange(len(q), device=q.device) + per_row((offsets - query_offsets)[1:], query_offsets, len(q))

    out, order = [], []
    users = offsets.diff().argsort()
    for group in users.chunk(min(GROUPS, len(users))):
        group = group[query_offsets.diff()[group] > 0]
        if not len(group):
            continue
        keys = rows_of(group, offsets)
        queries = keys if query_offsets is offsets else rows_of(group, query_offsets)
        q_BHM, k_BHN, v_BHN = (rows.padded(x).transpose(1, 2) for rows, x in ((queries, q), (keys, k), (keys, v)))
        mask = None
        if biased or not causal:
            row, place = queries.padded(index[key_of_query]), queries.padded(prefix_lengths[key_of_query])
            mask = visible(row, place, keys.longest)
            if biased:
                times = queries.padded(query_times), keys.padded(key_times)
                rab = attention_bias(place, keys.padded(prefix_lengths), position_bias, time_bias, *times)
                mask = rab.to(q.dtype).masked_fill(~mask, -torch.inf)
        mixed = attend(q_BHM, k_BHN, v_BHN, mask, scale, dropout)
        out.append(to_jagged(mixed.transpose(1, 2), queries.offsets, len(queries.rows)))
        order.append(queries.rows)
    return torch.cat(out).index_select(0, torch.cat(order).argsort())


class Rows(NamedTuple):
    """The rows of some users."""

    rows: Tensor  # [n] where they are among everybody's
    offsets: Tensor  # [users + 1] that cut the n rows into users
    longest: int

    def padded(self, x: Tensor) -> Tensor:
        """x [L, ...] -> [users, longest, ...]"""
        return to_padded(x.index_select(0, self.rows), self.offsets, self.longest)


def rows_of(users: Tensor, offsets: Tensor) -> Rows:
    lengths = offsets.diff()[users]
    own = F.pad(lengths.cumsum(0), (1, 0))
    start = (offsets[users] - own[:-1]).repeat_interleave(lengths)
    return Rows(torch.arange(len(start), device=offsets.device) + start, own, int(lengths.max()))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, dropout: float) -> Tensor:
    """Padded [B, H, N, ...]; `mask` is what is visible, or is added to the scores; None for causal alone."""
    if dropout == 0:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    if mask is None:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    scores = q @ k.transpose(-1, -2) * scale
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return drop(torch.softmax(scores, -1), dropout, True) @ v


def visible(rows: Tensor, prefix_lengths: Tensor, keys: int) -> Tensor:
    """Which keys are seen by rows [B, M] at their prefix_lengths: [B, 1, M, keys]. Padding is row 0 and sees the first key: a row
    that sees none would make NaN."""
    key = torch.arange(keys, device=rows.device)
    return ((key < prefix_lengths[..., None]) | (key == rows[..., None]))[:, None]


def attention_bias(
    prefix_lengths: Tensor,
    key_prefix_lengths: Tensor,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor,
    key_times: Tensor,
) -> Tensor:
    """rab [B, 1, M, N] of a bias by position or time, for queries [B, M] and keys [B, N]."""
    users = []
    for place, key_place, query_time, key_time in zip(prefix_lengths, key_prefix_lengths, query_times, key_times):
        bias: Tensor | float = 0.0
        if position_bias is not None:
            bias = bias + position_bias[distances(place, key_place, position_bias)]
        if time_bias is not None:
            bias = bias + time_bias[time_buckets(query_time[:, None] - key_time, len(time_bias))]
        users.append(torch.as_tensor(bias))
    return torch.stack(users)[:, None]
