"""Dropout that keeps no mask: what is dropped is a function of a seed, and computed again in the backward pass."""

from types import ModuleType

import torch
from torch import Tensor

from louder.ops import build
from louder.ops.autograd import Context
from louder.ops.random_bits import keep_factors, kept_scale, new_seed, threshold


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero each element with `probability`, scale the rest by 1 / (1 - probability); x as it is if not training.

    The probability is rounded to a multiple of 1 / 65536. The seed comes from torch's generator.
    """
    if not training or probability == 0:
        return x
    return seeded_dropout(x, probability, new_seed())


def on_gpu(x: Tensor) -> ModuleType | None:
    return build.triton_kernels("dropout") if x.is_cuda and x.dtype != torch.float64 else None


@torch.library.custom_op("louder::dropout", mutates_args=())
def seeded_dropout(x: Tensor, probability: float, seed: Tensor) -> Tensor:
    """seed [1] int64 on the CPU"""
    if kernels := on_gpu(x):
        return kernels.dropout(x, probability, int(seed))
    if build.kernel_for("dropout", x):
        drawn = threshold(probability), kept_scale(probability), int(seed)
        return torch.ops.louder_cpu.dropout(x.contiguous(), *drawn)
    return (x * keep_factors(seed.to(x.device), probability, x.shape, torch.float32).to(x.dtype)).contiguous()


@seeded_dropout.register_fake
def _(x: Tensor, probability: float, seed: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def save_for_backward(ctx: Context, inputs: tuple[Tensor, float, Tensor], output: Tensor) -> None:
    ctx.constants = (inputs[1],)
    ctx.save_for_backward(inputs[2])


def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, None, None]:
    return seeded_dropout(grad, *ctx.constants, *ctx.saved_tensors), None, None


seeded_dropout.register_autograd(backward, setup_context=save_for_backward)
