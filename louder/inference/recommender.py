"""Load a run, recommend items, or say what a user will do with items: the engine, asked about one user, or about many."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from louder.errors import InputError
from louder.folders import read_json
from louder.histories.history import History, Names, empty_history
from louder.ids import RawId
from louder.inference import many
from louder.inference.engine import Engine
from louder.inference.influences import Influence, influences, only
from louder.inference.limits import MAX_CANDIDATES
from louder.inference.new_items import NewItems, left_out_sentence, require_new
from louder.inference.request import Boost, Event, Pin, Request, Result, TableUser, history_of

T = TypeVar("T")


@dataclass(frozen=True)
class Recommendation:
    """An item of the catalogue. `title` is "" where the log came without titles; scores compare within one answer only.

    next, actions  of a run that retrieves and ranks: the probability that it comes next (see Result), and of each action if
                   it does
    """

    item: RawId
    score: float
    title: str = ""
    next: float | None = None
    actions: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranked:
    """A candidate: the probability of each action, and the expected values (those learned as log(1 + x) as "log NAME")."""

    item: RawId
    actions: dict[str, float]
    values: dict[str, float] = field(default_factory=dict)
    title: str = ""


class Answers(list[T]):
    """A list; how many events of the history were read, and how many skipped: those of items that the model does not know;
    why the list is shorter than it was asked for, or ""; and candidates of which nothing is known, or that are not to be
    had."""

    def __init__(self, entries: Sequence[T], result: Result) -> None:
        super().__init__(entries)
        self.read, self.skipped, self.short = result.read, result.skipped, result.short
        self.unknown, self.unavailable = list(result.unknown), list(result.unavailable)


class Recommender:
    """The best checkpoint of a run, ready to answer.

        recommender = Recommender("runs/ml1m-hstu")
        recommender.recommend(user=42, k=10)
        recommender.recommend(history=[Event(item=1193, time=978300760)], k=10)
        Recommender("runs/ml1m-rank-hstu").rank(user=42, items=[1, 2, 3])

    `table` is where the histories of known users are; the table the run was trained on unless another is given. The other
    settings are those of Engine.
    """

    def __init__(
        self, run: Path | str, table: Path | str | None = None, *, microbatch: int = 512, cache_bytes: int = 1 << 30
    ) -> None:
        self.engine = Engine(run, table=table, microbatch=microbatch, cache_bytes=cache_bytes, exact=True)

    def recommend(
        self,
        *,
        user: RawId | None = None,
        history: Sequence[Event] | None = None,
        k: int = 10,
        at: int | None = None,
        next_by: str = "",
        seen: bool | None = None,
        allow: Sequence[RawId] | None = None,
        deny: Sequence[RawId] = (),
        where: Mapping[str, Sequence[RawId]] | None = None,
        boost: Sequence[Boost] = (),
        cap: Mapping[str, int] | None = None,
        diversity: float = 0.0,
        pin: Sequence[Pin] = (),
    ) -> Answers[Recommendation]:
        """The k items with the highest scores, best first; items of the user's history only if `seen`, which
        is by default whether they were not left out of the run's evaluation. For the others see
        Request. A run that ranks puts in order what it retrieves, or what is popular if it does not retrieve.

        Raises InputError for an unknown user or action, an empty history of a run that does not rank, and k below 1.
        """
        require_some(k)
        past = self.past("A recommendation", user, history)
        request = Request(
            history=past,
            at=at,
            user=user,
            k=k,
            next_by=next_by,
            seen=seen,
            popular=self.engine.ranker is not None,
            allow=allow,
            deny=deny,
            where=where or {},
            boost=boost,
            cap=cap or {},
            diversity=diversity,
            pin=pin,
        )
        result = self.engine.recommend(request)
        found = zip(map(self.engine.catalogue.describe, result.items.tolist()), result.scores.tolist())
        answer = [Recommendation(raw, score, title) for (raw, title), score in found]
        if result.probabilities is not None:
            named = [dict(zip(self.engine.actions, own)) for own in result.probabilities.tolist()]
            likely = [None] * len(answer) if result.next is None else result.next.tolist()
            answer = [replace(x, next=next, actions=own) for x, next, own in zip(answer, likely, named)]
        return Answers(answer, result)

    def recommend_many(
        self,
        users: Sequence[RawId] | None = None,
        *,
        k: int = 10,
        at: int | None = None,
        seen: bool | None = None,
        allow: Sequence[RawId] | None = None,
        deny: Sequence[RawId] = (),
        where: Mapping[str, Sequence[RawId]] | None = None,
        boost: Sequence[Boost] = (),
        cap: Mapping[str, int] | None = None,
        diversity: float = 0.0,
    ) -> Iterator[pa.Table]:
        """The lists of some users of the table, of all if none are named, a table for each batch of users: a row an item, see
        many.as_table. `pa.concat_tables(...)` makes one of them, `.to_pandas()` a data frame.

        Raises InputError for a user who is not in the table, k below 1, and what a Request cannot have.
        """
        require_some(k)
        known = self.engine.table.user_ids
        numbers = np.arange(len(known)) if users is None else known.ids(users)
        for raw in [raw for raw, number in zip(users or (), numbers) if number < 0]:
            known.id(raw, "user")
        like = Request(
            history=empty_history(),
            at=at,
            k=k,
            seen=self.engine.shows_seen(seen),
            allow=allow,
            deny=deny,
            where=where or {},
            boost=boost,
            cap=cap or {},
            diversity=diversity,
        )
        for some, results in many.lists(self.engine, numbers, like):
            yield many.as_table(self.engine, some, results)

    def similar(
        self,
        item: RawId,
        *,
        k: int = 10,
        allow: Sequence[RawId] | None = None,
        deny: Sequence[RawId] = (),
        where: Mapping[str, Sequence[RawId]] | None = None,
    ) -> Answers[Recommendation]:
        """The k items whose vectors point where this one's does, nearest first; scores are cosines.

        Raises InputError for an unknown item, and k below 1.
        """
        require_some(k)
        request = Request(history=empty_history(), k=k, allow=allow, deny=deny, where=where or {})
        result = self.engine.similar(request, item)
        found = zip(map(self.engine.catalogue.describe, result.items.tolist()), result.scores.tolist())
        return Answers([Recommendation(raw, score, title) for (raw, title), score in found], result)

    def explain(
        self,
        *,
        user: RawId | None = None,
        history: Sequence[Event] | None = None,
        items: Sequence[RawId] | None = None,
        k: int = 5,
        events: int = 3,
        at: int | None = None,
    ) -> list[Influence]:
        """The past events that the k recommendations lean on most, `events` of each; or those of these items.

        Raises InputError as `recommend` does.
        """
        require_some(k)
        past = self.past("An explanation", user, history)
        request = Request(history=past, user=user, k=k, at=at, popular=self.engine.ranker is not None)
        return influences(self.engine, only(items, request), events)

    def rank(
        self,
        *,
        items: Sequence[RawId],
        user: RawId | None = None,
        history: Sequence[Event] | None = None,
        at: int | None = None,
        context: Mapping[str, object] | None = None,
        new_items: NewItems | None = None,
    ) -> Answers[Ranked]:
        """What will be done with each of the items, in their order.

        at         see Request
        context    attributes of the user, in place of the table's: {"gender": "F"}
        new_items  all that candidates that the model has not met are scored by:
                   {"new-film": {"genres": ["Drama"], "text": [0.1, …]}}

        A candidate of the history is scored as if it were shown again. The history may be empty: then the item and the
        context decide. Of one longer than the model's window the latest part counts.
        Candidates of which nothing is known are left out, and named in `unknown` of the answer. Raises InputError where that
        is all of them, for an unknown user or action, for new items that are known or of which nothing is, for no candidates
        and for more than MAX_CANDIDATES, and for a run that does not rank.
        """
        if not items:
            raise InputError("There are no candidates. Give at least one item: --items 1,2,3.")
        if len(items) > MAX_CANDIDATES:
            raise InputError(
                f"There are {len(items):,} candidates, but one request may have {MAX_CANDIDATES:,}. Send them in parts."
            )
        self.engine.run.require_ranking()
        past, new_items = self.past("Ranking", user, history), new_items or {}
        require_new(self.engine.catalogue.item_ids, new_items)
        request = Request(history=past, at=at, user=user, context=context, candidates=items, new_items=new_items)
        result = self.engine.recommend(request)
        if result.probabilities is None or result.values is None or result.raws is None:
            raise InputError(self.left_out_sentence(result.unknown, result.unavailable))
        ranked, columns = [], (x.tolist() for x in (result.items, result.probabilities, result.values))
        for item, number, probabilities, values in zip(result.raws, *columns):
            raw, title = self.engine.catalogue.describe_any(item, number)
            named = dict(zip(self.engine.actions, probabilities)), dict(zip(self.engine.value_names, values))
            ranked.append(Ranked(raw, *named, title))
        return Answers(ranked, result)

    def left_out_sentence(self, unknown: Sequence[RawId], unavailable: Sequence[RawId]) -> str:
        """Why candidates were not scored, and what may be done about it."""
        ranker = self.engine.ranker
        return left_out_sentence(ranker.model.item_attributes.columns if ranker else [], unknown, unavailable)

    def known_items(self, user: RawId | None, history: Sequence[Event] | None) -> list[int]:
        """Ids of the items of the whole history that the model knows, oldest first."""
        request = Request(history=self.past("A recommendation", user, history))
        return self.engine.window(request, self.engine.finder).items.tolist()

    def past(self, what: str, user: RawId | None, history: Sequence[Event] | None) -> History | TableUser:
        """What a user of the table did, or the given events; `what` needs it."""
        if (user is None) == (history is None):
            raise InputError(f"{what} needs a user or a history, one of the two: --user ID or --history FILE.json.")
        if user is None:
            return history_of(history or [], Names(self.engine.actions, self.engine.values))
        table = self.engine.table
        return TableUser(table, table.user_ids.id(user, "user"))


def require_some(k: int) -> None:
    if k < 1:
        raise InputError(f"k must be at least 1, but it is {k}.")


def read_history(path: Path) -> list[Event]:
    """Events from a JSON file: a list of item ids, oldest first, or of objects with the fields of an Event, whose time is
    that of their place in the list unless they say it.

    Raises InputError if the file is missing or holds anything else.
    """
    from pydantic import TypeAdapter

    form = 'a list such as [1193, 661] or [{"item": 1193, "time": 978300760, "actions": ["like"]}]'
    events, adapter = [], TypeAdapter(Event)
    for number, value in enumerate(read_json(path, "history", list, form)):
        try:
            given = value if isinstance(value, dict) else {"item": value}
            event = adapter.validate_json(json.dumps({"time": number, **given}))
            if abs(event.time) >= 1 << 62:
                raise ValueError("no time has so many digits")
        except ValueError as error:
            raise InputError(
                f"Entry {number + 1} of the history {path} is {json.dumps(value)[:80]}. It must be {form}."
            ) from error
        events.append(event)
    return events
