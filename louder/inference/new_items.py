"""Items that a model has not met: what a request says of them, in the form of the columns it was trained with."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from louder.data.attributes import UNKNOWN, Attribute, Column, Vectors, code_of
from louder.errors import InputError
from louder.folders import read_json
from louder.ids import IdMap, RawId
from louder.models import RankingModel

Value = str | float | Sequence[str | float] | np.ndarray | None  # of an attribute, as JSON or Python gives it
NewItems = Mapping[RawId, Mapping[str, Value]]


@torch.no_grad()
def candidate_vectors(
    model: RankingModel, item_ids: IdMap, candidates: Sequence[RawId], new_items: NewItems | None
) -> tuple[np.ndarray, Tensor]:
    """ids [m] of candidates, -1 where the model does not know an item, and their vectors [m, D]: of those by what is
    known of them. Raises InputError for one of which nothing is, and for new items that are not new."""
    ids = item_ids.ids(list(candidates))
    offered, new_items = new_items is not None, new_items or {}
    place = {str(item): number for number, item in enumerate(new_items)}  # typed, every id is a text
    unknown = [str(item) for item, number in zip(candidates, ids) if number < 0]
    columns = model.item_attributes.columns
    if missing := [item for item in unknown if item not in place or not columns]:
        instead = ", or train on a log that has them: this model has no attributes of items to score them by."
        if columns:
            names = ", ".join(column.name for column in columns)
            instead = f", or say what is known of them ({names}): --new-items FILE.json."
        raise InputError(
            f"{len(missing)} of the candidates are items that the model does not know: {', '.join(missing[:5])}. "
            f"Leave them out{instead if offered else '.'}"
        )
    known = [str(item) for item, number in zip(new_items, item_ids.ids(list(new_items))) if number >= 0]
    if known:
        raise InputError(
            f"{len(known)} of the new items are known to the model: {', '.join(known[:5])}. Their attributes are "
            "those of the training, so leave them out of the new items."
        )
    vectors = model.items(torch.from_numpy(ids.copy()))
    if unknown:
        new = model.new_items(encode_new_items(columns, new_items))
        vectors[torch.from_numpy(ids < 0)] = new[[place[item] for item in unknown]]
    return ids, vectors


def encode_new_items(columns: Sequence[Column], items: NewItems) -> list[Column]:
    """The same columns with one row for each of these items, in their order.

    What is not given, or null, is absent; so is a value of a list that no item of the training had.
    Raises InputError for a name that is no column, for what does not fit its column, and for an item of which nothing
    that is given was known in training.
    """
    rows = [encoded(columns, item, given) for item, given in items.items()]
    return [with_rows(column, [row[n] for row in rows]) for n, column in enumerate(columns)]


def encoded(columns: Sequence[Column], item: RawId, given: Mapping[str, Value]) -> list[np.ndarray]:
    """Of each column, the item's vector [W] or its codes"""
    names = [column.name for column in columns]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else "Leave it out."
            raise InputError(f"The new item {item!r} has {name!r}, but the model knows {', '.join(names)}. {hint}")
    row = []
    for column in columns:
        value = given.get(column.name)
        row.append(vector(column, item, value) if isinstance(column, Vectors) else codes(column, item, value))
    if not any(map(np.any, row)):
        raise InputError(
            f"Nothing that is given of the new item {item!r} was known in training, so there is nothing to score it by. "
            f"Give values that other items have ({example(columns)}), or leave the item out."
        )
    return row


def with_rows(column: Column, rows: Sequence[np.ndarray]) -> Column:
    if isinstance(column, Vectors):
        return Vectors(column.name, torch.from_numpy(np.stack(rows)))
    offsets = torch.from_numpy(np.cumsum([0, *map(len, rows)]))
    return replace(column, codes=torch.from_numpy(np.concatenate(rows)), offsets=offsets)


def codes(column: Attribute, item: RawId, value: Value) -> np.ndarray:
    if isinstance(value, list | tuple) and not column.is_list:
        raise InputError(
            f"The new item {item!r} has {column.name!r} = {shown(value)}, but items have one {column.name}, not a list. "
            "Give one value."
        )
    values = value if isinstance(value, list | tuple) else [value]
    known = [code for code in (code_of(column, value) for value in values) if code != UNKNOWN]
    return np.array(known if known or column.is_list else [UNKNOWN], dtype=np.int64)


def vector(column: Vectors, item: RawId, value: Value) -> np.ndarray:
    """[W] float32; zeros where there is none"""
    width = column.matrix.shape[1]
    if value is None:
        return np.zeros(width, dtype=np.float32)
    try:
        row = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        row = np.empty(0, dtype=np.float32)
    if row.shape != (width,) or not np.isfinite(row).all():
        raise InputError(
            f"The new item {item!r} has {column.name!r} = {shown(value)}, but it must be a list of {width} numbers."
        )
    return row


def example(columns: Sequence[Column]) -> str:
    """genres: "Drama", text: a list of 384 numbers"""
    texts = []
    for column in columns:
        if isinstance(column, Vectors):
            texts.append(f"{column.name}: a list of {column.matrix.shape[1]} numbers")
        elif column.size > 1:
            texts.append(f'{column.name}: "{column.labels[1]}"')
    return ", ".join(texts)


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"


def read_new_items(path: Path) -> dict[RawId, dict[str, Value]]:
    """A JSON file with an object of raw ids, each with an object of attributes.

    Raises InputError if the file is missing or holds anything else.
    """
    form = 'an object such as {"new-film": {"genres": ["Drama"]}}'
    values: dict[RawId, dict[str, Value]] = read_json(path, "file of new items", dict, form)
    for item, given in values.items():
        if not isinstance(given, dict):
            raise InputError(f"The new item {item!r} of {path} is {json.dumps(given)[:80]}. The file must be {form}.")
    return values
