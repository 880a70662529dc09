"""Ids -> vectors: tables behind one interface, and the vector of a token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import SequenceBatch
from louder.data.attributes import Attribute, Column, Vectors

STD = 0.02  # of new vectors, which are cut off at two deviations


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """How many of everything there is. It comes from the table, not from the config."""

    items: int
    actions: int = 0  # action types, bits of SequenceBatch.actions; 0 where tokens carry none
    series: tuple[int, ...] = ()  # number of values of each auxiliary series
    # what only ranking uses
    users: int = 0
    values: int = 0  # values of an event, such as watch time
    context: tuple[int, ...] = ()  # number of codes of each attribute of users
    counters: int = 0
    dynamic: bool = False  # whether ids come and go: then numbers are slots of id tables, and below 0 is new


class EmbeddingTable(nn.Module):
    """A vector of width D for each id of one vocabulary. Models and training know a table by this alone, so one of another
    kind can take its place in a finished model: `model.events.items = ...`.

        forward(ids [...])  -> [..., D] look up, differentiable
        vectors()           -> [I, D] of all I ids in their order, differentiable: a catalogue
        rows(ids [N])       -> [N] int64, the row of the weights that holds each id's vector
        grow(count)         so many new ids; the weights are new Parameters then
        reset(rows [N])     new vectors in rows that somebody else had

    of_known(ids [N], known [N] bool)  -> [N, D] look up; zeros where an id is not known, if a table has nothing to say of it
    of_new()            -> [D], what it says of ids that it does not know; None where that is nothing

    What an optimizer keeps of a row has to change with it, so a trainer grows and resets by `training.tables`.
    """

    width: int  # D
    sparse_gradients = False  # True: the gradient of a look-up holds the rows used alone, so a step touches no other

    @property
    def size(self) -> int:
        """I"""
        raise NotImplementedError

    def vectors(self) -> Tensor:
        raise NotImplementedError

    def rows(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def grow(self, count: int, generator: torch.Generator | None = None) -> None:
        raise NotImplementedError

    def reset(self, rows: Tensor, generator: torch.Generator | None = None) -> None:
        raise NotImplementedError

    def of_known(self, ids: Tensor, known: Tensor) -> Tensor:
        return self(ids.clamp(min=0)) * known[:, None]

    def of_new(self) -> Tensor | None:
        return None

    def weights_by_row(self) -> list[Tensor]:
        """Those with a row for each id."""
        return list(self.parameters())


class StaticTable(EmbeddingTable):
    """All vectors in one weight [I, D], an id's in the row of its number. They begin at random, or `at_zero`."""

    def __init__(self, size: int, width: int, *, at_zero: bool = False) -> None:
        super().__init__()
        self.width, self.at_zero = width, at_zero
        self.weight = nn.Embedding(size, width).weight

    @property
    def size(self) -> int:
        return len(self.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight, sparse=self.sparse_gradients)

    def vectors(self) -> Tensor:
        return self.weight

    def rows(self, ids: Tensor) -> Tensor:
        return ids

    def grow(self, count: int, generator: torch.Generator | None = None) -> None:
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), self.new_vectors(count, generator)]))

    @torch.no_grad()
    def reset(self, rows: Tensor, generator: torch.Generator | None = None) -> None:
        self.weight[rows] = self.new_vectors(len(rows), generator)

    def new_vectors(self, count: int, generator: torch.Generator | None) -> Tensor:
        return draw(self.weight.new_empty(count, self.width), self.at_zero, generator)


class DynamicTable(StaticTable):
    """A StaticTable of slots (see ops.id_table), and one vector that is shared by all ids without a slot: those below 0, and
    from the size on. It is learned with the others, and begins as their mean.

    Where all ids have slots it is a StaticTable, to the bit. Of an id from the size on a model may know attributes all the
    same: columns of attributes can have more rows than there are slots.
    """

    def __init__(self, size: int, width: int, *, at_zero: bool = False) -> None:
        super().__init__(size, width, at_zero=at_zero)
        self.new = nn.Parameter(torch.zeros(1, width))

    @classmethod
    def of(cls, table: StaticTable) -> "DynamicTable":
        """With the weights of another, and its ids in the slots of their numbers."""
        own = cls(0, table.width, at_zero=table.at_zero)
        own.weight, own.sparse_gradients = table.weight, table.sparse_gradients
        own.new = nn.Parameter(own.mean())
        return own

    def mean(self) -> Tensor:
        return self.weight.detach().mean(0, keepdim=True)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids >= 0) & (ids < self.size)
        if there.all():
            return super().forward(ids)
        flat = ids.flatten()
        (rows,) = torch.where(there.flatten())
        vectors = self.new.expand(len(flat), -1).index_copy(0, rows, super().forward(flat[rows]))
        return vectors.view(*ids.shape, self.width)

    def of_known(self, ids: Tensor, known: Tensor) -> Tensor:
        return self(torch.where(known, ids, -1))

    def of_new(self) -> Tensor:
        return self.new[0]

    def weights_by_row(self) -> list[Tensor]:
        return [self.weight]


def table_of(size: int, width: int, vocabulary: Vocabulary, *, at_zero: bool = False) -> StaticTable:
    return (DynamicTable if vocabulary.dynamic else StaticTable)(size, width, at_zero=at_zero)


