"""A stream of Zipf's law, learnt by one pass in three ways: a row for each item, half as many rows for those that are worth
most, and as many bytes of rows that items share by their hash.

Items are in groups, of which a sequence goes through one or two; what is popular in a group comes next most often. So a model
has to learn of each item which group it is in, which it can't of one that shares a row with items of other groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from louder.batch import IGNORE_INDEX, RetrievalBatch, SequenceBatch
from louder.models import HSTUConfig, SequentialModel, Vocabulary, build
from louder.ops.id_table import NEW, IdSettings, IdTable
from louder.ops.id_table.naive import hashed
from louder.results import Row
from louder.training import retrieval, tables
from louder.training.config import TrainingConfig
from louder.training.losses import LossConfig, RetrievalLoss
from louder.training.optimizers import Optimizers, make_optimizers, update

WHOLE, HALF, HASHED = "a row an item", "half of the rows", "rows shared by hash"
ITEMS, GROUPS, LENGTH = 8_000, 100, 16
EXPONENT, STAYS = 1.05, 0.9  # of Zipf's law; probability that the next item is of the same group
WINDOWS, USERS, TESTED, BATCH = 24, 1_000, 500, 100  # sequences of a window, of which so many are tested
WIDTH, NEGATIVES = 64, 128
ID_BYTES = 32  # of an id table, a row; rows that are shared by hash are that many more


@dataclass
class Learner:
    """rows  a model's table has
    ids   None: an item's row is its number, or its hash where there are fewer rows than items"""

    rows: int
    ids: IdTable | None = None

    def __post_init__(self) -> None:
        config = HSTUConfig(
            layers=1, heads=1, width=WIDTH, qk_width=WIDTH, v_width=WIDTH, max_len=LENGTH, dropout=0.0, time_bias=False
        )
        size = self.rows if self.ids is None else self.ids.capacity
        self.model: SequentialModel = build(config, Vocabulary(items=size, dynamic=self.ids is not None))
        training = TrainingConfig(embedding_optimizer="rowwise_adamw", learning_rate=3e-3, weight_decay=0.0)
        self.optimizers: Optimizers = make_optimizers(self.model, training)

    def numbers(self, items: np.ndarray) -> np.ndarray:
        if self.ids is not None:
            return self.ids.find(torch.from_numpy(items)).numpy()
        return items if self.rows >= ITEMS else hashed(items)[0] * self.rows >> 32

    def learn(self, window: np.ndarray, now: int) -> None:
        if self.ids is not None:
            times = torch.full((window.size,), now)
            self.ids.observe(torch.from_numpy(window.ravel()), times)
            tables.follow(self.model.events.items, self.ids.update(now), self.optimizers)
        catalogue = None if self.ids is None else self.ids.catalogue()
        count = self.rows if catalogue is None else len(catalogue)
        loss = RetrievalLoss(LossConfig(num_negatives=NEGATIVES), torch.zeros(count, dtype=torch.float64), catalogue)
        self.model.train()
        for part in batches(window):
            batch = batch_of(self.numbers(part.ravel()).reshape(part.shape))
            value = retrieval.batch_loss(self.model, loss, batch, torch.device("cpu"))
            update(self.model, self.optimizers, value, None)

    @torch.no_grad()
    def hits(self, window: np.ndarray) -> np.ndarray:
        """[TESTED] whether the last item of each is among the best 10 of all items; of equals, that share a row, in the middle."""
        self.model.eval()
        tested = window[:TESTED]
        batch = batch_of(self.numbers(tested[:, :-1].ravel()).reshape(TESTED, -1))
        scores = self.model.scores(self.model.queries(batch.sequences), self.model.catalogue())
        of_items = self.numbers(np.arange(ITEMS))
        all_scores = torch.where(torch.from_numpy(of_items >= 0), scores[:, of_items], -torch.inf)
        targets = torch.from_numpy(tested[:, -1])
        own = all_scores.gather(1, targets[:, None])
        rank = (all_scores > own).sum(1) + ((all_scores == own).sum(1) - 1) / 2
        known = torch.from_numpy(of_items[tested[:, -1]] != NEW)
        return ((rank < 10) & known).numpy()


def hit_rates(seed: int) -> dict[str, Row]:
    """Of each way: HR@10 over the second half of the stream, and by how much it is less than that of a row an item."""
    torch.manual_seed(seed)
    half = ITEMS // 2
    row_bytes = 4 * (2 * WIDTH + 2)  # with its moments
    settings = IdSettings(budget=half, segment=half, admit_at=2, evict="least_frequent", half_life_s=WINDOWS // 4)
    learners = {
        WHOLE: Learner(ITEMS),
        HALF: Learner(half, IdTable(settings)),
        HASHED: Learner(half + half * ID_BYTES // row_bytes),
    }
    hits: dict[str, list[np.ndarray]] = {name: [] for name in learners}
    for now, window in enumerate(windows(seed)):
        for name, learner in learners.items():
            hits[name].append(learner.hits(window))
            torch.manual_seed(now)
            learner.learn(window, now)
    found: dict[str, Row] = {}
    for name, learner in learners.items():
        own = np.concatenate(hits[name][WINDOWS // 2 :])
        less = np.concatenate(hits[WHOLE][WINDOWS // 2 :]).astype(float) - own
        row: Row = {"hr@10": round(float(own.mean()), 5), "less": round(float(less.mean()), 5)}
        row |= {"less_se": round(float(less.std() / len(less) ** 0.5), 5), "tested": len(own)}
        found[name] = row | {
            "rows": learner.model.events.items.size,
            "items": ITEMS,
            "events": WINDOWS * USERS * LENGTH,
        }
    return found


def windows(seed: int) -> Iterator[np.ndarray]:
    """[USERS, LENGTH] items of each window"""
    random = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, ITEMS + 1) ** EXPONENT
    popularity = weights[random.permutation(ITEMS)]
    members = random.permutation(ITEMS).reshape(GROUPS, -1)
    inside = np.cumsum(popularity[members], axis=1)
    share = np.cumsum(inside[:, -1])
    for _ in range(WINDOWS):
        group = np.searchsorted(share, random.random((USERS, LENGTH)) * share[-1])
        for place in range(1, LENGTH):
            stays = random.random(USERS) < STAYS
            group[stays, place] = group[stays, place - 1]
        drawn = random.random((USERS, LENGTH)) * inside[group, -1]
        place_in_group = (inside[group] < drawn[..., None]).sum(-1)
        yield members[group, place_in_group]


def batches(window: np.ndarray) -> list[np.ndarray]:
    return [window[first : first + BATCH] for first in range(0, len(window), BATCH)]


def batch_of(numbers: np.ndarray) -> RetrievalBatch:
    """Of sequences [B, T] of numbers, NEW among them: each is followed by the next."""
    users, length = numbers.shape
    ids, times = torch.from_numpy(numbers.ravel()), torch.arange(length).repeat(users)
    following = np.full_like(numbers, IGNORE_INDEX)
    following[:, :-1] = np.where(numbers[:, 1:] == NEW, IGNORE_INDEX, numbers[:, 1:])
    nobody: Tensor = torch.zeros(users, dtype=torch.int64)
    sequences = SequenceBatch(
        ids=ids, offsets=torch.arange(users + 1) * length, timestamps=times, query_timestamps=times
    )
    return RetrievalBatch(sequences=sequences, targets=torch.from_numpy(following.ravel()), users=nobody, rows=nobody)
