"""What an HSTU layer does to its rows beside products and attention, on a GPU: each step reads its inputs once. A program has
a block of rows; D is their width."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from louder.ops.hstu_layer.rows import NORM_EPS, silu_backward
from louder.ops.random_bits import kept_scale, threshold
from louder.ops.random_bits_triton import halves, keep_factors

NUMBERS = 4096  # of a block


@triton.jit
def block(x, row, stride, rows, D: tl.constexpr, BLOCK: tl.constexpr):
    """[len(row), BLOCK] float32, zeros beyond the rows and the width"""
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows)[:, None] & (column < D)
    return tl.load(x + row.to(tl.int64)[:, None] * stride + column, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store(x, row, rows, value, D: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows)[:, None] & (column < D)
    tl.store(x + row.to(tl.int64)[:, None] * D + column, value.to(x.dtype.element_ty), mask=mask)


@triton.jit
def normed(x, D: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr):
    """The layer norm of each row, and by what it was multiplied."""
    centred = tl.where(tl.arange(0, BLOCK)[None, :] < D, x - (tl.sum(x, 1) / D)[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, 1) / D + EPS)
    return centred * inverse[:, None], inverse


@triton.jit
def norm_gradient(norm, inverse, grad, D: tl.constexpr, BLOCK: tl.constexpr):
    mean, along = tl.sum(grad, 1) / D, tl.sum(grad * norm, 1) / D
    return inverse[:, None] * (grad - mean[:, None] - norm * along[:, None])


@triton.jit
def factors(row, dropped, scale, low, high, D: tl.constexpr, BLOCK: tl.constexpr):
    return keep_factors(row.to(tl.int64)[:, None] * D + tl.arange(0, BLOCK)[None, :], dropped, scale, low, high)


@triton.jit
def norm_kernel(
    out, x, x_row, rows, D: tl.constexpr, EPS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    norm, _inverse = normed(block(x, row, x_row, rows, D, BLOCK), D, EPS, BLOCK)
    store(out, row, rows, norm, D, BLOCK)


@triton.jit
def norm_backward_kernel(
    out, x, grad, add, x_row, grad_row, add_row, rows,
    D: tl.constexpr, EPS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    norm, inverse = normed(block(x, row, x_row, rows, D, BLOCK), D, EPS, BLOCK)
    found = norm_gradient(norm, inverse, block(grad, row, grad_row, rows, D, BLOCK), D, BLOCK)
    store(out, row, rows, block(add, row, add_row, rows, D, BLOCK) + found, D, BLOCK)


@triton.jit(do_not_specialize=["dropped", "low", "high"])
def gate_kernel(
    out, a, u, a_row, u_row, rows, dropped, scale, low, high,
    D: tl.constexpr, EPS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    norm, _inverse = normed(block(a, row, a_row, rows, D, BLOCK), D, EPS, BLOCK)
    gated = norm * block(u, row, u_row, rows, D, BLOCK)
    if DROPS:
        gated *= factors(row, dropped, scale, low, high, D, BLOCK)
    store(out, row, rows, gated, D, BLOCK)


@triton.jit(do_not_specialize=["dropped", "low", "high"])
def gate_backward_kernel(
    da, du, grad, a, u, grad_row, a_row, u_row, rows, dropped, scale, low, high,
    D: tl.constexpr, EPS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr, DROPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    norm, inverse = normed(block(a, row, a_row, rows, D, BLOCK), D, EPS, BLOCK)
    gated = block(grad, row, grad_row, rows, D, BLOCK)
    if DROPS:
        gated *= factors(row, dropped, scale, low, high, D, BLOCK)
    store(du, row, rows, gated * norm, D, BLOCK)
    store(da, row, rows, norm_gradient(norm, inverse, gated * block(u, row, u_row, rows, D, BLOCK), D, BLOCK), D, BLOCK)


def launch(kernel: Any, outs: list[Tensor], inputs: dict[str, Tensor], **others: Any) -> None:
    """Run a kernel over the rows of its inputs [L, D], whose rows are contiguous each."""
    (L, D), width = outs[0].shape, triton.next_power_of_2(outs[0].shape[1])
    inputs = {name: x if x.stride(1) == 1 else x.contiguous() for name, x in inputs.items()}
    strides = {f"{name}_row": x.stride(0) for name, x in inputs.items()}
    sizes = {"D": D, "EPS": NORM_EPS, "BLOCK_R": max(1, NUMBERS // width), "BLOCK": width}
    if L:
        with torch.cuda.device_of(outs[0]):
            kernel[(triton.cdiv(L, sizes["BLOCK_R"]),)](*outs, **inputs, **strides, rows=L, **sizes, **others)


def dropped(dropout: float, seed: Tensor | None) -> dict[str, Any]:
    low, high = halves(0 if seed is None else int(seed))
    share = threshold(dropout)
    return {"dropped": share, "scale": kept_scale(dropout), "low": low, "high": high, "DROPS": seed is not None}


def norm(x: Tensor) -> Tensor:
    launch(norm_kernel, [out := x.new_empty(x.shape)], {"x": x})
    return out


def norm_backward(x: Tensor, grad: Tensor, add: Tensor) -> Tensor:
    launch(norm_backward_kernel, [out := x.new_empty(x.shape)], {"x": x, "grad": grad, "add": add})
    return out


def gate(a: Tensor, u: Tensor, dropout: float, seed: Tensor | None) -> Tensor:
    launch(gate_kernel, [out := a.new_empty(a.shape)], {"a": a, "u": u}, **dropped(dropout, seed))
    return out


def gate_backward(grad: Tensor, a: Tensor, u: Tensor, dropout: float, seed: Tensor | None) -> tuple[Tensor, Tensor]:
    da, du = a.new_empty(a.shape), u.new_empty(u.shape)
    launch(gate_backward_kernel, [da, du], {"grad": grad, "a": a, "u": u}, **dropped(dropout, seed))
    return da, du


ROWS = SimpleNamespace(
    norm=norm,
    norm_backward=norm_backward,
    silu=F.silu,
    gate=gate,
    gate_backward=gate_backward,
    silu_backward=silu_backward,
)
