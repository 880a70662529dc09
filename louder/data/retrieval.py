"""Sequence table -> batches for retrieval: the latest events of each user, with what each of them predicts."""

import numpy as np
import torch

from louder.batch import IGNORE_INDEX, RetrievalBatch
from louder.data import stochastic_length
from louder.data.config import DataConfig
from louder.data.loader import Loader
from louder.data.table import Table, ranges
from louder.data.targets import Spans, near, split, target_rows
from louder.data.window import query_times, sequence_batch, table_columns


class RetrievalLoader(Loader[RetrievalBatch]):
    """See Loader. Training predicts the next positive engagement from every row; evaluation the latest target alone.

    spans     the part's users: their history and latest target, as rows of the table
    positive  [T] bool, rows of the table that may be predicted
    """

    def __init__(
        self,
        table: Table,
        part: str,
        config: DataConfig,
        *,
        held_out: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(table, part, config, seed=seed, rank=rank, world=world)
        mask = table.action_mask(config.positive)
        self.positive = target_rows(table, mask)
        spans = split(table, part, config.split, held_out=held_out, positive=mask)
        starts, lasts = np.searchsorted(self.rows, [spans.starts, spans.lasts])
        some = starts < lasts  # a history of auxiliary tokens alone is empty without them, and predicts nothing
        self.spans, self.starts, self.lasts = Spans(*(x[some] for x in spans)), starts[some], lasts[some]
        if self.train and config.windows == "all":
            self.cut()
        self.lengths = np.minimum(self.spans.lasts - self.spans.starts, config.max_len)
        self.is_target = self.positive[self.rows]
        self.columns = table_columns(self.read, actions=config.actions, kinds=config.auxiliary)

    def thin(self, most: int) -> None:
        """Keep at most so many users, evenly spread over the part."""
        if len(self) > most:
            kept = np.arange(most) * len(self) // most
            self.spans = Spans(*(x[kept] for x in self.spans))
            self.starts, self.lasts, self.lengths = self.starts[kept], self.lasts[kept], self.lengths[kept]

    def batch(self, chosen: np.ndarray, epoch: int, number: int) -> RetrievalBatch:
        lasts = self.lasts[chosen]
        firsts = np.maximum(self.starts[chosen], lasts - self.config.max_len)
        lengths = lasts - firsts
        rows = ranges(firsts, lengths)
        if self.train and self.config.stochastic_length is not None:
            rows, lengths = self.shorten(rows, lengths, np.random.default_rng([self.seed, epoch, number]))
        following = rows + 1  # inside the span: every history ends before the row of its latest target
        wanted = self.is_target[following]
        if self.train:
            wanted &= near(self.read, rows, following, self.config.max_gap)
        targets = np.where(wanted, self.columns.ids[following], IGNORE_INDEX)
        if not self.train:
            targets[:] = IGNORE_INDEX
            targets[np.cumsum(lengths) - 1] = self.columns.ids[lasts]
        queries = query_times(self.columns, rows, following, self.config.query_time)
        return RetrievalBatch(
            sequences=sequence_batch(self.columns, rows, lengths, queries),
            targets=torch.from_numpy(targets),
            users=torch.from_numpy(self.spans.users[chosen]),
            rows=torch.from_numpy(self.spans.lasts[chosen]),
        )

    def cut(self) -> None:
        """Every window of a history becomes a sequence, counted from its end, so that the latest one is full: each event
        is predicted once, where `max_len` would leave the older ones of a long history unpredicted."""
        counts = -(-(self.lasts - self.starts) // self.config.max_len)
        who = np.repeat(np.arange(len(counts)), counts)
        ago = ranges(np.zeros_like(counts), counts) * self.config.max_len
        self.starts, self.lasts = self.starts[who], self.lasts[who] - ago
        self.starts = np.maximum(self.starts, self.lasts - self.config.max_len)
        self.spans = Spans(self.spans.users[who], self.rows[self.starts], self.rows[self.lasts])

    def shorten(self, rows: np.ndarray, lengths: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Stochastic length. A kept token still predicts the event that truly followed it, at its true time."""
        setting = self.config.stochastic_length
        assert setting is not None
        n_max, target_length = self.config.max_len, stochastic_length.threshold(self.config.max_len, setting.alpha)
        keep = random.random(len(lengths)) < stochastic_length.keep_probability(lengths, n_max, setting.alpha)
        kept, new_lengths = [], lengths.copy()
        for user, history in enumerate(np.split(rows, np.cumsum(lengths)[:-1])):
            if not keep[user]:
                times = self.columns.times[history]
                history = history[stochastic_length.subsequence(times, target_length, setting.selection, random)]
                new_lengths[user] = target_length
            kept.append(history)
        return np.concatenate(kept), new_lengths
