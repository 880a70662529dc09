"""What impression-level rankers (DLRM, Wukong) share: every feature of an exposure as a vector of one width."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from louder.batch import RankingBatch, SequenceBatch
from louder.config import require_at_least
from louder.data.attributes import Column
from louder.errors import InputError
from louder.models.embeddings import AttributeEmbedding, EmbeddingTable, Vocabulary, draw, draw_tables, table_of
from louder.schema import ENGAGEMENT

DAY_S, HOUR_S = 86400, 3600


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Shape of the features."""

    width: int = 32  # of every feature's vector
    history: int = 50  # latest events before the request that are read, of those that data.max_len lets in
    unit_hidden: int = 36  # hidden width of the activation unit (DIN)
    counter_vectors: int = 4  # vectors that all counters together become
    counter_hidden: int = 128  # hidden width of the MLP that makes them

    def __post_init__(self) -> None:
        require_at_least(1, "model", self, "width", "history", "unit_hidden", "counter_vectors", "counter_hidden")


class ImpressionModel(nn.Module):
    """Base of the models that see one exposure at a time. A child defines `scores`.

        forward(batch)        -> logits [M, A] float32 of each action, values [M, V] float32
        scores(x [M, n, D])   -> [M, A + V], of an exposure's n vectors

    The last event of each sequence of a batch is the target, and those before it are the history.
    """

    def __init__(self, config: FeaturesConfig, vocabulary: Vocabulary, item_attributes: Sequence[Column] = ()) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.features = Features(config, vocabulary, item_attributes)

    def scores(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, batch: RankingBatch) -> tuple[Tensor, Tensor]:
        out = self.scores(self.features(batch)).float()
        logits, values = out.split([self.vocabulary.actions, self.vocabulary.values], dim=1)
        return logits, values * self.value_scale + self.value_mean

    def set_value_scale(self, mean: Tensor, scale: Tensor) -> None:
        """Mean and standard deviation [V] of each value in the training part."""
        self.features.value_mean.copy_(mean)
        self.features.value_scale.copy_(scale)

    @property
    def value_mean(self) -> Tensor:
        return self.features.value_mean

    @property
    def value_scale(self) -> Tensor:
        return self.features.value_scale

    def tables(self) -> list[EmbeddingTable]:
        return self.features.tables()


