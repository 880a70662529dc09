"""Sequence table -> batches for ranking: what did the user do with each item that was shown?

Where the window of a history begins depends only on how many events came before (see window_start), so training,
evaluation and serving give a model the same events for the same question.
"""

from collections.abc import Sequence

import numpy as np
import torch

from louder.batch import IGNORE_INDEX, RankingBatch
from louder.data.attributes import Attribute, first_codes
from louder.data.config import DataConfig
from louder.data.loader import Loader
from louder.data.table import Table, ranges
from louder.data.targets import near, part_rows, target_rows
from louder.data.window import query_times, sequence_batch, table_columns, values_at, window_start
from louder.schema import ENGAGEMENT


class RankingLoader(Loader[RankingBatch]):
    """See Loader. Every exposure of the part is predicted once.

    one_pass   True: all exposures of a window in one causal pass (generative training). False: one sequence for each
               exposure, which is its last event (impression-level, as DLRMs are trained)
    context    attributes of the users
    counters   [T, F] float32, a row for each of the table's
    is_target  [T] bool, rows of the table that are predicted
    next_by    names of actions, of each of which batches have the next item that it happens with
    """

    def __init__(
        self,
        table: Table,
        part: str,
        config: DataConfig,
        *,
        held_out: int,
        one_pass: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        context: Sequence[Attribute] = (),
        counters: np.ndarray | None = None,
        next_by: Sequence[str] = (),
    ) -> None:
        super().__init__(table, part, config, seed=seed, rank=rank, world=world)
        self.one_pass, self.context, self.counters = one_pass, first_codes(context), counters
        self.is_target = part_rows(table, part, config.split, held_out=held_out)
        self.positive = target_rows(self.read, table.action_mask(config.positive))
        self.with_action = [target_rows(self.read, table.action_mask((name,))) for name in next_by]
        self.heads = self.read.request_rows()
        self.columns = table_columns(
            self.read, kinds=config.auxiliary, values=True, heads=self.heads if table.manifest.has_requests else None
        )
        self.ends_user = np.zeros(len(self.rows), dtype=bool)  # the latest row of each user
        self.ends_user[self.read.offsets[1:][np.diff(self.read.offsets) > 0] - 1] = True
        self.predicted = self.is_target[self.rows]
        self.users, self.firsts, self.ends, self.targets = self.windows()
        self.lengths = self.ends - self.firsts + (not one_pass)

    def windows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """User, first row, end, and first target [S] of each sequence; each row that is predicted is in one of them."""
        offsets, targets = self.read.offsets, np.flatnonzero(self.predicted)
        owner = np.searchsorted(offsets, targets, side="right") - 1
        # of requests that overlap in the log the windows do not go back, whatever part each is in
        upto = np.maximum.accumulate(self.heads)[targets]
        firsts = offsets[owner] + window_start(upto - offsets[owner], self.config.max_len)
        if not self.one_pass:  # what comes before the request, and the exposure itself
            return owner, firsts, np.maximum(self.heads[targets], firsts), targets
        same = (np.diff(owner, prepend=-1) == 0) & (np.diff(firsts, prepend=-1) == 0)
        begins = np.flatnonzero(~same)
        ends = targets[np.append(begins[1:], len(targets)) - 1] + 1 if len(targets) else targets
        return owner[begins], firsts[begins], ends, targets[begins]

    def batch(self, chosen: np.ndarray, epoch: int = 0, number: int = 0) -> RankingBatch:
        firsts, lengths, targets = self.firsts[chosen], self.lengths[chosen], self.targets[chosen]
        rows = ranges(firsts, lengths)
        if self.one_pass:  # a window begins with events that are predicted in another
            positions = np.flatnonzero(self.predicted[rows] & (rows >= np.repeat(targets, lengths)))
        else:
            positions = np.cumsum(lengths) - 1
            rows[positions] = targets
        queries = query_times(self.columns, rows, rows + ~self.ends_user[rows], self.config.query_time)
        users = torch.from_numpy(self.users[chosen])
        context = self.context[users] if self.context.shape[1] else None
        target_rows = rows[positions]
        table_rows = self.rows[target_rows]
        return RankingBatch(
            sequences=sequence_batch(self.columns, rows, lengths, queries, firsts=firsts, context=context),
            target_positions=torch.from_numpy(positions),
            labels=self.labels(target_rows),
            value_targets=values_at(self.columns, target_rows),
            counters=None if self.counters is None else torch.from_numpy(self.counters[table_rows]),
            next_items=torch.from_numpy(self.next_items(rows, positions, lengths)),
            users=users,
            rows=torch.from_numpy(table_rows),
            next_items_by=self.next_items_by(rows, positions, lengths),
        )

    def labels(self, rows: np.ndarray) -> torch.Tensor:
        """[M, A] float32"""
        actions = self.columns.actions
        bits = torch.zeros(len(rows), dtype=torch.int64) if actions is None else torch.from_numpy(actions[rows])
        return (bits[:, None] >> torch.arange(len(self.table.manifest.actions)) & 1).float()

    def requests(self, batch: RankingBatch) -> np.ndarray:
        """[M] the request of each exposure that is predicted; -1 where the log has none"""
        return np.full(len(batch.rows), -1) if self.table.requests is None else self.table.requests[batch.rows.numpy()]

    def next_items(self, rows: np.ndarray, positions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[L] at each event after which another request begins its first item, if that is predicted and positive; in training
        not one that comes too late (data.max_gap)."""
        targets = np.full(len(rows), IGNORE_INDEX, dtype=np.int64)
        if self.one_pass:
            now, following, _ = self.followed(rows, positions, lengths)
            fits = self.positive[rows[following]] & self.in_time(rows[now], rows[following])
            targets[now[fits]] = self.read.ids[rows[following[fits]]]
        return targets

    def next_items_by(self, rows: np.ndarray, positions: np.ndarray, lengths: np.ndarray) -> torch.Tensor | None:
        """[Q, L] at the same events, of each action the first item from there on with which it happens, if that is predicted."""
        if not self.with_action:
            return None
        targets = np.full((len(self.with_action), len(rows)), IGNORE_INDEX, dtype=np.int64)
        if self.one_pass:
            now, following, predicted = self.followed(rows, positions, lengths)
            owner = np.repeat(np.arange(len(lengths)), lengths)
            for query, happened in enumerate(self.with_action):
                found = np.flatnonzero(predicted & happened[rows])
                place = np.searchsorted(found, following)
                there = place < len(found)
                asked, target = now[there], found[place[there]]
                # of requests that overlap an item may be of one that began before
                fits = (owner[asked] == owner[target]) & (self.heads[rows[target]] > rows[asked])
                fits &= self.in_time(rows[asked], rows[target])
                targets[query, asked[fits]] = self.read.ids[rows[target[fits]]]
        return torch.from_numpy(targets)

    def followed(
        self, rows: np.ndarray, positions: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The events [R] after which another request begins with an item that is predicted, those items [R], both as indices in
        `rows` [L], and which of the rows are predicted [L]."""
        predicted = np.zeros(len(rows), dtype=bool)
        predicted[positions] = True
        at = np.flatnonzero(self.read.kinds[rows] == ENGAGEMENT)  # only engagements predict, and are predicted
        owner = np.repeat(np.arange(len(lengths)), lengths)
        now, following = at[:-1], at[1:]
        fits = (owner[now] == owner[following]) & (self.heads[rows[following]] == rows[following])
        fits &= predicted[following]
        return now[fits], following[fits], predicted

    def in_time(self, before: np.ndarray, target: np.ndarray) -> np.ndarray:
        """[N] bool"""
        return near(self.read, before, target, self.config.max_gap if self.train else None)
