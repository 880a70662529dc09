"""Data seen once: lots of users, made when they are needed, as tables in memory. Nothing is on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from louder.data.attributes import encode
from louder.data.counters import count
from louder.data.ranking import RankingLoader
from louder.data.synthetic_tastes import LENGTH, Exposures, exposures, items_table, world
from louder.data.table import Table
from louder.models import AnyRanker, ImpressionConfig, Vocabulary, build_ranker
from louder.schema import Manifest
from louder.training.config import Config

USERS = 128  # of a lot
TEST = 1 << 30  # number of the first lot that nobody trains on
LOTS_OF_A_SEED = 1 << 20
TEST_USERS = 512


class Stream:
    """The lots as a config reads them, and its model.

    The counters of impression-level models count a lot's users alone: what everybody did is in the items' vectors.
    """

    def __init__(self, config: Config, items: int, categories: int, length: int = LENGTH) -> None:
        assert config.ranking is not None
        self.config, self.ranking, self.length = config, config.ranking, length
        self.world = world(items, categories)
        self.attributes = encode(items_table(self.world), config.ranking.item_attributes)
        self.impressions = isinstance(config.model, ImpressionConfig)
        counters = count(self.table(self.lot(0, 1)), self.attributes).values.shape[1] if self.impressions else 0
        self.vocabulary = Vocabulary(items=items, actions=1, counters=counters)

    def build(self) -> AnyRanker:
        return build_ranker(self.config.model, self.ranking, self.vocabulary, self.attributes)

    def lot(self, number: int, users: int = USERS) -> Exposures:
        """The first `users` of a lot."""
        whole = exposures(self.world, number, USERS, self.length)
        return Exposures(**{name: column[:users] for name, column in vars(whole).items()})

    def table(self, lot: Exposures) -> Table:
        users, length = lot.items.shape
        manifest = Manifest(
            louder="",
            command="",
            name="tastes",
            sources=[],
            users=users,
            items=len(self.world.category),
            events=lot.items.size,
            tokens=lot.items.size,
            has_times=True,
            first_time=int(lot.times.min()),
            last_time=int(lot.times.max()),
            dropped={},
            filters={},
            actions=["like"],
        )
        return Table(
            path=Path("tastes"),
            manifest=manifest,
            offsets=np.arange(users + 1) * length,
            kinds=np.zeros(lot.items.size, dtype=np.uint8),
            ids=lot.items.ravel(),
            times=lot.times.ravel(),
            actions=lot.likes.ravel().astype(np.int64),
        )

    def loader(self, number: int, users: int = USERS, *, shuffle: bool = True) -> RankingLoader:
        """Batches of a lot. Every exposure is predicted once."""
        table = self.table(self.lot(number, users))
        data = replace(self.config.data, shuffle=shuffle)
        counters = count(table, self.attributes).values if self.impressions else None
        return RankingLoader(
            table, "train", data, held_out=1, one_pass=not self.impressions, seed=number, counters=counters
        )


def lots_of(seed: int, users: int) -> list[tuple[int, int]]:
    """Number and users of each lot that a seed trains on, in their order."""
    firsts = range(0, users, USERS)
    return [(seed * LOTS_OF_A_SEED + at, min(USERS, users - first)) for at, first in enumerate(firsts)]


def held_out_lots(users: int = TEST_USERS) -> list[tuple[int, int]]:
    return [(TEST + at, size) for at, size in lots_of(0, users)]
