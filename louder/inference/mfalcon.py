"""M-FALCON: score many candidates against one history ("Actions Speak Louder than Words", section 3.4, appendix H).

The keys and values of the history are computed once and remembered; candidates come in microbatches, see the history
and themselves, and never each other. All of them stand at the place after the history and at the time of the request,
so a score depends on neither the microbatch nor the order of the candidates.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.models import RankingModel
from louder.models.memory import Memory


@dataclass(frozen=True)
class Rows:
    """Tokens x [R, D], and the times [R] and places [R] that attention wants of them; see SequenceBatch."""

    x: Tensor
    times: Tensor
    query_times: Tensor
    places: Tensor | None

    def part(self, first: int, end: int) -> "Rows":
        places = None if self.places is None else self.places[first:end]
        return Rows(self.x[first:end], self.times[first:end], self.query_times[first:end], places)

    def then(self, x: Tensor, at: int) -> "Rows":
        """With candidates x [M, D] after them. They have no places of their own: see Memory.announce."""
        times = self.times.new_full((len(x),), at)
        all_times, all_query_times = torch.cat([self.times, times]), torch.cat([self.query_times, times])
        return Rows(torch.cat([self.x, x]), all_times, all_query_times, self.places)


@dataclass
class Remembered:
    """A history whose settled tokens are in memory, and its events as they were then, to compare with what comes."""

    memory: Memory
    events: SequenceBatch

    @property
    def bytes(self) -> int:
        tensors = [x for x in vars(self.events).values() if isinstance(x, Tensor)]
        return self.memory.bytes + sum(x.numel() * x.element_size() for x in tensors)


class MFalcon:
    """Scores candidates with a ranking model; dropout is off.

    microbatch   candidates that go through the model together; more of them cost memory, fewer cost time
    cache_bytes  the most that remembered histories may take, the least recently used ones being forgotten first

    A history is remembered under the key given with it. What is remembered is compared with the history that comes, so
    a key can be used again after new events: only these are computed. A history that changed is computed anew.
    """

    def __init__(self, model: RankingModel, *, microbatch: int = 512, cache_bytes: int = 1 << 30) -> None:
        if microbatch < 1:
            raise InputError(f"microbatch must be at least 1, but it is {microbatch}.")
        self.model, self.microbatch, self.cache_bytes = model.eval(), microbatch, cache_bytes
        self.cache: OrderedDict[Hashable, Remembered] = OrderedDict()
        self.bytes = 0
        self.hits = self.misses = self.appended = 0

    @torch.no_grad()
    def score(
        self, history: SequenceBatch, candidates: Tensor, at: int, key: Hashable | None = None
    ) -> tuple[Tensor, Tensor]:
        """logits [m, A] of each action and numbers [m, V], in the order of the candidates.

        history     one user's events, oldest first: the window that the model is to see (data.ranking.window_start).
                    The query time of an event is the time of the next one; of the last, that of the request
        candidates  [m] int64 item ids; below 0 for items that the model does not know
        at          seconds; the time of the request
        key         what the history is remembered under; None: it is not
        """
        return self.score_vectors(history, self.model.items(candidates), at, key)

    @torch.no_grad()
    def score_vectors(
        self, history: SequenceBatch, candidates: Tensor, at: int, key: Hashable | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same of candidates [m, D] as vectors of items (`model.items`, `model.new_items`)."""
        memory, waiting = self.remember(history, key)
        settled = memory.length
        acts_apart = self.model.config.acts_apart
        answers: list[tuple[Tensor, Tensor]] = []
        for part in candidates.split(self.microbatch):
            x = part if acts_apart else part + self.last_action(history)
            answers.append(self.model.predict(self.extend(memory, waiting.then(x, at), candidates=len(x))))
            waiting = waiting.part(0, 0)
        memory.forget(settled)
        if key is not None:
            self.store(key, Remembered(memory, history))
        logits, numbers = (torch.cat(parts) for parts in zip(*answers))
        return logits, numbers

    def remember(self, history: SequenceBatch, key: Hashable | None) -> tuple[Memory, Rows]:
        """The settled tokens in memory, and the others. Settled is what the time of the request does not change: all but
        the token of the last action, which asks for what comes next, and goes through the model with the first
        candidates."""
        held = self.take(key)
        if held is not None and prefix(held.events, history):
            memory, known = held.memory, len(held.events.ids)
            self.hits += 1
        else:
            memory, known = Memory(self.model.backbone.config.layers), 0
            self.misses += key is not None
        rows, before = self.rows(history, known)
        first, end = memory.length - before, len(rows.x)
        if len(history.ids) and self.model.config.acts_apart:
            end -= int(self.model.engaged(history)[-1])
        if memory.length:
            self.appended += end - first
        if first < end:
            self.extend(memory, rows.part(first, end))
        return memory, rows.part(end, len(rows.x))

    def rows(self, history: SequenceBatch, known: int) -> tuple[Rows, int]:
        """The history's last tokens, and how many there are before them: at least those that are not settled when the
        first `known` events are in memory, and all where none are."""
        engaged, acts_apart = self.model.engaged(history), self.model.config.acts_apart
        first = max(known - 1, 0)  # its action asks for the next item at a time that was not known then
        if not acts_apart and engaged[:known].any():  # the next item's token has the action of the event before
            first = int(engaged[:known].nonzero().max())
        if history.places is not None and known:  # a place is among the tokens of its request
            first = int(history.places[first:].min())
        tokens = self.model.tokens(since(history, first))
        before = first + acts_apart * int(engaged[:first].sum())
        layout, places = tokens.layout, tokens.layout.places
        places = None if places is None else places + before
        return Rows(tokens.x, layout.timestamps, layout.query_timestamps, places), before

    def extend(self, memory: Memory, rows: Rows, candidates: int = 0) -> Tensor:
        """Put rows into memory, but for the last ones, the candidates; their states [candidates, D]."""
        own = len(rows.x) - candidates
        new = memory.announce(rows.times, rows.query_times, rows.places, candidates=candidates)
        states = self.model.backbone.extend(rows.x, new, memory)
        memory.keep(own)
        return states[own:]

    def last_action(self, history: SequenceBatch) -> Tensor:
        """[1, D] or zeros: what a candidate's token holds of the event before it."""
        (events,) = torch.where(self.model.engaged(history))
        if not len(events):
            return torch.zeros(1, self.model.actions.embedding_dim, dtype=self.model.actions.weight.dtype)
        return self.model.action_vectors(history, events[-1:])

    def take(self, key: Hashable | None) -> Remembered | None:
        """Out of the cache: while it is in use, nobody else changes it."""
        held = self.cache.pop(key, None) if key is not None else None
        if held is not None:
            self.bytes -= held.bytes
        return held

    def store(self, key: Hashable, held: Remembered) -> None:
        size = held.bytes
        if size > self.cache_bytes:
            return
        self.cache[key] = held
        self.bytes += size
        while self.bytes > self.cache_bytes:
            _, oldest = self.cache.popitem(last=False)
            self.bytes -= oldest.bytes

    def forget(self, key: Hashable | None = None) -> None:
        """One history, or all of them."""
        if key is not None:
            self.take(key)
        else:
            self.cache.clear()
            self.bytes = 0


