"""What an HSTU layer does to its rows before and after attention, forward and backward.

`implementation` chooses among four: plain PyTorch; PyTorch's products with the rest from triton.py or from cpu.cpp; and, for
narrow layers, products and rest in one pass of cpu.cpp.
"""

import functools
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops import build
from louder.ops.hstu_attention.naive import exact
from louder.ops.random_bits import keep_factors, kept_scale, threshold

NORM_EPS = 1e-6  # also in cpu.cpp
NARROW = 256  # the widest layer whose products are not left to a BLAS


def layer_norm(x: Tensor) -> Tensor:
    """In x's dtype, which autocast on a GPU would make float32."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS).to(x.dtype)


def norm_backward(x: Tensor, grad: Tensor, add: Tensor) -> Tensor:
    """add + the gradient of x, for the gradient `grad` of layer_norm(x); all [L, D]"""
    wide, grad = exact(x), exact(grad)
    centred = wide - wide.mean(1, keepdim=True)
    inverse = (centred.square().mean(1, keepdim=True) + NORM_EPS).rsqrt()
    normed = centred * inverse
    mean, along = grad.mean(1, keepdim=True), (grad * normed).mean(1, keepdim=True)
    return (add + inverse * (grad - mean - normed * along)).to(x.dtype)


def gate(a: Tensor, u: Tensor, dropout: float, seed: Tensor | None) -> Tensor:
    """dropout(norm(a) * u), all [L, H V]"""
    y = layer_norm(a) * u
    return y if seed is None else y * factors(seed, dropout, y)


def gate_backward(grad: Tensor, a: Tensor, u: Tensor, dropout: float, seed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gradients of a and u."""
    grad = grad if seed is None else grad * factors(seed, dropout, grad)
    return norm_backward(a, grad * u, torch.zeros_like(a)), grad * layer_norm(a)


def factors(seed: Tensor, dropout: float, like: Tensor) -> Tensor:
    return keep_factors(seed.to(like.device), dropout, like.shape, torch.float32).to(like.dtype)


def silu_backward(projected: Tensor, du: Tensor, dv: Tensor, dq: Tensor, dk: Tensor) -> Tensor:
    """The gradient of `projected`, for the gradients of the u, v, q and k that silu made of it, side by side."""
    return torch.ops.aten.silu_backward(torch.cat([du, dv, dq, dk], dim=1), projected)


def around_products(rows: SimpleNamespace) -> SimpleNamespace:
    """The four steps of a layer, from PyTorch's products and the functions of `rows`. The dtype of the products is the
    weight's."""

    def project(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """norm(x) weightᵀ, and silu of it; weight [N, D]"""
        projected = rows.norm(x).to(weight.dtype) @ weight.T
        return projected, rows.silu(projected)

    def output(
        x: Tensor, a: Tensor, u: Tensor, weight: Tensor, bias: Tensor, dropout: float, seed: Tensor | None
    ) -> Tensor:
        """x + dropout(norm(a) * u) weightᵀ + bias; weight [D, H V]"""
        gated, out = rows.gate(a, u, dropout, seed), x + bias
        return out.addmm_(gated, weight.T) if out.dtype == gated.dtype else out.add_(gated @ weight.T)

    def output_backward(
        grad: Tensor, a: Tensor, u: Tensor, weight: Tensor, dropout: float, seed: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of a, u and weight."""
        grad = grad.to(weight.dtype)
        d_weight = grad.T @ rows.gate(a, u, dropout, seed)
        return *rows.gate_backward(grad @ weight, a, u, dropout, seed), d_weight

    def project_backward(
        x: Tensor, projected: Tensor, du: Tensor, dv: Tensor, dq: Tensor, dk: Tensor, weight: Tensor, add: Tensor
    ) -> tuple[Tensor, Tensor]:
        """add + the gradient of x, and the gradient of weight"""
        d_projected = rows.silu_backward(projected, du, dv, dq, dk)
        d_weight = d_projected.T @ rows.norm(x).to(weight.dtype)
        return rows.norm_backward(x, (d_projected @ weight).to(x.dtype), add), d_weight

    return SimpleNamespace(
        project=project,
        silu=rows.silu,
        output=output,
        output_backward=output_backward,
        project_backward=project_backward,
    )


PLAIN = around_products(
    SimpleNamespace(
        norm=layer_norm,
        norm_backward=norm_backward,
        silu=F.silu,
        gate=gate,
        gate_backward=gate_backward,
        silu_backward=silu_backward,
    )
)


def draws(dropout: float, seed: Tensor | None) -> tuple[int, float, int]:
    """What cpu.cpp wants to know of dropout."""
    return (0, 1.0, 0) if seed is None else (threshold(dropout), kept_scale(dropout), int(seed))


def compiled_rows() -> SimpleNamespace:
    ops = torch.ops.louder_cpu
    return SimpleNamespace(
        norm=ops.hstu_layer_norm,
        norm_backward=ops.hstu_layer_norm_backward,
        silu=ops.hstu_layer_silu,
        gate=lambda a, u, dropout, seed: ops.hstu_layer_gate(a, u, *draws(dropout, seed)),
        gate_backward=lambda grad, a, u, dropout, seed: ops.hstu_layer_gate_backward(grad, a, u, *draws(dropout, seed)),
        silu_backward=ops.hstu_layer_silu_backward,
    )


@functools.cache
def fused() -> SimpleNamespace:
    ops = torch.ops.louder_cpu
    return SimpleNamespace(
        project=ops.hstu_layer_project,
        silu=ops.hstu_layer_silu,
        output=lambda x, a, u, weight, bias, dropout, seed: ops.hstu_layer_output(
            x, a, u, weight, bias, *draws(dropout, seed)
        ),
        output_backward=lambda grad, a, u, weight, dropout, seed: ops.hstu_layer_output_backward(
            grad, a, u, weight, *draws(dropout, seed)
        ),
        project_backward=ops.hstu_layer_project_backward,
    )


def on_gpu(x: Tensor) -> ModuleType | None:
    return build.triton_kernels("hstu_layer") if x.is_cuda and x.dtype != torch.float64 else None


@functools.cache
def by_triton(kernels: ModuleType) -> SimpleNamespace:
    return around_products(kernels.ROWS)


def implementation(x: Tensor, *weights: Tensor) -> SimpleNamespace:
    """The functions for these tensors: triton.py's on a GPU, cpu.cpp's for float32 on a CPU where there is a compiler."""
    if kernels := on_gpu(x):
        return by_triton(kernels)
    if not build.kernel_for("hstu_layer", x, *weights):
        return PLAIN
    return fused() if max(x.shape[1], weights[-1].shape[1]) <= NARROW else around_products(compiled_rows())
