"""M-FALCON: score many candidates against one history ("Actions Speak Louder than Words", section 3.4, appendix H).

The keys and values of the history are computed once and remembered; candidates come in microbatches, see the history
and themselves, and never each other. All of them stand at the place after the history and at the time of the request,
so a score depends on neither the microbatch nor the order of the candidates.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.models import RankingModel
from louder.models.memory import Memory
from louder.models.ranking import Tokens


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

    def __init__(self, model: RankingModel, *, microbatch: int = 256, cache_bytes: int = 1 << 30) -> None:
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
        memory, tokens = self.remember(history, key)
        settled, last = memory.length, len(tokens.x)
        self.extend(tokens, settled, last, memory)  # the token that knows when the request is: of this one only
        after = None if self.model.config.tokens == "interleaved" else self.last_action(history)
        answers: list[tuple[Tensor, Tensor]] = []
        for part in candidates.split(self.microbatch):
            x = self.model.items(part) if after is None else self.model.items(part) + after
            times = torch.full((len(part),), at)
            new = memory.announce(times, times, None, candidates=True)
            states = self.model.backbone.extend(x, new, memory)
            answers.append(self.model.predict(states))
        memory.forget(settled)
        if key is not None:
            self.store(key, Remembered(memory, history))
        logits, numbers = (torch.cat(parts) for parts in zip(*answers))
        return logits, numbers

    def remember(self, history: SequenceBatch, key: Hashable | None) -> tuple[Memory, Tokens]:
        """The settled tokens in memory, and all tokens. Settled is what the time of the request does not change: all
        but the token of the last action, which asks for what comes next."""
        held = self.take(key)
        tokens = self.model.tokens(history)
        pending = int(len(history.ids) > 0 and tokens.actions is not tokens.items and self.is_event(history))
        settled = len(tokens.x) - pending
        memory = held.memory if held is not None and prefix(held.events, history) else None
        if memory is None:
            memory = Memory(self.model.backbone.config.layers)
            self.misses += key is not None
        else:
            self.hits += 1
            self.appended += settled - memory.length
        self.extend(tokens, memory.length, settled, memory)
        return memory, tokens

    def extend(self, tokens: Tokens, first: int, end: int, memory: Memory) -> None:
        """Put the tokens from `first` to `end` into memory."""
        if first == end:
            return
        layout, rows = tokens.layout, slice(first, end)
        places = None if layout.places is None else layout.places[rows]
        new = memory.announce(layout.timestamps[rows], layout.query_timestamps[rows], places, candidates=False)
        self.model.backbone.extend(tokens.x[rows], new, memory)
        memory.keep(end - first)

    def is_event(self, history: SequenceBatch) -> bool:
        return history.kinds is None or int(history.kinds[-1]) == 0

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
