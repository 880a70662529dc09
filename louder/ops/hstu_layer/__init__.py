"""One HSTU layer whose backward pass keeps little and computes the rest again."""

from typing import Any

import torch
from torch import Tensor

from louder.ops import hstu_attention as attention
from louder.ops import layout as layouts
from louder.ops.autograd import Context, is_recorded
from louder.ops.hstu_attention import BIAS_SCHEMA
from louder.ops.hstu_attention.naive import Table
from louder.ops.hstu_layer.rows import implementation
from louder.ops.layout import SCHEMA, Flat, Layout

CONSTANTS_SCHEMA = "int heads, int qk_width, float scale, float dropout, Tensor? seed"


def hstu_layer(
    x: Tensor,
    uvqk_weight: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    layout: Layout,
    *,
    heads: int,
    qk_width: int,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """x + f2(dropout(norm(A V) * U)), with U, V, Q, K = silu(f1(norm(x))): equations 1 to 3 of "Actions Speak Louder than
    Words". The norms are layer norms without parameters.

        x            [L, D]  the residual stream; float32, float64, or bfloat16
        uvqk_weight  [H (2 V + 2 K), D]; its dtype is that of the products and of what is kept
        out_weight   [D, H V]
        out_bias     [D]
        heads, qk_width   H and K
        dropout      of the gated result, if there is a seed
        seed         [1] int64 on the CPU (see random_bits.new_seed); None for no dropout
        returns      [L, D]  in x's dtype

    The rest as in hstu_attention. Kept for the backward pass, besides x: 2 H (V + K) + H V numbers a token, which is
    5 D where H V = H K = D; with x, 24·D bytes in float32 and 12·D in bfloat16 (the paper, section 3.3, has 14·D).
    """
    check(x, uvqk_weight, out_weight, out_bias, layout, heads, qk_width, seed)
    one_head = x[:, None]  # stands for q, k and v
    attention.check(one_head, one_head, one_head, layout, position_bias, time_bias)
    op = layer if is_recorded() else compute_layer
    return op(
        x, uvqk_weight, out_weight, out_bias, heads, qk_width, scale, dropout, seed,
        position_bias, time_bias, *layout, torch.is_grad_enabled(),
    )[0]  # fmt: skip


def check(
    x: Tensor, uvqk_weight: Tensor, out_weight: Tensor, out_bias: Tensor,
    layout: Layout, heads: int, qk_width: int, seed: Tensor | None,
) -> None:  # fmt: skip
    """Raise ValueError, naming the argument, for a shape that does not fit."""
    if layout.query_offsets is not None:
        raise ValueError("a layer computes all rows: query_offsets must be None")
    v_width, rest = divmod(out_weight.shape[1], heads)
    shapes = {
        "uvqk_weight": (uvqk_weight, [2 * heads * (v_width + qk_width), x.shape[-1]]),
        "out_weight": (out_weight, [x.shape[-1], heads * v_width]),
        "out_bias": (out_bias, [x.shape[-1]]),
    }
    for name, (tensor, shape) in shapes.items():
        if list(tensor.shape) != shape or rest:
            raise ValueError(f"{name} must be {shape} for {heads} heads, but it is {list(tensor.shape)}")
    if seed is not None and (seed.shape != (1,) or seed.dtype != torch.int64 or seed.device.type != "cpu"):
        raise ValueError(
            f"seed must be one int64 on the CPU, but it is {seed.dtype} {list(seed.shape)} on {seed.device}"
        )


def split(projected: Tensor, heads: int, qk_width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u [L, H V], v [L, H, V], and q and k [L, H, K], as views of what silu made of the projection."""
    v_width = projected.shape[1] // (2 * heads) - qk_width
    u, v, q, k = projected.split([heads * v_width] * 2 + [heads * qk_width] * 2, dim=1)
    v, q, k = (y.unflatten(1, (heads, -1)) for y in (v, q, k))
    return u, v, q, k


def compute_layer(
    x: Tensor, uvqk_weight: Tensor, out_weight: Tensor, out_bias: Tensor,
    heads: int, qk_width: int, scale: float, dropout: float, seed: Tensor | None,
    position_bias: Table, time_bias: Table, *flat: Flat,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The result, and what the backward pass needs: the projection [L, H (2 V + 2 K)] before silu, and A V [L, H V]."""
    *fields, training = flat
    layout = Layout._make(fields)
    layouts.check_values(layout, len(x), len(x))
    rows = implementation(x, uvqk_weight, out_weight)
    projected, activated = rows.project(x, uvqk_weight)
    u, v, q, k = split(activated, heads, qk_width)
    a = attention.compute(q, k, v, layout, scale, position_bias, time_bias).flatten(1)
    out = rows.output(x, a, u, out_weight, out_bias, dropout, seed)
    return (out, projected, a) if training else (out, x.new_empty(0), x.new_empty(0))


layer = torch.library.custom_op(
    "louder::hstu_layer",
    compute_layer,
    mutates_args=(),
    schema=f"(Tensor x, Tensor uvqk_weight, Tensor out_weight, Tensor out_bias, {CONSTANTS_SCHEMA}, {BIAS_SCHEMA}, {SCHEMA}, "
    "bool training) -> (Tensor, Tensor, Tensor)",
)


@layer.register_fake
def _(x: Tensor, uvqk_weight: Tensor, out_weight: Tensor, *rest: float | Flat) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if not rest[-1]:
        return out, x.new_empty(0), x.new_empty(0)
    kept = uvqk_weight.new_empty
    return out, kept(x.shape[0], len(uvqk_weight)), kept(x.shape[0], out_weight.shape[1])


@torch.library.custom_op(
    "louder::hstu_layer_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor projected, Tensor a, Tensor x, Tensor uvqk_weight, Tensor out_weight, "
    f"{CONSTANTS_SCHEMA}, {BIAS_SCHEMA}, {SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def layer_backward(
    grad: Tensor, projected: Tensor, a: Tensor, x: Tensor, uvqk_weight: Tensor, out_weight: Tensor,
    heads: int, qk_width: int, scale: float, dropout: float, seed: Tensor | None,
    position_bias: Table, time_bias: Table, *flat: Flat,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, uvqk_weight, out_weight, out_bias, position_bias and time_bias; the last two are empty where there
    is no table."""
    rows = implementation(x, uvqk_weight, out_weight)
    u, v, q, k = split(rows.silu(projected), heads, qk_width)
    da, du, d_out_weight = rows.output_backward(grad, a, u, out_weight, dropout, seed)
    dq, dk, dv, d_position, d_time = attention.compute_backward(
        da.view(v.shape), q, k, v, Layout._make(flat), scale, position_bias, time_bias
    )
    d_activated = du, dv.flatten(1), dq.flatten(1), dk.flatten(1)
    dx, d_uvqk_weight = rows.project_backward(x, projected, *d_activated, uvqk_weight, grad)
    return dx, d_uvqk_weight, d_out_weight, grad.sum(0), d_position, d_time


@layer_backward.register_fake
def _(
    grad: Tensor, projected: Tensor, a: Tensor, x: Tensor, uvqk_weight: Tensor, out_weight: Tensor,
    heads: int, qk_width: int, scale: float, dropout: float, seed: Tensor | None,
    position_bias: Table, time_bias: Table, *_: Flat,
) -> tuple[Tensor, ...]:  # fmt: skip
    weights = (y.new_empty(y.shape) for y in (x, uvqk_weight, out_weight))
    tables = (x.new_empty(0) if y is None else y.new_empty(y.shape) for y in (position_bias, time_bias))
    return *weights, x.new_empty(x.shape[1]), *tables


def save_for_backward(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, uvqk_weight, out_weight, out_bias, *constants, seed, position_bias, time_bias = inputs[:11]
    *tensors, window, global_prefix = inputs[11:-1]
    ctx.constants = constants, out_bias.dtype, window, global_prefix
    ctx.save_for_backward(*output[1:], x, uvqk_weight, out_weight, seed, position_bias, time_bias, *tensors)


def backward(ctx: Context, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    constants, bias_dtype, *masks = ctx.constants
    products, others = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
    dx, d_uvqk, d_out, d_bias, *d_tables = layer_backward(grad.contiguous(), *products, *constants, *others, *masks)
    tables = (None if table is None else d for table, d in zip(others[1:3], d_tables))
    return dx, d_uvqk, d_out, d_bias.to(bias_dtype), *[None] * 5, *tables, *[None] * (len(Layout._fields) + 1)


layer.register_autograd(backward, setup_context=save_for_backward)
