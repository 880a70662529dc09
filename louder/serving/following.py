"""A folder of versions, followed: the live model becomes the one that was published, in place and between two batches."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from louder.histories.history import History
from louder.inference.engine import Engine
from louder.publishing.chain import Version, current_version, refusals
from louder.publishing.live import AnotherModel, open_version, prepare, take
from louder.serving.canaries import check
from louder.serving.reload import LiveModels
from louder.serving.warmup import warm

AGAIN_S = 30.0  # until what was refused is read once more


@dataclass(frozen=True)
class VersionSource:
    """Where versions come from."""

    folder: Path
    table: Path | None = None
    cache_bytes: int = 1 << 30

    def current(self) -> Version:
        return current_version(self.folder)

    def load(self, version: Version) -> Engine:
        """Warm."""
        model = open_version(version, table=self.table, cache_bytes=self.cache_bytes)
        warm(model)
        return model


class FollowedModels(LiveModels):
    """There is one model in memory, which goes from version to version, so none is `previous`: a rollback is one more step.

    What is damaged, or was not made from the live version, is refused by a sentence, and the live version goes on. Where
    deltas do not lead to the published version the whole one is read; only for another architecture a second model is loaded,
    tried on known users and taken in place of the live one.
    """

    def __init__(
        self,
        source: VersionSource,
        version: Version,
        live: Engine,
        canaries: Callable[[], Sequence[History]],
        every_s: float = 1.0,
        prepare: Callable[[Engine], None] = lambda model: None,
    ) -> None:
        super().__init__(live, canaries, every_s, prepare)
        self.source, self.version, self.number = source, version, version.number
        self.refused_as, self.again_at = "", 0.0  # the hash of what was refused, and when it is tried again
        self.refused = self.gate_says()

    def look(self) -> bool:
        hashed = ""
        try:
            gate, version = self.gate_says(), self.source.current()
            hashed = version.hash
            if hashed == self.version.hash:
                self.refused, self.refused_as = gate, ""
                return False
            if hashed == self.refused_as and time.monotonic() < self.again_at:
                return False
            self.go_to(version)
        except Exception as error:  # whatever is wrong with it, the live version goes on
            reason = f"{self.source.folder.name}: {error}"
            self.refusals += reason != self.refused
            self.refused, self.refused_as, self.again_at = reason, hashed, time.monotonic() + AGAIN_S
            return False
        self.version, self.number = version, version.number
        self.refused, self.refused_as = gate, ""
        self.swaps += 1
        return True

    def go_to(self, version: Version) -> None:
        try:
            step = prepare(self.live, self.version, version)
        except AnotherModel:
            new = self.source.load(version)
            self.prepare(new)
            check(self.live.twin(), new, self.canaries())
            with self.turns.between():
                self.both = new, None
            return
        if step.fetched:
            print(f"louder: {self.source.folder.name}: {step.fetched}", file=sys.stderr)
        with self.turns.between():
            try:
                before = take(self.live, step)
            except Exception:  # half of a step is no version: nobody is answered until there is a whole one
                self.both = self.source.load(version), None
                self.prepare(self.live)
                return
        del before  # while others are answered

    def gate_says(self) -> str | None:
        """Why the latest model is not the served one; None where it is."""
        found = refusals(self.source.folder)
        if not found:
            return None
        self.gate_refusals = sum("served" not in x for x in found)
        latest = found[-1]
        if "served" in latest or latest["number"] != self.source.current().number:
            return None
        return f"the gate refused what was to follow version {latest['number']}: {'; '.join(latest['why'])}"
