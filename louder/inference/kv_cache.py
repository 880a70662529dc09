"""KV caches of histories, kept from one request of a user to the next, within a bound of bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.models.kv_cache import KVCache


class PendingToken(NamedTuple):
    """The last token of a history, which asks for what comes next: x [1, D], its time, and that of the request."""

    x: Tensor
    time: int
    query_time: int


@dataclass
class CachedHistory:
    """A KV cache, and the events that it holds the settled tokens of, to compare with the history that comes. If nothing
    came, the last token is as it was, but for the time of the request. `version` is that of the weights: see HistoryCache."""

    kv: KVCache
    events: SequenceBatch
    last: PendingToken | None = None
    version: int = 0

    @property
    def bytes(self) -> int:
        tensors = [x for x in vars(self.events).values() if isinstance(x, Tensor)]
        return self.kv.bytes + sum(x.nbytes for x in tensors) + (self.last.x.nbytes if self.last else 0)


class HistoryCache:
    """Cached histories by key. When they take more than `capacity` bytes, the least recently used are evicted. `version` counts
    the changes of the weights: what was computed before the latest is no use, and is dropped when it is asked for."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.version = capacity, 0
        self.held: OrderedDict[Hashable, CachedHistory] = OrderedDict()
        self.sizes: dict[Hashable, int] = {}  # bytes of each
        self.bytes = self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self.held)

    def take(self, key: Hashable | None, history: SequenceBatch) -> CachedHistory | None:
        """Out of the cache: while it is in use, nobody else changes it. None if nothing is held under the key (None: is
        never), or if that is no beginning of this history."""
        if key is None:
            return None
        held = self.evict(key)
        if held is None or held.version != self.version or not is_prefix(held.events, history):
            self.misses += 1
            return None
        self.hits += 1
        return held

    def put(self, key: Hashable | None, held: CachedHistory) -> None:
        size = held.bytes
        if key is None or size > self.capacity:
            return
        held.version = self.version
        self.evict(key)
        self.held[key], self.sizes[key] = held, size
        self.bytes += size
        while self.bytes > self.capacity:
            self.evict(next(iter(self.held)))

    def evict(self, key: Hashable) -> CachedHistory | None:
        held = self.held.pop(key, None)
        if held is not None:
            self.bytes -= self.sizes.pop(key)
        return held


def is_prefix(held: SequenceBatch, history: SequenceBatch) -> bool:
    """Whether `history` begins with the events that are held."""
    n = held.ids.shape[0]
    if n > history.ids.shape[0] or not same(held.context, history.context):
        return False
    for name in "ids", "timestamps", "actions", "kinds", "values":
        new = getattr(history, name)
        if not same(getattr(held, name), None if new is None else new[:n]):
            return False
    if held.prefix_lengths is None and history.prefix_lengths is None:
        return True
    return torch.equal(held.positions(), history.positions()[:n])


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal to the bit, so an absent value (NaN) equals itself."""
    if a is None or b is None:
        return a is b
    if a.dtype == torch.float32 == b.dtype:
        a, b = a.contiguous().view(torch.int32), b.contiguous().view(torch.int32)
    return torch.equal(a, b)
