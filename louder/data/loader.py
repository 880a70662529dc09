"""Sequence table -> batches: the latest events of each user, with what each of them predicts."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.data import stochastic_length
from louder.data.stochastic_length import StochasticLength
from louder.data.table import Table, ranges
from louder.data.targets import NOTHING, Spans, SplitConfig, target_rows
from louder.errors import InputError
from louder.schema import ENGAGEMENT


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, how it is split, and how it is packed."""

    table: str = ""  # folder of the sequence table
    split: SplitConfig = field(default_factory=SplitConfig)
    max_len: int = 200  # longest history given to a model, in tokens; the latest are kept
    users_per_batch: int = 128
    events_per_batch: int | None = None  # if set, batches are packed up to this many tokens instead of by users
    shuffle: bool = True  # users in a new order every epoch; False keeps the table's order, for a stream
    actions: bool = True  # what the user did is part of a token, where the log has actions
    auxiliary: bool = True  # entries of auxiliary series are part of the history, where the log has them
    positive: tuple[str, ...] = ()  # actions, any of which makes an engagement a target; () takes every engagement
    query_time: str = "request"  # rows know when the next event happens ("request", as the paper) or not ("withheld")
    stochastic_length: StochasticLength | None = None

    def __post_init__(self) -> None:
        for name in "max_len", "users_per_batch", "events_per_batch":
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"data.{name} must be at least 1, but it is {value}.")
        if self.query_time not in ("request", "withheld"):
            raise InputError(f"data.query_time must be request or withheld, but it is {self.query_time!r}.")


@dataclass(frozen=True, kw_only=True)
class RetrievalBatch:
    """Histories, and the item that each of their L tokens is to predict.

    sequences  the B histories
    targets    [L] int64 item id, or -1 where nothing is to be predicted
    users      [B] int64
    rows       [B] int64, row of each user's latest target in the table: where the user's whole past ends
    """

    sequences: SequenceBatch
    targets: Tensor
    users: Tensor
    rows: Tensor


