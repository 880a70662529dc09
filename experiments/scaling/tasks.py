"""What a point learns from a lot, and how good it is: will an exposure be liked, and what is shown next?

build()                    a model with random weights
loader(number, users)      the batches of a lot
loss(model, batch, device) the scalar to lower, and over how many predictions it is a mean
measured(model, device)    the metric and what a bootstrap over users needs, on users nobody trained on
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.scaling.stream import USERS, Scale, held_out_lots, lot, table_of
from louder.batch import RankingBatch, RetrievalBatch
from louder.data.attributes import encode
from louder.data.counters import count
from louder.data.ranking import RankingLoader
from louder.data.retrieval import RetrievalLoader
from louder.data.synthetic_tastes import items_table, world
from louder.evaluation.ranking_metrics import cross_entropy
from louder.evaluation.retrieval import rank_of
from louder.models import AnyRanker, ImpressionConfig, SequentialModel, Vocabulary, build, build_ranker
from louder.results import Row
from louder.training.config import Config
from louder.training.losses import RetrievalLoss
from louder.training.retrieval import batch_loss

GROUPS = 64  # of test users, whose means a row keeps
EVERY = 16  # of next items, which are ranked among the whole catalogue, one in so many is


class Ranking:
    """The counters of impression-level models count a lot's users alone: what everybody did is in the items' vectors."""

    def __init__(self, config: Config, scale: Scale) -> None:
        assert config.ranking is not None
        self.config, self.ranking, self.scale = config, config.ranking, scale
        self.world = world(scale.items, scale.categories)
        self.attributes = encode(items_table(self.world), config.ranking.item_attributes)
        self.impressions = isinstance(config.model, ImpressionConfig)
        counters = self.loader(0, 1).counters
        width = 0 if counters is None else counters.shape[1]
        self.vocabulary = Vocabulary(items=scale.items, actions=1, counters=width)

    def build(self) -> AnyRanker:
        return build_ranker(self.config.model, self.ranking, self.vocabulary, self.attributes)

    def loader(self, number: int, users: int = USERS, *, shuffle: bool = True) -> RankingLoader:
        """Every exposure is predicted once."""
        table = table_of(lot(self.world, self.scale.length, number, users), self.scale.items)
        data = replace(self.config.data, shuffle=shuffle)
        counters = count(table, self.attributes).values if self.impressions else None
        return RankingLoader(
            table, "train", data, held_out=1, one_pass=not self.impressions, seed=number, counters=counters
        )

    def loss(self, model: AnyRanker, batch: RankingBatch, device: torch.device) -> tuple[Tensor, int]:
        batch = batch.to(device)
        logits, _ = model(batch)
        return F.binary_cross_entropy_with_logits(logits.float(), batch.labels), len(batch.labels)

    @torch.no_grad()
    def measured(self, model: AnyRanker, device: torch.device) -> Row:
        truth, predicted = [], []
        for number, users in held_out_lots(self.scale.test_users):
            probability = lot(self.world, self.scale.length, number, users).probability.ravel()
            found = np.zeros(len(probability))
            for batch in self.loader(number, users, shuffle=False).batches():
                found[batch.rows.numpy()] = torch.sigmoid(model(batch.to(device))[0])[:, 0].double().cpu().numpy()
            truth.append(probability)
            predicted.append(found)
        return against_truth(np.concatenate(truth), np.concatenate(predicted), self.scale.test_users)


def against_truth(truth: np.ndarray, predicted: np.ndarray, users: int) -> Row:
    """truth, predicted [users * L], user after user. The expectation over labels, exact since their probabilities are known:

    truth_ne   of the true probabilities: entropy over that of their mean
    excess_ne  what the model has more: mean divergence from the truth, over the same
    excess_by_group  [GROUPS] the same of as many groups of users, whose mean it is
    """
    share = np.array([truth.mean()])
    most = float(cross_entropy(share, share)[0])
    least = cross_entropy(truth, truth)
    excess = (cross_entropy(truth, predicted) - least) / most
    return {
        "test_users": users,
        "test_exposures": len(truth),
        "truth_ne": round(float(least.mean()) / most, 6),
        "ne": round(float(least.mean()) / most + float(excess.mean()), 6),
        "excess_ne": round(float(excess.mean()), 6),
        "excess_by_group": in_groups(excess.reshape(users, -1).mean(1)),
    }


class NextItem:
    """What is shown next, of the whole catalogue, after each exposure and what was done with it."""

    def __init__(self, config: Config, scale: Scale) -> None:
        self.config, self.scale = config, scale
        self.world = world(scale.items, scale.categories)
        self.vocabulary = Vocabulary(items=scale.items, actions=1)
        self.losses = RetrievalLoss(config.loss, torch.zeros(scale.items, dtype=torch.float64))

    def build(self) -> SequentialModel:
        return build(self.config.model, self.vocabulary)

    def loader(self, number: int, users: int = USERS, *, shuffle: bool = True) -> RetrievalLoader:
        """Every exposure but a user's first is predicted once."""
        table = table_of(lot(self.world, self.scale.length, number, users), self.scale.items)
        return RetrievalLoader(table, "train", replace(self.config.data, shuffle=shuffle), held_out=1, seed=number)

    def loss(self, model: SequentialModel, batch: RetrievalBatch, device: torch.device) -> tuple[Tensor, int]:
        return batch_loss(model, self.losses, batch, device), int((batch.targets >= 0).sum())

    @torch.no_grad()
    def measured(self, model: SequentialModel, device: torch.device) -> Row:
        items, hits, ranked = model.item_vectors(), [], 0
        for number, users in held_out_lots(self.scale.test_users):
            found, asked = np.zeros((2, users))
            for batch in self.loader(number, users, shuffle=False).batches():
                rows = torch.where(batch.targets >= 0)[0][::EVERY]
                scores = (model(batch.sequences.to(device))[rows.to(device)] @ items.T).float()
                target = batch.targets[rows].to(device)
                ranks = rank_of(scores, scores.gather(1, target[:, None]), target).cpu().numpy()
                owner = batch.users.repeat_interleave(batch.sequences.lengths)[rows].numpy()
                np.add.at(found, owner, ranks <= 100)
                np.add.at(asked, owner, 1)
            hits.append(found / np.maximum(asked, 1))
            ranked += int(asked.sum())
        each = np.concatenate(hits)
        facts: Row = {"test_users": len(each), "test_targets": ranked, "hr@100": round(float(each.mean()), 6)}
        return facts | {"hits_by_group": in_groups(each)}


def in_groups(values: np.ndarray) -> Sequence[float]:
    """Values [U], one a user -> the means of GROUPS groups of users."""
    return [round(float(group.mean()), 6) for group in np.array_split(values, min(GROUPS, len(values)))]


Task = Ranking | NextItem


def task_of(config: Config, scale: Scale) -> Task:
    return NextItem(config, scale) if config.ranking is None else Ranking(config, scale)