def since(history: SequenceBatch, first: int) -> SequenceBatch:
    """The events of one user from the first one on."""
    if not first:
        return history
    names = "ids", "timestamps", "query_timestamps", "actions", "kinds", "values"
    parts: dict[str, Any] = {name: getattr(history, name) for name in names}
    parts = {name: None if x is None else x[first:] for name, x in parts.items()}
    places = None if history.places is None else (history.places[first:] - first).clamp(min=0)
    return SequenceBatch(
        **parts,
        offsets=history.offsets - history.offsets.new_tensor([0, first]),
        places=places,
        context=history.context,
    )


def prefix(held: SequenceBatch, history: SequenceBatch) -> bool:
    """Whether `history` begins with the events that are held."""
    n = len(held.ids)
    if n > len(history.ids):
        return False
    if (held.context is None) != (history.context is None):
        return False
    if held.context is not None and not torch.equal(held.context, history.context):  # type: ignore[arg-type]
        return False
    for name in "ids", "timestamps", "actions", "kinds", "values":
        old, new = getattr(held, name), getattr(history, name)
        if (old is None) != (new is None) or (old is not None and not same(old, new[:n])):
            return False
    places = history.positions()[:n]
    return torch.equal(held.positions(), places)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal, absent values (NaN) included."""
    return bool(((a == b) | ((a != a) & (b != b))).all())