def draw(vectors: Tensor, at_zero: bool = False, generator: torch.Generator | None = None) -> Tensor:
    """Fill with what a table begins with. Zeros take as many random numbers, so other tables get theirs either way."""
    nn.init.trunc_normal_(vectors, std=STD, a=-2 * STD, b=2 * STD, generator=generator)
    return nn.init.zeros_(vectors) if at_zero else vectors


def draw_tables(module: nn.Module) -> None:
    """Every table of a module begins."""
    for table in module.modules():
        if isinstance(table, StaticTable):
            draw(table.weight, table.at_zero)
            if isinstance(table, DynamicTable):
                table.new.data.copy_(table.mean())
        elif isinstance(table, nn.Embedding):
            draw(table.weight)


def make_dynamic(model: nn.Module) -> None:
    """Exchange every table of a model, in place, for one whose ids come and go; it answers as before. Before its optimizers
    are made."""
    for module in list(model.modules()):
        if isinstance(vocabulary := getattr(module, "vocabulary", None), Vocabulary):
            module.vocabulary = replace(vocabulary, dynamic=True)  # type: ignore[assignment]
        for name, child in list(module.named_children()):
            if isinstance(child, StaticTable) and not isinstance(child, DynamicTable):
                setattr(module, name, DynamicTable.of(child))


class EventEmbedding(nn.Module):
    """Vector of a token: its item plus its actions (the retrieval token (Phi_i, a_i) of the paper's Table 1), or the
    value of an auxiliary series.

        forward(batch) -> [L, D]
    """

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.items: EmbeddingTable = table_of(vocabulary.items, width, vocabulary)
        self.actions = nn.Embedding(vocabulary.actions, width) if vocabulary.actions else None
        self.series = nn.ModuleList(table_of(values, width, vocabulary) for values in vocabulary.series)
        draw_tables(self)

    def tables(self) -> list[EmbeddingTable]:
        """Of items, then of each series."""
        return [self.items, *(table for table in self.series if isinstance(table, EmbeddingTable))]

    def forward(self, batch: SequenceBatch) -> Tensor:
        if batch.kinds is None or not self.series:
            x_LD = self.items(batch.ids)
        else:
            # a table counts what it looks up as used, so each looks up its own ids alone
            rows = [torch.where(batch.kinds == kind)[0] for kind in range(1 + len(self.series))]
            vectors = torch.cat([table(batch.ids[own]) for table, own in zip(self.tables(), rows)])
            x_LD = vectors.new_zeros(len(batch.ids), self.items.width).index_copy(0, torch.cat(rows), vectors)
        if self.actions is not None and batch.actions is not None:
            bits = torch.arange(self.actions.num_embeddings, device=batch.actions.device)
            happened = (batch.actions[:, None] >> bits & 1).to(self.actions.weight.dtype)  # [L, A] multi-hot
            x_LD = x_LD + happened @ self.actions.weight
        return x_LD


class CategoryTable(nn.EmbeddingBag):
    """A category of items as vectors: a row for each of its values; of a list the mean. See AttributeEmbedding."""

    def __init__(self, attribute: Attribute, width: int) -> None:
        super().__init__(attribute.size, width, mode="mean")
        # with a last, empty row for unknown items; read again from the items' file, so not part of a checkpoint
        ends = torch.cat([attribute.offsets, attribute.offsets[-1:]])
        self.item_codes: Tensor
        self.item_offsets: Tensor
        self.register_buffer("item_codes", attribute.codes, persistent=False)
        self.register_buffer("item_offsets", ends, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
        offsets = self.item_offsets
        rows = torch.where(ids >= 0, ids, len(offsets) - 2)
        starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
        own = lengths.cumsum(0) - lengths
        at = torch.arange(int(lengths.sum()), device=ids.device) + (starts - own).repeat_interleave(lengths)
        return super().forward(self.item_codes[at], own)

    def of(self, attribute: Attribute) -> Tensor:
        return super().forward(attribute.codes, attribute.offsets[:-1])


class VectorMap(nn.Linear):
    """A vector of items (of a text, an image), made as long as all others and mapped to the model's width; zeros where
    an item has none. See AttributeEmbedding."""

    def __init__(self, vectors: Vectors, width: int) -> None:
        super().__init__(vectors.matrix.shape[1], width, bias=False)
        self.item_matrix: Tensor
        self.register_buffer("item_matrix", vectors.matrix, persistent=False)  # as the codes above

    def forward(self, ids: Tensor) -> Tensor:
        return self.mapped(self.item_matrix[ids.clamp(min=0)] * (ids >= 0)[:, None])

    def of(self, vectors: Vectors) -> Tensor:
        return self.mapped(vectors.matrix)

    def mapped(self, rows: Tensor) -> Tensor:
        return super().forward(F.normalize(rows, dim=1).to(self.weight.dtype))


class AttributeEmbedding(nn.Module):
    """What is known of items besides their ids, as vectors: of categories and of vectors, in the order of `columns`.

    forward(ids [L])  -> for each column [L, D]; zeros where an id is below 0, which stands for an unknown item
    of(columns)       -> for each column [R, D]: the same columns, of other items
    """

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.tables = nn.ModuleList(
            CategoryTable(column, width) if isinstance(column, Attribute) else VectorMap(column, width)
            for column in columns
        )
        for parameter in self.parameters():
            draw(parameter)

    def forward(self, ids: Tensor) -> list[Tensor]:
        return [table(ids) for table in self.tables]

    def of(self, columns: Sequence[Column]) -> list[Tensor]:
        return [table.of(column) for table, column in zip(self.tables, columns, strict=True)]  # type: ignore[operator]
