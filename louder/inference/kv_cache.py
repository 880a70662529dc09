"""KV caches of histories, kept from one request of a user to the next, within a bound of bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.models.kv_cache import KVCache


@dataclass
class CachedHistory:
    """A KV cache, and the events that it holds the settled tokens of, to compare with the history that comes."""

    kv: KVCache
    events: SequenceBatch

    @property
    def bytes(self) -> int:
        tensors = [x for x in vars(self.events).values() if isinstance(x, Tensor)]
        return self.kv.bytes + sum(x.numel() * x.element_size() for x in tensors)


class HistoryCache:
    """Cached histories by key. When they take more than `capacity` bytes, the least recently used are evicted."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: OrderedDict[Hashable, CachedHistory] = OrderedDict()
        self.bytes = self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self.held)

    def take(self, key: Hashable | None, history: SequenceBatch) -> CachedHistory | None:
        """Out of the cache: while it is in use, nobody else changes it. None if nothing is held under the key (None: is
        never), or if that is no beginning of this history."""
        if key is None:
            return None
        held = self.evict(key)
        if held is None or not is_prefix(held.events, history):
            self.misses += 1
            return None
        self.hits += 1
        return held

    def put(self, key: Hashable | None, held: CachedHistory) -> None:
        size = held.bytes
        if key is None or size > self.capacity:
            return
        self.evict(key)
        self.held[key] = held
        self.bytes += size
        while self.bytes > self.capacity:
            self.evict(next(iter(self.held)))

    def evict(self, key: Hashable) -> CachedHistory | None:
        held = self.held.pop(key, None)
        if held is not None:
            self.bytes -= held.bytes
        return held


def is_prefix(held: SequenceBatch, history: SequenceBatch) -> bool:
    """Whether `history` begins with the events that are held."""
    n = len(held.ids)
    if n > len(history.ids) or not same(held.context, history.context):
        return False
    for name in "ids", "timestamps", "actions", "kinds", "values":
        new = getattr(history, name)
        if not same(getattr(held, name), None if new is None else new[:n]):
            return False
    return torch.equal(held.positions(), history.positions()[:n])


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal, absent values (NaN) included."""
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
