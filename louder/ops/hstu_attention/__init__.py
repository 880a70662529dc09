"""SiLU attention over jagged histories, with the relative attention bias computed inside."""

import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from louder.ops import build
from louder.ops import layout as layouts
from louder.ops.autograd import Context, is_recorded
from louder.ops.hstu_attention import naive
from louder.ops.hstu_attention.naive import Table
from louder.ops.layout import SCHEMA, Flat, Layout

BIAS_SCHEMA = "Tensor? position_bias, Tensor? time_bias"


def hstu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    *,
    scale: float,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """Mix each event of a user with that user's earlier events ("Actions Speak Louder than Words", eq. 2).

        s_ij = q_i·k_j + position_bias[distance of i and j] + time_bias[bucket(query_times_i - key_times_j)]
        y_i = sum over the j that i sees of  silu(s_ij) * scale * v_j

    The weights are not a softmax: a row need not sum to one, so more matching events add up to more.

        q              [M, H, K]  float32, float64, bfloat16 or float16 (both summed in float32), all users end to end
        k              [L, H, K]
        v              [L, H, V]
        layout         whose rows they are, when they happened, who sees whom and at what distance: see Layout
        scale          a constant of the model, such as 1 / max_len: never the length of this batch
        position_bias  [P]        one number per distance, shared by the heads; distances above P - 1 use the last
        time_bias      [T]        one number per time bucket (see naive.time_buckets), shared by the heads
        returns        [M, H, V]  in v's dtype

    The result of a user does not depend on who else is in the batch. Raises ValueError for inputs that do not fit.
    """
    check(q, k, v, layout, position_bias, time_bias)
    op = attention if is_recorded() else checked
    return op(q, k, v, scale, position_bias, time_bias, *layout)


def check(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, position_bias: Tensor | None, time_bias: Tensor | None
) -> None:
    """Raise ValueError, naming the argument, for a shape, dtype or device that does not fit. Reads no values.

    Asks for x.shape[0], never len(x): that would tie a compiled or exported model to one number of rows.
    """
    tables = {"position_bias": position_bias, "time_bias": time_bias}
    for name, x in {"k": k, "v": v, **tables}.items():
        if x is not None and x.device != q.device:
            raise ValueError(f"{name} is on {x.device}, but q is on {q.device}")
    if q.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise ValueError(f"q must be float32, float64, bfloat16 or float16, but it is {q.dtype}")
    for name, x in ("k", k), ("v", v):
        if x.dtype != q.dtype:
            raise ValueError(f"{name} is {x.dtype}, but q is {q.dtype}")
    for name, table in tables.items():
        if table is not None and (not table.is_floating_point() or table.dim() != 1 or table.shape[0] == 0):
            raise ValueError(f"{name} must be one row of floats, but it is {table.dtype} {list(table.shape)}")
        if table is not None and table.dtype == torch.float64 != q.dtype:
            raise ValueError(f"{name} is {table.dtype}, but q is {q.dtype}")
    for name, x in ("q", q), ("k", k), ("v", v):
        if x.dim() != 3:
            raise ValueError(f"{name} must be [rows, heads, width], but it is {list(x.shape)}")
    if k.shape[1:] != q.shape[1:]:
        raise ValueError(f"k has {k.shape[1]} heads of {k.shape[2]}, but q has {q.shape[1]} of {q.shape[2]}")
    if v.shape[:2] != k.shape[:2]:
        raise ValueError(f"v has {v.shape[0]} rows of {v.shape[1]} heads, but k has {k.shape[0]} of {k.shape[1]}")
    layouts.check(layout, q.shape[0], k.shape[0], q.device, time_bias)


def on_cpu(*tensors: Tensor | None) -> bool:
    return build.kernel_for("hstu_attention", *tensors, dtypes=(torch.float32, torch.bfloat16))


def on_gpu(q: Tensor) -> ModuleType | None:
    """triton.py if it can do it: not float64, on a CUDA device, and Triton is there."""
    return build.triton_kernels("hstu_attention") if q.is_cuda and q.dtype != torch.float64 else None