class Features(nn.Module):
    """An exposure's features, each a vector: user, item, each attribute of the two, hour and weekday of the request
    (UTC), the latest value of each auxiliary series, the history as its target attention (DIN) and as its mean, and a
    few vectors made of all counters.

        forward(batch) -> [M, n, D], n = self.count

    A user's vector is one that all share, plus a row of its own that begins at zero. What was done at the targets is
    not read.
    """

    value_mean: Tensor
    value_scale: Tensor

    def __init__(self, config: FeaturesConfig, vocabulary: Vocabulary, item_attributes: Sequence[Column] = ()) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        width = config.width
        self.items: EmbeddingTable = table_of(vocabulary.items, width, vocabulary)
        self.everybody = nn.Parameter(torch.empty(width))
        users = table_of(vocabulary.users, width, vocabulary, at_zero=True) if vocabulary.users else None
        self.users: EmbeddingTable | None = users
        self.attributes = AttributeEmbedding(item_attributes, width)
        self.context = nn.ModuleList(nn.Embedding(size, width) for size in vocabulary.context)
        self.hours, self.weekdays = nn.Embedding(24, width), nn.Embedding(7, width)
        self.series = nn.ModuleList(nn.Embedding(size, width) for size in vocabulary.series)
        self.actions = nn.Embedding(vocabulary.actions, width) if vocabulary.actions else None
        self.values = nn.Linear(vocabulary.values, width, bias=False) if vocabulary.values else None
        # of the training part: values are read and learned on one scale
        self.register_buffer("value_mean", torch.zeros(vocabulary.values))
        self.register_buffer("value_scale", torch.ones(vocabulary.values))
        self.attention = TargetAttention(width, config.unit_hidden)
        self.norm = RunningNorm(vocabulary.counters)
        self.counters = nn.Sequential(
            nn.Linear(vocabulary.counters, config.counter_hidden),
            nn.ReLU(),
            nn.Linear(config.counter_hidden, config.counter_vectors * width),
        )
        draw_tables(self)
        draw(self.everybody)

    @property
    def count(self) -> int:
        """Vectors of an exposure."""
        one_each = len(self.attributes.tables) + len(self.context) + len(self.series)
        counters = self.config.counter_vectors if self.vocabulary.counters else 0
        return 2 + one_each + 2 + 2 + counters  # item and user, ..., hour and weekday, history

    def tables(self) -> list[EmbeddingTable]:
        return [table for table in (self.items, self.users) if table is not None]

    def forward(self, batch: RankingBatch) -> Tensor:
        sequences = batch.sequences
        targets = batch.target_positions
        if len(targets) != sequences.users:
            raise InputError(
                f"the batch has {len(targets)} targets in {sequences.users} sequences, but this model predicts the "
                "last event of each. Make it with RankingLoader(..., one_pass=False)."
            )
        ids, times = sequences.ids[targets], sequences.timestamps[targets]
        item = self.items(ids)
        shared = self.everybody.expand(len(ids), -1)
        user = shared if self.users is None else shared + self.users(batch.users)
        found = [item, user, *self.attributes(ids)]
        for number, table in enumerate(self.context):
            assert sequences.context is not None, "the vocabulary has attributes of users, but the batch has none"
            found.append(table(sequences.context[:, number]))
        found += [self.hours(times % DAY_S // HOUR_S), self.weekdays(times // DAY_S % 7)]
        found += [latest(table, sequences, kind) for kind, table in enumerate(self.series, 1)]  # type: ignore[arg-type]
        rows, owner = self.history(sequences, targets)
        events = self.events(sequences, rows)
        found += [self.attention(events, item, owner), mean_of(events, owner, len(item))]
        x = torch.stack(found, dim=1)
        if not self.vocabulary.counters:
            return x
        assert batch.counters is not None, "the vocabulary has counters, but the batch has none"
        counters = self.counters(self.norm(batch.counters)).unflatten(1, (-1, x.shape[2]))
        return torch.cat([x, counters.to(x.dtype)], dim=1)

    def history(self, sequences: SequenceBatch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The latest events before each target: their rows [R], and to which of the M exposures each belongs [R]."""
        is_event = torch.ones_like(sequences.ids) if sequences.kinds is None else (sequences.kinds == ENGAGEMENT).long()
        is_event[targets] = 0
        users = torch.arange(sequences.users, device=targets.device)
        owner = users.repeat_interleave(sequences.lengths, output_size=len(is_event))
        upto = is_event.cumsum(0)
        later = upto[targets][owner] - upto  # events of the same history after each row
        (rows,) = torch.where((is_event == 1) & (later < self.config.history))
        return rows, owner[rows]

    def events(self, sequences: SequenceBatch, rows: Tensor) -> Tensor:
        """[R, D] an item, and the values and the actions of what was done with it"""
        x = self.items(sequences.ids[rows])
        if self.values is not None and sequences.values is not None:
            scaled = ((sequences.values[rows] - self.value_mean) / self.value_scale).nan_to_num(0.0)
            x = x + self.values(scaled.clamp(-5, 5))
        if self.actions is None or sequences.actions is None:
            return x
        # few of the possible sets of actions occur, so each is summed up once
        sets, which = torch.unique(sequences.actions[rows], return_inverse=True)
        bits = torch.arange(self.actions.num_embeddings, device=sets.device)
        happened = (sets[:, None] >> bits & 1).to(self.actions.weight.dtype)
        return x + (happened @ self.actions.weight).index_select(0, which)


class TargetAttention(nn.Module):
    """Deep Interest Network (Zhou et al., 2018), eq. 3: the sum of a history's events, each weighted by an activation
    unit that sees the event h and the target t. The weights are not a softmax, so that a strong interest stays strong.

        forward(events [R, D], target [M, D], owner [R]) -> [M, D]; zeros where there is no history

    The unit is an MLP on [h, t, h * t]; its first layer is linear, so the paper's h - t would add nothing.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.event, self.product = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.target = nn.Linear(width, hidden)
        self.activation = nn.PReLU()
        self.weight = nn.Linear(hidden, 1)

    def forward(self, events: Tensor, target: Tensor, owner: Tensor) -> Tensor:
        product = events * target.index_select(0, owner)
        hidden = self.event(events) + self.product(product) + self.target(target).index_select(0, owner)
        weighted = self.weight(self.activation(hidden)) * events
        return weighted.new_zeros(len(target), events.shape[1]).index_add(0, owner, weighted)


class RunningNorm(nn.Module):
    """x [M, F] less the mean and over the deviation of all rows that were seen in training, cut off at 10 deviations."""

    rows: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x):
            self.see(x)
        return ((x - self.mean) / (self.variance.sqrt() + 1e-6)).clamp(-10, 10)

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        self.rows += len(x)
        fraction = len(x) / self.rows  # of the rows seen, those that are new
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        shift = mean - self.mean
        self.mean += fraction * shift
        self.variance += fraction * (variance - self.variance + (1 - fraction) * shift.square())


def latest(table: nn.Embedding, sequences: SequenceBatch, kind: int) -> Tensor:
    """[M, D] the vector of each sequence's latest entry of a series; zeros where it has none"""
    if sequences.kinds is None:
        return table.weight.new_zeros(sequences.users, table.embedding_dim)
    (rows,) = torch.where(sequences.kinds == kind)
    owner = torch.searchsorted(sequences.offsets, rows, right=True) - 1
    last = rows.new_full((sequences.users,), -1).scatter_reduce(0, owner, rows, "amax")
    some = last >= 0
    return table(torch.where(some, sequences.ids[last], 0)) * some[:, None]


def mean_of(events: Tensor, owner: Tensor, rows: int) -> Tensor:
    """events [R, D], owner [R] -> [rows, D]; zeros where there are none"""
    total = events.new_zeros(rows, events.shape[1]).index_add(0, owner, events)
    return total / torch.bincount(owner, minlength=rows).clamp(min=1)[:, None]


def mlp(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers with ReLU and dropout after each but the last."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(sizes):
        layers += [nn.Linear(inner, outer), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])
