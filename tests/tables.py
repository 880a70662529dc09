"""Sequence tables written straight from Python lists, and configs small enough to train in a second."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from louder.data.config import DataConfig
from louder.data.table import Table
from louder.ids import IdMap
from louder.models import HSTUConfig, ModelConfig, RankingConfig
from louder.schema import Manifest
from louder.training.config import Config, EvaluationConfig, TrainingConfig
from louder.training.losses import LossConfig

TYPES = {"kind": pa.uint8(), "id": pa.int64(), "time": pa.int64(), "actions": pa.int64()}


class Token(NamedTuple):
    """One entry of a user's sequence. Raw ids are 1000 + id for items and 100 + number for users."""

    id: int
    time: int = 0
    actions: int = 0
    kind: int = 0


def events(*ids: int, start: int = 0, gap: int = 60) -> list[Token]:
    """Engagements, `gap` seconds apart."""
    return [Token(item, start + gap * number) for number, item in enumerate(ids)]


def write_table(
    folder: Path,
    users: Sequence[Sequence[Token]],
    *,
    items: int | None = None,
    actions: Sequence[str] = (),
    series: dict[str, int] | None = None,
    parts: Sequence[Sequence[int]] | None = None,
    has_times: bool = True,
    titles: bool = False,
    raw_items: Sequence[int | str] | None = None,
    raw_users: Sequence[int | str] | None = None,
    values: dict[str, list[list[float]]] | None = None,
    requests: list[list[int]] | None = None,
) -> Path:
    """`parts` are the numbers of the users in each Parquet file; one file in order unless given. `values` and
    `requests` are parallel to `users`."""
    tokens = [token for user in users for token in user]
    engagements = [token for token in tokens if token.kind == 0]
    if items is None:
        items = max((token.id for token in engagements), default=0) + 1
    times = [token.time for token in tokens] or [0]
    (folder / "sequences").mkdir(parents=True)
    Manifest(
        louder="0",
        command="louder etl",
        name=folder.name,
        sources=[],
        users=len(users),
        items=items,
        events=len(engagements),
        tokens=len(tokens),
        has_times=has_times,
        first_time=min(times),
        last_time=max(times),
        dropped={},
        filters={},
        actions=list(actions),
        values=list(values or {}),
        series=series or {},
        has_requests=requests is not None,
    ).write(folder)
    names = ["kind", "id", "time", *(["actions"] if actions else [])]
    for number, part in enumerate([range(len(users))] if parts is None else parts):
        lists = {
            name: pa.array([[getattr(token, name) for token in users[u]] for u in part], pa.list_(TYPES[name]))
            for name in names
        }
        for name, numbers in (values or {}).items():
            lists[f"value.{name}"] = pa.array([numbers[u] for u in part], pa.list_(pa.float32()))
        if requests is not None:
            lists["request"] = pa.array([requests[u] for u in part], pa.list_(pa.int64()))
        table = pa.table({"user": pa.array(list(part), pa.int64()), **lists})
        pq.write_table(table, folder / "sequences" / f"part-{number:05d}.parquet")
    IdMap(pa.array(raw_users or [100 + u for u in range(len(users))])).write(folder / "vocabulary" / "user.parquet")
    IdMap(pa.array(raw_items or [1000 + i for i in range(items)])).write(folder / "vocabulary" / "item.parquet")
    for name, size in (series or {}).items():
        IdMap(pa.array([f"{name} {value}" for value in range(size)])).write(folder / "vocabulary" / f"{name}.parquet")
    if titles:
        columns = {"title": [f"Title {i}" for i in range(items)], "genres": [["Drama", "War"]] * items}
        pq.write_table(pa.table(columns), folder / "items.parquet")
    return folder


