"""The model that answers, the one before it, and how a new checkpoint takes its place without a request failing."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from louder import checkpoint
from louder.histories.history import History
from louder.inference.engine import Engine
from louder.inference.run import version_of
from louder.inference.sources import KINDS, source_of
from louder.serving.canaries import check
from louder.serving.publishing import mark_of
from louder.serving.turns import Turns
from louder.serving.warmup import warm


@dataclass(frozen=True)
class ModelSource:
    """Where models come from. A run's best checkpoint is a pointer that training replaces in one step; `run` may be a
    link that `louder publish` replaces, too."""

    run: Path
    ranker: Path | None = None
    table: Path | None = None
    cache_bytes: int = 1 << 30
    sources: tuple[str, ...] = ()

    def load(self) -> Engine:
        """What is published now, warm. It is read file by file, so if it changed meanwhile it is read again."""
        while True:
            version = self.version()
            run, ranker = self.run.resolve(), None if self.ranker is None else self.ranker.resolve()
            model = Engine(run, ranker, table=self.table, cache_bytes=self.cache_bytes, sources=self.resolved)
            if version == model.version == self.version():
                warm(model)
                return model

    def version(self) -> str:
        beside = [Path(source_of(text).name) for text in self.resolved if source_of(text).name not in KINDS]
        return version_of(self.run.resolve(), None if self.ranker is None else self.ranker.resolve(), *beside)

    @property
    def resolved(self) -> list[str]:
        """The sources, with runs by their own paths, which links may point to."""
        found = [source_of(text) for text in self.sources]
        return [f"{x.name if x.name in KINDS else Path(x.name).resolve()}:{x.count}" for x in found]

    def marks(self) -> list[str]:
        """What louder publish --force and louder rollback left beside the run, and beside the ranker if there is one; ""
        where it is nothing."""
        return [mark_of(path) for path in (self.run, self.ranker) if path is not None]

    def forced(self, live: Engine, new: Engine) -> bool:
        """Whether all that is not as in the live model was published to go live whatever it is like."""
        before, after = ([x.run] if self.ranker is None else [x.run, x.ranking_run] for x in (live, new))
        changed = [
            (mark, new_run.folder)
            for mark, old_run, new_run in zip(self.marks(), before, after)
            if old_run is not None and new_run is not None and old_run.folder.resolve() != new_run.folder.resolve()
        ]
        return bool(changed) and all(mark == checkpoint.fingerprint(folder) for mark, folder in changed)


class LiveModels:
    """`live` answers, and `previous` did before. A batch takes `both` at once, in its turn, so no answer mixes two models.

    canaries  histories of some known users, with which a new model is tried before it is taken
    prepare   what is done with a new model before
    """

    def __init__(
        self,
        live: Engine,
        canaries: Callable[[], Sequence[History]],
        every_s: float = 1.0,
        prepare: Callable[[Engine], None] = lambda model: None,
    ) -> None:
        self.canaries, self.every_s, self.prepare = canaries, every_s, prepare
        self.both: tuple[Engine, Engine | None] = live, None
        self.turns = Turns()
        self.refused: str | None = None
        self.swaps = self.refusals = 0
        self.number = self.gate_refusals = 0  # of a folder of versions: the live one, and what its gate refused
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    @property
    def live(self) -> Engine:
        return self.both[0]

    @property
    def previous(self) -> Engine | None:
        return self.both[1]

    def watch(self) -> None:
        """Look for a new model every second, until `close`."""
        self.thread = threading.Thread(target=self.look_on, name="reload", daemon=True)
        self.thread.start()

    def look_on(self) -> None:
        while not self.stop.wait(self.every_s):
            self.look()

    def look(self) -> bool:
        """Take what was published, if it is new and good; whether it was taken."""
        raise NotImplementedError

    def close(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(timeout=5)


class Models(LiveModels):
    """Of a run: a new checkpoint is loaded beside the live one, which stays in memory as the previous one."""

    def __init__(
        self,
        source: ModelSource,
        live: Engine,
        canaries: Callable[[], Sequence[History]],
        every_s: float = 1.0,
        prepare: Callable[[Engine], None] = lambda model: None,
    ) -> None:
        super().__init__(live, canaries, every_s, prepare)
        self.source = source
        self.refused_as = "", [""]  # a version, and the marks that did not force it

    def look(self) -> bool:
        version, marks = "", [""]
        try:
            marks = self.source.marks()
            version = self.source.version()
            if version == self.live.version:  # also again, after one that was refused
                self.refused, self.refused_as = None, ("", [""])
            if version == self.live.version or (version, marks) == self.refused_as:
                return False
            if self.previous is not None and self.previous.version == version:
                new = self.previous
            else:
                new = self.source.load()
                self.prepare(new)
                check(self.live.twin(), new, self.canaries(), forced=self.source.forced(self.live, new))
        except Exception as error:  # whatever is wrong with it, the live model goes on
            reason = f"{version or self.source.run}: {error}"
            self.refusals += reason != self.refused  # a run that is away is looked for every second, and counts once
            self.refused, self.refused_as = reason, (version, marks)
            return False
        self.both = new, self.live
        self.refused, self.refused_as = None, ("", [""])
        self.swaps += 1
        return True
