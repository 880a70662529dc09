"""Data seen once: lots of users, made when they are needed, as tables in memory. Nothing is on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from louder.data.synthetic_tastes import CATEGORIES, ITEMS, LENGTH, Exposures, World, exposures
from louder.data.table import Table
from louder.schema import Manifest

USERS = 128  # of a lot
TEST = 1 << 30  # number of the first lot that nobody trains on
LOTS_OF_A_SEED = 1 << 20


@dataclass(frozen=True)
class Scale:
    """How much there is to learn, and who is asked: small in tests."""

    items: int = ITEMS
    categories: int = CATEGORIES
    length: int = LENGTH  # exposures of a user
    test_users: int = 512


def lot(world: World, length: int, number: int, users: int = USERS) -> Exposures:
    """The first `users` of a lot."""
    whole = exposures(world, number, USERS, length)
    return Exposures(**{name: column[:users] for name, column in vars(whole).items()})


def table_of(made: Exposures, items: int) -> Table:
    users, length = made.items.shape
    manifest = Manifest(
        louder="",
        command="",
        name="tastes",
        sources=[],
        users=users,
        items=items,
        events=made.items.size,
        tokens=made.items.size,
        has_times=True,
        first_time=int(made.times.min()),
        last_time=int(made.times.max()),
        dropped={},
        filters={},
        actions=["like"],
    )
    return Table(
        path=Path("tastes"),
        manifest=manifest,
        offsets=np.arange(users + 1) * length,
        kinds=np.zeros(made.items.size, dtype=np.uint8),
        ids=made.items.ravel(),
        times=made.times.ravel(),
        actions=made.likes.ravel().astype(np.int64),
    )


def lots_of(seed: int, users: int) -> list[tuple[int, int]]:
    """Number and users of each lot that a seed trains on, in their order."""
    firsts = range(0, users, USERS)
    return [(seed * LOTS_OF_A_SEED + at, min(USERS, users - first)) for at, first in enumerate(firsts)]


def held_out_lots(users: int) -> list[tuple[int, int]]:
    return [(TEST + at, size) for at, size in lots_of(0, users)]
