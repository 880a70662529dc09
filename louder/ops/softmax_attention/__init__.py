"""Causal softmax attention over jagged histories, on torch's scaled_dot_product_attention."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops import layout as layouts
from louder.ops.dropout import dropout as drop
from louder.ops.hstu_attention.naive import distances, time_buckets
from louder.ops.jagged import indices, per_row, to_jagged, to_padded
from louder.ops.layout import Layout, visible

GROUPS = 4  # users of like length are padded together, so that little of the work is padding


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    *,
    scale: float,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """Softmax attention of each event over itself and that user's earlier events.

    Arguments as in louder.ops.hstu_attention; `scale` multiplies q·k inside the softmax, `dropout` is of the weights.
    Returns [M, H, V]. Users are padded to the longest of their group: no event sees the padding, so a user's result does
    not depend on the others. Raises ValueError for integers that do not fit.
    """
    layouts.check(layout, len(q), len(k), q.device, time_bias)
    layouts.check_values(layout, len(q), len(k))
    if len(q) == 0:
        return v[:0].clone()
    offsets = layout.offsets
    query_offsets = offsets if layout.query_offsets is None else layout.query_offsets
    biased = position_bias is not None or time_bias is not None
    causal = layout.prefix_lengths is None and layout.query_offsets is None and layout.window is None
    index = indices(offsets, len(k))
    prefix_lengths = index if layout.prefix_lengths is None else layout.prefix_lengths
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
            row, prefix = queries.padded(index[key_of_query]), queries.padded(prefix_lengths[key_of_query])
            # padding is row 0 and sees the first key: a row that sees none would make NaN
            mask = visible(row[:, None], prefix[:, None], keys.longest, layout.window, layout.global_prefix)
            if biased:
                query_times = None if layout.query_times is None else queries.padded(layout.query_times)
                key_times = None if layout.key_times is None else keys.padded(layout.key_times)
                key_prefix = keys.padded(prefix_lengths)
                rab = attention_bias(prefix, key_prefix, position_bias, time_bias, query_times, key_times)
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


def attention_bias(
    prefix_lengths: Tensor,
    key_prefix_lengths: Tensor,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor | None,
    key_times: Tensor | None,
) -> Tensor:
    """rab [B, 1, M, N] of a bias by position or time, for queries [B, M] and keys [B, N]."""
    users = []
    for user, (prefix, key_prefix) in enumerate(zip(prefix_lengths, key_prefix_lengths)):
        bias: Tensor | float = 0.0
        if position_bias is not None:
            bias = bias + position_bias[distances(prefix, key_prefix, position_bias)]
        if time_bias is not None and query_times is not None and key_times is not None:
            bias = bias + time_bias[time_buckets(query_times[user, :, None] - key_times[user], len(time_bias))]
        users.append(torch.as_tensor(bias))
    return torch.stack(users)[:, None]
