"""What both loaders share: an epoch cut into batches, and dealt out to ranks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np

from louder.data.config import DataConfig
from louder.data.table import Table

Batch = TypeVar("Batch")


class Loader(ABC, Generic[Batch]):
    """Batches of the "train", "validation" or "test" part of a table. What an epoch holds is a function of (seed, epoch)
    alone, so any step can be reached again without the steps before it.

    lengths  [S] int64 tokens of each of the part's S sequences, by which batches are packed
    read     the table that histories are made of: without auxiliary series, where `config` leaves them out
    rows     [T'] the row in `table` of each token of `read`
    """

    lengths: np.ndarray

    def __init__(self, table: Table, part: str, config: DataConfig, *, seed: int, rank: int, world: int) -> None:
        assert 0 <= rank < world
        self.table, self.config, self.train = table, config, part == "train"
        self.seed, self.rank, self.world = seed, rank, world
        self.read, self.rows = table, np.arange(len(table.ids))
        if table.manifest.series and not config.auxiliary:
            self.read, self.rows = table.engagements()

    def __len__(self) -> int:
        """Sequences in an epoch, over all ranks."""
        return len(self.lengths)

    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        """The batches of this rank from the `first`-th on. Every rank gets the same number of them in training: the
        last few (fewer than `world`) batches of an epoch are left to the next shuffle."""
        plan = self.plan(epoch)
        mine = range(self.rank, len(plan), self.world)
        for step in range(first, self.steps(epoch)):
            yield self.batch(plan[mine[step]], epoch, mine[step])

    def steps(self, epoch: int = 0) -> int:
        """Number of batches that this rank gets in an epoch."""
        if self.config.events_per_batch is None:
            total = -(-len(self) // self.config.users_per_batch)
        else:
            total = len(self.plan(epoch))
        return total // self.world if self.train else len(range(self.rank, total, self.world))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Sequences of each batch of an epoch, over all ranks."""
        order = np.arange(len(self))
        if self.train and self.config.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
        if self.config.events_per_batch is None:
            cuts = np.arange(self.config.users_per_batch, len(order), self.config.users_per_batch)
        else:
            cuts = pack(self.lengths[order], self.config.events_per_batch)
        return np.split(order, cuts) if len(order) else []

    @abstractmethod
    def batch(self, chosen: np.ndarray, epoch: int, number: int) -> Batch:
        """Batch `number` of an epoch, made of the `chosen` sequences."""


def pack(tokens: np.ndarray, budget: int) -> np.ndarray:
    """Where to cut histories of `tokens` [S] each into batches of `budget` tokens, or of one longer history."""
    cuts, ends = [], np.cumsum(tokens)
    start, done = 0, 0
    while start < len(tokens):
        stop = max(int(np.searchsorted(ends, done + budget, side="right")), start + 1)
        if stop < len(tokens):
            cuts.append(stop)
        start, done = stop, int(ends[stop - 1])
    return np.array(cuts, dtype=np.int64)
