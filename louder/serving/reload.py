"""The model that answers, the one before it, and how a new checkpoint takes its place without a request failing."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from louder.errors import InputError
from louder.histories.history import History
from louder.inference.engine import Engine
from louder.inference.request import Request, Result
from louder.inference.run import version_of
from louder.inference.sources import KINDS, source_of
from louder.serving.warmup import trial_request, warm

SLOWER = 10  # a model that needs so many times as long as the live one is refused


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


class Models:
    """`live` answers, and `previous` did before. A batch takes `both` at once, so no answer mixes two models.

    canaries  histories of some known users, with which a new model is tried before it is taken
    """

    def __init__(
        self, source: ModelSource, live: Engine, canaries: Callable[[], Sequence[History]], every_s: float = 1.0
    ) -> None:
        self.source, self.canaries, self.every_s = source, canaries, every_s
        self.both: tuple[Engine, Engine | None] = live, None
        self.refused: str | None = None
        self.refused_version = ""
        self.swaps = self.refusals = 0
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    @property
    def live(self) -> Engine:
        return self.both[0]

    @property
    def previous(self) -> Engine | None:
        return self.both[1]

    def watch(self) -> None:
        """Look for a new checkpoint every second, until `close`."""
        self.thread = threading.Thread(target=self.look_on, name="reload", daemon=True)
        self.thread.start()

    def look_on(self) -> None:
        while not self.stop.wait(self.every_s):
            self.look()

    def look(self) -> bool:
        """Take what was published, if it is new and good; whether it was taken."""
        version = ""
        try:
            version = self.source.version()
            if version == self.live.version:  # also again, after one that was refused
                self.refused, self.refused_version = None, ""
            if version in (self.live.version, self.refused_version):
                return False
            if self.previous is not None and self.previous.version == version:
                new = self.previous
            else:
                new = self.source.load()
                self.check(new)
        except Exception as error:  # whatever is wrong with it, the live model goes on
            reason = f"{version or self.source.run}: {error}"
            self.refusals += reason != self.refused  # a run that is away is looked for every second, and counts once
            self.refused, self.refused_version = reason, version
            return False
        self.both = new, self.live
        self.refused, self.refused_version = None, ""
        self.swaps += 1
        return True

    def check(self, new: Engine) -> None:
        """Raises InputError for a model that must not go live."""
        if (new.ranker is None) != (self.live.ranker is None):
            raise InputError("it ranks and the live model does not, or the other way round")
        histories = [history for history in self.canaries() if len(history)]
        known = [x for x in histories if (new.catalogue.item_ids.ids(list(x.items)) >= 0).any()]
        if histories and not known:
            raise InputError("it knows none of the items of the known users")
        requests = [Request(history=x, at=int(x.times[-1]) + 1, seen=True) for x in known] or [trial_request(new)]
        twin, began = self.live.twin(), time.perf_counter()  # the live model itself is another thread's
        twin.recommend_batch(requests)
        between = time.perf_counter()
        answers = new.recommend_batch(requests)
        live_s, new_s = between - began, time.perf_counter() - between
        for answer in answers:
            if not isinstance(answer, Result):
                raise InputError(f"it does not answer for a known user: {answer}")
            if not np.isfinite(answer.scores).all():
                raise InputError("its scores are not finite")
        if new_s > SLOWER * live_s + 1:
            raise InputError(f"it needs {new_s:.1f} s for what the live model does in {live_s:.1f} s")

    def close(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(timeout=5)
