"""A harder synthetic ranking log, as long as one likes: what a user likes follows from what happened, at many depths.

Nothing is hidden: with the world's parameters the probability of each like is a function of the history before it, so a
model that is large enough and has seen enough can come as near to the truth as it likes. Numpy and Arrow only.

    logit P(like) = quality[item] + Σ_s STRENGTH · tanh(h_s) · v[s, category] / √RANK + ECHO · e
    h_s  <-  λ_s h_s + √(1 - λ_s²) · y · v[s, category]          after each exposure; y = 1 liked, -1 not

Each scale s forgets half within HALF_LIVES[s] exposures. e is the y of the latest exposure that had the same group of
categories as this one and followed the same group as this one does; 0 where there was none.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from louder.data.synthetic import DAY, FIRST_TIME, require, write_log
from louder.folders import FolderKind, new_folder, write_text
from louder.schema import ITEM, TIME, USER

ITEMS, CATEGORIES, GROUPS, LENGTH = 24_000, 256, 12, 256
HALF_LIVES = 1, 4, 16, 64, 256  # exposures
RANK, BY_GROUP = 8, 3  # numbers that a scale keeps; how many of them all categories of a group share
STRENGTH, ECHO, BIAS, OF_CATEGORY, OF_ITEM = 0.35, 0.6, -0.3, 0.5, 0.6  # the last two: deviations of a quality's parts
REVISITS, AMONG = 0.5, 32  # share of exposures in a category of the latest so many
USERS_AT_ONCE = 1024  # part of what a seed means

SCHEMA = {"actions": {"like": "is_like"}, "items": {"file": "items.csv"}}
LOG_FOLDER = FolderKind("a synthetic log of tastes", "schema.yaml", "is_like", ("log.parquet", "items.csv"))


@dataclass(frozen=True)
class World:
    """What is the same for all users. Items are numbered category after category.

    category  [I] int64, of each item        quality  [I] its log-odds
    upto      [I] popularity of the items up to each, the last is 1; both items and categories follow Zipf's law
    bounds    [K + 1] where in `upto` a category begins
    group     [K] int64
    vectors   [S, K, RANK] the first number is 1, the next BY_GROUP are a group's, the rest each category's and scale's own
    """

    seed: int
    category: np.ndarray
    quality: np.ndarray
    upto: np.ndarray
    bounds: np.ndarray
    group: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True)
class Exposures:
    """[U, L] each: item (from 0), whether it was liked, its time in seconds, and the true probability of a like."""

    items: np.ndarray
    likes: np.ndarray
    times: np.ndarray
    probability: np.ndarray


def world(items: int = ITEMS, categories: int = CATEGORIES, seed: int = 0) -> World:
    """Draw the parameters. Raises InputError for fewer items than categories."""
    require(categories >= GROUPS, "categories", categories, f"at least {GROUPS}")
    require(items >= categories, "items", items, f"at least one for each of the {categories} categories")
    rng = np.random.default_rng([seed, 0])
    law = 1 / (np.arange(categories) + 3)
    some = rng.choice(categories, items - categories, p=law / law.sum())
    category = np.sort(np.concatenate([np.arange(categories), some]))
    popularity = 1 / (rng.permutation(items) + 20)
    upto = np.cumsum(popularity / popularity.sum())
    starts = np.searchsorted(category, np.arange(categories))
    of_category = rng.normal(0, OF_CATEGORY, categories)
    group = rng.permutation(categories) % GROUPS
    of_group = rng.normal(0, 1, (GROUPS, BY_GROUP))[group]
    own = rng.normal(0, 1, (len(HALF_LIVES), categories, RANK - 1 - BY_GROUP))
    shared = np.concatenate([np.ones((categories, 1)), of_group], axis=1)
    vectors = np.concatenate([np.broadcast_to(shared, (len(HALF_LIVES), *shared.shape)), own], axis=2)
    return World(
        seed=seed,
        category=category,
        quality=BIAS + of_category[category] + rng.normal(0, OF_ITEM, items),
        upto=upto / upto[-1],
        bounds=np.concatenate([[0.0], upto[starts[1:] - 1], [1.0]]),
        group=group,
        vectors=vectors,
    )


def exposures(of: World, number: int, users: int = USERS_AT_ONCE, length: int = LENGTH) -> Exposures:
    """The `number`-th lot of users, each with `length` exposures: a function of the world's seed and of these alone."""
    rng = np.random.default_rng([of.seed, 1, number])
    decay = 0.5 ** (1 / np.array(HALF_LIVES))[:, None]  # [S, 1]
    gain = np.sqrt(1 - decay**2)
    state = np.zeros((users, len(HALF_LIVES), RANK))
    echo = np.zeros((users, GROUPS + 1, GROUPS))  # the last y by the group before, where GROUPS is none, and the group
    before, user = np.full(users, GROUPS), np.arange(users)
    items, category = np.zeros((2, length, users), dtype=np.int64)
    likes, probability = np.zeros((length, users), dtype=bool), np.zeros((length, users))
    for step in range(length):
        place = rng.random(users)
        if step:
            again = rng.random(users) < REVISITS
            ago = 1 + (rng.random(users) * min(step, AMONG)).astype(np.int64)
            same = category[step - ago, user]
            inside = of.bounds[same] + place * (of.bounds[same + 1] - of.bounds[same])
            place = np.where(again, inside, place)
        item = np.minimum(np.searchsorted(of.upto, place, side="right"), len(of.upto) - 1)
        kind = of.category[item]
        group = of.group[kind]
        taste = np.einsum("usr,sur->u", np.tanh(state), of.vectors[:, kind]) / np.sqrt(RANK)
        logit = of.quality[item] + STRENGTH * taste + ECHO * echo[user, before, group]
        probability[step] = 1 / (1 + np.exp(-logit))
        likes[step] = rng.random(users) < probability[step]
        y = np.where(likes[step], 1.0, -1.0)
        state = decay * state + gain * (y[:, None, None] * of.vectors[:, kind].transpose(1, 0, 2))
        echo[user, before, group] = y
        before, items[step], category[step] = group, item, kind
    start = FIRST_TIME + rng.integers(0, 60 * DAY, users)[:, None]
    gaps = 1 + rng.lognormal(np.log(DAY / 8), 1.0, (users, length)).astype(np.int64)
    return Exposures(items.T, likes.T, start + np.cumsum(gaps, axis=1), probability.T)


