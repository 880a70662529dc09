"""Load a ranking run, and say what a user will do with items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.config import from_dict
from louder.data.attributes import code_of, encode, first_codes
from louder.data.config import DataConfig
from louder.data.table import Table, item_attributes, open_table, user_attributes
from louder.data.window import window_start
from louder.errors import InputError
from louder.ids import IdMap, RawId
from louder.inference.loading import load_ranker
from louder.inference.mfalcon import MFalcon
from louder.inference.new_items import NewItems, encode_new_items
from louder.inference.recommender import Event
from louder.models import RankingConfig, RankingModel
from louder.schema import Manifest

MAX_CANDIDATES = 16_384


@dataclass(frozen=True)
class Ranked:
    """A candidate: the probability of each action, and the expected values (those learned as log(1 + x) as "log NAME")."""

    item: RawId
    actions: dict[str, float]
    values: dict[str, float] = field(default_factory=dict)
    title: str = ""


class Ranker:
    """The best checkpoint of a generative ranking run, ready to answer.

        ranker = Ranker("runs/ml1m-rank-hstu")
        ranker.rank(user=42, items=[1, 2, 3])
        ranker.rank(history=[Event(item=1193, time=978300760, actions=("like",))], items=[1, 2, 3])

    `table` is where the histories of known users are; the table the run was trained on unless another is given.
    """

    def __init__(
        self, run: Path | str, table: Path | str | None = None, *, microbatch: int = 512, cache_bytes: int = 1 << 30
    ) -> None:
        model, self.state, folder = load_ranker(Path(run))
        self.folder = folder
        if not isinstance(model, RankingModel):
            raise InputError(
                f"{run} is a model of single impressions, whose counters only a table has. Measure it: louder evaluate "
                f"{run}. Candidates are ranked by a generative ranker: louder train ml1m:rank_hstu."
            )
        self.model = model
        self.mfalcon = MFalcon(model, microbatch=microbatch, cache_bytes=cache_bytes)
        self.data = from_dict(DataConfig, self.state["config"]["data"])
        self.ranking = from_dict(RankingConfig, self.state["config"]["ranking"])
        self.table_path = Path(table or self.data.table)
        self.item_ids = IdMap.read(folder / "vocabulary" / "item.parquet")
        self.attributes = item_attributes(folder)
        self.user_ids = IdMap.read(folder / "vocabulary" / "user.parquet")
        people = user_attributes(folder)
        if people is None and self.ranking.context:
            raise InputError(
                f"{folder} has no users.parquet, which its model needs. Copy it from the table, or train again."
            )
        self.context = encode(people, self.ranking.context) if people is not None else []
        self.context_codes = first_codes(self.context)

    @cached_property
    def table(self) -> Table:
        if not self.table_path.is_dir():
            raise InputError(
                f"The histories of known users are in {self.table_path}, which is not there. "
                "Say where the table is (--table FOLDER), or give a history (--history FILE.json)."
            )
        manifest = Manifest.read(self.table_path)
        table = open_table(self.table_path, values=manifest.values, requests=True)
        series = tuple(manifest.series.values()) if self.data.auxiliary else ()
        labels = manifest.actions, manifest.values
        if (
            not table.item_ids.raw.equals(self.item_ids.raw)
            or labels != (self.state["actions"], self.state["values"])
            or series != self.model.vocabulary.series
        ):
            raise InputError(
                f"{table.path} has other items, actions, values or series than the table the model was trained on. "
                "Use that one, or train on this one: louder train RECIPE."
            )
        return table if self.data.auxiliary else table.engagements()[0]

    def rank(
        self,
        *,
        items: Sequence[RawId],
        user: RawId | None = None,
        history: Sequence[Event] | None = None,
        at: int | None = None,
        context: Mapping[str, object] | None = None,
        new_items: NewItems | None = None,
    ) -> list[Ranked]:
        """What will be done with each of the items, in their order.

        at         seconds since 1970: the time of the request; later events are not looked at. Without it, the time of
                   the latest event
        context    attributes of the user, such as {"gender": "F"}: for a history that is given, or in place of the
                   table's
        new_items  what is known of candidates that the model has not met, which are scored by it alone:
                   {"new-film": {"genres": ["Drama"], "text": [0.1, …]}}

        A candidate that stands twice is answered twice, with the same numbers; one that is in the history is scored
        as if it were shown again. The history may be empty: then the item and the context decide. Of a history longer
        than the model's window the latest part counts.
        Raises InputError for an unknown user or item, for new items that are known or of which nothing is, for no
        candidates and for more than MAX_CANDIDATES.
        """
        if not items:
            raise InputError("There are no candidates. Give at least one item: --items 1,2,3.")
        if len(items) > MAX_CANDIDATES:
            raise InputError(
                f"There are {len(items):,} candidates, but one request may have {MAX_CANDIDATES:,}. Send them in parts."
            )
        numbers = self.item_ids.ids(list(items))
        candidates = self.vectors(items, numbers, new_items or {})
        if (user is None) == (history is None):
            raise InputError("Ranking needs a user or a history, one of the two: --user ID or --history FILE.json.")
        events = self.known(user, at) if user is not None else self.given(history or [], at)
        codes = self.codes_of(user) if user is not None and context is None else self.codes(context or {})
        if self.ranking.context:
            events = replace(events, context=codes)
        last = int(events.timestamps[-1]) if len(events.ids) else 0
        moment = last if at is None else at
        logits, values = self.mfalcon.score_vectors(
            events, candidates, moment, key=None if user is None else ("user", user)
        )
        return self.answers(items, numbers, torch.sigmoid(logits), values)

    @torch.no_grad()
    def vectors(self, items: Sequence[RawId], numbers: np.ndarray, new_items: NewItems) -> Tensor:
        """[m, D] the candidates, whose ids are `numbers` (-1 = unknown); of new items by what is known of them."""
        place = {str(item): number for number, item in enumerate(new_items)}  # typed, every id is a text
        unknown = [str(item) for item, number in zip(items, numbers) if number < 0]
        columns = self.model.item_attributes.columns
        if missing := [item for item in unknown if item not in place or not columns]:
            instead = "or train on a log that has them: this model has no attributes of items to score them by."
            if columns:
                names = ", ".join(column.name for column in columns)
                instead = f"or say what is known of them ({names}): --new-items FILE.json."
            raise InputError(
                f"{len(missing)} of the candidates are items that the model does not know: {', '.join(missing[:5])}. "
                f"Leave them out, {instead}"
            )
        known = [str(item) for item, number in zip(new_items, self.item_ids.ids(list(new_items))) if number >= 0]
        if known:
            raise InputError(
                f"{len(known)} of the new items are known to the model: {', '.join(known[:5])}. Their attributes are "
                "those of the training, so leave them out of the new items."
            )
        vectors = self.model.items(torch.tensor(numbers))
        if unknown:
            new = self.model.new_items(encode_new_items(columns, new_items))
            vectors[torch.from_numpy(numbers < 0)] = new[[place[item] for item in unknown]]
        return vectors

    def answers(self, items: Sequence[RawId], numbers: np.ndarray, shares: Tensor, values: Tensor) -> list[Ranked]:
        names = [f"log {name}" if name in self.ranking.log_values else name for name in self.state["values"]]
        known = self.item_ids.raws(numbers.clip(min=0))
        raws = [raw if number >= 0 else item for raw, number, item in zip(known, numbers, items)]
        columns = zip(raws, numbers.tolist(), shares.tolist(), values.tolist())
        return [
            Ranked(item, dict(zip(self.state["actions"], share)), dict(zip(names, value)), self.title(number))
            for item, number, share, value in columns
        ]

    def known(self, user: RawId, at: int | None) -> SequenceBatch:
        """The window of a user of the table, up to the time of the request."""
        return self.stored(self.table.user_ids.id(user, "user"), at)

    def stored(self, number: int, at: int | None = None) -> SequenceBatch:
        table = self.table
        begin, end = int(table.offsets[number]), int(table.offsets[number + 1])
        if at is not None:
            end = begin + int(np.searchsorted(table.times[begin:end], at, side="right"))
        first = begin + int(window_start(np.array(end - begin), self.data.max_len))
        rows = np.arange(first, end)
        prefix_lengths = (self.request_rows[rows] - first).clip(min=0)
        columns = [table.values[name][rows] for name in table.manifest.values]
        for number_of, name in enumerate(table.manifest.values):
            if name in self.ranking.log_values:
                columns[number_of] = np.log1p(columns[number_of].clip(min=0))
        times = table.times[self.request_rows[rows]]
        return SequenceBatch(
            ids=torch.from_numpy(table.ids[rows]),
            timestamps=torch.from_numpy(times),
            query_timestamps=torch.from_numpy(self.query_times(table.times[rows], at)),
            offsets=torch.tensor([0, len(rows)]),
            actions=None if table.actions is None else torch.from_numpy(table.actions[rows]),
            kinds=torch.from_numpy(table.kinds[rows]) if self.model.vocabulary.series else None,
            values=torch.from_numpy(np.stack(columns, axis=1)) if columns else None,
            prefix_lengths=None if (prefix_lengths == np.arange(len(rows))).all() else torch.from_numpy(prefix_lengths),
        )

    @cached_property
    def request_rows(self) -> np.ndarray:
        return self.table.request_rows()

    def given(self, events: Sequence[Event], at: int | None) -> SequenceBatch:
        """Events of anybody, in any order."""
        events = sorted(events, key=lambda event: event.time)
        if at is not None:
            events = [event for event in events if event.time <= at]
        numbers = self.item_ids.ids([event.item for event in events]) if events else np.empty(0, dtype=np.int64)
        first = int(window_start(np.array(len(events)), self.data.max_len))
        events, numbers = events[first:], numbers[first:]
        unknown = [str(event.item) for event, number in zip(events, numbers) if number < 0]
        if unknown:
            raise InputError(
                f"The history has {len(unknown)} items that the model does not know: {', '.join(unknown[:5])}. "
                "Leave them out, or train on a log that has them."
            )
        times = np.array([event.time for event in events], dtype=np.int64)
        return SequenceBatch(
            ids=torch.tensor(numbers),
            timestamps=torch.from_numpy(times),
            query_timestamps=torch.from_numpy(self.query_times(times, at)),
            offsets=torch.tensor([0, len(events)]),
            actions=torch.tensor([self.action_bits(event.actions) for event in events], dtype=torch.int64),
        )

    def query_times(self, times: np.ndarray, at: int | None) -> np.ndarray:
        """The time of the next event, or of the request."""
        if self.data.query_time == "withheld" or not len(times):
            return times
        return np.append(times[1:], times[-1] if at is None else at)

    def action_bits(self, names: Sequence[str]) -> int:
        known = self.state["actions"]
        for name in names:
            if name not in known:
                raise InputError(f"There is no action {name!r}; the model knows {', '.join(known) or 'none'}.")
        return sum(1 << known.index(name) for name in set(names))

    def codes(self, context: Mapping[str, object]) -> Tensor:
        """[1, C] the codes of attributes that come with a request; unknown where they do not."""
        for name in context:
            if name not in self.ranking.context:
                have = ", ".join(self.ranking.context) or "none"
                raise InputError(f"The context has {name!r}, but the model knows these attributes of users: {have}.")
        return torch.tensor([[code_of(attribute, context.get(attribute.name)) for attribute in self.context]])

    def codes_of(self, user: RawId) -> Tensor:
        """[1, C] those of a user of the training; unknown for one who joined the table since."""
        (number,) = self.user_ids.ids([user])
        return self.context_codes[number][None] if number >= 0 and self.context else self.codes({})

    def title(self, item: int) -> str:
        if item < 0 or self.attributes is None or "title" not in self.attributes.column_names:
            return ""
        return self.attributes.column("title")[item].as_py() or ""
