"""Load a run, recommend items."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from louder.batch import SequenceBatch
from louder.config import from_dict
from louder.data.config import DataConfig
from louder.data.table import Table, item_attributes, open_table
from louder.errors import InputError
from louder.folders import read_json
from louder.ids import IdMap, RawId
from louder.inference.loading import load_model
from louder.schema import ENGAGEMENT


@dataclass(frozen=True)
class Recommendation:
    """An item of the catalogue. `title` is "" where the log came without titles; scores compare within one answer only."""

    item: RawId
    score: float
    title: str = ""


@dataclass(frozen=True)
class Event:
    """One event of a history: a raw item id, seconds since 1970, and the names of the actions that happened."""

    item: RawId
    time: int
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of one user, oldest first: arrays of equal length T, as in a sequence table. `user` is the user's number
    in training, -1 for somebody who was not there."""

    ids: np.ndarray
    times: np.ndarray
    kinds: np.ndarray
    actions: np.ndarray
    user: int = -1


class Recommender:
    """The best checkpoint of a run, ready to answer.

        recommender = Recommender("runs/ml1m-hstu")
        recommender.recommend(user=42, k=10)
        recommender.recommend(history=[Event(item=1193, time=978300760)], k=10)

    `table` is where the histories of known users are; the table the run was trained on unless another is given.
    """

    def __init__(self, run: Path | str, table: Path | str | None = None) -> None:
        self.model, self.state, folder = load_model(Path(run))
        self.data = from_dict(DataConfig, self.state["config"]["data"])
        self.table_path = Path(table or self.data.table)
        self.item_ids = IdMap.read(folder / "vocabulary" / "item.parquet")
        self.folder = folder
        self.attributes = item_attributes(folder)
        with torch.no_grad():
            self.catalogue = self.model.catalogue()

    @cached_property
    def user_ids(self) -> IdMap:
        """Of the training."""
        return IdMap.read(self.folder / "vocabulary" / "user.parquet")

    @cached_property
    def table(self) -> Table:
        if not self.table_path.is_dir():
            raise InputError(
                f"The histories of known users are in {self.table_path}, which is not there. "
                "Say where the table is (--table FOLDER), or give a history (--history FILE.json)."
            )
        table = open_table(self.table_path)
        if table.items != len(self.item_ids):
            raise InputError(
                f"{table.path} has {table.items} items, but the model was trained on {len(self.item_ids)}. "
                "Use the table it was trained on, or train on this one: louder train RECIPE."
            )
        return table

    def recommend(
        self,
        *,
        user: RawId | None = None,
        history: Sequence[Event] | None = None,
        k: int = 10,
        at: int | None = None,
        seen: bool = False,
    ) -> list[Recommendation]:
        """The k items with the highest scores, best first; items of the user's history only if `seen`.

        `at` is the time of the request in seconds since 1970; without it, the time of the latest event. The history
        ends there: later events are not looked at.
        Raises InputError for an unknown user, an empty history, or k below 1.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, but it is {k}.")
        past = until(self.history_of(user, history), at)
        scores = self.scores(past, at)
        if not seen:
            scores[torch.from_numpy(past.ids[past.kinds == ENGAGEMENT])] = -torch.inf
        top = scores.topk(min(k, int(scores.isfinite().sum())))
        return [self.describe(item, score) for item, score in zip(top.indices.tolist(), top.values.tolist())]

    @torch.no_grad()
    def scores(self, past: Tokens, at: int | None = None) -> torch.Tensor:
        """[I] the score of every item after this history"""
        queries = self.model.queries(self.sequence(past, at), torch.tensor([past.user]))
        return self.model.scores(queries, self.catalogue)[0]

    def history_of(self, user: RawId | None, history: Sequence[Event] | None) -> Tokens:
        if (user is None) == (history is None):
            raise InputError(
                "A recommendation needs a user or a history, one of the two: --user ID or --history FILE.json."
            )
        return self.known_history(user) if user is not None else self.given_history(history or [])

    def known_history(self, user: RawId) -> Tokens:
        """Everything the table holds of a user."""
        return self.stored_history(self.table.user_ids.id(user, "user"))

    def stored_history(self, number: int) -> Tokens:
        table = self.table
        rows = slice(table.offsets[number], table.offsets[number + 1])
        actions = table.actions[rows] if table.actions is not None else np.zeros_like(table.ids[rows])
        (known,) = self.user_ids.ids(
            table.user_ids.raws([number])
        )  # the table may be another than that of the training
        return Tokens(
            ids=table.ids[rows], times=table.times[rows], kinds=table.kinds[rows], actions=actions, user=int(known)
        )

    def given_history(self, events: Sequence[Event]) -> Tokens:
        """Events of anybody, in any order. Raises InputError if an item or an action is unknown."""
        events = sorted(events, key=lambda event: event.time)
        ids = self.item_ids.ids([event.item for event in events]) if events else np.empty(0, dtype=np.int64)
        unknown = [str(event.item) for event, number in zip(events, ids) if number < 0]
        if unknown:
            raise InputError(
                f"The history has {len(unknown)} items that the model does not know: {', '.join(unknown[:5])}. "
                "Leave them out, or train on a log that has them."
            )
        return Tokens(
            ids=ids,
            times=np.array([event.time for event in events], dtype=np.int64),
            kinds=np.zeros(len(events), dtype=np.uint8),
            actions=np.array([self.action_bits(event.actions) for event in events], dtype=np.int64),
        )

    def action_bits(self, names: Sequence[str]) -> int:
        known = self.state["actions"]
        for name in names:
            if name not in known:
                raise InputError(f"There is no action {name!r}; the model knows {', '.join(known) or 'none'}.")
        return sum(1 << known.index(name) for name in set(names))

    def sequence(self, past: Tokens, at: int | None) -> SequenceBatch:
        """The model's window of a history, as a batch of one."""
        keep = np.ones(len(past.ids), dtype=bool) if self.model.vocabulary.series else past.kinds == ENGAGEMENT
        ids, times, kinds, actions = (
            x[keep][-self.data.max_len :] for x in (past.ids, past.times, past.kinds, past.actions)
        )
        if not len(ids):
            raise InputError("The history is empty, so there is nothing to recommend from. Give at least one event.")
        query = np.append(times[1:], times[-1] if at is None else at)
        if self.data.query_time == "withheld":
            query = times
        return SequenceBatch(
            ids=torch.from_numpy(ids.copy()),
            timestamps=torch.from_numpy(times.copy()),
            query_timestamps=torch.from_numpy(query.copy()),
            offsets=torch.tensor([0, len(ids)]),
            actions=torch.from_numpy(actions.copy()) if self.model.vocabulary.actions else None,
            kinds=torch.from_numpy(kinds.copy()) if self.model.vocabulary.series else None,
        )

    def describe(self, item: int, score: float = 0.0) -> Recommendation:
        return Recommendation(self.item_ids.raws([item])[0], score, self.title(item))

    def title(self, item: int) -> str:
        if self.attributes is None or "title" not in self.attributes.column_names:
            return ""
        return self.attributes.column("title")[item].as_py() or ""

    def genres(self, item: int) -> str:
        if self.attributes is None or "genres" not in self.attributes.column_names:
            return ""
        value: Any = self.attributes.column("genres")[item].as_py()
        return ", ".join(value) if isinstance(value, list) else str(value or "")


