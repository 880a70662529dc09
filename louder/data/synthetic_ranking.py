"""A synthetic ranking log: items are shown, and the true probability that each is liked is known. Numpy and Arrow only.

Two things must be read from a history, beside who and what: the user's mood, an auxiliary series, and how often the user
has liked the item's category, a count and not a share.

    P(like) = sigmoid(BIAS + AFFINITY[mood, category] + SLOPE · (log1p(likes before this request) - CENTRE) + quality)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from louder.data.synthetic import DAY, FIRST_TIME, require, write_log
from louder.folders import FolderKind, new_folder, write_text
from louder.schema import ITEM, REQUEST, TIME, USER

CATEGORIES = ("news", "sport", "music", "film", "travel", "food", "science", "games")
MOODS = ("calm", "curious", "tired", "merry")
COUNTRIES = ("de", "fr", "jp", "us")
ITEMS = 200

BIAS, SLOPE, CENTRE, QUALITY = -0.8, 1.0, 1.5, 0.4  # QUALITY: standard deviation of the items' qualities
# [moods, categories] each mood likes what others dislike: the mean over moods is 0 for every category
AFFINITY = 1.8 * np.cos(2 * np.pi * (np.arange(4)[:, None] / 4 - np.arange(8) / 8))
WATCH, WATCH_SLOPE, WATCH_NOISE = np.log(30.0), 0.5, 0.5  # log seconds: mean, for each unit of the like's logit, noise
MOOD_CHANGES = 0.4  # chance that a user's mood changes between two requests
SEVERAL = 0.4  # share of requests that show 2 to MOST items
MOST = 5
LOG_FILES = "log.parquet", "truth.parquet", "mood.csv", "items.csv", "users.csv"
LOG_FOLDER = FolderKind("a synthetic ranking log", "schema.yaml", "is_like", LOG_FILES)
WATCH_ABSENT = 0.1  # share of events for which no watch time was reported

SCHEMA: Mapping[str, Mapping[str, str | Mapping[str, str]]] = {
    "actions": {"like": "is_like"},
    "values": {"watch": "watch"},
    "series": {"mood": {"file": "mood.csv"}},
    "items": {"file": "items.csv"},
    "users": {"file": "users.csv"},
}


@dataclass(frozen=True)
class RankingLog:
    """events  user_id, item_id, timestamp, request_id, is_like (0 or 1), watch (seconds, null where absent); by time
    truth   a row for each event: user_id, item_id, request_id; probability of a like and log_watch, the mean of the
            logarithm of its seconds; and what they come from: mood (row of AFFINITY), category, likes_before, quality
    mood    user_id, timestamp, value: one when the user comes, one at each change
    items   item_id, category
    users   user_id, country, which means nothing: a model that finds something in it has overfitted
    """

    events: pa.Table
    truth: pa.Table
    mood: pa.Table
    items: pa.Table
    users: pa.Table


def logit(mood: int | np.ndarray, category: np.ndarray, likes: np.ndarray, quality: float | np.ndarray) -> np.ndarray:
    """The log-odds of a like, for whole arrays; `likes` are those before."""
    return BIAS + AFFINITY[mood, category] + SLOPE * (np.log1p(likes) - CENTRE) + quality


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def ranking_log(users: int = 2_000, *, requests: int = 30, seed: int = 0) -> RankingLog:
    """Draw a log of `requests` requests a user on average, about twice as many events: 17,000 users make a million.

    Users differ in how many requests they make (log-normal, at most 8 · `requests`) and in which categories they are
    shown (a Dirichlet draw), so that neither the length of a history nor a category's share of it tells how many likes
    the category has. Moods are equally likely, and change to any other one between two requests.
    """
    require(users >= 1, "users", users, "at least 1")
    require(requests >= 3, "requests", requests, "at least 3")
    rng = np.random.default_rng(seed)
    category = rng.permutation(ITEMS) % len(CATEGORIES)
    quality = rng.normal(0, QUALITY, ITEMS)
    exposure = rng.dirichlet(np.full(len(CATEGORIES), 0.5), users)
    length = np.sort(rng.lognormal(np.log(requests) - 0.32, 0.8, users).clip(3, 8 * requests).astype(np.int64))[::-1]

    rows, changes = visits(length, exposure, category, quality, rng)
    user, turn, item, second, like, watch, moods, before, x, log_watch = (np.concatenate(c) for c in zip(*rows))
    number = rng.permutation(users) + 1  # ids should tell nothing of the length of a history
    order = np.lexsort((number[user], second))  # stable: the items of a request keep their order
    user, turn, item, second = user[order], turn[order], item[order], second[order]
    request = np.cumsum((np.diff(user, prepend=-1) != 0) | (np.diff(turn, prepend=-1) != 0))
    ids = {USER: number[user], ITEM: item + 1, TIME: second, REQUEST: request}
    watch = pa.array(watch[order].round(3), from_pandas=True)
    events = pa.table(ids | {"is_like": like[order].astype(np.int8), "watch": watch})
    truth = {word: ids[word] for word in (USER, ITEM, REQUEST)}
    truth |= {"probability": sigmoid(x[order]), "log_watch": log_watch[order], "mood": moods[order]}
    truth |= {"category": category[item], "likes_before": before[order], "quality": quality[item]}
    user, second, value = (np.concatenate(column) for column in zip(*changes))
    order = np.lexsort((second, number[user]))
    mood = pa.table({USER: number[user], TIME: second, "value": np.array(MOODS)[value]}).take(order)
    items = pa.table({ITEM: np.arange(1, ITEMS + 1), "category": np.array(CATEGORIES)[category]})
    people = pa.table({USER: np.arange(1, users + 1), "country": rng.choice(COUNTRIES, users)})
    return RankingLog(events, pa.table(truth), mood, items, people)


def visits(
    length: np.ndarray, exposure: np.ndarray, category: np.ndarray, quality: np.ndarray, rng: np.random.Generator
) -> tuple[list[tuple[np.ndarray, ...]], list[tuple[np.ndarray, ...]]]:
    """The events of all users, request after request, and the changes of their moods, as columns.

    length [U] requests of each user, descending    exposure [U, K]    category, quality [items]
    """
    users = len(length)
    now = FIRST_TIME + rng.integers(0, 60 * DAY, users)
    mood = rng.integers(0, len(MOODS), users)
    likes = np.zeros(exposure.shape, dtype=np.int64)
    changes: list[tuple[np.ndarray, ...]] = [(np.arange(users), now.copy(), mood.copy())]
    rows: list[tuple[np.ndarray, ...]] = []
    for step in range(length[0]):
        n = int((length > step).sum())  # users 0 .. n-1 are still active
        gap = 1 + rng.lognormal(np.log(DAY / 3), 1.0, n).astype(np.int64)
        changed = np.flatnonzero(rng.random(n) < MOOD_CHANGES)
        when = now[changed] + 1 + (rng.random(len(changed)) * gap[changed]).astype(np.int64)  # after the last request
        mood[changed] = (mood[changed] + rng.integers(1, len(MOODS), len(changed))) % len(MOODS)
        changes.append((changed, when, mood[changed]))
        now[:n] += gap

        user, item = shown(exposure[:n], category, rng)
        before = likes[user, category[item]]
        x = logit(mood[user], category[item], before, quality[item])
        like = rng.random(len(user)) < sigmoid(x)
        log_watch = WATCH + WATCH_SLOPE * x
        watch = np.exp(rng.normal(log_watch, WATCH_NOISE))
        watch[rng.random(len(user)) < WATCH_ABSENT] = np.nan
        np.add.at(likes, (user[like], category[item[like]]), 1)
        rows.append((user, np.full(len(user), step), item, now[user], like, watch, mood[user], before, x, log_watch))
    return rows, changes


def shown(exposure: np.ndarray, category: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What one request of each of n users shows: 1 to MOST items, none twice, some far more often than others.

    exposure [n, K] shares of the categories, category [items]  ->  user [M], 0 .. n-1 ascending, and item [M]
    """
    n, K = exposure.shape
    by_category = np.argsort(category, kind="stable")
    starts = np.searchsorted(category[by_category], np.arange(K))
    size = np.where(rng.random(n) < SEVERAL, rng.integers(2, MOST + 1, n), 1)
    drawn = (rng.random((n, MOST, 1)) > exposure.cumsum(1)[:, None, :-1]).sum(2)
    place = (rng.random((n, MOST)) ** 2 * np.bincount(category)[drawn]).astype(np.int64)
    item = by_category[starts[drawn] + place]
    again = np.array([(item[:, :j] == item[:, [j]]).any(1) for j in range(MOST)]).T
    user, slot = np.nonzero((np.arange(MOST) < size[:, None]) & ~again)
    return user, item[user, slot]


def write_ranking_log(
    log: RankingLog, folder: Path | str, *, made_by: Mapping[str, str | float] | None = None, overwrite: bool = False
) -> None:
    """Write log.parquet, truth.parquet (row by row the same events), mood.csv, items.csv, users.csv and schema.yaml.

    The folder appears when it is whole. Raises InputError if it exists, or if the disk is full.
    """
    import yaml

    with new_folder(folder, LOG_FOLDER, overwrite=overwrite) as new:
        write_log(log.events.to_batches(), new / "log.parquet", made_by=made_by)
        write_log(log.truth.to_batches(), new / "truth.parquet", made_by=made_by)
        for name in "mood", "items", "users":
            write_log(getattr(log, name).to_batches(), new / f"{name}.csv")
        write_text(new / "schema.yaml", yaml.safe_dump(SCHEMA, sort_keys=False))
