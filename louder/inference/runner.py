"""Histories -> states of a model, with KV caches, so that only new events are computed ("Actions Speak Louder than Words",
section 3.4). The new tokens of several requests go through the model together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.inference.kv_cache import CachedHistory, HistoryCache, PendingToken
from louder.models import SequentialModel
from louder.models.kv_cache import BatchedKVCache, Branch, KVCache


@dataclass(frozen=True)
class TokenRows:
    """Tokens x [R, D], and what attention wants of them: times [R] and prefix lengths [R]; see SequenceBatch."""

    x: Tensor
    times: Tensor
    query_times: Tensor
    prefix_lengths: Tensor | None

    def part(self, first: int, end: int) -> "TokenRows":
        prefix_lengths = None if self.prefix_lengths is None else self.prefix_lengths[first:end]
        return TokenRows(self.x[first:end], self.times[first:end], self.query_times[first:end], prefix_lengths)


@dataclass
class Prefilled:
    """The history of one request, in use: its tokens are in the KV cache. The last one may be pending: it asks for what
    comes next at the time of the request, so it stays for this request alone.

    seen   tokens that what is asked sees, the pending one included
    last   the pending token, if there is one
    state  [D] of the pending token, as the layers leave it; None where there is none
    key    what the history is cached under; None: it is not
    """

    history: SequenceBatch
    kv: KVCache
    seen: int
    last: PendingToken | None
    state: Tensor | None
    key: Hashable | None


class Runner:
    """Base of what runs a model over histories; the one part of inference that calls its layers. A child says what
    tokens a history has.

        rows(histories)   -> of each, whose first `known` events are cached, the last tokens, and how many there are before
                             them: at least those that are not settled, and all where none are
        pending(history)  -> how many tokens at the end are not settled: one or none. It sees all before it

    What is cached under a key is compared with the history that comes, so a key can be used again after new events:
    only these are computed. A history that changed is computed anew.
    """

    def __init__(self, backbone: SequentialModel, cache_bytes: int) -> None:
        self.backbone, self.branch = backbone, backbone.ready()
        self.cache = HistoryCache(cache_bytes)

    def renew_weights(self) -> None:
        """The weights are others now. What is cached was computed with those before: it is dropped when it is asked for."""
        self.branch = self.backbone.ready()
        self.cache.version += 1

    def rows(self, histories: Sequence[tuple[SequenceBatch, int]]) -> list[tuple[TokenRows, int]]:
        raise NotImplementedError

    def pending(self, history: SequenceBatch) -> int:
        raise NotImplementedError

    @torch.no_grad()
    def prefill(self, histories: Sequence[tuple[SequenceBatch, Hashable | None]]) -> list[Prefilled]:
        """Histories [B] and their keys, ready to be asked; what is new of them is computed in one pass, and then what is
        pending in another. Give them back with `release`."""
        prefilled: list[Prefilled] = []
        new: list[tuple[int, int]] = []
        for history, key in histories:
            held = self.cache.take(key, history)
            if held is None:
                kv, last, known = KVCache(self.backbone.config.layers, history.ids.device), None, 0
            else:
                kv, last, known = held.kv, held.last, held.events.ids.shape[0]
            if last is not None and history.kinds is None and known == history.ids.shape[0]:
                last = last._replace(query_time=int(history.query_timestamps[-1]))  # nothing but the request is new
            else:
                new.append((len(prefilled), known))
            prefilled.append(Prefilled(history, kv, kv.length, last, None, key))
        parts = []
        found = self.rows([(prefilled[n].history, known) for n, known in new]) if new else []
        for (n, _), (rows, before) in zip(new, found):
            x = prefilled[n]
            first, end = x.kv.length - before, rows.x.shape[0] - self.pending(x.history)
            if first < end:
                parts.append((x.kv, rows.part(first, end)))
                x.seen += end - first
            x.last = None
            if end < rows.x.shape[0]:
                x.last = PendingToken(rows.x[end:].clone(), int(rows.times[end]), int(rows.query_times[end]))
        self.extend(parts)
        self.ask([x for x in prefilled if x.last is not None])
        return prefilled

    def ask(self, prefilled: Sequence[Prefilled]) -> None:
        """What is pending comes right after what is settled."""
        tokens = [x.last for x in prefilled if x.last is not None]
        if not tokens:
            return
        branches = [Branch(x.kv, x.seen, 1, own.time, own.query_time) for x, own in zip(prefilled, tokens)]
        for x, state in zip(prefilled, self.branch(torch.cat([own.x for own in tokens]), branches, keep=True)):
            x.state, x.seen = state, x.seen + 1

    def release(self, prefilled: Sequence[Prefilled]) -> None:
        for x in prefilled:
            self.cache.put(x.key, CachedHistory(x.kv, x.history, x.last))

    def extend(self, parts: Sequence[tuple[KVCache, TokenRows]]) -> None:
        """Add each part's rows to its cache."""
        if not parts:
            return
        new = [kv.allocate(rows.times, rows.query_times, rows.prefix_lengths) for kv, rows in parts]
        if len(parts) == 1:
            self.backbone.extend(parts[0][1].x, new[0], parts[0][0])
        else:
            together = BatchedKVCache([kv for kv, _ in parts], new)
            self.backbone.extend(torch.cat([rows.x for _, rows in parts]), together.new, together)
        for kv, rows in parts:
            kv.length += rows.x.shape[0]

    @torch.no_grad()
    def next_item_states(self, prefilled: Sequence[Prefilled], actions: Sequence[str] = ()) -> Tensor:
        """[B, D], to compare with `model.item_vectors()`: what histories [B], none of them empty, call for next. The
        query time of the last event is that of the request.

        actions  [B] with which each next item is to happen, "" for any; () for any of all
        """
        states = torch.stack([x.state for x in prefilled if x.state is not None])
        return self.backbone.normalise(self.asked_for(states, actions))

    def asked_for(self, states: Tensor, actions: Sequence[str]) -> Tensor:
        """[B, D] states of the actions' queries, where a model has some"""
        assert not any(actions), "the model has one query, for any next item"
        return states


def since(history: SequenceBatch, first: int) -> SequenceBatch:
    """The events of one user from the first one on."""
    if not first:
        return history
    later = {name: x[first:] for name, x in event_fields(history).items()}
    if "prefix_lengths" in later:
        later["prefix_lengths"] = (later["prefix_lengths"] - first).clamp(min=0)
    return replace(history, offsets=history.offsets - history.offsets.new_tensor([0, first]), **later)


def end_to_end(histories: Sequence[SequenceBatch]) -> SequenceBatch:
    """Histories of one user each as one batch. They have the same fields, but for prefix lengths."""
    if len(histories) == 1:
        return histories[0]
    fields: dict[str, Tensor] = {}
    some_share = any(x.prefix_lengths is not None for x in histories)
    for name in vars(histories[0]):
        parts = [getattr(x, name) for x in histories]
        if name == "prefix_lengths" and some_share:
            parts = [x.positions() for x in histories]
        if name != "offsets" and parts[0] is not None:
            fields[name] = torch.cat(parts)
    lengths = [0, *(x.ids.shape[0] for x in histories)]
    return SequenceBatch(**fields, offsets=torch.tensor(lengths, device=histories[0].ids.device).cumsum(0))


def event_fields(history: SequenceBatch) -> dict[str, Tensor]:
    """The fields with a row for each event, those that are there."""
    return {name: x for name, x in vars(history).items() if x is not None and name not in ("offsets", "context")}
