"""The loop of a stream: cut a window, score it, train on it, save all, tell."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from louder import checkpoint
from louder.errors import InputError
from louder.folders import one_writer, read_json, told_when_full
from louder.histories import Arrival
from louder.histories.arrivals import LARGEST
from louder.histories.keys import key_of
from louder.histories.settings import kind_of
from louder.ids import IdMap
from louder.inference.run import Run
from louder.online import folder as folders
from louder.online.config import StreamConfig
from louder.online.feed import Cut, Feed, read_cut, write_cut
from louder.online.histories import WorkingStore
from louder.online.learner import Learner, Measured
from louder.online.screen import StreamScreen
from louder.online.sequences import Block, Sequences, blocks_of
from louder.online.window import Window, gather
from louder.results import Row, append_row
from louder.streaming import Deletion, Joiner, LogRecord, Position, Shown
from louder.training.config import Config

INT64 = range(-(1 << 63), 1 << 63)

Publish = Callable[[Learner, Sequences, Measured, Row, Path], Row]
"""The learner, a window, how it was foretold, its row and its checkpoint -> what is added to the row: see Publisher"""


def stream(
    begin: Path | Config,
    source: str,
    output: Path,
    *,
    settings: StreamConfig | None = None,
    changes: list[str] | None = None,
    table: Path | None = None,
    until_end: bool = False,
    windows: int | None = None,
    publish: Publish | None = None,
    quiet: bool = False,
) -> Row:
    """Learn from an event log, window by window; returns the row of the last one.

    begin      a run to go on from (warm), or a config (cold)
    source     of events: a folder or kafka://HOST:PORT/TOPIC
    output     the folder of the stream. One that is there goes on where it was, with the bits that it would have had
    changes    of settings of the run, NAME=VALUE
    table      with the histories of known users; None: that of the run's training
    until_end  stop at the end of the log; its last window may be shorter. Otherwise it goes on until it is interrupted
    windows    stop after so many
    publish    called after each checkpoint, see Publisher; None: the folder of the stream is all that there is

    Raises InputError for settings that are not those it was started with, and for a log that was cut or replaced.
    """
    output, settings, changes = Path(output), settings or StreamConfig(), changes or []
    if output.exists() and not folders.is_stream(output):
        raise InputError(f"{output} is no stream, so it is left alone. Choose another: -o NAME.")
    if not output.exists():
        folders.start(begin, output, settings, changes, table)
    name = str(begin) if isinstance(begin, Path) else begin.name
    folders.require_same(output, name, settings, changes)
    with one_writer(output), told_when_full(output), StreamScreen(output, quiet=quiet) as screen:
        with Trainer(output, source, settings, screen, publish) as trainer:
            return trainer.run(until_end, windows)


class Trainer:
    """One stream at work, between two checkpoints: the learner, the histories, what waits to be joined, and the log."""

    def __init__(
        self, output: Path, source: str, settings: StreamConfig, screen: StreamScreen, publish: Publish | None
    ) -> None:
        self.output, self.settings, self.screen, self.publish = output, settings, screen, publish
        self.state = folders.restore(output)
        progress: dict[str, Any] = self.state["stream"]
        self.window: int = progress["window"]
        self.upto: int | None = progress["upto"]
        self.counts = Counter[str](progress["counts"])
        run = Run.open(output)
        self.learner, saved = Learner(run, settings), run.folder
        self.histories = WorkingStore(
            output / ".histories", saved / folders.HISTORIES, names=self.learner.names, keep=settings.keep
        )
        self.user_kind, self.item_kind = kind_of_all(run.user_ids), kind_of_all(run.item_ids)
        joined = saved / folders.JOINER
        times = {"wait_s": settings.wait_s, "horizon_s": settings.horizon_s}
        self.joiner = Joiner(output / ".joiner", joined if joined.is_file() else None, **times)
        place = progress["position"]
        position = None if place is None else Position(place["log"], {int(n): x for n, x in place["offsets"].items()})
        about = read_json(output / folders.SETTINGS, "settings of a stream", dict, "what louder stream wrote")
        self.known_until: int | None = about.get("known_until")
        self.offsets = {} if position is None else dict(position.offsets)
        self.feed = Feed(
            source,
            position,
            self.joiner,
            settings,
            progress["seen"],
            self.refuse,
            dead=output / "dead.jsonl",
            tell=screen.tell,
        )

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *error: object) -> None:
        self.feed.close()
        self.joiner.close()
        self.histories.close()

    def run(self, until_end: bool, windows: int | None) -> Row:
        """Window after window. One that a crash cut off is read again as it was cut."""
        last, empty = Row(), 0
        cut = read_cut(self.output)
        if cut is not None and cut.window == self.window + 1:
            self.screen.status(f"reading window {cut.window} again, which was not finished")
            self.feed.again(cut)
        else:
            cut = None
        while windows is None or windows > 0:
            if cut is None:
                cut = self.feed.next_cut(
                    self.window + 1, self.upto, until_end=until_end, waiting=lambda: self.screen.waiting(self.upto)
                )
            if cut is None:
                return last
            last = self.learn(cut, empty) or last
            empty = empty + 1 if self.window < cut.window else 0
            if windows is not None and not empty:
                windows -= 1
            self.upto, cut = cut.upto, None
        return last

    def learn(self, cut: Cut, empty: int) -> Row | None:
        """Test on a window, train on it, save. None where nothing happened in it: then there is nothing to save either, since
        whoever comes back reads as far without it."""
        began = time.perf_counter()
        outcomes = list(self.joiner.advance(cut.upto))
        if not outcomes and cut.offsets == self.offsets:
            return None
        write_cut(self.output, cut)
        self.delete()
        window = gather(outcomes, self.learner.names, self.settings.most_events)
        sequences, counts = self.sequences(window)
        overlap = self.overlap(window)
        self.screen.status(f"window {cut.window}: testing")
        measured = self.learner.measure(sequences)
        tested = time.perf_counter()
        self.screen.status(f"window {cut.window}: training")
        losses = self.learner.train(self.sequences(window)[0] if self.learner.follow(window) else sequences)
        trained = time.perf_counter()
        for own in window.users.values():
            if own.events:
                self.histories.append(list(own.events))
        row = self.row(cut, window, counts) | measured.row
        row |= {"steps": len(losses), "loss": sum(losses) / len(losses) if losses else None, "empty_windows": empty}
        row["overlap"] = overlap
        self.window, self.upto, self.offsets = cut.window, cut.upto, cut.offsets
        self.counts += counts
        took = time.perf_counter() - began
        row |= {
            "seconds": {"test": round(tested - began, 3), "train": round(trained - tested, 3), "all": round(took, 3)},
            "events_per_s": round(row["events"] / took, 1),
            "behind_s": round(time.time() - cut.upto, 1),
        }
        self.save(cut, row)
        if self.publish is not None:
            self.screen.status(f"window {cut.window}: publishing")
            place = checkpoint.step_folder(self.output, cut.window)
            row |= self.publish(self.learner, sequences, measured, row, place)
        append_row(self.output / folders.ROWS, row)
        self.screen.window(row)
        return row

    def sequences(self, window: Window) -> tuple[Sequences, Counter[str]]:
        counts = Counter(window.counts)
        found: list[tuple[Any, list[Block]]] = []
        for user, own in window.users.items():
            if blocks := blocks_of(self.histories.history(user), own, self.learner.task, counts):
                found.append((user, blocks))
        return Sequences(found, self.learner.task, self.learner.config.data.query_time), counts

    def overlap(self, window: Window) -> int:
        """Events from before the end of the table that the histories were filled with: it may hold them, too."""
        if (until := self.known_until) is None:
            return 0
        found = sum(event.time <= until for own in window.users.values() for event in own.events)
        if found and self.window == 0:
            self.screen.tell(
                f"{found:,} events of the first window are from before the end of the table that the histories come from. If it "
                "holds them, they are read twice, and foretold by a model that has seen them: stream what came after."
            )
        return found

    def delete(self) -> None:
        for record in self.feed.deletions:
            if record.id is None:
                self.histories.delete_user(record.user, record.time)
            else:
                self.histories.delete_event(record.user, record.id)
        self.feed.deletions = list[Deletion]()

    def row(self, cut: Cut, window: Window, counts: Counter[str]) -> Row:
        reader = self.feed.reader
        return {
            "window": cut.window,
            "upto": cut.upto,
            "first": window.first,
            "last": window.last,
            "users": len(window.users),
            **{name: counts[name] for name in ("events", "negatives", "corrections", "unknown", "left_out")},
            "joined": dict(self.joiner.counts),
            "read": dict(reader.counts),
            "lag": sum(map(len, self.feed.ahead.values())) + reader.lag(),
            "offsets": {str(part): offset for part, offset in cut.offsets.items()},
            "idle": cut.idle,
            "ends": cut.ends,
            **({} if self.learner.items is None else self.learner.items.counts()),
            "version": checkpoint.step_folder(self.output, cut.window).name,
        }

    def save(self, cut: Cut, row: Row) -> None:
        """With the row, which is written once it is known what was published."""
        progress = {
            "window": cut.window,
            "upto": cut.upto,
            "position": {"log": cut.log, "offsets": {str(part): offset for part, offset in cut.offsets.items()}},
            "seen": self.feed.state(),
            "counts": dict(self.counts),
            "row": row,
        }
        state = {key: value for key, value in self.state.items() if key not in ("format_version", "metrics")}
        state |= {
            "progress": {"step": self.learner.step, "epoch": cut.window, "best_epoch": cut.window},
            "stream": progress,
        }
        state["vocabulary"] = asdict(self.learner.vocabulary())
        files = {folders.HISTORIES: self.histories.save, folders.JOINER: self.joiner.save}
        if (items := self.learner.items) is not None:
            files["."] = lambda path: items.write(path, self.output)
        with self.learner.kept_weights() as latest:
            tensors = {"model": self.learner.model.state_dict(), "optimizer": self.learner.tensors() | latest}
            folders.save(self.output, cut.window, tensors, state, self.output, files)

    def refuse(self, record: LogRecord) -> str:
        """Why a record cannot be used; it goes to the dead letters."""
        items = record.items if isinstance(record, Shown) else () if isinstance(record, Deletion) else (record.item,)
        for what, ids, kind in (("user", (record.user,), self.user_kind), ("item", items, self.item_kind)):
            for own in ids:
                if kind is not None and kind_of(own) != kind:
                    return f"the {what} {own!r} is not of the kind of the model's, which are {kind}"
                if not isinstance(own, str) and own not in INT64:
                    return f"the {what} {own} does not fit into 64 bits"
        if record.time not in INT64:
            return f"the time {record.time} does not fit into 64 bits"
        try:
            key_of(record.user)
        except InputError as error:
            return str(error).rstrip(".")
        if isinstance(record, Arrival):
            for name, value in record.values.items():
                if abs(value) > LARGEST:
                    return f"the value {name!r} is {value}, which 32 bits do not hold"
        return ""


def kind_of_all(ids: IdMap) -> str | None:
    """Of raw ids, which are of one kind; None where there are none."""
    first = np.flatnonzero(ids.there)[:1]
    return kind_of(ids.raws(first)[0]) if len(first) else None
