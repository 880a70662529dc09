"""Cross-entropy of the next item against sampled negatives, or against the whole catalogue."""

from pathlib import Path

import torch
from torch import Tensor

from louder.ops import build
from louder.ops.sampled_softmax import naive


def sampled_softmax(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    temperature: float,
    log_weights: Tensor | None = None,
) -> Tensor:
    """How surprising each row's target is among its own negatives.

        logit(c) = states · table[c] / temperature - log_weights[c]
        loss     = logsumexp(logit(target), logit(negatives)) - logit(target)

        states       [L, D]  float32 or float64
        table        [I, D]  one row per item; normalise it first for a cosine
        targets      [L]     int64; a row whose target is -1 has loss 0 and no gradient
        negatives    [L, R]  int64; one that equals its row's target is left out, one drawn twice counts twice
        temperature  a constant
        log_weights  [I]     log of how often each item is drawn (logQ correction); None if all alike. No gradient
        returns      [L]

    Neither a [L, R, D] nor a [L, I] tensor is made. The gradient of the table is dense, [I, D].
    """
    return loss_and_logsumexp(states, table, targets, negatives, temperature, log_weights)[0]


def full_softmax(states: Tensor, table: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy against all items: logsumexp(logits) - logits[target], logits = states · table / temperature.

        states   [L, D]  float32 or float64
        table    [I, D]
        targets  [L]     int64; a row whose target is -1 has loss 0 and no gradient
        returns  [L]

    Works in blocks of rows, forward and backward: never a [L, I] tensor.
    """
    return full_loss_and_logsumexp(states, table, targets, temperature)[0]


def fast(*tensors: Tensor | None) -> bool:
    """Whether cpu.cpp can do it: float32 on a CPU, and a compiler was found."""
    given = [x for x in tensors if x is not None]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in given):
        return False
    return build.load("sampled_softmax", Path(__file__).with_name("cpu.cpp"))


# --- sampled -----------------------------------------------------------------------------------------------------


@torch.library.custom_op("louder::sampled_softmax", mutates_args=())
def loss_and_logsumexp(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    temperature: float,
    log_weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The loss [L], and what cpu.cpp's backward needs of the forward: the logsumexp [L]."""
    if fast(states, table, log_weights):
        return torch.ops.louder_cpu.sampled_softmax(states, table, targets, negatives, temperature, log_weights)
    loss = naive.sampled_softmax(states, table, targets, negatives, temperature, log_weights)
    return loss, torch.zeros_like(loss)  # naive's backward does without it


@loss_and_logsumexp.register_fake
def _(states, table, targets, negatives, temperature, log_weights):
    return states.new_empty(len(states)), states.new_empty(len(states))


@torch.library.custom_op("louder::sampled_softmax_backward", mutates_args=())
def loss_backward(
    grad: Tensor,
    logsumexp: Tensor,
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    temperature: float,
    log_weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of states [L, D] and table [I, D]."""
    if fast(grad, states, table, log_weights):
        return torch.ops.louder_cpu.sampled_softmax_backward(
            grad, logsumexp, states, table, targets, negatives, temperature, log_weights
        )
    return naive.sampled_softmax_backward(grad, states, table, targets, negatives, temperature, log_weights)


@loss_backward.register_fake
def _(grad, logsumexp, states, table, targets, negatives, temperature, log_weights):
    return torch.empty_like(states), torch.empty_like(table)


def save_for_backward(ctx, inputs, output) -> None:
    states, table, targets, negatives, ctx.temperature, log_weights = inputs
    ctx.save_for_backward(output[1], states, table, targets, negatives, log_weights)


def backward(ctx, grad: Tensor, _: Tensor):
    logsumexp, states, table, targets, negatives, log_weights = ctx.saved_tensors
    d_states, d_table = loss_backward(
        grad.contiguous(), logsumexp, states, table, targets, negatives, ctx.temperature, log_weights
    )
    return d_states, d_table, None, None, None, None


loss_and_logsumexp.register_autograd(backward, setup_context=save_for_backward)


# --- full --------------------------------------------------------------------------------------------------------

BLOCK_LOGITS = 1 << 22  # numbers of a block's logits, 16 MB in float32


def row_blocks(table: Tensor, *tensors: Tensor):
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
def _(states, table, targets, temperature):
    return states.new_empty(len(states)), states.new_empty(len(states))


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
def _(grad, logsumexp, states, table, targets, temperature):
    return torch.empty_like(states), torch.empty_like(table)


def save_for_full_backward(ctx, inputs, output) -> None:
    states, table, targets, ctx.temperature = inputs
    ctx.save_for_backward(output[1], states, table, targets)


def full_backward(ctx, grad: Tensor, _: Tensor):
    d_states, d_table = full_loss_backward(grad.contiguous(), *ctx.saved_tensors, ctx.temperature)
    return d_states, d_table, None, None


full_loss_and_logsumexp.register_autograd(full_backward, setup_context=save_for_full_backward)
