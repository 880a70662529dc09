"""Causal softmax attention over jagged histories, on torch's scaled_dot_product_attention."""

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops.dropout import dropout as drop
from louder.ops.hstu_attention.naive import distances, time_buckets
from louder.ops.jagged import to_jagged, to_padded

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
) -> Tensor:
    """Softmax attention of each event over itself and that user's earlier events.

    Arguments as in louder.ops.hstu_attention; `scale` multiplies q·k inside the softmax, `dropout` is of the weights.
    Returns [L, H, V]. Users are padded to the longest of their group: the padding comes after every real event, so the
    causal mask hides it, and a user's result does not depend on the others.
    """
    if len(q) == 0:
        return v.clone()
    lengths, out, order = offsets.diff(), [], []
    users = lengths.argsort()
    for group in users.chunk(min(GROUPS, len(users))):
        group = group[lengths[group] > 0]
        if not len(group):
            continue
        own = F.pad(lengths[group].cumsum(0), (1, 0))  # the group's own offsets
        start = (offsets[group] - own[:-1]).repeat_interleave(lengths[group])
        rows = torch.arange(len(start), device=q.device) + start
        longest = int(lengths[group].max())
        q_BHN, k_BHN, v_BHN = (to_padded(x.index_select(0, rows), own, longest).transpose(1, 2) for x in (q, k, v))
        mask = None
        if position_bias is not None or time_bias is not None:
            assert query_times is not None
            assert key_times is not None
            times = [to_padded(x[rows], own, longest) for x in (query_times, key_times)]
            mask = bias_mask(longest, position_bias, time_bias, *times).to(q.dtype)
        mixed = attend(q_BHN, k_BHN, v_BHN, mask, scale, dropout)
        out.append(to_jagged(mixed.transpose(1, 2), own, len(rows)))
        order.append(rows)
    return torch.cat(out).index_select(0, torch.cat(order).argsort())


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, dropout: float) -> Tensor:
    """Padded [B, H, N, ...]; `mask` is added to the scores and holds the causal -inf, or None for causal alone."""
    if dropout == 0:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    if mask is None:
        mask = causal(q.shape[-2], q.device).to(q.dtype)
    return drop(torch.softmax(q @ k.transpose(-1, -2) * scale + mask, -1), dropout, True) @ v


def bias_mask(
    length: int, position_bias: Tensor | None, time_bias: Tensor | None, query_times: Tensor, key_times: Tensor
) -> Tensor:
    """[B, 1, N, N] rab, and -inf on the future; query_times and key_times are [B, N]."""
    rab = [
        torch.as_tensor(attention_bias(length, position_bias, time_bias, query, key))
        for query, key in zip(query_times, key_times)
    ]
    return torch.stack(rab)[:, None] + causal(length, query_times.device)


def attention_bias(
    length: int, position_bias: Tensor | None, time_bias: Tensor | None, query_times: Tensor, key_times: Tensor
) -> Tensor | float:
    """rab [N, N] of one user of N events: row = query, column = key; 0.0 where there is no bias."""
    bias: Tensor | float = 0.0
    if position_bias is not None:
        place = torch.arange(length, device=position_bias.device)
        bias = bias + position_bias[distances(place, place, position_bias)]
    if time_bias is not None:
        bias = bias + time_bias[time_buckets(query_times[:, None] - key_times, len(time_bias))]
    return bias


def causal(length: int, device: torch.device) -> Tensor:
    """[N, N] 0 on and under the diagonal, -inf above"""
    return torch.full((length, length), -torch.inf, device=device).triu(1)
