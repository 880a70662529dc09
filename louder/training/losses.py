"""How well do states tell the item that came next from items that did not? Every loss is a mean over rows with a target."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.config import require_above_zero, require_at_least, require_one_of
from louder.data import negatives
from louder.errors import InputError
from louder.models import RankingModel, SequentialModel
from louder.models.mol import EPS, MoL
from louder.ops.candidate_scores import candidate_scores
from louder.ops.mixture_softmax import mixture_softmax
from louder.ops.random_bits import new_seed, random_items
from louder.ops.sampled_softmax import full_softmax, sampled_softmax


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The defaults are the official ML-1M settings.

    sampled_softmax  cross-entropy of the target among sampled negatives
    full_softmax     cross-entropy among the whole catalogue
    bce              binary cross-entropy of the target against each negative (SASRec, 2018, with 1 negative)
    gbce             the same, calibrated for the number of negatives (Petrov and Macdonald, 2023, eq. 9)
    """

    kind: str = "sampled_softmax"
    negatives: str = "uniform"  # or "in_batch", "popularity"
    num_negatives: int = 128
    shared_negatives: bool = False  # one draw for all rows of a batch: fewer items are used, and more may be drawn
    logq: bool = False  # subtract the log of how often an item is drawn: corrects for popular negatives
    temperature: float = 0.05
    gbce_calibration: float = 0.75  # t: 0 is plain BCE, 1 fully calibrated

    def __post_init__(self) -> None:
        kinds = "sampled_softmax", "full_softmax", "bce", "gbce"
        require_one_of("loss", self, kind=kinds, negatives=("uniform", "in_batch", "popularity"))
        require_at_least(1, "loss", self, "num_negatives")
        require_above_zero("loss", self, "temperature")
        if self.logq and self.kind != "sampled_softmax":
            raise InputError(f"loss.logq corrects sampled_softmax only, but loss.kind is {self.kind!r}.")
        if self.shared_negatives and self.kind != "sampled_softmax":
            raise InputError(f"loss.shared_negatives are for sampled_softmax only, but loss.kind is {self.kind!r}.")


