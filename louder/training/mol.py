"""Sampled softmax with a mixture of logits in place of the dot product, and the penalties that go with it."""

import torch
from torch import Tensor

from louder.models import SequentialModel
from louder.models.mol import EPS, MoL, mixture
from louder.ops.in_blocks import sum_in_blocks
from louder.training.losses import RetrievalLoss

BLOCK_PAIRS = 1 << 14  # of a row and a negative, in training


def mol_loss(model: SequentialModel, losses: RetrievalLoss, states: Tensor, users: Tensor, targets: Tensor) -> Tensor:
    """states [L, D], users [L], targets [L]  ->  scalar. `losses` draws the negatives."""
    mol = model.similarity
    assert isinstance(mol, MoL)
    used = None
    if model.events.items.sparse:
        used, targets, drawn, log_weights = losses.draw_used(targets)
    else:
        drawn, log_weights = losses.draw(targets), losses.log_weights
    queries, items = mol.queries(states, users), mol.items(model.item_vectors(used))
    positive, shares = mol.pairs(queries, items[targets][:, None])
    loss = among_negatives(mol, positive[:, 0], queries, items, targets, drawn, log_weights)
    loss = loss + mol.config.balance_weight * balance_loss(shares)
    if mol.users is not None:
        loss = loss + mol.config.user_weight * mol.of_users(states, users).square().sum(1).mean()
    return loss


def among_negatives(
    mol: MoL,
    positive: Tensor,
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    drawn: Tensor,
    log_weights: Tensor | None,
) -> Tensor:
    """Mean over rows of logsumexp(phi of the target, phi of the negatives) - phi of the target.

    positive [L], queries [L, Q], items [I, X], targets [L], drawn [L, R] or [1, R]; a negative that is its row's target
    is left out. [L, R, ...] exists for a block of rows at a time.
    """
    drawn = drawn.expand(len(targets), -1)
    corrections = queries.new_zeros(len(targets), 1 + drawn.shape[1])
    if log_weights is not None:
        corrections = log_weights.to(queries.device)[torch.cat([targets[:, None], drawn], dim=1)]

    def block(positive, queries, targets, drawn, corrections, items, *cross):
        candidates = items[drawn]
        gates = mol.gate_inputs(queries)[:, None] * mol.gate_inputs(candidates)
        dropped = mol.config.gate_dropout if mol.training else 0.0
        negative, _ = mixture(mol.logits(queries, candidates), gates, cross, dropped)
        negative = negative.masked_fill(drawn == targets[:, None], -torch.inf)
        scores = torch.cat([positive[:, None], negative], dim=1) - corrections
        return (scores.logsumexp(dim=1) - scores[:, 0]).sum()

    by_row = positive, queries, targets, drawn, corrections
    size = max(1, BLOCK_PAIRS // drawn.shape[1])
    return sum_in_blocks(block, size, by_row, (items, *mol.cross_weights())) / len(targets)


def balance_loss(shares: Tensor) -> Tensor:
    """-H(mean of pi) + mean of H(pi), for shares pi [..., L]: minus the mutual information of a pair and the logit that
    speaks for it (RAILS, section 3). It is lowest where a pair has one logit, and all logits have as many pairs."""
    shares = shares.flatten(0, -2)
    return entropy(shares).mean() - entropy(shares.mean(0))


def entropy(shares: Tensor) -> Tensor:
    return -(shares * (shares + EPS).log()).sum(-1)