def until(past: Tokens, at: int | None) -> Tokens:
    """The part of a history that has happened by `at`."""
    if at is None:
        return past
    keep = past.times <= at
    kept = {name: getattr(past, name)[keep] for name in ("ids", "times", "kinds", "actions")}
    return replace(past, **kept)


def read_history(path: Path) -> list[Event]:
    """Events from a JSON file: a list of item ids, oldest first, or of {"item": …, "time": seconds, "actions": [...]}.

    Raises InputError if the file is missing or holds anything else.
    """
    import json

    form = 'a list such as [1193, 661] or [{"item": 1193, "time": 978300760, "actions": ["like"]}]'
    values = read_json(path, "history", list, form)
    events = []
    for number, value in enumerate(values):
        given = value if isinstance(value, dict) else {"item": value, "time": number}
        item, time, actions = given.get("item"), given.get("time", number), given.get("actions", [])
        whole = isinstance(time, int) and not isinstance(time, bool) and abs(time) < 1 << 62
        named = isinstance(actions, list) and all(isinstance(name, str) for name in actions)
        if (
            isinstance(item, bool)
            or not isinstance(item, int | str)
            or not whole
            or not named
            or set(given) - {"item", "time", "actions"}
        ):
            raise InputError(
                f"Entry {number + 1} of the history {path} is {json.dumps(value)[:80]}. It must be {form}."
            )
        events.append(Event(item, time, tuple(actions)))
    return events
