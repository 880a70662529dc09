"""Histories -> states of a model, with KV caches, so that only new events are computed ("Actions Speak Louder than Words",
section 3.4). The new tokens of several requests go through the model together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.inference.kv_cache import CachedHistory, HistoryCache
from louder.models import SequentialModel
from louder.models.kv_cache import BatchedKVCache, KVCache


@dataclass(frozen=True)
class TokenRows:
    """Tokens x [R, D], and what attention wants of them: times [R] and prefix lengths [R]; see SequenceBatch. The last
    ones may be candidates, which need no prefix lengths: see KVCache.allocate."""

    x: Tensor
    times: Tensor
    query_times: Tensor
    prefix_lengths: Tensor | None
    candidates: int = 0

    def part(self, first: int, end: int) -> "TokenRows":
        prefix_lengths = None if self.prefix_lengths is None else self.prefix_lengths[first:end]
        return TokenRows(self.x[first:end], self.times[first:end], self.query_times[first:end], prefix_lengths)

    def then(self, x: Tensor, at: int) -> "TokenRows":
        """With candidates x [M, D] after them."""
        times = self.times.new_full((len(x),), at)
        all_times, all_query_times = torch.cat([self.times, times]), torch.cat([self.query_times, times])
        return TokenRows(torch.cat([self.x, x]), all_times, all_query_times, self.prefix_lengths, len(x))


@dataclass
class Prefilled:
    """The history of one request, in use: its settled tokens are in the KV cache, the pending ones go in with what is
    asked, since the time of the request changes them. `key` is what it is cached under; None: it is not."""

    history: SequenceBatch
    kv: KVCache
    pending: TokenRows
    key: Hashable | None


class Runner:
    """Base of what runs a model over histories; the one part of inference that calls its layers. A child says what
    tokens a history has.

        rows(history, known)  -> the last tokens, and how many there are before them: at least those that are not
                                 settled when the first `known` events are cached, and all where none are
        pending(history)      -> how many tokens at the end are not settled

    What is cached under a key is compared with the history that comes, so a key can be used again after new events:
    only these are computed. A history that changed is computed anew.
    """

    def __init__(self, backbone: SequentialModel, cache_bytes: int) -> None:
        self.backbone = backbone
        self.cache = HistoryCache(cache_bytes)

    def rows(self, history: SequenceBatch, known: int) -> tuple[TokenRows, int]:
        raise NotImplementedError

    def pending(self, history: SequenceBatch) -> int:
        raise NotImplementedError

    @torch.no_grad()
    def prefill(self, histories: Sequence[tuple[SequenceBatch, Hashable | None]]) -> list[Prefilled]:
        """Histories [B] and their keys, ready to be asked; what is new of them is computed in one pass. Give them back
        with `release`."""
        prefilled, parts = [], []
        for history, key in histories:
            held = self.cache.take(key, history)
            kv, known = KVCache(self.backbone.config.layers, history.ids.device), 0
            if held is not None:
                kv, known = held.kv, len(held.events.ids)
            rows, before = self.rows(history, known)
            first, end = kv.length - before, len(rows.x) - self.pending(history)
            if first < end:
                parts.append((kv, rows.part(first, end)))
            prefilled.append(Prefilled(history, kv, rows.part(end, len(rows.x)), key))
        self.extend(parts)
        return prefilled

    def release(self, prefilled: Sequence[Prefilled]) -> None:
        for x in prefilled:
            self.cache.put(x.key, CachedHistory(x.kv, x.history))

    def extend(self, parts: Sequence[tuple[KVCache, TokenRows]]) -> list[Tensor]:
        """Add each part's rows to its cache, but for its candidates; their states [candidates, D]."""
        states = self.forward(parts)
        for kv, rows in parts:
            kv.length += len(rows.x) - rows.candidates
        return [own[len(own) - rows.candidates :] for own, (_, rows) in zip(states, parts)]

    @torch.no_grad()
    def next_item_states(self, prefilled: Sequence[Prefilled]) -> Tensor:
        """[B, D], to compare with `model.item_vectors()`: what histories [B], none of them empty, call for next. The
        query time of the last event is that of the request."""
        states = self.forward([(x.kv, x.pending) for x in prefilled])
        return self.backbone.normalise(torch.stack([own[-1] for own in states]))

    def forward(self, parts: Sequence[tuple[KVCache, TokenRows]]) -> list[Tensor]:
        """The states of each part's rows; their keys and values are in its cache, but do not count in its length yet."""
        if not parts:
            return []
        new = [
            kv.allocate(rows.times, rows.query_times, rows.prefix_lengths, candidates=rows.candidates)
            for kv, rows in parts
        ]
        if len(parts) == 1:
            return [self.backbone.extend(parts[0][1].x, new[0], parts[0][0])]
        together = BatchedKVCache([kv for kv, _ in parts], new)
        states = self.backbone.extend(torch.cat([rows.x for _, rows in parts]), together.new, together)
        return list(states.split(together.sizes))


def since(history: SequenceBatch, first: int) -> SequenceBatch:
    """The events of one user from the first one on."""
    if not first:
        return history
    later = {name: x[first:] for name, x in event_fields(history).items()}
    if "prefix_lengths" in later:
        later["prefix_lengths"] = (later["prefix_lengths"] - first).clamp(min=0)
    return replace(history, offsets=history.offsets - history.offsets.new_tensor([0, first]), **later)


def event_fields(history: SequenceBatch) -> dict[str, Tensor]:
    """The fields with a row for each event, those that are there."""
    return {name: x for name, x in vars(history).items() if x is not None and name not in ("offsets", "context")}
