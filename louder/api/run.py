"""Ask a run: recommendations, neighbours, ranks and reasons, as frames."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from louder.api import facts
from louder.api.frames import Frame, default_kind, ids_of, is_column, is_frame, kind_of, listed, plain, to_frame
from louder.api.lists import write
from louder.api.log import Log
from louder.api.measured import Measured, ReportPage
from louder.api.moments import Moment, moment
from louder.api.words import speaking_python, warn
from louder.checkpoint import RUN_FOLDER
from louder.errors import InputError
from louder.folders import new_folder, read_json, write_text
from louder.ids import RawId
from louder.inference.recommender import Ranked, Recommendation, Recommender
from louder.inference.request import Boost, Event
from louder.inference.run import Run
from louder.progress import counting
from louder.training.tasks import evaluate_run

Raws = Sequence[RawId]
Filters = Mapping[str, RawId | Sequence[RawId]]


class TrainedRun:
    """A run on disk, and the table that it was trained on.

    path   its folder
    table  where the histories of users are
    frame  the kind of frames that answers come in: pandas, polars or arrow
    temporary
           whether the folder goes when Python ends
    """

    def __init__(
        self,
        path: Path,
        table: Path | None = None,
        *,
        frame: str | None = None,
        log: Log | None = None,
        temporary: bool = False,
    ) -> None:
        self.opened = Run.open(path)
        self.path, self.table = path, table or Path(self.opened.data.table)
        self.frame, self.temporary = frame or default_kind(), temporary
        self._log = log  # a temporary table goes with its handle

    @property
    def name(self) -> str:
        """Of its config."""
        return self.opened.name

    @cached_property
    def log(self) -> Log:
        """The table."""
        return self._log or Log(self.table, self.frame)

    @cached_property
    def recommender(self) -> Recommender:
        """The weights, loaded when they are first needed."""
        return Recommender(self.path, self.table)

    @property
    def metrics(self) -> Measured | None:
        """What training measured at its end, on the test part; None before."""
        file = self.path / "metrics.json"
        return Measured(read_json(file, "metrics", dict, "those of a run")) if file.is_file() else None

    @speaking_python
    def evaluate(self, part: str = "test", *, seen: str | None = None) -> Measured:
        """How good the best epoch is on what was held out.

        part  "test" or "validation"
        seen  what is left out of the ranking: what the user had in the model's "window", in the whole "history", or
              "none"; None: as the run was trained
        """
        if part not in ("test", "validation"):
            raise InputError(f"part must be 'test' or 'validation', but it is {part!r}.")
        if seen not in (None, "window", "history", "none"):
            raise InputError(f"seen must be 'window', 'history' or 'none', but it is {seen!r}.")
        with counting(f"measuring {self.path}") as done:
            return Measured(evaluate_run(self.path, part=part, table=str(self.table), seen=seen, on_batch=done))

    @speaking_python
    def recommend(
        self,
        users: object = None,
        *,
        history: Sequence[RawId | Event] | None = None,
        k: int = 10,
        at: Moment | None = None,
        seen: bool | None = None,
        allow: Raws | None = None,
        deny: Raws = (),
        where: Filters | None = None,
        boost: Sequence[Boost] = (),
        cap: Mapping[str, int] | None = None,
        diversity: float = 0.0,
    ) -> Frame:
        """The k items that each user is recommended: a row an item, with `user`, `rank` (1 the first), `item`, `title` where
        there is one, and `score`; of a run that retrieves and ranks also `next`, and the probability of each action.

        users    one id, a list, a column, or a frame with a column `user`; each counts once. None: everybody
        history  in place of users: what somebody new did, oldest first, as item ids or Events
        at       the time of the request: seconds since 1970, a date or its text; None: that of each user's latest event. Who
                 had none by then is recommended what is popular
        where    {"genres": "Drama"}, or a list of values any of which will do
        Of the others see Recommender.recommend. Users who are not in the table get nothing, and a warning says so; raises
        InputError where that is all of them.
        """
        asked: dict[str, Any] = {"k": k, "at": moment(at), "seen": seen, **filters(allow, deny, where)}
        asked |= {"boost": boost, "cap": cap, "diversity": diversity}
        if history is not None:
            if users is not None:
                raise InputError("Give users or a history, one of the two.")
            answer = self.recommender.recommend(history=self.past(history), **asked)
            return to_frame(ranked(recommended(answer)), self.frame)
        kind = kind_of(users) if is_frame(users) or is_column(users) else self.frame
        return to_frame(pa.concat_tables(self.lists(users, asked)), kind)

    @speaking_python
    def recommend_to(self, output: str | os.PathLike[str], users: object = None, *, k: int = 10, **asked: Any) -> int:
        """Likewise into a .parquet or .csv file, batch by batch, for more lists than fit in memory; how many rows it has.

        asked  other keywords of `recommend`
        """
        given = filters(asked.pop("allow", None), asked.pop("deny", ()), asked.pop("where", None))
        return write(self.lists(users, {"k": k, "at": moment(asked.pop("at", None)), **given, **asked}), Path(output))

    def lists(self, users: object, asked: Mapping[str, Any]) -> Iterator[pa.Table]:
        """The lists of many users, batch by batch; a warning of users who get none."""
        chosen = None if users is None else self.known(ids_of(users))
        total = self.log.users if chosen is None else len(chosen)
        if not total:
            raise InputError("There are no users. Give at least one: users=[42].")
        answered = 0
        with counting("recommending", total) as done:
            for part in self.recommender.recommend_many(chosen, **asked):
                yield part
                answered += (some := pc.count_distinct(part.column("user")).as_py())
                done(some)
        if answered < total:
            sentence = f"{total - answered:,} of the {total:,} users get no items: nothing is left for them."
            warn(sentence)

    @speaking_python
    def similar(
        self,
        item: RawId,
        *,
        k: int = 10,
        allow: Raws | None = None,
        deny: Raws = (),
        where: Filters | None = None,
    ) -> Frame:
        """The k items that are most like one, by the cosine of what the model learned of them: `rank`, `item`, `title`,
        `score`. Raises InputError for an item that is not known."""
        answer = self.recommender.similar(plain(item), k=k, **filters(allow, deny, where))
        return to_frame(ranked(recommended(answer)), self.frame)

    @speaking_python
    def rank(
        self,
        user: RawId | None = None,
        items: object = (),
        *,
        history: Sequence[RawId | Event] | None = None,
        at: Moment | None = None,
        context: Mapping[str, object] | None = None,
    ) -> Frame:
        """These items in the order of what the user will do with them, best first: `rank`, `item`, `title`, and of a run that
        ranks the probability of each action, by the main one of which they are ordered, and the expected values; of one that
        only finds the next item its `score`.

        context  attributes of the user, in place of the table's
        Items that are not known are left out, and a warning says so; raises InputError where that is all of them.
        """
        candidates, past = ids_of(items), None if history is None else self.past(history)
        if self.opened.ranking is None:
            known = self.known_items(candidates)
            found = recommended(
                self.recommender.recommend(
                    user=plain(user), history=past, k=len(known), allow=known, seen=True, at=moment(at)
                )
            )
        else:
            asked = {"user": plain(user), "history": past, "at": moment(at), "context": context}
            answer = self.recommender.rank(items=candidates, **asked)
            if answer.unknown:
                warn(self.recommender.left_out_sentence(answer.unknown, []))
            main = self.recommender.engine.main
            found = probabilities(sorted(answer, key=lambda x: -x.actions[main]))
        return to_frame(ranked(found), self.frame)

    @speaking_python
    def explain(
        self,
        user: RawId | None = None,
        items: object = None,
        *,
        history: Sequence[RawId | Event] | None = None,
        k: int = 5,
        events: int = 3,
    ) -> Frame:
        """Which past events the first k recommendations lean on, or the scores of these items: a row an event, with `item`,
        `title`, `score`, the event's item `because`, its `because_title` and `time`, its share of the `attention`, and the
        `change` of the score without it."""
        past = None if history is None else self.past(history)
        some = None if items is None else self.known_items(ids_of(items))
        answer = self.recommender.explain(user=plain(user), history=past, items=some, k=k, events=events)
        columns = ["item", "title", "score", "because", "because_title", "time", "attention", "change"]
        rows = [asdict(influence) for influence in answer]
        table = without_empty(pa.table({name: [row[name] for row in rows] for name in columns}))
        if self.log.manifest.has_times and history is None:
            place, moments = table.column_names.index("time"), table.column("time").cast(pa.timestamp("s", "UTC"))
            table = table.set_column(place, "time", moments)
        return to_frame(table, self.frame)

    @speaking_python
    def report(self, output: str | os.PathLike[str] | None = None) -> ReportPage:
        """One HTML page about the run: metrics, curves, sample recommendations, data, config; RUN/report.html unless
        `output` says otherwise."""
        from louder.reports.report import write_report

        measured = self.metrics
        file = write_report(self.path, Path(output) if output else None, table=self.table)
        assert measured is not None, "a report is of a finished run"
        return ReportPage(file, measured)

    def past(self, history: Sequence[RawId | Event]) -> list[Event]:
        """A history as events, of which some have to be of items that the model knows."""
        events = events_of(history)
        items = list(dict.fromkeys(event.item for event in events))
        known_of(items, self.opened.item_ids.ids(items), "items of the history", "the model's catalogue")
        return events

    def known(self, users: list[RawId]) -> list[RawId]:
        """Those that are in the table."""
        return known_of(users, self.recommender.engine.table.user_ids.ids(users), "users", "the table")

    def known_items(self, items: list[RawId]) -> list[RawId]:
        if not items:
            raise InputError("There are no items. Give at least one: items=[1, 2, 3].")
        return known_of(items, self.opened.item_ids.ids(items), "items", "the model's catalogue")

    @speaking_python
    def keep(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> "TrainedRun":
        """A copy of the run that stays; of a temporary table, too, beside it. Raises InputError where something is there."""
        target, log = Path(folder), self.log
        if log.temporary:
            log = log.keep(target.with_name(f"{target.name}-table"), overwrite=overwrite)
        with new_folder(target, RUN_FOLDER, overwrite=overwrite, keep=[self.path, log.path]) as temporary:
            shutil.copytree(self.path, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock"))
            for file in (temporary / "config.json", *temporary.glob("checkpoints/*/state.json")):
                content = read_json(file, "config", dict, "that of a run")
                content.get("config", content)["data"]["table"] = str(log.path)
                write_text(file, json.dumps(content, indent=1) + "\n")
        return TrainedRun(target, log.path, frame=self.frame, log=log)

    def notes(self) -> list[str]:
        return ["The folder is temporary: it goes when Python ends. Keep it: run.keep('runs/NAME')."] * self.temporary

    def rows(self) -> list[facts.Fact]:
        config = self.opened.config
        rows: list[facts.Fact] = [("run", str(self.path)), ("model", config["model"].get("kind", ""))]
        rows += [("table", str(self.table)), ("best epoch", self.opened.epoch + 1)]
        return rows

    def __repr__(self) -> str:
        measured = self.metrics
        return facts.lines(self.name, self.rows(), self.notes()) + (f"\n{measured!r}" if measured else "")

    def _repr_html_(self) -> str:
        measured = self.metrics
        return facts.html(self.name, self.rows(), self.notes()) + (measured._repr_html_() if measured else "")


def filters(allow: Raws | None, deny: Raws, where: Filters | None) -> dict[str, Any]:
    """As a Request has them: one id, or one value, is a list of it."""
    texts = {name: ids_of(values) for name, values in (where or {}).items()}
    return {"allow": None if allow is None else ids_of(allow), "deny": ids_of(deny), "where": texts}


def known_of(raws: list[RawId], numbers: Any, what: str, where: str) -> list[RawId]:
    """The raw ids with a number that is not -1; a warning of the others. Raises InputError where that is all of them."""
    lost = [raw for raw, number in zip(raws, numbers) if number < 0]
    if len(raws) == len(lost) == 1:
        raise InputError(f"There is no {lost[0]!r} among the {what} in {where}.")
    if lost and len(lost) == len(raws):
        raise InputError(f"None of the {len(raws):,} {what} is in {where}: {some(lost)}.")
    if lost:
        warn(f"{len(lost):,} of the {len(raws):,} {what} are not in {where} and are left out: {some(lost)}.")
    return [raw for raw, number in zip(raws, numbers) if number >= 0]


def some(raws: list[RawId], count: int = 5) -> str:
    return ", ".join(map(repr, raws[:count])) + (f" and {len(raws) - count:,} more" if len(raws) > count else "")


def events_of(history: Sequence[RawId | Event]) -> list[Event]:
    """Item ids, oldest first, as events whose time is their place; Events stay."""
    given = [x if isinstance(x, Event) else plain(x) for x in listed(history)]
    return [x if isinstance(x, Event) else Event(item=x, time=place) for place, x in enumerate(given)]


def recommended(answer: Sequence[Recommendation]) -> pa.Table:
    """Columns item, title, score, and those of a second stage."""
    columns = {name: [getattr(x, name) for x in answer] for name in ("item", "title", "score", "next")}
    if all(x is None for x in columns["next"]):
        del columns["next"]
    actions = answer[0].actions if answer else {}
    return without_empty(pa.table(columns | {name: [x.actions[name] for x in answer] for name in actions}))


def probabilities(answer: Sequence[Ranked]) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [getattr(x, name) for x in answer] for name in ("item", "title")}
    columns |= {name: [x.actions[name] for x in answer] for name in answer[0].actions}
    return without_empty(pa.table(columns | {name: [x.values[name] for x in answer] for name in answer[0].values}))


def without_empty(table: pa.Table) -> pa.Table:
    """Without the titles of a log that has none."""
    empty = [x for x in ("title", "because_title") if x in table.column_names and not any(table.column(x).to_pylist())]
    return table.drop_columns(empty)


def ranked(table: pa.Table) -> pa.Table:
    return table.add_column(0, "rank", pa.array(range(1, len(table) + 1), pa.int64()))