class Loader:
    """Batches of one part of a table. What an epoch holds is a function of (seed, epoch) alone, so any step can be
    reached again without the steps before it.

    Training (`every_row=True`) predicts the next positive engagement from every row; evaluation only the last one.
    """

    def __init__(
        self,
        table: Table,
        spans: Spans,
        config: DataConfig,
        *,
        every_row: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        assert 0 <= rank < world
        self.table, self.config, self.every_row = table, config, every_row
        self.seed, self.rank, self.world = seed, rank, world
        self.targets = target_rows(table, table.action_mask(config.positive))
        self.engagements = np.flatnonzero(table.kinds == ENGAGEMENT)
        self.every_token = config.auxiliary or not table.manifest.series
        if not self.every_token:  # a history of auxiliary entries alone becomes empty, and predicts nothing
            has_history = (
                np.diff(np.searchsorted(self.engagements, np.stack([spans.starts, spans.lasts])), axis=0)[0] > 0
            )
            spans = Spans(spans.users[has_history], spans.starts[has_history], spans.lasts[has_history])
        self.spans = spans

    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[RetrievalBatch]:
        """The batches of this rank from the `first`-th on. Every rank gets the same number of them in training: the
        last few (fewer than `world`) users' batches of an epoch are left to the next shuffle."""
        plan = self.plan(epoch)
        mine = range(self.rank, len(plan), self.world)
        for step in range(first, self.steps(epoch)):
            yield self.batch(plan[mine[step]], epoch, mine[step])

    def steps(self, epoch: int = 0) -> int:
        """Number of batches that this rank gets in an epoch."""
        if self.config.events_per_batch is None:
            total = -(-len(self.spans) // self.config.users_per_batch)
        else:
            total = len(self.plan(epoch))
        return total // self.world if self.every_row else len(range(self.rank, total, self.world))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Spans of each batch of an epoch, over all ranks."""
        order = np.arange(len(self.spans))
        if self.every_row and self.config.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.spans))
        if self.config.events_per_batch is None:
            cuts = np.arange(self.config.users_per_batch, len(order), self.config.users_per_batch)
        else:
            tokens = np.minimum(self.spans.lasts - self.spans.starts, self.config.max_len)[order]
            cuts = pack(tokens, self.config.events_per_batch)
        return np.split(order, cuts) if len(order) else []

    def batch(self, chosen: np.ndarray, epoch: int, number: int) -> RetrievalBatch:
        """Batch `number` of an epoch, made of the `chosen` spans."""
        lasts = self.spans.lasts[chosen]
        rows, lengths = self.history_rows(self.spans.starts[chosen], lasts)
        if self.every_row and self.config.stochastic_length is not None:
            rows, lengths = self.shorten(rows, lengths, np.random.default_rng([self.seed, epoch, number]))
        table, config = self.table, self.config
        # rows + 1 stays inside the span: every history ends before the row of its latest target
        following = rows + 1 if self.every_token else self.next_engagement(rows)
        targets = np.where(self.targets[following], table.ids[following], NOTHING)
        ends = np.cumsum(lengths)
        if not self.every_row:
            targets[:] = NOTHING
            targets[ends - 1] = table.ids[lasts]
            following[ends - 1] = lasts
        timestamps = table.times[rows]
        query = timestamps if config.query_time == "withheld" else table.times[following]
        with_actions = config.actions and table.actions is not None
        with_kinds = config.auxiliary and bool(table.manifest.series)
        return RetrievalBatch(
            sequences=SequenceBatch(
                ids=torch.from_numpy(table.ids[rows]),
                timestamps=torch.from_numpy(timestamps),
                query_timestamps=torch.from_numpy(query),
                offsets=torch.from_numpy(np.concatenate([[0], ends])),
                actions=torch.from_numpy(table.actions[rows]) if with_actions else None,  # type: ignore[index]
                kinds=torch.from_numpy(table.kinds[rows]) if with_kinds else None,
            ),
            targets=torch.from_numpy(targets),
            users=torch.from_numpy(self.spans.users[chosen]),
            rows=torch.from_numpy(lasts),
        )

    def history_rows(self, starts: np.ndarray, lasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the latest `max_len` tokens before each target, end to end, and how many each user has."""
        if self.every_token:
            starts = np.maximum(starts, lasts - self.config.max_len)
            return ranges(starts, lasts - starts), lasts - starts
        engagements = self.engagements
        first, last = np.searchsorted(engagements, starts), np.searchsorted(engagements, lasts)
        first = np.maximum(first, last - self.config.max_len)
        return engagements[ranges(first, last - first)], last - first

    def next_engagement(self, rows: np.ndarray) -> np.ndarray:
        """[L] the engagement after each row; there is one, since a span ends with one."""
        return self.engagements[np.searchsorted(self.engagements, rows + 1)]

    def shorten(
        self, rows: np.ndarray, lengths: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stochastic length. A kept token still predicts the event that truly followed it, at its true time."""
        setting = self.config.stochastic_length
        assert setting is not None
        n_max, target_length = self.config.max_len, stochastic_length.threshold(self.config.max_len, setting.alpha)
        keep = random.random(len(lengths)) < stochastic_length.keep_probability(lengths, n_max, setting.alpha)
        kept, new_lengths = [], lengths.copy()
        for user, history in enumerate(np.split(rows, np.cumsum(lengths)[:-1])):
            if not keep[user]:
                times = self.table.times[history]
                history = history[stochastic_length.subsequence(times, target_length, setting.selection, random)]
                new_lengths[user] = target_length
            kept.append(history)
        return np.concatenate(kept), new_lengths


def pack(tokens: np.ndarray, budget: int) -> np.ndarray:
    """Where to cut a list of histories of `tokens` [S] each, so that no batch has more than `budget` tokens
    (a single longer history makes a batch of its own)."""
    cuts, ends = [], np.cumsum(tokens)
    start, done = 0, 0
    while start < len(tokens):
        stop = max(int(np.searchsorted(ends, done + budget, side="right")), start + 1)
        if stop < len(tokens):
            cuts.append(stop)
        start, done = stop, int(ends[stop - 1])
    return np.array(cuts, dtype=np.int64)
