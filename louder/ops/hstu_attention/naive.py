"""Jagged HSTU attention, the slow way: one user at a time, the equation as it is written."""

import torch
import torch.nn.functional as F
from torch import Tensor

BUCKET_WIDTH = 0.301  # natural logarithm; a bucket spans a factor of 1.35 in time


def time_buckets(seconds: Tensor, buckets: int) -> Tensor:
    """Time differences (int64 seconds, any shape) -> bucket 0 .. buckets - 1, the last one open-ended.

    bucket(d) = trunc(ln(max(|d|, 1)) / 0.301), computed in float32 as the official code does.
    """
    logarithm = seconds.abs().clamp(min=1).to(torch.float32).log()
    return (logarithm / BUCKET_WIDTH).to(torch.int64).clamp(max=buckets - 1)


def distances(length: int, position_bias: Tensor) -> Tensor:
    """The entry of position_bias [P] of each pair, [length, length]; pairs above the diagonal are never looked at."""
    position = torch.arange(length, device=position_bias.device)
    return (position[:, None] - position).clamp(0, len(position_bias) - 1)


def attention_bias(
    length: int, position_bias: Tensor | None, time_bias: Tensor | None, query_times: Tensor, key_times: Tensor
) -> Tensor | float:
    """rab [N, N] of one user of N events: row = query, column = key; 0.0 where there is no bias."""
    bias: Tensor | float = 0.0
    if position_bias is not None:
        bias = bias + position_bias[distances(length, position_bias)]
    if time_bias is not None:
        bias = bias + time_bias[time_buckets(query_times[:, None] - key_times, len(time_bias))]
    return bias


def hstu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    scale: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor,
    key_times: Tensor,
) -> Tensor:
    """See louder.ops.hstu_attention. Differentiable by plain autograd; keeps an [H, N, N] tensor per user."""
    out = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        q_NHK, k_NHK, v_NHV = (x[start:end].float() if x.dtype != torch.float64 else x[start:end] for x in (q, k, v))
        rab = attention_bias(end - start, position_bias, time_bias, query_times[start:end], key_times[start:end])
        scores = torch.einsum("nhk,mhk->hnm", q_NHK, k_NHK) + rab
        weights = (F.silu(scores) * scale).tril()  # [H, N, N], each event sees itself and before
        out.append(torch.einsum("hnm,mhv->nhv", weights, v_NHV).to(v.dtype))
    return torch.cat(out) if out else torch.zeros_like(v)


def hstu_attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    scale: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor,
    key_times: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, position_bias and time_bias; the last two are empty where there is no table.

    Written out, since autograd does not record inside a registered op. It computes the scores again.
    """
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    d_position, d_time = (q.new_zeros(0) if x is None else torch.zeros_like(x) for x in (position_bias, time_bias))
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        here, length = slice(start, end), end - start
        q_NHK, k_NHK, v_NHV, grad_NHV = (
            x[here].to(torch.promote_types(x.dtype, torch.float32)) for x in (q, k, v, grad)
        )
        rab = attention_bias(length, position_bias, time_bias, query_times[here], key_times[here])
        scores = torch.einsum("nhk,mhk->hnm", q_NHK, k_NHK) + rab
        sigmoid = scores.sigmoid()
        weights = (scores * sigmoid * scale).tril()  # [H, N, N]
        slope = sigmoid * (1 + scores * (1 - sigmoid))  # of silu
        d_scores = (torch.einsum("nhv,mhv->hnm", grad_NHV, v_NHV) * slope * scale).tril()
        dq[here] = torch.einsum("hnm,mhk->nhk", d_scores, k_NHK).to(q.dtype)
        dk[here] = torch.einsum("hnm,nhk->mhk", d_scores, q_NHK).to(k.dtype)
        dv[here] = torch.einsum("hnm,nhv->mhv", weights, grad_NHV).to(v.dtype)
        d_bias = d_scores.sum(0).flatten()
        if position_bias is not None:
            entries = distances(length, position_bias).flatten()
            d_position.index_add_(0, entries, d_bias.to(d_position.dtype))
        if time_bias is not None:
            entries = time_buckets(query_times[here, None] - key_times[here], len(time_bias)).flatten()
            d_time.index_add_(0, entries, d_bias.to(d_time.dtype))
    return dq, dk, dv, d_position, d_time
