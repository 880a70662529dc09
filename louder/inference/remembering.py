"""Histories that a model has seen, kept as keys and values, so that only new events are computed ("Actions Speak Louder
than Words", section 3.4). Several users' new tokens go through the model together."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.models import SequentialModel
from louder.models.kv_cache import KVCache, KVCaches


@dataclass(frozen=True)
class Rows:
    """Tokens x [R, D], and the times [R] and prefix_lengths [R] that attention wants of them; see SequenceBatch."""

    x: Tensor
    times: Tensor
    query_times: Tensor
    prefix_lengths: Tensor | None

    def part(self, first: int, end: int) -> "Rows":
        prefix_lengths = None if self.prefix_lengths is None else self.prefix_lengths[first:end]
        return Rows(self.x[first:end], self.times[first:end], self.query_times[first:end], prefix_lengths)

    def then(self, x: Tensor, at: int) -> "Rows":
        """With candidates x [M, D] after them. They have no prefix_lengths of their own: see KVCache.announce."""
        times = self.times.new_full((len(x),), at)
        all_times, all_query_times = torch.cat([self.times, times]), torch.cat([self.query_times, times])
        return Rows(torch.cat([self.x, x]), all_times, all_query_times, self.prefix_lengths)


@dataclass
class Remembered:
    """A history whose settled tokens are in memory, and its events as they were then, to compare with what comes."""

    memory: KVCache
    events: SequenceBatch

    @property
    def bytes(self) -> int:
        tensors = [x for x in vars(self.events).values() if isinstance(x, Tensor)]
        return self.memory.bytes + sum(x.numel() * x.element_size() for x in tensors)


@dataclass
class Opened:
    """A history in use: what is settled is in memory, the tokens that are not wait to go in with what is asked."""

    memory: KVCache
    waiting: Rows


class Remembering:
    """Base of what answers questions about histories. A child says what tokens a history has.

        rows(history, known)  -> the last tokens, and how many there are before them: at least those that are not
                                 settled when the first `known` events are in memory, and all where none are
        waiting(history)      -> how many tokens at the end are not settled: the time of the request changes them

    cache_bytes  the most that remembered histories may take, the least recently used ones being forgotten first

    A history is remembered under the key given with it. What is remembered is compared with the history that comes, so
    a key can be used again after new events: only these are computed. A history that changed is computed anew.
    """

    def __init__(self, backbone: SequentialModel, cache_bytes: int) -> None:
        self.backbone, self.cache_bytes = backbone, cache_bytes
        self.cache: OrderedDict[Hashable, Remembered] = OrderedDict()
        self.bytes = 0
        self.hits = self.misses = self.appended = 0

    def rows(self, history: SequenceBatch, known: int) -> tuple[Rows, int]:
        raise NotImplementedError

    def waiting(self, history: SequenceBatch) -> int:
        raise NotImplementedError

    def open(self, asked: Sequence[tuple[SequenceBatch, Hashable | None]]) -> list[Opened]:
        """Histories [B] and their keys (None: not remembered), ready to be asked; what is new of them is computed in one
        pass. Give them back with `close`."""
        opened, settling = [], []
        for history, key in asked:
            held = self.take(key)
            if held is not None and prefix(held.events, history):
                memory, known = held.memory, len(held.events.ids)
                self.hits += 1
            else:
                memory, known = KVCache(self.backbone.config.layers), 0
                self.misses += key is not None
            rows, before = self.rows(history, known)
            first, end = memory.length - before, len(rows.x) - self.waiting(history)
            if memory.length:
                self.appended += end - first
            if first < end:
                settling.append((memory, rows.part(first, end)))
            opened.append(Opened(memory, rows.part(end, len(rows.x))))
        self.extend(settling)
        return opened

    def close(self, opened: Opened, history: SequenceBatch, key: Hashable | None) -> None:
        if key is not None:
            self.store(key, Remembered(opened.memory, history))

    def extend(self, parts: Sequence[tuple[KVCache, Rows]], candidates: Sequence[int] | None = None) -> list[Tensor]:
        """Put each part's rows into its memory, but for the last ones, its candidates; their states [candidates, D]."""
        counts = candidates or [0] * len(parts)
        out = []
        for (memory, rows), count, own in zip(parts, counts, self.through(parts, counts)):
            memory.keep(len(rows.x) - count)
            out.append(own[len(own) - count :])
        return out

    def peek(self, opened: Sequence[Opened]) -> list[Tensor]:
        """[waiting, D] the states of the tokens that wait, of which there are some; nothing is remembered of them."""
        settled = [x.memory.length for x in opened]
        found = self.through([(x.memory, x.waiting) for x in opened], [0] * len(opened))
        for x, length in zip(opened, settled):
            x.memory.forget(length)
        return found

    def through(self, parts: Sequence[tuple[KVCache, Rows]], candidates: Sequence[int]) -> list[Tensor]:
        """The states of each part's rows; their keys and values are put after what is in its memory, and not yet kept."""
        if not parts:
            return []
        memories = [memory for memory, _ in parts]
        new = [
            memory.announce(rows.times, rows.query_times, rows.prefix_lengths, candidates=count)
            for (memory, rows), count in zip(parts, candidates)
        ]
        if len(parts) == 1:
            return [self.backbone.extend(parts[0][1].x, new[0], memories[0])]
        together = KVCaches(memories, new)
        states = self.backbone.extend(torch.cat([rows.x for _, rows in parts]), together.new, together)
        return list(states.split(together.sizes))

    def take(self, key: Hashable | None) -> Remembered | None:
        """Out of the cache: while it is in use, nobody else changes it."""
        held = self.cache.pop(key, None) if key is not None else None
        if held is not None:
            self.bytes -= held.bytes
        return held

    def store(self, key: Hashable, held: Remembered) -> None:
        self.take(key)
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
    prefix_lengths = None if history.prefix_lengths is None else (history.prefix_lengths[first:] - first).clamp(min=0)
    return SequenceBatch(
        **parts,
        offsets=history.offsets - history.offsets.new_tensor([0, first]),
        prefix_lengths=prefix_lengths,
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
    prefix_lengths = history.positions()[:n]
    return torch.equal(held.positions(), prefix_lengths)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal, absent values (NaN) included."""
    return bool(((a == b) | ((a != a) & (b != b))).all())
