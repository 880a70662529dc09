"""How well do states tell the item that came next from items that did not? Every loss is a mean over rows with a target."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from louder.data import negatives
from louder.errors import InputError
from louder.ops.candidate_scores import candidate_scores
from louder.ops.random_bits import new_seed
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
    logq: bool = False  # subtract the log of how often an item is drawn: corrects for popular negatives
    temperature: float = 0.05
    gbce_calibration: float = 0.75  # t: 0 is plain BCE, 1 fully calibrated

    def __post_init__(self) -> None:
        choices = {
            "kind": ("sampled_softmax", "full_softmax", "bce", "gbce"),
            "negatives": ("uniform", "in_batch", "popularity"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"loss.{name} must be one of {', '.join(allowed)}, but it is {getattr(self, name)!r}.")
        if self.num_negatives < 1:
            raise InputError(f"loss.num_negatives must be at least 1, but it is {self.num_negatives}.")
        if self.temperature <= 0:
            raise InputError(f"loss.temperature must be above 0, but it is {self.temperature}.")
        if self.logq and self.kind != "sampled_softmax":
            raise InputError(f"loss.logq corrects sampled_softmax only, but loss.kind is {self.kind!r}.")


class RetrievalLoss:
    """The loss of a config for one catalogue.

    popularity   [I] float64, how often each item is a target in training (any scale)
    """

    def __init__(self, config: LossConfig, popularity: Tensor) -> None:
        self.config, self.items = config, len(popularity)
        # an item that never occurs would have log weight -inf; one pseudo-count keeps it finite
        share = (popularity + 1) / (popularity + 1).sum()
        self.cumulative = share.cumsum(0)
        self.log_share = share.log().float()

    def __call__(self, states: Tensor, item_vectors: Tensor, targets: Tensor) -> Tensor:
        """states [L, D], item_vectors [I, D], targets [L] int64 >= 0  ->  scalar. Draws negatives from torch's generator."""
        config = self.config
        if config.kind == "full_softmax":
            return full_softmax(states, item_vectors, targets, temperature=config.temperature).mean()
        if config.kind == "sampled_softmax" and config.negatives == "uniform":  # logQ would be one constant for all
            losses = sampled_softmax(
                states, item_vectors, targets, config.num_negatives, temperature=config.temperature, seed=new_seed()
            )
            return losses.mean()
        drawn = self.draw(targets)
        if config.kind == "sampled_softmax":
            log_weights = self.log_share.to(states.device) if config.logq else None
            losses = sampled_softmax(
                states, item_vectors, targets, drawn, temperature=config.temperature, log_weights=log_weights
            )
            return losses.mean()
        return binary_cross_entropy(states, item_vectors, targets, drawn, config.temperature, self.beta())

    def draw(self, targets: Tensor) -> Tensor:
        """[L, R] int64"""
        rows, count = len(targets), self.config.num_negatives
        if self.config.negatives == "uniform":
            return negatives.uniform(rows, count, self.items).to(targets.device)
        if self.config.negatives == "in_batch":
            return negatives.in_batch(targets, count)
        return negatives.popularity(rows, count, self.cumulative).to(targets.device)

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
