"""The parts of an HSTU layer that work on each row alone, forward and backward, in plain PyTorch. cpu.cpp has the same
functions; `implementation` chooses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops import build
from louder.ops.hstu_attention.naive import exact
from louder.ops.hstu_layer.naive import NORM_EPS, layer_norm
from louder.ops.random_bits import keep_factors, kept_scale, threshold


def norm_backward(x: Tensor, grad: Tensor, add: Tensor) -> Tensor:
    """add + the gradient of x, for the gradient `grad` of layer_norm(x); all [L, D]"""
    wide, grad = exact(x), exact(grad)
    inverse = (wide.var(1, correction=0, keepdim=True) + NORM_EPS).rsqrt()
    normed = (wide - wide.mean(1, keepdim=True)) * inverse
    shift, slope = grad.mean(1, keepdim=True), (grad * normed).mean(1, keepdim=True)
    return (add + inverse * (grad - shift - normed * slope)).to(x.dtype)


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


PLAIN = SimpleNamespace(
    norm=layer_norm,
    norm_backward=norm_backward,
    silu=F.silu,
    gate=gate,
    gate_backward=gate_backward,
    silu_backward=silu_backward,
)


def compiled() -> SimpleNamespace:
    ops = torch.ops.louder_cpu

    def draws(dropout: float, seed: Tensor | None) -> tuple[int, float, int, float]:
        if seed is None:
            return 0, 1.0, 0, NORM_EPS
        return threshold(dropout), kept_scale(dropout), int(seed), NORM_EPS

    return SimpleNamespace(
        norm=lambda x: ops.hstu_layer_norm(x, NORM_EPS),
        norm_backward=lambda x, grad, add: ops.hstu_layer_norm_backward(x, grad, add, NORM_EPS),
        silu=ops.hstu_layer_silu,
        gate=lambda a, u, dropout, seed: ops.hstu_layer_gate(a, u, *draws(dropout, seed)),
        gate_backward=lambda grad, a, u, dropout, seed: ops.hstu_layer_gate_backward(grad, a, u, *draws(dropout, seed)),
        silu_backward=ops.hstu_layer_silu_backward,
    )


def implementation(*tensors: Tensor) -> Any:
    """The functions for these tensors: cpu.cpp for float32 on a CPU where there is a compiler."""
    on_cpu = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
    if on_cpu and build.load("hstu_layer", Path(__file__).with_name("cpu.cpp")):
        return compiled()
    return PLAIN