def bucket_starts_on(device: torch.device, time_bias: Tensor | None) -> Tensor:
    return bucket_starts(0 if time_bias is None else len(time_bias), device)


@functools.cache
def bucket_starts(buckets: int, device: torch.device | None = None) -> Tensor:
    """The shortest time difference of each bucket, float32 [buckets]; read off naive.time_buckets by bisection."""
    bucket = torch.arange(buckets, device="cpu")
    low, high = torch.ones_like(bucket), torch.full_like(bucket, 2**63 - 1)
    for _ in range(63):
        middle = low + (high - low) // 2
        reached = naive.time_buckets(middle, buckets) >= bucket
        low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
    return torch.where(naive.time_buckets(low, buckets) >= bucket, low.float(), torch.inf).to(device)


def compute(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, position_bias: Table, time_bias: Table
) -> Tensor:
    """hstu_attention by the best means there are, without gradients and without checks: the attention of one new token
    over cached keys takes less time than checking and recording the call."""
    starts = bucket_starts_on(q.device, time_bias)
    if kernels := on_gpu(q):
        return kernels.forward(q, k, v, layout, scale, position_bias, time_bias, starts)
    if on_cpu(q, k, v, position_bias, time_bias):
        return torch.ops.louder_cpu.hstu_attention(q, k, v, scale, position_bias, time_bias, *layout, starts)
    return naive.hstu_attention(q, k, v, layout, scale, position_bias, time_bias)


def compute_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, position_bias: Table, time_bias: Table
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, position_bias and time_bias; the last two are empty where there is no table."""
    starts = bucket_starts_on(q.device, time_bias)
    if kernels := on_gpu(q):
        return kernels.backward(grad, q, k, v, layout, scale, position_bias, time_bias, starts)
    if on_cpu(grad, q, k, v, position_bias, time_bias):
        return torch.ops.louder_cpu.hstu_attention_backward(
            grad, q, k, v, scale, position_bias, time_bias, *layout, starts
        )
    return naive.hstu_attention_backward(grad, q, k, v, layout, scale, position_bias, time_bias)


def checked(
    q: Tensor, k: Tensor, v: Tensor, scale: float, position_bias: Table, time_bias: Table, *flat: Flat
) -> Tensor:
    layout = Layout._make(flat)
    layouts.check_values(layout, len(q), len(k))
    return compute(q, k, v, layout, scale, position_bias, time_bias)


attention = torch.library.custom_op(
    "louder::hstu_attention",
    checked,
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, float scale, {BIAS_SCHEMA}, {SCHEMA}) -> Tensor",
)


@attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: float | Flat) -> Tensor:
    return v.new_empty(q.shape[0], *v.shape[1:])


@torch.library.custom_op(
    "louder::hstu_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor q, Tensor k, Tensor v, float scale, {BIAS_SCHEMA}, {SCHEMA})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float, position_bias: Table, time_bias: Table, *flat: Flat
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return compute_backward(grad, q, k, v, Layout._make(flat), scale, position_bias, time_bias)


@attention_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float, position_bias: Table, time_bias: Table, *_: Flat
) -> tuple[Tensor, ...]:
    tables = (q.new_empty(0) if x is None else x.new_empty(x.shape) for x in (position_bias, time_bias))
    return *(x.new_empty(x.shape) for x in (q, k, v)), *tables


def save_for_backward(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, k, v, scale, position_bias, time_bias, *tensors, window, global_prefix = inputs
    ctx.constants = scale, window, global_prefix
    ctx.save_for_backward(q, k, v, position_bias, time_bias, *tensors)


def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, position_bias, time_bias, *tensors = ctx.saved_tensors
    scale, *masks = ctx.constants
    dq, dk, dv, *d_tables = attention_backward(grad, q, k, v, scale, position_bias, time_bias, *tensors, *masks)
    tables = (None if x is None else d for x, d in zip((position_bias, time_bias), d_tables))
    return dq, dk, dv, None, *tables, *[None] * len(Layout._fields)


attention.register_autograd(backward, setup_context=save_for_backward)
