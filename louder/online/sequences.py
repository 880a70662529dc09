"""Histories and what is new -> sequences and batches, in the form of the loaders of louder.data: the same tensors as of a table.

    events that stand alone   where they are in the history: one causal pass for all of a user's
    answers                   the history as it was when they were asked for, then the items: as the service scores them

Each is asked about once, and from what was before it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from louder.batch import IGNORE_INDEX, RankingBatch, RetrievalBatch
from louder.data.loader import pack
from louder.data.table import ranges
from louder.data.window import Columns, Encoded, Reader, log1p, query_times, sequence_batch, values_at
from louder.histories import History
from louder.histories.arrivals import bits, columns, request_number
from louder.histories.merging import joined
from louder.ids import RawId
from louder.online.window import Answer, UserWindow

Stretch = tuple[int, int, int]  # first row, end, and first row that is asked about


@dataclass(frozen=True)
class Block:
    """Columns of T tokens of one user, and sequences of them.

    asked     [T] bool, of which it is asked what was done
    next      [T] bool, which are to be foretold as the next item
    requests  [T] int64 number of the request, -1 for none
    """

    columns: Columns
    asked: np.ndarray
    next: np.ndarray
    requests: np.ndarray
    sequences: Sequence[Stretch]


@dataclass(frozen=True)
class Asked:
    """How one task reads a stream.

    ranking   whether it is asked what was done
    next      whether the next item is to be foretold
    positive  bits of actions, any of which makes an event one to be foretold; 0 takes every event
    """

    reader: Reader
    ranking: bool
    next: bool
    positive: int


def blocks_of(old: History, own: UserWindow, task: Asked, counts: Counter[str]) -> list[Block]:
    """Of one user, whose history was `old` when the window began. `counts` gets "unknown" events and items, that the model
    does not know."""
    reader = task.reader
    arrived = columns(list(own.events), old.names) if own.events else old.select(slice(0, 0))
    both, order = joined(old, arrived)
    both = both.select(order)
    fresh = order >= len(old)
    alone = np.zeros(len(order), dtype=bool)
    alone[fresh] = np.array([event.id in own.alone for event in own.events], dtype=bool)[order[fresh] - len(old)]
    encoded = reader.encode(both)
    new, known = fresh[encoded.rows], encoded.columns.ids >= 0
    counts["unknown"] += int(fresh.sum() - (new & known).sum())
    found = [in_history(encoded, both, new, alone[encoded.rows], task)] if new.any() else []
    if task.ranking:
        for request, answer in own.answers.items():
            if (block := of_answer(encoded, both, request, answer, task, counts)) is not None:
                found.append(block)
    return [block for block in found if block.sequences]


def in_history(encoded: Encoded, history: History, new: np.ndarray, alone: np.ndarray, task: Asked) -> Block:
    own, reader = encoded.columns, task.reader
    heads = np.arange(len(own.ids)) if own.heads is None else own.heads
    bits_of = history.actions[encoded.rows] if not task.ranking or own.actions is None else own.actions
    wanted = new & (own.ids >= 0) & ((bits_of & task.positive) != 0 if task.positive else True)
    asked = new & alone & task.ranking
    following = wanted & (heads == np.arange(len(heads))) & (np.arange(len(heads)) > 0) & task.next
    if task.ranking:
        sequences = hops(encoded, np.flatnonzero(asked | following), heads, reader, history.dropped)
    else:
        sequences = tails(np.flatnonzero(following), reader.max_len)
    return Block(own, asked, following, history.requests[encoded.rows], sequences)


def hops(encoded: Encoded, targets: np.ndarray, heads: np.ndarray, reader: Reader, dropped: int) -> list[Stretch]:
    """As RankingLoader.windows: each target in the window that the service would read for its request."""
    if not len(targets):
        return []
    upto = np.maximum.accumulate(heads[targets])
    firsts = reader.firsts(encoded.rows, upto, dropped)
    begins = np.flatnonzero(np.diff(firsts, prepend=-1))
    ends = targets[np.append(begins[1:], len(targets)) - 1] + 1
    return list(zip(firsts[begins].tolist(), ends.tolist(), targets[begins].tolist()))


def tails(targets: np.ndarray, max_len: int) -> list[Stretch]:
    """The latest `max_len` tokens before the last target and, where others are older, as many before these: each is
    foretold from at least half of that, where there is so much before it."""
    found: list[Stretch] = []
    while len(targets):
        end = int(targets[-1])
        first = max(0, end - max_len)
        least = 1 if first == 0 else first + max(1, max_len // 2)
        inside = int(np.searchsorted(targets, least))
        found.append((first, end, int(targets[inside])))
        targets = targets[:inside]
    return found[::-1]


def of_answer(
    encoded: Encoded, history: History, request: str, answer: Answer, task: Asked, counts: Counter[str]
) -> Block | None:
    """The history before an answer, then its items, which do not see each other."""
    own, reader, number = encoded.columns, task.reader, request_number(request)
    same = np.flatnonzero(history.requests[encoded.rows] == number)
    end = int(np.searchsorted(own.times, answer.time, side="right"))
    end = min(end, int(same[0])) if len(same) else end
    items = list(answer.done)
    ids = reader.item_ids.ids(items)
    counts["unknown"] += int((ids < 0).sum())
    known = np.flatnonzero(ids >= 0)
    if not len(known):
        return None
    first = int(reader.firsts(encoded.rows, np.array([end]), history.dropped)[0])
    heads = own.heads if own.heads is not None else np.arange(len(own.ids))
    begin = min([first, *heads[first:end].tolist()])  # an event's time is that of its request, which may begin before
    done = [answer.done[items[at]] for at in known]
    n, rest = len(known), slice(begin, end)
    action_bits = np.array([bits(event.actions, history.names) if event else 0 for event in done], np.int64)
    values = [
        np.array([event.values.get(name, np.nan) if event else np.nan for event in done], np.float32)
        for name in reader.values
    ]
    logged = [log1p(x) if name in reader.log_values else x for name, x in zip(reader.values, values)]

    def after(before: np.ndarray | None, these: np.ndarray) -> np.ndarray:
        return these if before is None else np.concatenate([before[rest], these])

    joint = Columns(
        ids=after(own.ids, ids[known]),
        times=after(own.times, np.full(n, answer.time)),
        kinds=None if own.kinds is None else after(own.kinds, np.zeros(n, np.uint8)),
        actions=None if own.actions is None else after(own.actions, action_bits),
        values=tuple(after(x, y) for x, y in zip(own.values, logged)),
        heads=after(heads - begin, np.full(n, end - begin)),
    )
    asked = np.arange(end - begin + n) >= end - begin
    requests = np.where(asked, number, -1)
    sequence = (first - begin, len(asked), end - begin)
    return Block(joint, asked, np.zeros(len(asked), dtype=bool), requests, [sequence])


class Sequences:
    """S sequences of a window, of many users, ready to be made into batches.

    users    raw ids
    owners   [S] index in `users`
    lengths  [S] tokens
    """

    def __init__(self, found: Sequence[tuple[RawId, Sequence[Block]]], task: Asked, query_time: str) -> None:
        self.task, self.query_time = task, query_time
        self.users = [user for user, _ in found]
        blocks = [(number, block) for number, (_, own) in enumerate(found) for block in own]
        sizes = np.array([len(block.columns.ids) for _, block in blocks], dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        self.columns = end_to_end([block.columns for _, block in blocks], starts)
        self.asked, self.next, self.requests = (
            np.concatenate([getattr(block, name) for _, block in blocks] or [np.zeros(0, kind)])
            for name, kind in (("asked", bool), ("next", bool), ("requests", np.int64))
        )
        self.ends = np.zeros(sizes.sum(), dtype=bool)  # the last token of each block
        self.ends[starts + sizes - 1] = True
        rows = [(n, *(x + start for x in s)) for start, (n, block) in zip(starts, blocks) for s in block.sequences]
        table = np.array(rows, dtype=np.int64).reshape(-1, 4)
        self.owners, self.firsts, ends, self.targets = table.T
        self.lengths = ends - self.firsts

    def __len__(self) -> int:
        return len(self.lengths)

    def plan(self, users_per_batch: int, events_per_batch: int | None) -> list[np.ndarray]:
        order = np.arange(len(self))
        if not len(order):
            return []
        if events_per_batch is not None:
            return np.split(order, pack(self.lengths, events_per_batch))
        return np.split(order, np.arange(users_per_batch, len(order), users_per_batch))

    def retrieval(self, chosen: np.ndarray, users: torch.Tensor) -> RetrievalBatch:
        """users [B] int64: numbers of the users in the model, -1 for somebody new"""
        firsts, lengths = self.firsts[chosen], self.lengths[chosen]
        rows = ranges(firsts, lengths)
        following = rows + 1
        wanted = self.next[following] & (following >= np.repeat(self.targets[chosen], lengths))
        targets = np.where(wanted, self.columns.ids[following], IGNORE_INDEX)
        queries = query_times(self.columns, rows, following, self.query_time)
        batch = sequence_batch(self.columns, rows, lengths, queries)
        last = torch.from_numpy(firsts + lengths)
        return RetrievalBatch(sequences=batch, targets=torch.from_numpy(targets), users=users, rows=last)

    def ranking(
        self, chosen: np.ndarray, users: torch.Tensor, actions: int, context: torch.Tensor | None
    ) -> RankingBatch:
        """context [B, C] codes of the users' attributes"""
        firsts, lengths = self.firsts[chosen], self.lengths[chosen]
        rows = ranges(firsts, lengths)
        own = rows >= np.repeat(self.targets[chosen], lengths)
        positions = np.flatnonzero(self.asked[rows] & own)
        queries = query_times(self.columns, rows, rows + ~self.ends[rows], self.query_time)
        targets = np.full(len(rows), IGNORE_INDEX, dtype=np.int64)
        foretold = np.flatnonzero(self.next[rows] & own)
        foretold = foretold[rows[foretold] > np.repeat(firsts, lengths)[foretold]]
        targets[foretold - 1] = self.columns.ids[rows[foretold]]
        at = rows[positions]
        done = np.zeros(len(at), np.int64) if self.columns.actions is None else self.columns.actions[at]
        return RankingBatch(
            sequences=sequence_batch(self.columns, rows, lengths, queries, firsts=firsts, context=context),
            target_positions=torch.from_numpy(positions),
            labels=(torch.from_numpy(done)[:, None] >> torch.arange(actions) & 1).float(),
            value_targets=values_at(self.columns, at),
            counters=None,
            next_items=torch.from_numpy(targets),
            users=users,
            rows=torch.from_numpy(at),
        )


def end_to_end(parts: Sequence[Columns], starts: np.ndarray) -> Columns:
    """Columns of several, whose heads are rows of each."""
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Columns(ids=nothing, times=nothing)
    one = parts[0]
    return Columns(
        ids=np.concatenate([x.ids for x in parts]),
        times=np.concatenate([x.times for x in parts]),
        kinds=None if one.kinds is None else np.concatenate([x.kinds for x in parts if x.kinds is not None]),
        actions=None if one.actions is None else np.concatenate([x.actions for x in parts if x.actions is not None]),
        values=tuple(np.concatenate(x) for x in zip(*(x.values for x in parts))),
        heads=None
        if one.heads is None
        else np.concatenate([x.heads + start for x, start in zip(parts, starts) if x.heads is not None]),
    )