def lots(users: int) -> Iterator[tuple[int, int]]:
    """Number and users of each lot."""
    for number, first in enumerate(range(0, users, USERS_AT_ONCE)):
        yield number, min(USERS_AT_ONCE, users - first)


def tastes_log(of: World, users: int, length: int = LENGTH) -> Iterator[pa.RecordBatch]:
    """The log, user after user, made as it is read: user_id, item_id (both from 1), timestamp, is_like (0 or 1), and the
    true probability of a like, which a schema must not name."""
    require(users >= 1 and length >= 1, "users and length", f"{users} and {length}", "at least 1")
    for number, size in lots(users):
        # the draws of a lot depend on its size, so a short last lot is the beginning of nobody's longer one
        lot = exposures(of, number, size, length)
        user = np.repeat(1 + number * USERS_AT_ONCE + np.arange(size), length)
        columns = {USER: user, ITEM: lot.items.ravel() + 1, TIME: lot.times.ravel()}
        columns |= {"is_like": lot.likes.ravel().astype(np.int8), "probability": lot.probability.ravel()}
        yield pa.record_batch({name: pa.array(values) for name, values in columns.items()})


def items_table(of: World) -> pa.Table:
    """item_id from 1, and its category: a text, so that no number stands for an order."""
    names = np.array([f"c{number:03}" for number in range(len(of.group))])
    return pa.table({ITEM: np.arange(1, len(of.category) + 1), "category": names[of.category]})


def write_tastes_log(
    of: World,
    folder: Path | str,
    users: int,
    *,
    made_by: Mapping[str, str | float] | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda rows: None,
    seen: Callable[[pa.RecordBatch], None] = lambda batch: None,
) -> int:
    """Write log.parquet, items.csv and schema.yaml -> number of exposures; one lot is in memory at a time.

    advance is called with the rows of each lot that is written, and `seen` with the lot. Raises InputError if the folder
    exists, or if the disk is full.
    """
    import yaml

    def watched() -> Iterator[pa.RecordBatch]:
        for batch in tastes_log(of, users):
            seen(batch)
            yield batch

    with new_folder(folder, LOG_FOLDER, overwrite=overwrite) as new:
        rows = write_log(watched(), new / "log.parquet", made_by=made_by, advance=advance)
        write_log(items_table(of).to_batches(), new / "items.csv")
        write_text(new / "schema.yaml", yaml.safe_dump(SCHEMA, sort_keys=False))
    return rows
