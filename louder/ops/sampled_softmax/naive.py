"""Softmax over one positive and a few negatives per row, the slow way: the equation as it is written."""

import torch
from torch import Tensor

ROWS = 256  # of a block: the [ROWS, 1 + R, D] gathered items are the largest tensor there is


def logits(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    temperature: float,
    log_weights: Tensor | None,
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
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    temperature: float,
    log_weights: Tensor | None,
) -> Tensor:
    """See louder.ops.sampled_softmax. Differentiable by plain autograd, which keeps the items of every block."""
    losses = []
    for block, block_targets, block_negatives in zip(*(x.split(ROWS) for x in (states, targets, negatives))):
        _, scores = logits(block, table, block_targets, block_negatives, temperature, log_weights)
        losses.append((scores.logsumexp(dim=1) - scores[:, 0]).masked_fill(block_targets < 0, 0.0))
    return torch.cat(losses)


def sampled_softmax_backward(
    grad: Tensor,
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    temperature: float,
    log_weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of states [L, D] and table [I, D].

    Written out, since autograd does not record inside a registered op. It computes the logits again.
    """
    d_states, d_table = [], torch.zeros_like(table)
    blocks = zip(*(x.split(ROWS) for x in (grad, states, targets, negatives)))
    for block_grad, block, block_targets, block_negatives in blocks:
        ids, scores = logits(block, table, block_targets, block_negatives, temperature, log_weights)
        d_scores = scores.softmax(dim=1)
        d_scores[:, 0] -= 1
        d_scores *= block_grad.masked_fill(block_targets < 0, 0.0)[:, None] / temperature
        d_states.append(torch.einsum("nc,ncd->nd", d_scores, table[ids]))
        d_table.index_add_(0, ids.flatten(), torch.einsum("nc,nd->ncd", d_scores, block).flatten(0, 1))
    return torch.cat(d_states), d_table
