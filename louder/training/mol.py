"""Sampled softmax with a mixture of logits in place of the dot product, and the penalties that go with it."""

from torch import Tensor

from louder.models import SequentialModel
from louder.models.mol import EPS, MoL
from louder.ops.mixture_softmax import mixture_softmax
from louder.ops.random_bits import new_seed
from louder.training.losses import RetrievalLoss


def mol_loss(model: SequentialModel, losses: RetrievalLoss, states: Tensor, users: Tensor, targets: Tensor) -> Tensor:
    """states [L, D], users [L], targets [L]  ->  scalar. `losses` draws the negatives."""
    mol = model.similarity
    assert isinstance(mol, MoL)
    config = mol.config
    if model.sparse_items:
        used, targets, drawn, log_weights = losses.draw_used(targets)
    else:
        used, drawn, log_weights = None, losses.draw(targets), losses.log_weights
    queries, items = mol.queries(states, users), mol.items(model.item_vectors(used))
    positive, probabilities = mol.pairs(queries, items[targets][:, None])
    total = mixture_softmax(
        positive[:, 0],
        queries,
        items,
        targets,
        drawn.expand(len(targets), -1),
        mol.cross_weights(),
        components=(config.query_components, config.item_components),
        temperature=config.temperature,
        dropout=config.gate_dropout,
        seed=new_seed() if mol.training and config.gate_dropout else None,
        log_weights=None if log_weights is None else log_weights.to(states),
    )
    loss = total / len(targets) + config.balance_weight * balance_loss(probabilities)
    if mol.users is not None:
        loss = loss + config.user_weight * mol.of_users(states, users).square().sum(1).mean()
    return loss


def balance_loss(probabilities: Tensor) -> Tensor:
    """-H(mean of pi) + mean of H(pi), for probabilities pi [..., L]: minus the mutual information of a pair and the logit that
    speaks for it (RAILS, section 3). It is lowest where a pair has one logit, and all logits have as many pairs."""
    probabilities = probabilities.flatten(0, -2)
    return entropy(probabilities).mean() - entropy(probabilities.mean(0))


def entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * (probabilities + EPS).log()).sum(-1)
