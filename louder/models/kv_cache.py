"""Keys and values of tokens that a model has seen, so that only new tokens are computed ("Actions Speak Louder than
Words", section 3.4).

    allocate  room for tokens that come next, and what attention wants to know of them
    append    the keys and values of one layer
    length    of the tokens that stay: the caller counts those that it keeps, and what is beyond is written over
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from louder.ops.layout import Layout


class NewTokens(NamedTuple):
    """What a model needs for M new tokens of B users (mostly one) that follow n cached ones."""

    layout: Layout  # of the n + M tokens, the M being the queries; with prefix lengths, times and no window
    positions: Tensor  # [M] the new tokens' own prefix lengths


class KVCache:
    """Of one user: keys [n, H, K] and values [n, H, V] of every layer, and the times and prefix lengths of the n tokens.
    The tensors have room for more, so that appending copies nothing but what is new."""

    def __init__(self, layers: int, device: torch.device | None = None) -> None:
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.times = torch.zeros(0, dtype=torch.int64, device=device)
        self.prefix_lengths = torch.zeros(0, dtype=torch.int64, device=device)
        self.length = 0

    @property
    def bytes(self) -> int:
        tensors = [self.times, self.prefix_lengths, *(x for x in (*self.keys, *self.values) if x is not None)]
        return sum(x.numel() * x.element_size() for x in tensors)

    def allocate(
        self, times: Tensor, query_times: Tensor, prefix_lengths: Tensor | None, *, candidates: int = 0
    ) -> NewTokens:
        """Room for tokens of these times [M] and prefix lengths. The last `candidates` of them all see the history and
        themselves; `prefix_lengths` are those of the others, None where each one's is its index."""
        start, end, device = self.length, self.length + len(times), times.device
        history = end - candidates
        positions = torch.arange(start, end, device=device).clamp(max=history)
        if prefix_lengths is not None:
            positions[: history - start] = prefix_lengths
        self.times = with_room(self.times, times, end)
        self.prefix_lengths = with_room(self.prefix_lengths, positions, end)
        self.times[start:end] = times
        self.prefix_lengths[start:end] = positions
        layout = Layout(
            offsets=torch.tensor([0, end], device=device),
            prefix_lengths=self.prefix_lengths[:end],
            query_offsets=torch.tensor([0, len(times)], device=device),
            query_times=query_times,
            key_times=self.times[:end],
        )
        return NewTokens(layout, positions)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new tokens' keys and values [M, H, ...] after the cached ones; returns all of them [n + M, H, ...]."""
        end = self.length + len(keys)
        all_keys = self.keys[layer] = with_room(self.keys[layer], keys, end)
        all_values = self.values[layer] = with_room(self.values[layer], values, end)
        all_keys[self.length : end] = keys
        all_values[self.length : end] = values
        return all_keys[:end], all_values[:end]

    def scratch(self, room: int) -> "KVCache":
        """For so many tokens that are dropped right after. Where they are many beside what is cached it is a copy, so
        that no room for them is kept; where they are few, copying what is cached would cost more."""
        if 4 * room <= self.length:
            return self
        copy = KVCache(len(self.keys), self.times.device)
        n = copy.length = self.length
        copy.keys = [x if x is None else resized(x, n, n + room) for x in self.keys]
        copy.values = [x if x is None else resized(x, n, n + room) for x in self.values]
        copy.times, copy.prefix_lengths = resized(self.times, n, n + room), resized(self.prefix_lengths, n, n + room)
        return copy


class BatchedKVCache:
    """KV caches of several users whose new tokens go through a model together. No cache may be there twice."""

    def __init__(self, caches: Sequence[KVCache], new: Sequence[NewTokens]) -> None:
        """`new` is what each cache allocated."""
        layouts, self.caches = [x.layout for x in new], caches
        self.sizes = [len(x.positions) for x in new]
        prefix_lengths = [x.prefix_lengths for x in layouts if x.prefix_lengths is not None]
        device = new[0].positions.device
        layout = Layout(
            offsets=torch.tensor([0, *map(len, prefix_lengths)], device=device).cumsum(0),
            prefix_lengths=torch.cat(prefix_lengths),
            query_offsets=torch.tensor([0, *self.sizes], device=device).cumsum(0),
            query_times=torch.cat([x.query_times for x in layouts if x.query_times is not None]),
            key_times=torch.cat([x.key_times for x in layouts if x.key_times is not None]),
        )
        self.new = NewTokens(layout, torch.cat([x.positions for x in new]))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self.caches, keys.split(self.sizes), values.split(self.sizes))
        all_keys, all_values = zip(*(cache.append(layer, k, v) for cache, k, v in parts))
        return torch.cat(all_keys), torch.cat(all_values)


AnyKVCache = KVCache | BatchedKVCache


def with_room(held: Tensor | None, like: Tensor, length: int) -> Tensor:
    """`held` with at least `length` rows; what it holds is kept."""
    if held is None:
        return like.new_empty(length, *like.shape[1:])
    return held if len(held) >= length else resized(held, len(held), max(length, len(held) * 5 // 4))


def resized(held: Tensor, count: int, length: int) -> Tensor:
    """The first `count` rows of `held`, in a tensor of `length` rows"""
    room = held.new_empty(length, *held.shape[1:])
    room[:count] = held[:count]
    return room
