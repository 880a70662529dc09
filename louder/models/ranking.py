"""The generative ranker: "what will the user do with this item?" asked of a sequential model ("Actions Speak Louder
than Words", section 2.2 and tables 1 and 11)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import RankingBatch, SequenceBatch
from louder.config import require_at_least, require_fraction, require_one_of
from louder.data.attributes import Column
from louder.errors import InputError
from louder.models.cross import Beside, CrossHead
from louder.models.embeddings import AttributeEmbedding, EmbeddingTable, Vocabulary, draw
from louder.models.sequential import NORM_EPS, SequentialModel
from louder.ops.dropout import dropout
from louder.schema import ENGAGEMENT


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """What a ranker is given, and how it learns. The tasks are all actions and values of the table.

    tokens           "paired": an item, the same item with what was done, and so on. "interleaved": item, action, item,
                     action, as table 1 of the paper. "added": one token an event, its item plus the action of the event
                     before: half as long, for logs without requests
    """

    context: tuple[str, ...] = ()  # attributes of users (columns of users.parquet) that begin every sequence
    item_attributes: tuple[str, ...] = ()  # attributes of items (columns of items.parquet) that join the item's token
    item_vectors: tuple[str, ...] = ()  # columns of vectors, such as embeddings of texts, that join it as well
    main: str = ""  # the action that chooses the epoch; "" takes the table's first
    log_values: tuple[str, ...] = ()  # values that are learned, and measured, as log(1 + x)
    tokens: str = "paired"
    one_pass: bool = True  # all exposures of a history in one causal pass (generative training); False: a pass for each
    next_item: float = 0.0  # weight of the next item's loss: above 0 it is the joint model of table 11
    next_item_by: tuple[
        str, ...
    ] = ()  # actions: the next item that each happens with is learnt too, by a query of its own
    value_weight: float = 0.1  # weight of the squared error of values, beside the actions' log-loss
    attribute_dropout: float = 0.1  # by dimension, of each part of an item's token on its own
    id_dropout: float = 0.0  # of whole ids in training: so items nobody has met can be scored by the rest
    hidden: int = 2  # width of the head, as a multiple of the model's
    cross_layers: int = 0  # of a head beside it, over the state, the item and attributes of the user (DCN-v2); 0: none
    cross_width: int = 32  # of each part that these layers cross
    item_counters: bool = False  # what everybody did with the item before the request is such a part as well

    def __post_init__(self) -> None:
        require_one_of("ranking", self, tokens=("paired", "interleaved", "added"))
        require_at_least(0, "ranking", self, "next_item", "value_weight", "cross_layers")
        require_at_least(1, "ranking", self, "hidden", "cross_width")
        if self.item_counters and not self.cross_layers:
            raise InputError(
                "ranking.item_counters is true, but counters are read by cross layers, and ranking.cross_layers is 0: "
                "--set ranking.cross_layers=3."
            )
        require_fraction("ranking", self, "attribute_dropout", "id_dropout")
        if self.next_item and not (self.acts_apart and self.one_pass):
            raise InputError(
                "ranking.next_item trains the state after an action, which only paired or interleaved tokens in one pass "
                "have: --set ranking.tokens=paired --set ranking.one_pass=true."
            )
        if self.next_item_by and not self.next_item:
            raise InputError(
                f"ranking.next_item_by names {self.next_item_by[0]!r}, but ranking.next_item, the weight of next items, is 0: "
                "--set ranking.next_item=0.2."
            )
        if self.id_dropout and not self.item_attributes and not self.item_vectors:
            raise InputError(
                f"ranking.id_dropout is {self.id_dropout}, but without its id nothing is left of an item. Give what else "
                "is known of it: --set ranking.item_attributes=[NAME], or ranking.item_vectors=[NAME]."
            )
        if both := set(self.item_attributes) & set(self.item_vectors):
            raise InputError(
                f"ranking.item_attributes and ranking.item_vectors both name {min(both)!r}, but it is either a category "
                "or a vector. Name it in one of them."
            )

    @property
    def acts_apart(self) -> bool:
        """Whether what was done is a token of its own."""
        return self.tokens != "added"


@dataclass(frozen=True)
class Tokens:
    """The tokens of a batch of events."""

    x: Tensor  # [T, D]
    layout: SequenceBatch  # what the layers read: offsets, times and prefix_lengths of the T tokens
    items: Tensor  # [L] the token of each event's item, or of a series' entry
    actions: Tensor  # [L] the token that holds each event's action; that of `items` where there is none of its own


class RankingModel(nn.Module):
    """A sequential model with tokens and heads for ranking.

    forward(batch)          -> logits [M, A] of each action, values [M, V], at the target positions
    states(tokens)          -> [T, D] what the layers make of tokens
    exposed(tokens, states, batch)  -> the same logits and values, of states that are there
    predict(states [M, D], beside)  -> logits [M, A], values [M, V]; `beside` is what a cross head reads
    """

    def __init__(
        self,
        backbone: SequentialModel,
        config: RankingConfig,
        vocabulary: Vocabulary,
        item_attributes: Sequence[Column] = (),
    ) -> None:
        super().__init__()
        self.backbone, self.config, self.vocabulary = backbone, config, vocabulary
        width = backbone.config.width
        self.item_attributes = AttributeEmbedding(item_attributes, width)
        self.actions = nn.Embedding(vocabulary.actions + 1, width)  # the last row is part of every action's token
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # of a log without values
            self.values = nn.Linear(vocabulary.values, width, bias=False)
        self.context = nn.ModuleList(nn.Embedding(size, width) for size in vocabulary.context)
        for table in (self.actions, self.values, *self.context):
            draw(table.weight)
        hidden = config.hidden * width
        self.head = nn.Sequential(
            nn.LayerNorm(width, eps=NORM_EPS),
            nn.Linear(width, hidden),
            nn.SiLU(),
            nn.Linear(hidden, vocabulary.actions + vocabulary.values),
        )
        self.cross: CrossHead | None = None
        if config.cross_layers:
            self.cross = CrossHead(
                width,
                users=bool(vocabulary.context),
                counters=vocabulary.counters if config.item_counters else 0,
                tasks=vocabulary.actions + vocabulary.values,
                size=config.cross_width,
                layers=config.cross_layers,
            )
        self.queries = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in config.next_item_by)
        for weight in self.queries.parameters():
            nn.init.zeros_(weight)  # each begins as the query for any next item
        # of the training part; values are learned on one scale
        self.value_mean: Tensor
        self.value_scale: Tensor
        self.register_buffer("value_mean", torch.zeros(vocabulary.values))
        self.register_buffer("value_scale", torch.ones(vocabulary.values))

    def forward(self, batch: RankingBatch) -> tuple[Tensor, Tensor]:
        tokens = self.tokens(batch.sequences)
        return self.exposed(tokens, self.states(tokens), batch)

    def set_value_scale(self, mean: Tensor, scale: Tensor) -> None:
        """Mean and standard deviation [V] of each value in the training part."""
        self.value_mean.copy_(mean)
        self.value_scale.copy_(scale)

    def tables(self) -> list[EmbeddingTable]:
        return self.backbone.tables()

    @property
    def sparse_items(self) -> bool:
        return self.backbone.sparse_items

    def states(self, tokens: Tokens) -> Tensor:
        return self.backbone.transduce(tokens.x, tokens.layout)

    def exposed(self, tokens: Tokens, states: Tensor, batch: RankingBatch) -> tuple[Tensor, Tensor]:
        rows = tokens.items[batch.target_positions]
        if self.cross is None:
            return self.predict(states[rows])
        users = self.user_vectors(batch.sequences)
        if users is not None:
            users = users[torch.searchsorted(batch.sequences.offsets, batch.target_positions, right=True) - 1]
        return self.predict(states[rows], Beside(tokens.x[rows], users, batch.counters))

    def user_vectors(self, batch: SequenceBatch) -> Tensor | None:
        """[B, D] the attributes of the users, added up; None where there are none"""
        if not self.context or batch.context is None:
            return None
        return torch.stack([table(codes) for table, codes in zip(self.context, batch.context.T)]).sum(0)

    def predict(self, states: Tensor, beside: Beside | None = None) -> tuple[Tensor, Tensor]:
        out = self.head(states).float()
        if self.cross is not None:
            assert beside is not None, "the model has a cross head, which reads more than states"
            out = out + self.cross(states, beside).float()
        logits, values = out.split([self.vocabulary.actions, self.vocabulary.values], dim=1)
        return logits, values * self.value_scale + self.value_mean

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """[I, D], or of these ids: what the state after an action is compared with (the next item)."""
        if ids is None:
            ids = torch.arange(self.backbone.events.items.size, device=self.actions.weight.device)
        return self.backbone.normalise(self.items(ids))

    def next_item_states(self, states: Tensor, rows: Tensor, action: str = "") -> Tensor:
        """states [T, D], rows [R] of tokens  ->  [R, D], compared with item vectors by dot product. `action`: one of
        config.next_item_by, with which the next item is to happen; "": any next item"""
        return self.backbone.normalise(self.asked_for(states[rows], action))

    def asked_for(self, states: Tensor, action: str) -> Tensor:
        """[R, D] states of an action's query; "" leaves them as they are"""
        if not action:
            return states
        return states + self.queries[self.config.next_item_by.index(action)](states)

    def items(self, ids: Tensor) -> Tensor:
        """[L, D] the vectors of items: of the id, and of each attribute. Where an id is below 0 (unknown) what the table says
        of new ones, or else zeros.

        Each is dropped out by dimension before they are summed; an id that is left out is so as a whole, and the others
        are not scaled: as in `new_items`.
        """
        table, rate = self.backbone.events.items, self.config.attribute_dropout
        known = ids >= 0
        if self.training and self.config.id_dropout:
            known = known & (torch.rand(len(ids), device=ids.device) >= self.config.id_dropout)
        x_LD = dropout(table.of_known(ids, known), rate, self.training)
        for part in self.item_attributes(ids):
            x_LD = x_LD + dropout(part, rate, self.training)
        return x_LD

    def new_items(self, columns: Sequence[Column]) -> Tensor:
        """[R, D] the vectors of items that have no id: of their attributes (see AttributeEmbedding), and what the table says
        of new ids, if it says anything."""
        vectors, new = torch.stack(self.item_attributes.of(columns)).sum(0), self.backbone.events.items.of_new()
        return vectors if new is None else vectors + new

    def tokens(self, batch: SequenceBatch) -> Tokens:
        return self.apart(batch) if self.config.acts_apart else self.added(batch)

    def apart(self, batch: SequenceBatch) -> Tokens:
        engaged = self.engaged(batch)
        (events,) = torch.where(engaged)
        start, offsets, total = self.arrange(batch, 1 + engaged.long())
        acted = start + engaged.long()
        x = self.actions.weight.new_zeros(total, self.actions.embedding_dim)
        x_items, x_actions = self.items(batch.ids[events]), self.action_vectors(batch, events)
        if self.config.tokens == "paired":
            x_actions = x_actions + x_items
        x = x.index_copy(0, start[events], x_items).index_copy(0, acted[events], x_actions)
        return self.finish(batch, x, start, acted, offsets)

    def added(self, batch: SequenceBatch) -> Tokens:
        if batch.prefix_lengths is not None:
            raise InputError(
                "ranking.tokens=added gives an item the action of the one before, but items of one request must not see "
                "each other's actions. Use --set ranking.tokens=paired."
            )
        engaged = self.engaged(batch)
        (events,) = torch.where(engaged)
        start, offsets, total = self.arrange(batch, torch.ones_like(batch.ids))
        x_items = self.items(batch.ids[events])
        owner = torch.arange(batch.users, device=events.device).repeat_interleave(batch.lengths)[events]
        follows = F.pad(owner[1:] == owner[:-1], (1, 0))[:, None]
        before = self.action_vectors(batch, events).roll(1, 0) if len(events) else x_items
        x = self.actions.weight.new_zeros(total, self.actions.embedding_dim)
        x = x.index_copy(0, start[events], x_items + before * follows)
        return self.finish(batch, x, start, start, offsets)

    def arrange(self, batch: SequenceBatch, sizes: Tensor) -> tuple[Tensor, Tensor, int]:
        """The first token [L] of each event, of `sizes` [L] each, the tokens' offsets [B + 1], and how many there are."""
        before = F.pad(sizes.cumsum(0), (1, 0))
        contexts = len(self.context)
        offsets = before[batch.offsets] + contexts * torch.arange(batch.users + 1, device=sizes.device)
        owner = torch.arange(batch.users, device=sizes.device).repeat_interleave(batch.lengths)
        total = len(sizes) + int((sizes - 1).sum()) + contexts * batch.users
        return before[:-1] + contexts * (owner + 1), offsets, total

    def finish(self, batch: SequenceBatch, x: Tensor, start: Tensor, acted: Tensor, offsets: Tensor) -> Tokens:
        """Add the tokens of series and of context, and say when and where each stands."""
        if batch.kinds is not None:
            for kind, values in enumerate(self.backbone.tables()[1:], 1):
                (rows,) = torch.where(batch.kinds == kind)
                x = x.index_copy(0, start[rows], values(batch.ids[rows]))
        times, query_times = offsets.new_zeros(len(x)), offsets.new_zeros(len(x))
        times[start] = times[acted] = batch.timestamps
        if acted is not start:
            query_times[acted] = batch.query_timestamps  # an action's token asks for the next item, at its time
        query_times[start] = batch.timestamps
        if self.context and batch.context is not None:
            for number, table in enumerate(self.context):
                x = x.index_copy(0, offsets[:-1] + number, table(batch.context[:, number]))
        prefix_lengths = None
        if batch.prefix_lengths is not None:
            prefix_lengths = torch.arange(len(x), device=x.device) - offsets[:-1].repeat_interleave(offsets.diff())
            owner = torch.arange(batch.users, device=x.device).repeat_interleave(batch.lengths)
            prefix_lengths[start] = start[batch.offsets[:-1][owner] + batch.prefix_lengths] - offsets[:-1][owner]
        when = {"timestamps": times, "query_timestamps": query_times}
        layout = SequenceBatch(ids=torch.zeros_like(times), **when, offsets=offsets, prefix_lengths=prefix_lengths)
        return Tokens(x, layout, start, acted)

    def engaged(self, batch: SequenceBatch) -> Tensor:
        return torch.ones_like(batch.ids, dtype=torch.bool) if batch.kinds is None else batch.kinds == ENGAGEMENT

    def action_vectors(self, batch: SequenceBatch, rows: Tensor) -> Tensor:
        """[R, D] what was done at these rows: every action that happened, and the values on their scale"""
        weights = self.actions.weight
        x = weights[-1].expand(len(rows), -1)
        if batch.actions is not None and self.vocabulary.actions:
            bits = torch.arange(self.vocabulary.actions, device=rows.device)
            happened = (batch.actions[rows, None] >> bits & 1).to(weights.dtype)
            x = x + happened @ weights[:-1]
        if batch.values is not None and self.vocabulary.values:
            scaled = ((batch.values[rows] - self.value_mean) / self.value_scale).nan_to_num(0.0)
            x = x + self.values(scaled.clamp(-5, 5).to(weights.dtype))
        return x
