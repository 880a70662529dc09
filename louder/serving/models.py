"""The model that answers, the one before it, and how a new checkpoint takes its place without a request failing."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from louder.errors import InputError
from louder.inference.answering import Answering, Found, Past, Question, version_of

SLOWER = 10  # a model that needs so many times as long as the live one is refused


@dataclass(frozen=True)
class Source:
    """Where models come from. A run's best checkpoint is a pointer that training replaces in one step; `run` may be a
    link that `louder publish` replaces, too."""

    run: Path
    ranker: Path | None = None
    table: Path | None = None
    cache_bytes: int = 1 << 29

    def load(self) -> Answering:
        run, ranker = self.run.resolve(), None if self.ranker is None else self.ranker.resolve()
        return Answering(run, ranker, table=self.table, cache_bytes=self.cache_bytes)

    def version(self) -> str:
        return version_of(self.run.resolve(), None if self.ranker is None else self.ranker.resolve())


class Models:
    """`live` answers. A batch takes it once, so no answer mixes two models.

    canaries  makes some questions of known users, with which a new model is tried before it is taken
    """

    def __init__(self, source: Source, canaries: Callable[[], Sequence[Past]], every_s: float = 1.0) -> None:
        self.source, self.canaries, self.every_s = source, canaries, every_s
        self.live: Answering = source.load()
        self.previous: Answering | None = None
        self.refused: str | None = None
        self.refused_version = ""
        self.swaps = self.refusals = 0
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

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
            if version in (self.live.version, self.refused_version):
                return False
            back = self.previous is not None and self.previous.version == version
            new = self.previous if back and self.previous is not None else self.source.load()
            if not back:
                self.check(new)
        except Exception as error:  # whatever is wrong with it, the live model goes on
            self.refused, self.refused_version = f"{version or self.source.run}: {error}", version
            self.refusals += 1
            return False
        self.live, self.previous = new, self.live
        self.refused, self.refused_version = None, ""
        self.swaps += 1
        return True

    def check(self, new: Answering) -> None:
        """Raises InputError for a model that must not go live."""
        if not bool(torch.isfinite(new.item_vectors).all()):
            raise InputError("its item vectors are not finite")
        if (new.ranker is None) != (self.live.ranker is None):
            raise InputError("it ranks and the live model does not, or the other way round")
        pasts = list(self.canaries())
        questions = [Question(past=past, at=int(past.times[-1]) + 1 if len(past.times) else 0) for past in pasts]
        if not questions:
            return
        took = {}
        for model in self.copy_of_live(), new:
            began = time.perf_counter()
            answers = model.answer(questions)
            took[model is new] = time.perf_counter() - began
            if model is not new:
                continue
            for answer in answers:
                if not isinstance(answer, Found):
                    raise InputError(f"it does not answer for a known user: {answer}")
                if not all(math.isfinite(score) for score in answer.scores.tolist()):
                    raise InputError("its scores are not finite")
                if not len(answer.items) or (answer.skipped and not answer.read):
                    raise InputError("it knows none of the items of a known user")
        if took[True] > SLOWER * took[False] + 1:
            raise InputError(f"it needs {took[True]:.1f} s for what the live model does in {took[False]:.1f} s")

    def copy_of_live(self) -> Answering:
        """The live model with caches of its own, since it answers in another thread at the same time."""
        return self.live.twin()

    def close(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(timeout=5)