def ranking_table(
    seed: int = 0,
    *,
    requests: str = "none",
    series: bool = True,
    users: int = 6,
    longest: int = 14,
    items: int | None = None,
) -> Table:
    """A random log, in memory: `users` people with up to `longest` tokens each, one in four an entry of a series. Items
    are numbered by their row, so that a batch tells which rows it holds, unless there are only so many `items`.

    requests   "none"; "contiguous": one in two joins the request before it, at its second; "overlapping": any of three
    """
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, longest + 1, users)
    T = int(lengths.sum())
    moods = T if items is None else 3
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(users), lengths)
    kinds = ((draw.random(T) < 0.25) & series).astype(np.uint8)
    times = draw.integers(0, 100, T)
    times = times[np.lexsort([times, owner])]
    numbers = np.full(T, -1)
    for row in range(T):
        if kinds[row] or requests == "none":
            continue
        if requests == "overlapping":
            numbers[row] = draw.integers(3)  # each user counts from 0
        else:
            numbers[row] = row
            if row > offsets[owner[row]] and not kinds[row - 1] and draw.random() < 0.5:
                numbers[row], times[row] = numbers[row - 1], times[row - 1]
    manifest = Manifest(
        louder="0",
        command="louder etl",
        name="t",
        sources=[],
        users=users,
        items=items or T,
        events=int((kinds == 0).sum()),
        tokens=T,
        has_times=True,
        first_time=0,
        last_time=100,
        dropped={},
        filters={},
        actions=["like", "share"],
        values=["watch"],
        series={"mood": moods} if series else {},
        has_requests=requests != "none",
    )
    actions = draw.integers(4, size=T)
    watch = np.where(draw.random(T) < 0.2, np.nan, draw.random(T)).astype(np.float32)
    return Table(
        path=Path("t"),
        manifest=manifest,
        offsets=offsets,
        kinds=kinds,
        ids=np.arange(T) if items is None else draw.integers(np.where(kinds == 0, items, moods)),
        times=times,
        actions=actions,
        values={"watch": watch},
        requests=None if requests == "none" else numbers,
    )


def write_ranking_table(folder: Path, table: Table) -> Path:
    """A log of ranking_table on disk, with the titles and genres of items and the ages of users."""

    def by_user(column: np.ndarray) -> list[list[float]]:
        return [column[first:end].tolist() for first, end in pairwise(table.offsets)]

    assert table.actions is not None
    columns = zip(*map(by_user, (table.ids, table.times, table.actions, table.kinds)))
    items = table.items
    write_table(
        folder,
        [[Token(*token) for token in zip(*column)] for column in columns],
        items=items,
        actions=table.manifest.actions,
        series=table.manifest.series,
        values={name: by_user(column) for name, column in table.values.items()},
        requests=None if table.requests is None else by_user(table.requests),
    )
    genres = [["war", "drama", "western"][: item % 4] for item in range(items)]
    titles = [f"Title {item}" for item in range(items)]
    pq.write_table(pa.table({"title": titles, "genres": genres}), folder / "items.parquet")
    ages = [[18, 25, None][user % 3] for user in range(table.users)]
    pq.write_table(pa.table({"age": ages}), folder / "users.parquet")
    return folder


def checkerboard(users: int = 40, liked: int = 10, seed: int = 0) -> list[list[Token]]:
    """Even users have had every even item once, in an order of their own; odd users every odd item. So the item held
    out of a user is the only one of that user's colour which the history does not hold."""
    draw = random.Random(seed)
    boards = []
    for user in range(users):
        ids = [2 * i + user % 2 for i in range(liked)]
        draw.shuffle(ids)
        boards.append(events(*ids, start=draw.randrange(1000)))
    return boards


def random_users(
    users: int = 30, items: int = 15, longest: int = 12, seed: int = 0, actions: int = 0
) -> list[list[Token]]:
    draw = np.random.default_rng(seed)
    result = []
    for _ in range(users):
        length = int(draw.integers(1, longest + 1))
        times = np.sort(draw.integers(0, 100_000, length)).tolist()
        result.append(
            [
                Token(int(draw.integers(items)), time, int(draw.integers(1 << actions)) if actions else 0)
                for time in times
            ]
        )
    return result


def tiny_config(table: Path | str, **changes: object) -> Config:
    """An HSTU of width 8, two epochs. `changes` replace whole parts: model=..., training=..., loss=..."""
    config = Config(
        name="tiny",
        data=DataConfig(table=str(table), max_len=12, users_per_batch=8),
        model=HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=16),
        loss=LossConfig(num_negatives=4),
        training=TrainingConfig(epochs=2, checkpoint_steps=2, log_steps=1, device="cpu"),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def tiny_ranking_config(table: Path | str, model: ModelConfig | None = None, **ranking: object) -> Config:
    """A joint HSTU of width 8 on a log of write_ranking_table, two epochs. `ranking` replaces settings of that name.

    It has two layers: at what time an action's token asks for the next item shows in the second alone.
    """
    config = tiny_config(
        table,
        name="tiny-rank",
        data=DataConfig(table=str(table), max_len=8, users_per_batch=8),
        # an event's two tokens each, the age and the candidate
        model=model or HSTUConfig(layers=2, width=8, qk_width=4, v_width=4, max_len=2 * 8 + 1 + 1),
        ranking=RankingConfig(context=("age",), item_attributes=("genres",), log_values=("watch",), next_item=0.2),
        evaluation=EvaluationConfig(select="ne"),
    )
    assert config.ranking is not None
    return replace(config, ranking=replace(config.ranking, **ranking))  # type: ignore[arg-type]
