"""The vectors of items in a running engine, when weights or attributes change: those that are others, and no more."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from louder.data.attributes import Attribute, Column, Vectors
from louder.inference.engine import Engine
from louder.inference.index import Exact
from louder.inference.retriever import Retriever
from louder.inference.search import DotProductSearch, MixtureSearch, search_of
from louder.models import RankingModel, SequentialModel
from louder.models.embeddings import CategoryTable, EmbeddingTable, VectorMap
from louder.publishing.changes import NUMBER, Changes

NEEDS_ALL = "item_attributes.", "similarity."  # weights on which the vectors of all items depend


class Ahead(NamedTuple):
    """Of all items: `model.items`, their vectors, and the index of these. Rows of the table that changed are to follow."""

    items: Tensor
    vectors: Tensor
    exact: Exact


def model_of(engine: Engine) -> SequentialModel | RankingModel:
    if engine.ranker is not None:
        return engine.ranker.model
    assert isinstance(engine.retriever, Retriever)
    return engine.retriever.backbone


def set_columns(model: RankingModel, columns: list[Column]) -> None:
    """Attributes of items as they are now."""
    model.item_attributes.columns = tuple(columns)
    for table, column in zip(model.item_attributes.tables, columns):
        if isinstance(table, CategoryTable) and isinstance(column, Attribute):
            table.item_codes, table.item_offsets = column.codes, torch.cat([column.offsets, column.offsets[-1:]])
        elif isinstance(table, VectorMap) and isinstance(column, Vectors):
            table.item_matrix = column.matrix


def by_row(model: SequentialModel | RankingModel) -> list[str]:
    """Names of the weights with a row for each item."""
    own = {id(x) for x in item_table(model).weights_by_row()}
    return [name for name, x in model.state_dict(keep_vars=True).items() if id(x) in own]


def item_table(model: SequentialModel | RankingModel) -> EmbeddingTable:
    return (model.backbone if isinstance(model, RankingModel) else model).events.items


def change_all(model: SequentialModel | RankingModel, changes: Changes) -> bool:
    """Whether the vectors of all items may be others; a product of some of them would round otherwise than one of all."""
    names, own = (*changes.rows, *changes.whole), by_row(model)
    multiplies = any(isinstance(module, VectorMap) for module in model.modules())
    return multiplies or any(name.startswith(NEEDS_ALL) or (name in changes.whole and name in own) for name in names)


def items_changed(model: SequentialModel | RankingModel, changes: Changes) -> Tensor:
    """[R] ids of the items whose own rows or attributes are others."""
    table, found = item_table(model), [torch.zeros(0, dtype=torch.int64)]
    for name in by_row(model):
        if (new := changes.rows.get(name)) is not None:
            changed = torch.zeros(new.size, dtype=torch.bool)
            changed[new.rows] = True
            found.append(torch.where(changed[table.rows(torch.arange(table.size))])[0])
    if (told := changes.attributes.get("items")) is not None:
        found.append(torch.from_numpy(np.array(told.column(NUMBER).to_numpy())))
    return torch.cat(found).unique()


@torch.no_grad()
def all_ahead(engine: Engine, changes: Changes, columns: list[Column]) -> Ahead | None:
    """Where the weights of attributes change the vectors of all items: these, computed while the engine answers by the old
    ones. A copy of the dense weights is enough for it. None where nothing of the kind is needed, or not possible."""
    model = model_of(engine)
    grows = any(changes.rows[name].size > item_table(model).size for name in by_row(model) if name in changes.rows)
    if not isinstance(model, RankingModel) or grows or not change_all(model, changes):
        return None
    if any(isinstance(x, VectorMap) for x in model.modules()) or any(name in changes.whole for name in by_row(model)):
        return None
    large = {id(x): x for table in model.tables() for x in table.parameters()}
    twin = copy.deepcopy(model, dict(large))
    for name, own in twin.state_dict(keep_vars=True).items():
        if id(own) not in large and name in changes.whole:
            own.data.copy_(changes.whole[name])
        elif id(own) not in large and name in changes.rows:
            own.data[changes.rows[name].rows] = changes.rows[name].values
    if columns:
        set_columns(twin, columns)
    items = twin.items(torch.arange(item_table(model).size))
    vectors = twin.backbone.normalise(items).float()
    return Ahead(items, vectors, Exact(vectors))


def renew_items(
    engine: Engine, model: SequentialModel | RankingModel, changes: Changes, ahead: Ahead | None, grew: bool
) -> object:
    """What was computed from the vectors of items. Returns what was there before, of which the memory may be let go later."""
    ids, every = items_changed(model, changes), change_all(model, changes)
    before = engine.vectors, engine.search, vars(engine.ranker or engine).get("all_items")
    if not len(ids) and not every and not grew:
        return before
    vars(engine).pop("directions", None)
    if ahead is not None and engine.ranker is not None:
        engine.ranker.all_items = ahead.items
        engine.vectors = ahead.vectors
        engine.search = DotProductSearch(ahead.exact, ahead.vectors)
        every = False
    if engine.ranker is not None:
        engine.ranker.renew(None if every or grew else ids)
    if grew:
        engine.vectors = model.item_vectors().float()
        engine.search = search_of(engine.run, model, engine.vectors, exact=True)
        return before
    rows = torch.arange(len(engine.vectors)) if every or isinstance(engine.search, MixtureSearch) else ids
    if len(rows):
        vectors = model.item_vectors(rows).float()
        engine.vectors[rows] = vectors
        engine.search.replace(rows, vectors)
    return before
