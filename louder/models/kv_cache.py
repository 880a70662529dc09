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

SPARE = 8  # tokens that a new cache has room for besides


class NewTokens(NamedTuple):
    """What a model needs for M new tokens of B users (mostly one) that follow n cached ones."""

    layout: Layout  # of the n + M tokens, the M being the queries; with prefix lengths, times and no window
    positions: Tensor  # [M] the new tokens' own prefix lengths


class KVCache:
    """Of one user: keys [layers, n, H, K] and values [layers, n, H, V], and the times and prefix lengths of the n tokens.
    The tensors have room for more, so that appending copies nothing but what is new."""

    def __init__(self, layers: int, device: torch.device | None = None) -> None:
        self.layers = layers
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.times = torch.zeros(0, dtype=torch.int64, device=device)
        self.prefix_lengths = torch.zeros(0, dtype=torch.int64, device=device)
        self.length = 0

    @property
    def bytes(self) -> int:
        return sum(x.nbytes for x in (self.times, self.prefix_lengths, self.keys, self.values) if x is not None)

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
        self.note(start, end, times, positions)
        layout = Layout(
            offsets=torch.tensor([0, end], device=device),
            prefix_lengths=self.prefix_lengths[:end],
            query_offsets=torch.tensor([0, len(times)], device=device),
            query_times=query_times,
            key_times=self.times[:end],
        )
        return NewTokens(layout, positions)

    def note(self, start: int, end: int, times: Tensor | int, prefix_lengths: Tensor | int) -> None:
        """When the tokens start .. end happened, and their prefix lengths."""
        if self.times.shape[0] < end:
            room = with_room(self.times.shape[0], end)
            self.times, self.prefix_lengths = resized(self.times, 0, room), resized(self.prefix_lengths, 0, room)
        self.times[start:end] = times
        self.prefix_lengths[start:end] = prefix_lengths

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new tokens' keys and values [M, H, ...] after the cached ones; returns all of them [n + M, H, ...]."""
        end = self.length + keys.shape[0]
        all_keys, all_values = self.reserve(end, keys, values)
        all_keys[layer, self.length : end] = keys
        all_values[layer, self.length : end] = values
        return all_keys[layer, :end], all_values[layer, :end]

    def reserve(self, length: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of all layers, with room for at least `length` tokens like these [..., H, K], [..., H, V]."""
        if self.keys is None or self.values is None:
            self.keys = keys.new_empty(self.layers, length + SPARE, *keys.shape[-2:])
            self.values = values.new_empty(self.layers, length + SPARE, *values.shape[-2:])
        elif self.keys.shape[1] < length:
            room = with_room(self.keys.shape[1], length)
            self.keys, self.values = resized(self.keys, 1, room), resized(self.values, 1, room)
        return self.keys, self.values

    def scratch(self, seen: int, room: int) -> "KVCache":
        """The first `seen` tokens, to put so many after them that are dropped right after. Where these are many beside
        what is cached it is a copy, so that no room for them is kept; where they are few, copying would cost more."""
        copy = KVCache(self.layers, self.times.device)
        copy.keys, copy.values, copy.times, copy.prefix_lengths = (
            self.keys,
            self.values,
            self.times,
            self.prefix_lengths,
        )
        copy.length = seen
        if self.keys is not None and self.values is not None:
            if 4 * room <= seen:
                copy.keys, copy.values = self.reserve(seen + room, self.keys, self.values)
            else:
                copy.keys, copy.values = (resized(x[:, :seen], 1, seen + room) for x in (self.keys, self.values))
        copy.times, copy.prefix_lengths = (resized(x[:seen], 0, seen + room) for x in (self.times, self.prefix_lengths))
        return copy


class BatchedKVCache:
    """KV caches of several users whose new tokens go through a model together. No cache may be there twice."""

    def __init__(self, caches: Sequence[KVCache], new: Sequence[NewTokens]) -> None:
        """`new` is what each cache allocated."""
        layouts, self.caches = [x.layout for x in new], caches
        self.sizes = [len(x.positions) for x in new]
        self.all_new = all(cache.length == 0 for cache in caches)
        self.appended: list[tuple[Tensor, Tensor]] = []  # by all layers so far, where nothing was cached
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
        if self.all_new:
            self.appended.append((keys, values))
            if len(self.appended) == self.caches[0].layers:
                self.hand_out()
            return keys, values
        parts = zip(self.caches, keys.split(self.sizes), values.split(self.sizes))
        all_keys, all_values = zip(*(cache.append(layer, k, v) for cache, k, v in parts))
        return torch.cat(all_keys), torch.cat(all_values)

    def hand_out(self) -> None:
        """To each cache what is its own, of all layers together."""
        all_keys, all_values = (torch.stack(own) for own in zip(*self.appended))
        for cache, keys, values in zip(self.caches, all_keys.split(self.sizes, 1), all_values.split(self.sizes, 1)):
            room = cache.reserve(keys.shape[1], keys, values)
            room[0][:, : keys.shape[1]] = keys
            room[1][:, : values.shape[1]] = values


AnyKVCache = KVCache | BatchedKVCache


class Branch(NamedTuple):
    """Rows that each come right after the first `seen` tokens of a cache: they see these and themselves, never each
    other. Candidates are such rows, and so is the one token that asks for what comes next."""

    cache: KVCache
    seen: int
    rows: int
    time: int  # seconds, of the rows themselves
    query_time: int


def with_room(have: int, length: int) -> int:
    """Rows to make where there is room for `have` and `length` are needed"""
    return max(length, have * 5 // 4)


def resized(held: Tensor, dim: int, length: int) -> Tensor:
    """`held`, in a tensor that has `length` in one dimension; what is new there is not set."""
    shape = list(held.shape)
    shape[dim] = length
    room = held.new_empty(shape)
    room.narrow(dim, 0, held.shape[dim]).copy_(held)
    return room
