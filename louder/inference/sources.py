"""Where candidates come from besides a run's own retrieval. All that is found is ranked together, so a source can be tried
without giving the others up: a generative run joins popularity, or an older run, before it takes their place.

    popular:50    what most people had
    new:50        what came into the log last
    similar:100   what is like the latest items of the history
    RUN:200       what another run retrieves, which then has its say on P(next), too: the mean of both probabilities
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from louder.errors import InputError
from louder.inference.request import Request
from louder.inference.retriever import Retriever
from louder.inference.run import Run
from louder.inference.search import search_of

if TYPE_CHECKING:
    from louder.inference.engine import Active, Engine

SIMILAR_TO = 5  # latest items of the history
OWN = "retrieval"  # the run's own
KINDS = "popular", "new", "similar"


@dataclass(frozen=True)
class Source:
    """`count` candidates of one kind: "popular", "new" or "similar", or of another run."""

    name: str
    count: int

    @property
    def label(self) -> str:
        """For people: a run's folder without the way to it."""
        return Path(self.name).name


class OtherRun:
    """A run that retrieves beside the first."""

    @torch.no_grad()
    def __init__(self, path: Path, first: Run, cache_bytes: int) -> None:
        self.run = Run.open(path)
        model = self.run.sequential()
        if not self.run.item_ids.raw.equals(first.item_ids.raw):
            raise InputError(f"{path} was trained on other items than {first.path}. Train both on one table.")
        self.runner = Retriever(model, cache_bytes=cache_bytes)
        self.search = search_of(self.run, model, model.item_vectors().float(), exact=True)

    def twin(self) -> "OtherRun":
        """The same weights with a cache of its own."""
        twin = copy.copy(self)
        twin.runner = Retriever(self.runner.backbone, cache_bytes=0)
        return twin


def source_of(text: str) -> Source:
    """Raises InputError for what is not NAME:COUNT."""
    name, _, count = text.rpartition(":")
    if not name or not count.isdecimal() or not int(count):
        raise InputError(
            f"{text!r} is no source of candidates: give popular, new, similar or a run, and how many, such as popular:50."
        )
    return Source(name, int(count))


def widen(engine: "Engine", active: Sequence["Active"], states: Tensor) -> None:
    """Add what the sources find to what retrieval found for each request, and set its log P(next)."""
    others = {name: other_states(engine, other, active) for name, other in engine.others.items()}
    for row, (x, state) in enumerate(zip(active, states)):
        found, request = x.found, x.request
        seen = x.windows[engine.finder].items
        mask = np.ones(len(engine.catalogue), dtype=bool) if x.allowed is None else x.allowed.copy()
        if not request.seen:
            mask[seen] = False
        come: dict[int, list[str]] = {int(item): [OWN] for item in found.items}
        for source in engine.sources:
            for item in candidates(engine, source, seen, mask, others.get(source.name, {}).get(row), request):
                come.setdefault(int(item), []).append(source.label)
        new = np.array(list(come)[len(found.items) :], dtype=np.int64)
        if len(new):
            scores = engine.search.scores(state[None], [request.user], torch.from_numpy(new))[0].float().numpy()
            found.items, found.scores = np.concatenate([found.items, new]), np.concatenate([found.scores, scores])
        found.sources = np.fromiter(map(tuple, come.values()), dtype=object, count=len(come))
        logs = [engine.scoring.next(torch.from_numpy(found.scores))]
        for name, other in engine.others.items():
            if (own := others[name].get(row)) is not None:
                logits = other.search.scores(own[None], [request.user], torch.from_numpy(found.items))[0]
                logs.append(torch.log_softmax(logits.double() / other.run.temperature, dim=-1))
        x.log_next = torch.logsumexp(torch.stack(logs), dim=0) - float(np.log(len(logs)))


def candidates(
    engine: "Engine", source: Source, seen: np.ndarray, mask: np.ndarray, state: Tensor | None, request: Request
) -> np.ndarray:
    """[n] ids of the best of one source that `mask` [I] leaves; state is that of another run, if it has one"""
    if source.name in engine.others:
        if state is None:
            return np.zeros(0, np.int64)
        none = torch.zeros(1, 0, dtype=torch.int64)
        search = engine.others[source.name].search
        ids, _ = search.search(state[None], [request.user], source.count, none, torch.from_numpy(mask))
        return ids[0][ids[0] >= 0].numpy()
    if source.name == "similar":
        latest = np.unique(seen[-SIMILAR_TO:])
        nearness = (engine.directions[torch.from_numpy(latest)] @ engine.directions.T).max(0).values.numpy()
        worth = np.where(mask, nearness, -np.inf)
    else:
        counted = engine.catalogue.popularity if source.name == "popular" else engine.catalogue.first_times
        if counted is None:
            return np.zeros(0, np.int64)
        worth = np.where(mask & (counted > 0), counted, -np.inf)
    best = np.argsort(-worth, kind="stable")[: source.count]
    return best[worth[best] > -np.inf]


def other_states(engine: "Engine", other: OtherRun, active: Sequence["Active"]) -> dict[int, Tensor]:
    """The states of those requests of whose history the other run knows something, by their place."""
    for x in active:
        x.windows[other.runner] = engine.read(x.request, other.run)
    known = [row for row, x in enumerate(active) if len(x.windows[other.runner].sequence.ids)]
    if not known:
        return {}
    states = other.runner.next_item_states(engine.prefill(other.runner, [active[row] for row in known])).float()
    return dict(zip(known, states))