class RetrievalLoss:
    """The loss of a config for one catalogue.

    popularity   [I] float64, how often each item is a target in training (any scale)
    catalogue    [I] int64, ascending: the ids of these items, where others have none that could be recommended; negatives
                 are drawn among them, and every target is one of them. None: 0 .. I - 1
    """

    def __init__(self, config: LossConfig, popularity: Tensor, catalogue: Tensor | None = None) -> None:
        self.config, self.items, self.catalogue = config, len(popularity), catalogue
        # an item that never occurs would have log weight -inf; one pseudo-count keeps it finite
        probabilities = (popularity + 1) / (popularity + 1).sum()
        self.cumulative = probabilities.cumsum(0)
        # of uniform negatives logQ would be one constant for all
        corrected = config.logq and config.negatives != "uniform"
        self.log_weights = probabilities.log().float() if corrected else None

    def __call__(self, states: Tensor, item_vectors: Tensor, targets: Tensor) -> Tensor:
        """states [L, D], item_vectors [I, D], targets [L] int64 >= 0  ->  scalar. Draws negatives from torch's generator."""
        config, temperature = self.config, self.config.temperature
        if config.kind == "full_softmax":
            return full_softmax(states, item_vectors, targets, temperature=temperature).mean()
        if config.kind == "sampled_softmax" and config.negatives == "uniform" and not config.shared_negatives:
            # draws what `draw` does, and stores none of it
            count, seed = config.num_negatives, new_seed()
            return sampled_softmax(states, item_vectors, targets, count, temperature=temperature, seed=seed).mean()
        return self.compare(states, item_vectors, targets, self.draw(targets), self.log_weights)

    def of(self, model: SequentialModel | RankingModel, states: Tensor, targets: Tensor) -> Tensor:
        """The loss against a model's items; where its gradients are to be sparse, against the U that are used alone: so
        the gradient has U rows, and no step passes over the catalogue. full_softmax uses every item."""
        if not model.sparse_items or self.config.kind == "full_softmax":
            return self(states, model.item_vectors(self.catalogue).float(), self.places(targets))
        used, targets, drawn, log_weights = self.draw_used(self.places(targets))
        return self.compare(states, model.item_vectors(self.ids(used)).float(), targets, drawn, log_weights)

    def places(self, ids: Tensor) -> Tensor:
        """[n] where ids of the catalogue stand in it: what targets and negatives are from here on."""
        return ids if self.catalogue is None else torch.searchsorted(self.catalogue, ids)

    def ids(self, places: Tensor) -> Tensor:
        return places if self.catalogue is None else self.catalogue[places]

    def draw_used(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The items used [U], then the targets, the negatives and the log_weights, all by their index among these."""
        drawn = self.draw(targets)
        used, index = torch.unique(torch.cat([targets, drawn.flatten()]), return_inverse=True)
        log_weights = None if self.log_weights is None else self.log_weights[used.cpu()]
        return used, index[: len(targets)], index[len(targets) :].view_as(drawn), log_weights

    def compare(
        self, states: Tensor, vectors: Tensor, targets: Tensor, drawn: Tensor, log_weights: Tensor | None
    ) -> Tensor:
        """The loss against what `draw` gave; targets and drawn number the rows of vectors and of log_weights."""
        temperature = self.config.temperature
        if self.config.kind != "sampled_softmax":
            return binary_cross_entropy(states, vectors, targets, drawn, temperature, self.beta())
        weights = None if log_weights is None else log_weights.to(states.device)
        if self.config.shared_negatives:
            return shared_softmax(states, vectors, targets, drawn[0], temperature, weights).mean()
        return sampled_softmax(states, vectors, targets, drawn, temperature=temperature, log_weights=weights).mean()

    def draw(self, targets: Tensor) -> Tensor:
        """[L, R] int64, or [1, R] if all rows share them"""
        config, count = self.config, self.config.num_negatives
        rows = 1 if config.shared_negatives else len(targets)
        if config.negatives == "in_batch":
            return negatives.in_batch(targets, count, rows=rows)
        if config.negatives == "popularity":
            return negatives.popularity(rows, count, self.cumulative).to(targets.device)
        if config.kind == "sampled_softmax":
            return random_items(new_seed().to(targets.device), rows, count, self.items)
        return negatives.uniform(rows, count, self.items).to(targets.device)

    def beta(self) -> float:
        """Power of the positive's probability in gBCE; 1 in BCE."""
        if self.config.kind == "bce":
            return 1.0
        sampled = min(1.0, self.config.num_negatives / max(1, self.items - 1))  # alpha of the paper
        t = self.config.gbce_calibration
        return sampled * (t * (1 - 1 / sampled) + 1 / sampled)


def binary_cross_entropy(
    states: Tensor, item_vectors: Tensor, targets: Tensor, drawn: Tensor, temperature: float, beta: float
) -> Tensor:
    """-(beta·log s(positive) + sum of log(1 - s(negative))) / (1 + R), mean over rows; a negative that is the
    row's target is left out."""
    positive = candidate_scores(states, item_vectors, targets[:, None]).squeeze(1) / temperature
    negative = candidate_scores(states, item_vectors, drawn) / temperature
    hit = drawn == targets[:, None]
    against = F.softplus(negative).masked_fill(hit, 0.0).sum(1)
    return ((beta * F.softplus(-positive) + against) / (1 + drawn.shape[1])).mean()


def shared_softmax(
    states: Tensor, vectors: Tensor, targets: Tensor, drawn: Tensor, temperature: float, log_weights: Tensor | None
) -> Tensor:
    """[L] sampled_softmax of rows that share the negatives `drawn` [R]: one matrix product [L, R], no gathered items."""
    states = states / temperature
    positive = (states * F.embedding(targets, vectors)).sum(1)
    negative = states @ F.embedding(drawn, vectors).T
    if log_weights is not None:
        positive, negative = positive - log_weights[targets], negative - log_weights[drawn]
    negative = negative.masked_fill(drawn == targets[:, None], -torch.inf)
    return torch.cat([positive[:, None], negative], dim=1).logsumexp(dim=1) - positive


def mol_loss(model: SequentialModel, losses: RetrievalLoss, states: Tensor, users: Tensor, targets: Tensor) -> Tensor:
    """states [L, D], users [L], targets [L]  ->  scalar. `losses` draws the negatives."""
    mol = model.similarity
    assert isinstance(mol, MoL)
    config = mol.config
    targets = losses.places(targets)
    if model.sparse_items:
        places, targets, drawn, log_weights = losses.draw_used(targets)
        used: Tensor | None = losses.ids(places)
    else:
        used, drawn, log_weights = losses.catalogue, losses.draw(targets), losses.log_weights
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
