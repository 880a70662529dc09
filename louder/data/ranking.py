"""Sequence table -> batches for ranking: what did the user do with each item that was shown?

A history longer than `data.max_len` is cut into windows. Where a window begins depends only on how many events came
before (see window_start), so training, evaluation and serving give a model the same events for the same question.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.data.attributes import Attribute
from louder.data.loader import DataConfig, pack
from louder.data.table import Table, ranges
from louder.data.targets import NOTHING, SplitConfig, target_rows
from louder.schema import ENGAGEMENT


@dataclass(frozen=True, kw_only=True)
class RankingBatch:
    """Histories, and which of their L events are asked for: "what did the user do with this one?"

    sequences   the B histories, with actions and values; a model must not read those of the row it predicts, nor
                those of the same request
    target_positions  [M] int64 rows of the sequences that are predicted, ascending
    labels      [M, A] float32, 1 where the action happened
    value_targets     [M, V] float32 values to predict, NaN where absent
    counters    [M, F] float32 counts of what happened before the request, or None where no model asks for them
    next_items  [L] int64 first item of the request that begins after the row, or -1 where that is not to be predicted
    users       [B] int64
    rows        [M] int64 rows of the table that are predicted
    """

    sequences: SequenceBatch
    target_positions: Tensor
    labels: Tensor
    value_targets: Tensor
    counters: Tensor | None
    next_items: Tensor
    users: Tensor
    rows: Tensor

    def to(self, device: torch.device | str) -> "RankingBatch":
        moved = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor | SequenceBatch)}
        return replace(self, **moved)  # type: ignore[arg-type]


def window_start(before: np.ndarray, max_len: int) -> np.ndarray:
    """First event of the window in which an event is predicted that has `before` [...] events of its user before it.

    A window has room for `max_len` events, the one that is predicted among them. While fewer came before, the history is
    whole; then the window moves on by half of its length at a time, so that cached keys and values stay valid while it
    stands, and the model has between a half of `max_len` and all but one.
    """
    hop = max(1, max_len // 2)
    beyond = before - max_len
    return np.where(beyond < 0, 0, (beyond // hop + 1) * hop)


class RankingLoader:
    """Batches of one part of a table: every exposure of the part is predicted once.

    one_pass   True: all exposures of a window in one causal pass (generative training). False: one sequence for each
               exposure, which is its last event (impression-level, as DLRMs are trained)

    What an epoch holds is a function of (seed, epoch) alone.
    """

    def __init__(
        self,
        table: Table,
        part: str,
        config: DataConfig,
        *,
        held_out: int,
        one_pass: bool,
        shuffle: bool,
        seed: int = 0,
        context: list[Attribute] | None = None,
        counters: np.ndarray | None = None,
    ) -> None:
        self.config, self.one_pass, self.shuffle, self.seed = config, one_pass, shuffle, seed
        self.context = context_codes(context or [])
        self.manifest = table.manifest
        everything = np.arange(len(table.ids))
        kept = everything if config.auxiliary else np.flatnonzero(table.kinds == ENGAGEMENT)
        self.table_rows = kept
        self.counters = counters
        self.table = table if config.auxiliary else selected(table, kept)
        self.begins = self.table.request_rows()
        self.asked = part_rows(self.table, self.begins, part, config.split, held_out=held_out)
        self.positive = target_rows(self.table, self.table.action_mask(config.positive))
        self.windows()

    def windows(self) -> None:
        """user, first, end [W]: windows with the exposures that are asked for; each of these is in one window."""
        table = self.table
        (asked,) = np.nonzero(self.asked)
        owner = np.searchsorted(table.offsets, asked, side="right") - 1
        begins = self.begins[asked]
        # of requests that overlap in the log the windows do not go back, whatever part each is in
        upto = np.maximum.accumulate(self.begins)[asked]
        first = table.offsets[owner] + window_start(upto - table.offsets[owner], self.config.max_len)
        if self.one_pass:
            same = (np.diff(owner, prepend=-1) == 0) & (np.diff(first, prepend=-1) == 0)
            heads = np.flatnonzero(~same)
            ends = asked[np.append(heads[1:], len(asked)) - 1] + 1 if len(asked) else asked
            self.users, self.first, self.ends, self.heads = owner[heads], first[heads], ends, asked[heads]
        else:
            # what comes before the request, and the exposure itself
            self.users, self.first, self.ends, self.heads = owner, first, np.maximum(begins, first), asked

    def __len__(self) -> int:
        """Sequences in an epoch."""
        return len(self.users)

    @property
    def exposures(self) -> int:
        return int(self.asked.sum())

    def steps(self, epoch: int = 0) -> int:
        if self.config.events_per_batch is None:
            return -(-len(self) // self.config.users_per_batch)
        return len(self.plan(epoch))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Sequences of each batch of an epoch."""
        order = np.arange(len(self))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
        if self.config.events_per_batch is None:
            cuts = np.arange(self.config.users_per_batch, len(order), self.config.users_per_batch)
        else:
            cuts = pack((self.ends - self.first)[order] + (not self.one_pass), self.config.events_per_batch)
        return np.split(order, cuts) if len(order) else []

    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[RankingBatch]:
        for chosen in self.plan(epoch)[first:]:
            yield self.batch(chosen)

    def batch(self, chosen: np.ndarray) -> RankingBatch:
        table = self.table
        first, ends = self.first[chosen], self.ends[chosen]
        if self.one_pass:
            lengths = ends - first
            rows = ranges(first, lengths)
            # a window begins with events that another window asks for
            heads = np.repeat(self.heads[chosen], lengths)
            (asked,) = np.nonzero(self.asked[rows] & (rows >= heads))
        else:
            lengths = ends - first + 1
            rows = ranges(first, lengths)
            asked = np.cumsum(lengths) - 1
            rows[asked] = self.heads[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        prefix_lengths = (self.begins[rows] - np.repeat(first, lengths)).clip(min=0)
        own = np.arange(len(rows)) - np.repeat(offsets[:-1], lengths)
        alone = bool((prefix_lengths == own).all())
        targets = self.next_items(rows, asked, lengths)
        sequences = SequenceBatch(
            ids=torch.from_numpy(table.ids[rows]),
            timestamps=torch.from_numpy(self.times(rows)),
            query_timestamps=torch.from_numpy(self.query_times(rows)),
            offsets=torch.from_numpy(offsets),
            actions=None if table.actions is None else torch.from_numpy(table.actions[rows]),
            kinds=torch.from_numpy(table.kinds[rows]) if self.config.auxiliary and self.manifest.series else None,
            values=self.values(rows) if table.values else None,
            prefix_lengths=None if alone else torch.from_numpy(prefix_lengths),
            context=self.context[torch.from_numpy(self.users[chosen])] if self.context.shape[1] else None,
        )
        predicted = rows[asked]
        bits = torch.zeros(len(asked), dtype=torch.int64)
        if table.actions is not None:
            bits = torch.from_numpy(table.actions[predicted])
        labels = (bits[:, None] >> torch.arange(len(self.manifest.actions)) & 1).float()
        return RankingBatch(
            sequences=sequences,
            target_positions=torch.from_numpy(asked),
            labels=labels,
            value_targets=self.values(predicted),
            counters=None if self.counters is None else torch.from_numpy(self.counters[self.table_rows[predicted]]),
            next_items=torch.from_numpy(targets),
            users=torch.from_numpy(self.users[chosen]),
            rows=torch.from_numpy(self.table_rows[predicted]),
        )

    def requests(self, batch: RankingBatch) -> np.ndarray:
        """[M] the request of each exposure that is asked for; -1 where the log has none"""
        if self.table.requests is None:
            return np.full(len(batch.rows), -1)
        return self.table.requests[np.searchsorted(self.table_rows, batch.rows.numpy())]

    def times(self, rows: np.ndarray) -> np.ndarray:
        """When each event happened; an item shown in a request with others, when that was made."""
        return self.table.times[self.begins[rows]]

    def query_times(self, rows: np.ndarray) -> np.ndarray:
        """When the event after each one's happened: the time at which an action token asks for the next item."""
        after = np.minimum(rows + 1, len(self.table.ids) - 1)
        last = np.isin(after, self.table.offsets) | (after == rows)
        withheld = self.config.query_time == "withheld"
        return self.table.times[rows] if withheld else np.where(last, self.table.times[rows], self.table.times[after])

    def values(self, rows: np.ndarray) -> Tensor:
        columns = [torch.from_numpy(self.table.values[name][rows]) for name in self.manifest.values]
        return torch.stack(columns, dim=1) if columns else torch.zeros(len(rows), 0)

    def next_items(self, rows: np.ndarray, asked: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[L] at each event after which another request begins its first item, if that is asked for and positive."""
        targets = np.full(len(rows), NOTHING, dtype=np.int64)
        if not self.one_pass:
            return targets
        is_asked = np.zeros(len(rows) + 1, dtype=bool)
        is_asked[asked] = True
        engaged = self.table.kinds[rows] == ENGAGEMENT
        at = np.flatnonzero(engaged)  # only engagements predict, and are predicted
        owner = np.repeat(np.arange(len(lengths)), lengths)
        now, following = at[:-1], at[1:]
        fits = (owner[now] == owner[following]) & (self.begins[rows[following]] == rows[following])
        fits &= is_asked[following] & self.positive[rows[following]]
        targets[now[fits]] = self.table.ids[rows[following[fits]]]
        return targets


def part_rows(table: Table, begins: np.ndarray, part: str, config: SplitConfig, *, held_out: int) -> np.ndarray:
    """[T] bool: the engagements of "train", "validation" or "test". A request is in one part as a whole.

    time            by the time of the request
    leave_last_out  the last request of each user is for testing, the one before for validation
    users           whole users, as in targets.split
    """
    engaged = table.kinds == ENGAGEMENT
    if config.kind == "time":
        assert config.validation_from is not None
        assert config.test_from is not None
        times = table.times[begins]
        after, upto = times >= config.validation_from, times < config.test_from
        if held_out == 1:
            after = ~upto
        return engaged & {"train": ~after, "validation": after & upto, "test": ~upto}[part]
    owner = np.repeat(np.arange(table.users), np.diff(table.offsets))
    if config.kind == "users":
        share = max(1, round(table.users * config.test_users))
        test = table.users - share
        validation = test - share if held_out == 2 else test
        low, high = {"train": (0, validation), "validation": (validation, test), "test": (test, table.users)}[part]
        return engaged & (owner >= low) & (owner < high)
    rows = np.flatnonzero(engaged)
    number = np.unique(begins[rows], return_inverse=True)[1]  # of the request, over all users
    latest = np.zeros(table.users, dtype=np.int64)
    np.maximum.at(latest, owner[rows], number)
    back = latest[owner[rows]] - number  # 0 = the user's last request
    wanted = {"test": back == 0, "validation": (back == 1) & (held_out == 2), "train": back >= held_out}[part]
    result = np.zeros(len(table.ids), dtype=bool)
    result[rows[wanted]] = True
    return result


def selected(table: Table, rows: np.ndarray) -> Table:
    """The table with these rows alone."""
    return replace(
        table,
        offsets=np.searchsorted(rows, table.offsets),
        kinds=table.kinds[rows],
        ids=table.ids[rows],
        times=table.times[rows],
        actions=None if table.actions is None else table.actions[rows],
        values={name: column[rows] for name, column in table.values.items()},
        requests=None if table.requests is None else table.requests[rows],
    )


def context_codes(attributes: list[Attribute]) -> Tensor:
    """[U, C] the code of each attribute of each user; of a list the first."""
    columns = []
    for attribute in attributes:
        starts, lengths = attribute.offsets[:-1], attribute.offsets.diff()
        padded = torch.cat([attribute.codes, attribute.codes.new_zeros(1)])
        columns.append(torch.where(lengths > 0, padded[starts.clamp(max=len(attribute.codes))], 0))
    return torch.stack(columns, dim=1) if columns else torch.zeros(0, 0, dtype=torch.int64)
