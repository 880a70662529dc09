"""Columns and rows -> SequenceBatch: the one place where a history takes the form that a model reads.

    table    ── table_columns ─┐            ┌─ loaders: rows of many users ─┐
    raw ids  ── Reader.encode ─┼─▶ Columns ─┤                               ├─ sequence_batch ─▶ SequenceBatch
    one user ── Reader.of_user ┘            └─ Reader.batch: the window ────┘

Training, evaluation and every kind of answer build their batches here, so the same events give the same tensors:

- **Windows.** Retrieval reads the latest `max_len` tokens; ranking begins at `window_start`, which moves by hops. Hops are
  counted over all that a user ever did, also what a store has dropped or the model does not know: what a store drops moves
  no window.
- **Requests.** Items of one request have the time and the prefix length of its first one, their head (`request_heads`).
- **Query times.** The time of the next event or, after the last one, of the request; if withheld, each event's own.
- **Actions and values** go by name: what only one side knows is left out of the bits, or NaN. Some values are logged.
- **Unknown items.** Events of items that the model does not know, but a store or client does, are left out (`skipped`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.data.table import Table, request_heads
from louder.errors import InputError
from louder.schema import ENGAGEMENT

if TYPE_CHECKING:
    from louder.histories.history import History
    from louder.ids import IdMap


@dataclass(frozen=True, kw_only=True)
class Columns:
    """T tokens as a model reads them, oldest first within a user: of a whole table, or of one history.

    ids      [T] int64 item ids of the model, or of an auxiliary series
    times    [T] int64 seconds
    kinds    [T] uint8, or None where the model reads engagements only
    actions  [T] int64 bits in the model's order, or None where it reads none
    values   V columns [T] float32, NaN where absent
    heads    [T] int64 row of the first event of the same request, or None where each event is a request of its own
    """

    ids: np.ndarray
    times: np.ndarray
    kinds: np.ndarray | None = None
    actions: np.ndarray | None = None
    values: tuple[np.ndarray, ...] = ()
    heads: np.ndarray | None = None

    @property
    def items(self) -> np.ndarray:
        """[E] int64 item ids of the engagements"""
        return self.ids if self.kinds is None else self.ids[self.kinds == ENGAGEMENT]


class Encoded(NamedTuple):
    """What a model knows of a history up to a request.

    columns  its T tokens
    rows     [T] of the tokens in the history
    skipped  events that were left out, because the model does not know their items
    first    token at which the model's window begins
    seen     ids of the items of the user's whole past, oldest first, whatever the time of the request
    """

    columns: Columns
    rows: np.ndarray
    skipped: int
    first: int
    seen: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How one model reads a history of one user.

    item_ids    raw ids <-> ids of the model
    max_len     of its window, in tokens
    query_time  "request" or "withheld", see DataConfig
    actions     names of the actions in the order of their bits; () where it reads none
    values      names of the values; those of `log_values` are read as log(1 + x)
    series      whether its histories have entries of auxiliary series
    ranking     whether its windows move by hops and items of one request do not see each other
    reads_new   whether items that it does not know are read, as -1: a model whose ids come and go has a vector for them
    """

    item_ids: "IdMap"
    max_len: int
    query_time: str = "request"
    actions: Sequence[str] = ()
    values: Sequence[str] = ()
    log_values: Sequence[str] = ()
    series: bool = False
    ranking: bool = False
    reads_new: bool = False

    def encode(self, history: "History", at: int | None = None) -> Encoded:
        """Raw events, oldest first; those later than `at` are seen, but not read."""
        end = len(history.times) if at is None else int(np.searchsorted(history.times, at, side="right"))
        items = history.items
        ids = (
            self.item_ids.ids(items if items.dtype != object else items.tolist())
            if len(items)
            else np.zeros(0, np.int64)
        )
        rows = np.arange(end) if self.reads_new else np.flatnonzero(ids[:end] >= 0)
        known, absent = history.names.values, np.full(len(rows), np.nan, dtype=np.float32)
        values = [history.values[rows, known.index(name)] if name in known else absent for name in self.values]
        columns = Columns(
            ids=ids[rows],
            times=history.times[rows],
            kinds=np.zeros(len(rows), dtype=np.uint8) if self.series else None,
            actions=remapped(history.actions[rows], history.names.actions, self.actions) if self.actions else None,
            values=self.logged(values),
            heads=request_heads(history.requests[rows]) if self.ranking else None,
        )
        seen = ids if not len(history.older) else np.concatenate([self.item_ids.ids_of_keys(history.older), ids])
        return Encoded(columns, rows, end - len(rows), self.first(rows, history.dropped), seen[seen >= 0])

    def of_user(self, table: Table, user: int, at: int | None = None, tokens: int | None = None) -> Encoded:
        """Tokens of a user of a table that has the model's own ids, values and series; the first `tokens` of them, if
        given, as if there were no others."""
        own = table.of_user(user, at, tokens)
        rows = np.arange(len(own.ids))
        if not self.series:
            own, rows = own.engagements()
        bits = np.zeros_like(own.ids) if own.actions is None else own.actions
        columns = Columns(
            ids=own.ids,
            times=own.times,
            kinds=own.kinds if self.series else None,
            actions=remapped(bits, own.manifest.actions, self.actions) if self.actions else None,
            values=self.logged([own.values[name] for name in self.values]),
            heads=own.request_rows() if self.ranking else None,
        )
        whole, _ = table.of_user(user, tokens=tokens).engagements()
        return Encoded(columns, rows, 0, self.first(np.arange(len(rows))), whole.ids)

    def first(self, rows: np.ndarray, dropped: int = 0) -> int:
        """The token at which the window begins, of tokens in the `rows` [T] of a history, before which `dropped` events of
        the user are gone."""
        return int(self.firsts(rows, np.array([len(rows)]), dropped)[0])

    def firsts(self, rows: np.ndarray, ends: np.ndarray, dropped: int = 0) -> np.ndarray:
        """[N] likewise of the first `ends` [N] of the tokens alone."""
        if not self.ranking:
            return (ends - self.max_len).clip(min=0)
        full = ends >= self.max_len
        latest_without_room = np.full(len(ends), -1)
        latest_without_room[full] = rows[ends[full] - self.max_len]
        starts = window_start(dropped + latest_without_room + self.max_len, self.max_len)
        return np.minimum(np.searchsorted(rows, starts - dropped), ends)

    def batch(self, encoded: Encoded, at: int | None = None, context: Tensor | None = None) -> SequenceBatch:
        """The window of a history, as a batch of one, for a request at `at`: without it, at its latest event's time.

        context  [1, C] int64 codes of the user's attributes, where the model has some
        """
        columns, first, end = encoded.columns, encoded.first, len(encoded.columns.ids)
        rows = np.arange(first, end)
        following = np.minimum(rows + 1, end - 1)
        query = query_times(columns, rows, following, self.query_time)
        if at is not None and self.query_time == "request":
            query[-1:] = at
        lengths = np.array([end - first])
        return sequence_batch(columns, rows, lengths, query, firsts=np.array([first]), context=context)

    def logged(self, values: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return tuple(log1p(x) if name in self.log_values else x for name, x in zip(self.values, values))


def table_columns(
    table: Table, *, actions: bool = True, kinds: bool = True, values: bool = False, heads: np.ndarray | None = None
) -> Columns:
    """The tokens of all users of a table, without a copy; `heads` are its request_rows where requests count."""
    return Columns(
        ids=table.ids,
        times=table.times,
        kinds=table.kinds if kinds and table.manifest.series else None,
        actions=table.actions if actions else None,
        values=tuple(table.values[name] for name in table.manifest.values) if values else (),
        heads=heads,
    )


def sequence_batch(
    columns: Columns,
    rows: np.ndarray,
    lengths: np.ndarray,
    query_times: np.ndarray,
    *,
    firsts: np.ndarray | None = None,
    context: Tensor | None = None,
) -> SequenceBatch:
    """B histories of `lengths` [B] tokens, end to end: the `rows` [L] of the columns, with their `query_times` [L].

    firsts   [B] row at which each one's window begins; needed where the columns have heads. From there on its rows
             are without gaps, but for a last one that stands alone for its request
    context  [B, C] int64 codes of the users' attributes
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    times, prefix_lengths = columns.times[rows], None
    if columns.heads is not None:
        assert firsts is not None
        heads = columns.heads[rows]
        times = columns.times[heads]
        prefix_lengths = (heads - np.repeat(firsts, lengths)).clip(min=0)  # a request may begin before the window
        if (prefix_lengths == np.arange(len(rows)) - np.repeat(offsets[:-1], lengths)).all():
            prefix_lengths = None
    return SequenceBatch(
        ids=torch.from_numpy(columns.ids[rows]),
        timestamps=torch.from_numpy(times),
        query_timestamps=torch.from_numpy(query_times),
        offsets=torch.from_numpy(offsets),
        actions=None if columns.actions is None else torch.from_numpy(columns.actions[rows]),
        kinds=None if columns.kinds is None else torch.from_numpy(columns.kinds[rows]),
        values=values_at(columns, rows) if columns.values else None,
        prefix_lengths=None if prefix_lengths is None else torch.from_numpy(prefix_lengths),
        context=context,
    )


def values_at(columns: Columns, rows: np.ndarray) -> Tensor:
    found = [torch.from_numpy(column[rows]) for column in columns.values]
    return torch.stack(found, dim=1) if found else torch.zeros(len(rows), 0)


def query_times(columns: Columns, rows: np.ndarray, following: np.ndarray, query_time: str) -> np.ndarray:
    """[L] int64: the time at which the prediction of each of the `rows` [L] is requested, that of the `following` [L] row."""
    return columns.times[rows if query_time == "withheld" else following]


def window_start(before: np.ndarray, max_len: int) -> np.ndarray:
    """First event of the window in which an event is predicted that has `before` [...] events of its user before it.

    A window has room for `max_len` events, the one that is predicted among them. Once the history is longer, the window
    moves on by half of its length at a time, so that cached keys and values stay valid while it stands.
    """
    hop = max(1, max_len // 2)
    beyond = before - max_len
    return np.where(beyond < 0, 0, (beyond // hop + 1) * hop)


def log1p(values: np.ndarray) -> np.ndarray:
    """log(1 + x), of negative numbers 0; NaN stays."""
    logged: np.ndarray = np.log1p(values.clip(min=0))
    return logged


def remapped(bits: np.ndarray, have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """Action bits [T] numbered by `have`, as bits numbered by `want`; what only one of them knows is left out."""
    if tuple(have) == tuple(want):
        return bits.copy()
    out = np.zeros_like(bits)
    for bit, name in enumerate(want):
        if name in have:
            out |= (bits >> have.index(name) & 1) << bit
    return out


def action_bits(names: Sequence[str], known: Sequence[str]) -> int:
    """The bits of the named actions. Raises InputError for one that is not known."""
    for name in names:
        if name not in known:
            raise InputError(f"There is no action {name!r}; the model knows {', '.join(known) or 'none'}.")
    return sum(1 << known.index(name) for name in set(names))
