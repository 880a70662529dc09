"""Softmax over one positive and a few negatives per row, the slow way: the equation as it is written."""

import torch
from torch import Tensor

ROWS = 256  # of a block: the [ROWS, 1 + R, D] gathered items are the largest tensor there is


def logits(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, temperature: float, log_weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Of a block of rows: the ids [N, 1 + R], the target first, and their logits."""
    ids = torch.cat([targets.clamp(min=0)[:, None], negatives], dim=1)
    scores = torch.einsum("nd,ncd->nc", states, table[ids]) / temperature
    if log_weights is not None:
        scores = scores - log_weights[ids]
    left_out = ids == targets[:, None]
    left_out[:, 0] = False
    return ids, scores.masked_fill(left_out, -torch.inf)


def sampled_softmax(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, temperature: float, log_weights: Tensor | None
) -> Tensor:
    """See louder.ops.sampled_softmax. Differentiable by plain autograd, which keeps the items of every block."""
    losses = []
    for block, block_targets, block_negatives in zip(*(x.split(ROWS) for x in (states, targets, negatives))):
        _, scores = logits(block, table, block_targets, block_negatives, temperature, log_weights)
        losses.append((scores.logsumexp(dim=1) - scores[:, 0]).masked_fill(block_targets < 0, 0.0))
    return torch.cat(losses)


def table_gradient(
    grad: Tensor, grad_logits: Tensor, states: Tensor, targets: Tensor, negatives: Tensor, items: int
) -> Tensor:
    """[I, D] for the gradient `grad` [L] of the losses and the `grad_logits` [L, 1 + R] of loss_and_grad_logits."""
    d_table = states.new_zeros(items, states.shape[1])
    for block_grad, block_grads, block, block_targets, block_negatives in zip(
        *(x.split(ROWS) for x in (grad, grad_logits, states, targets, negatives))
    ):
        ids = torch.cat([block_targets.clamp(min=0)[:, None], block_negatives], dim=1)
        d_rows = torch.einsum("nc,nd->ncd", block_grads * block_grad[:, None], block)
        d_table.index_add_(0, ids.flatten(), d_rows.flatten(0, 1))
    return d_table


def loss_and_grad_logits(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, temperature: float, log_weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The losses [L], grad_logits [L, 1 + R] (their gradients by the products of state and item, which are the logits
    times the temperature), and their gradients by the states [L, D].

    Written out, since autograd does not record inside a registered op.
    """
    losses, grad_logits, d_states = [], [], []
    for block, block_targets, block_negatives in zip(*(x.split(ROWS) for x in (states, targets, negatives))):
        ids, scores = logits(block, table, block_targets, block_negatives, temperature, log_weights)
        nothing = block_targets < 0
        losses.append((scores.logsumexp(dim=1) - scores[:, 0]).masked_fill(nothing, 0.0))
        grad = scores.softmax(dim=1)
        grad[:, 0] -= 1
        grad_logits.append((grad / temperature).masked_fill(nothing[:, None], 0.0))
        d_states.append(torch.einsum("nc,ncd->nd", grad_logits[-1], table[ids]))
    return torch.cat(losses), torch.cat(grad_logits), torch.cat(d_states)
