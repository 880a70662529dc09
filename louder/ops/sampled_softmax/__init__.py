"""Cross-entropy of the next item against sampled negatives, or against the whole catalogue."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from louder.ops import build
from louder.ops.autograd import Context
from louder.ops.random_bits import random_items
from louder.ops.sampled_softmax import naive


def sampled_softmax(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor | int,
    *,
    temperature: float,
    seed: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    """How surprising each row's target is among its own negatives.

        logit(c) = states · table[c] / temperature - log_weights[c]
        loss     = logsumexp(logit(target), logit(negatives)) - logit(target)

        states       [L, D]  float32 or float64
        table        [I, D]  one row per item; normalise it first for a cosine
        targets      [L]     int64; a row whose target is -1 has loss 0 and no gradient
        negatives    [L, R]  int64; one that equals its row's target is left out, one drawn twice counts twice.
                             Or R, their number: each row draws its own from all items alike, and nobody stores them
        temperature  a constant
        seed         [1]     int64 on the CPU (see random_bits.new_seed), from which R negatives are drawn
        log_weights  [I]     log of how often each item is drawn (logQ correction); None if all alike. No gradient
        returns      [L]

    Neither a [L, R, D] nor a [L, I] tensor is made; [L, 1 + R] numbers are kept. The gradient of the table is dense,
    [I, D]. Raises ValueError for a number of negatives without a seed.
    """
    if isinstance(negatives, int):
        if seed is None:
            raise ValueError(f"{negatives} negatives need a seed to be drawn from, but seed is None")
        return loss_and_grad_logits(states, table, targets, None, negatives, seed, temperature, log_weights)[0]
    count = negatives.shape[1]
    return loss_and_grad_logits(states, table, targets, negatives, count, None, temperature, log_weights)[0]


def full_softmax(states: Tensor, table: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy against all items: logsumexp(logits) - logits[target], logits = states · table / temperature.

        states   [L, D]  float32 or float64
        table    [I, D]
        targets  [L]     int64; a row whose target is -1 has loss 0 and no gradient
        returns  [L]

    Works in blocks of rows, forward and backward: never a [L, I] tensor.
    """
    return full_loss_and_logsumexp(states, table, targets, temperature)[0]


# --- sampled -----------------------------------------------------------------------------------------------------


def number_of(seed: Tensor | None) -> int:
    return 0 if seed is None else int(seed)


def on_gpu(states: Tensor) -> ModuleType | None:
    return build.triton_kernels("sampled_softmax") if states.is_cuda and states.dtype == torch.float32 else None


def drawn(
    negatives: Tensor | None, rows: int, count: int, seed: Tensor | None, items: int, device: torch.device
) -> Tensor:
    """[L, R] the negatives that cpu.cpp draws inside"""
    if negatives is None:
        assert seed is not None
        negatives = random_items(seed.to(device), rows, count, items)
    return negatives


