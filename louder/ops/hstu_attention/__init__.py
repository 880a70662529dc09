"""SiLU attention over jagged histories, with the relative attention bias computed inside."""

import functools
from pathlib import Path

import torch
from torch import Tensor

from louder.ops import build
from louder.ops.hstu_attention import naive


def hstu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    *,
    scale: float,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    query_times: Tensor | None = None,
    key_times: Tensor | None = None,
) -> Tensor:
    """Mix each event of a user with that user's earlier events ("Actions Speak Louder than Words", eq. 2).

        s_ij = q_i·k_j + position_bias[i - j] + time_bias[bucket(query_times_i - key_times_j)]
        y_i = sum over j <= i of  silu(s_ij) * scale * v_j

    The weights are not a softmax: a row need not sum to one, so more matching events add up to more.

        q, k           [L, H, K]  float32 or float64, all users end to end
        v              [L, H, V]
        offsets        [B + 1]    int64; user b owns rows offsets[b] to offsets[b + 1]
        scale          a constant of the model, such as 1 / max_len: never the length of this batch
        position_bias  [P]        one number per distance, shared by the heads; distances above P - 1 use the last
        time_bias      [T]        one number per time bucket (see naive.time_buckets), shared by the heads
        query_times    [L]        int64 seconds; when the prediction of row i is asked for. Needed with time_bias
        key_times      [L]        int64 seconds; when event j happened. Needed with time_bias
        returns        [L, H, V]  in v's dtype

    The result of a user does not depend on who else is in the batch.
    """
    if time_bias is not None:
        assert query_times is not None and key_times is not None, "time_bias needs query_times and key_times"
    else:
        query_times = key_times = offsets.new_zeros(len(q))
    return attention(q, k, v, offsets, scale, position_bias, time_bias, query_times, key_times)


def fast(*tensors: Tensor | None) -> bool:
    """Whether cpu.cpp can do it: float32 on a CPU, and a compiler was found."""
    given = [x for x in tensors if x is not None]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in given):
        return False
    return build.load("hstu_attention", Path(__file__).with_name("cpu.cpp"))


@functools.cache
def bucket_starts(buckets: int) -> Tensor:
    """The shortest time difference of each bucket, float32 [buckets]; read off naive.time_buckets by bisection."""
    bucket = torch.arange(buckets, device="cpu")
    low, high = torch.ones_like(bucket), torch.full_like(bucket, 2**63 - 1)
    for _ in range(63):
        middle = low + (high - low) // 2
        reached = naive.time_buckets(middle, buckets) >= bucket
        low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
    return torch.where(naive.time_buckets(low, buckets) >= bucket, low.float(), torch.inf)


@torch.library.custom_op("louder::hstu_attention", mutates_args=())
def attention(
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
    inputs = (q, k, v, offsets, scale, position_bias, time_bias, query_times, key_times)
    if fast(q, k, v, position_bias, time_bias):
        starts = bucket_starts(0 if time_bias is None else len(time_bias))
        return torch.ops.louder_cpu.hstu_attention(*inputs, starts)
    return naive.hstu_attention(*inputs)


@attention.register_fake
def _(q, k, v, offsets, scale, position_bias, time_bias, query_times, key_times):
    return torch.empty_like(v)


@torch.library.custom_op("louder::hstu_attention_backward", mutates_args=())
def attention_backward(
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
    """Gradients of q, k, v, position_bias and time_bias; the last two are empty where there is no table."""
    inputs = (grad, q, k, v, offsets, scale, position_bias, time_bias, query_times, key_times)
    if fast(grad, q, k, v, position_bias, time_bias):
        starts = bucket_starts(0 if time_bias is None else len(time_bias))
        return torch.ops.louder_cpu.hstu_attention_backward(*inputs, starts)
    return naive.hstu_attention_backward(*inputs)


@attention_backward.register_fake
def _(grad, q, k, v, offsets, scale, position_bias, time_bias, query_times, key_times):
    def like(table: Tensor | None) -> Tensor:
        return q.new_empty(0) if table is None else torch.empty_like(table)

    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), like(position_bias), like(time_bias)


def save_for_backward(ctx, inputs, output) -> None:
    q, k, v, offsets, ctx.scale, position_bias, time_bias, query_times, key_times = inputs
    ctx.save_for_backward(q, k, v, offsets, position_bias, time_bias, query_times, key_times)


def backward(ctx, grad: Tensor):
    q, k, v, offsets, position_bias, time_bias, query_times, key_times = ctx.saved_tensors
    dq, dk, dv, d_position, d_time = attention_backward(
        grad.contiguous(), q, k, v, offsets, ctx.scale, position_bias, time_bias, query_times, key_times
    )
    return (
        dq,
        dk,
        dv,
        None,
        None,
        d_position if position_bias is not None else None,
        d_time if time_bias is not None else None,
        None,
        None,
    )


attention.register_autograd(backward, setup_context=save_for_backward)
