"""Keys and values of tokens that a model has seen, so that only new tokens are computed ("Actions Speak Louder than
Words", section 3.4)."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from louder.ops.layout import Layout


class NewTokens(NamedTuple):
    """What a model needs for M new tokens of B users (mostly one) that follow n cached ones.

    layout     of the n + M tokens, the M being the queries; with prefix lengths, times and no window
    positions  [M] the new tokens' own prefix lengths
    """

    layout: Layout
    positions: Tensor


class KeysAndValues(Protocol):
    """What a layer asks of a memory: put the new tokens' keys and values there, and get all that they see."""

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]: ...


class KVCache:
    """Of one user: keys [n, H, K] and values [n, H, V] of every layer, and the times and prefix_lengths of the n tokens.

    The tensors have room for more than n tokens, so that adding some copies nothing but them.
    """

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

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' keys and values [M, H, ...] after the remembered ones; returns all of them [n + M, H, ...].
        They are remembered once `keep` is called."""
        end = self.length + len(keys)
        self.keys[layer] = with_room(self.keys[layer], keys, end)
        self.values[layer] = with_room(self.values[layer], values, end)
        all_keys, all_values = self.keys[layer], self.values[layer]
        assert all_keys is not None
        assert all_values is not None
        all_keys[self.length : end] = keys
        all_values[self.length : end] = values
        return all_keys[:end], all_values[:end]

    def announce(
        self, times: Tensor, query_times: Tensor, prefix_lengths: Tensor | None, *, candidates: int = 0
    ) -> NewTokens:
        """Times [M] and prefix_lengths of tokens that come next. The last `candidates` of them all stand at the place after the
        history; `prefix_lengths` are those of the others, None where each stands at its index."""
        start, end, device = self.length, self.length + len(times), times.device
        history = end - candidates
        own = torch.arange(start, end, device=device)
        stand = own.clamp(max=history)
        if prefix_lengths is not None:
            stand[: history - start] = prefix_lengths
        self.times = with_room(self.times, times, end)
        self.prefix_lengths = with_room(self.prefix_lengths, stand, end)
        self.times[start:end] = times
        self.prefix_lengths[start:end] = stand
        layout = Layout(
            offsets=torch.tensor([0, end], device=device),
            prefix_lengths=self.prefix_lengths[:end],
            query_offsets=torch.tensor([0, len(times)], device=device),
            query_times=query_times,
            key_times=self.times[:end],
        )
        return NewTokens(layout, stand)

    def keep(self, tokens: int) -> None:
        """Remember so many of the tokens that were put last, the first of them, and forget the others."""
        self.length += tokens

    def forget(self, length: int) -> None:
        """Back to the first `length` tokens."""
        self.length = length

    def lent(self, room: int) -> "KVCache":
        """To put so many tokens into that are forgotten right after. Where they are many beside what is remembered it is a
        copy, so that no room for them is kept; where they are few, to copy what is remembered would cost more."""
        if 4 * room <= self.length:
            return self
        copy = KVCache(len(self.keys), self.times.device)
        n = copy.length = self.length
        for number, (keys, values) in enumerate(zip(self.keys, self.values)):
            if keys is not None and values is not None:
                copy.keys[number], copy.values[number] = roomy(keys, n, n + room), roomy(values, n, n + room)
        copy.times, copy.prefix_lengths = roomy(self.times, n, n + room), roomy(self.prefix_lengths, n, n + room)
        return copy


class KVCaches:
    """KVCaches of several users whose new tokens go through a model together. No memory may be there twice."""

    def __init__(self, memories: Sequence[KVCache], new: Sequence[NewTokens]) -> None:
        """`new` is what each memory announced."""
        layouts, self.memories = [x.layout for x in new], memories
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

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self.memories, keys.split(self.sizes), values.split(self.sizes))
        all_keys, all_values = zip(*(memory.put(layer, k, v) for memory, k, v in parts))
        return torch.cat(all_keys), torch.cat(all_values)


def with_room(held: Tensor | None, like: Tensor, length: int) -> Tensor:
    """`held` with at least `length` rows; what it holds is kept."""
    if held is None:
        return like.new_empty(length, *like.shape[1:])
    if len(held) >= length:
        return held
    return roomy(held, len(held), max(length, len(held) * 5 // 4))


def roomy(held: Tensor, count: int, length: int) -> Tensor:
    """The first `count` rows of `held`, in a tensor of `length` rows"""
    room = held.new_empty(length, *held.shape[1:])
    room[:count] = held[:count]
    return room