@torch.library.custom_op("louder::sampled_softmax", mutates_args=())
def loss_and_grad_logits(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor | None,
    num_negatives: int,
    seed: Tensor | None,
    temperature: float,
    log_weights: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """See naive.loss_and_grad_logits."""
    if kernels := on_gpu(states):
        return kernels.loss_and_grad_logits(
            states, table, targets, negatives, num_negatives, number_of(seed), temperature, log_weights
        )
    if build.kernel_for("sampled_softmax", states, table, log_weights):
        return torch.ops.louder_cpu.sampled_softmax(
            states, table, targets, negatives, num_negatives, number_of(seed), temperature, log_weights
        )
    negatives = drawn(negatives, len(states), num_negatives, seed, len(table), states.device)
    return naive.loss_and_grad_logits(states, table, targets, negatives, temperature, log_weights)


@loss_and_grad_logits.register_fake
def _(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor | None,
    num_negatives: int,
    *_: Tensor | float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    rows = states.shape[0]
    return states.new_empty(rows), states.new_empty(rows, 1 + num_negatives), states.new_empty(states.shape)


@torch.library.custom_op("louder::sampled_softmax_table_gradient", mutates_args=())
def table_gradient(
    grad: Tensor,
    grad_logits: Tensor,
    states: Tensor,
    targets: Tensor,
    negatives: Tensor | None,
    num_negatives: int,
    seed: Tensor | None,
    items: int,
) -> Tensor:
    """[I, D]"""
    if kernels := on_gpu(grad_logits):
        return kernels.table_gradient(
            grad, grad_logits, states, targets, negatives, num_negatives, number_of(seed), items
        )
    if build.kernel_for("sampled_softmax", grad, grad_logits, states):
        return torch.ops.louder_cpu.sampled_softmax_table_gradient(
            grad, grad_logits, states, targets, negatives, num_negatives, number_of(seed), items
        )
    negatives = drawn(negatives, len(states), num_negatives, seed, items, states.device)
    return naive.table_gradient(grad, grad_logits, states, targets, negatives, items)


@table_gradient.register_fake
def _(grad: Tensor, grad_logits: Tensor, states: Tensor, *others: Tensor | int | None) -> Tensor:
    items = others[-1]
    assert isinstance(items, int | torch.SymInt)
    return states.new_empty(items, states.shape[1])


def save_for_backward(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    states, table, targets, negatives, num_negatives, seed, *_ = inputs
    ctx.constants = num_negatives, len(table)
    ctx.save_for_backward(*output[1:], states, targets, negatives, seed)


def backward(ctx: Context, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    grad_logits, d_states, states, targets, negatives, seed = ctx.saved_tensors
    d_table = None
    if ctx.needs_input_grad[1]:
        num_negatives, items = ctx.constants
        d_table = table_gradient(grad, grad_logits, states, targets, negatives, num_negatives, seed, items)
    return d_states * grad[:, None], d_table, *[None] * 6


loss_and_grad_logits.register_autograd(backward, setup_context=save_for_backward)


# --- full --------------------------------------------------------------------------------------------------------

BLOCK_LOGITS = 1 << 22  # numbers of a block's logits, 16 MB in float32


def row_blocks(table: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    rows = max(1, BLOCK_LOGITS // len(table))
    return zip(*(x.split(rows) for x in tensors))


@torch.library.custom_op("louder::full_softmax", mutates_args=())
def full_loss_and_logsumexp(
    states: Tensor, table: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    losses, logsumexps = [], []
    for block, ids in row_blocks(table, states, targets):
        logits = (block @ table.T).div_(temperature)
        positive = logits.gather(1, ids.clamp(min=0)[:, None])[:, 0]
        logsumexps.append(logits.logsumexp(dim=1))
        losses.append((logsumexps[-1] - positive).masked_fill_(ids < 0, 0.0))
    return torch.cat(losses), torch.cat(logsumexps)


@full_loss_and_logsumexp.register_fake
def _(states: Tensor, *_: Tensor | float) -> tuple[Tensor, Tensor]:
    return states.new_empty(states.shape[0]), states.new_empty(states.shape[0])


@torch.library.custom_op("louder::full_softmax_backward", mutates_args=())
def full_loss_backward(
    grad: Tensor, logsumexp: Tensor, states: Tensor, table: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Gradients of states [L, D] and table [I, D]."""
    d_states, d_table = [], torch.zeros_like(table)
    for block_grad, block_logsumexp, block, ids in row_blocks(table, grad, logsumexp, states, targets):
        scale = block_grad.masked_fill(ids < 0, 0.0)[:, None] / temperature
        d_logits = (block @ table.T).div_(temperature).sub_(block_logsumexp[:, None]).exp_().mul_(scale)
        d_logits.scatter_add_(1, ids.clamp(min=0)[:, None], -scale)
        d_states.append(d_logits @ table)
        d_table.addmm_(d_logits.T, block)
    return torch.cat(d_states), d_table


@full_loss_backward.register_fake
def _(grad: Tensor, logsumexp: Tensor, states: Tensor, table: Tensor, *_: Tensor | float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(states), torch.empty_like(table)


def save_for_full_backward(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, temperature = inputs
    ctx.constants = (temperature,)
    ctx.save_for_backward(output[1], *tensors)


def full_backward(ctx: Context, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    d_states, d_table = full_loss_backward(grad.contiguous(), *ctx.saved_tensors, *ctx.constants)
    return d_states, d_table, None, None


full_loss_and_logsumexp.register_autograd(full_backward, setup_context=save_for_full_backward)
