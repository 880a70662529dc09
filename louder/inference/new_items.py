"""Items that a model has not met: what a request says of them, in the form of the columns it was trained with."""

import difflib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from louder.data.attributes import UNKNOWN, Attribute, Column, Vectors, code_of
from louder.errors import InputError
from louder.folders import read_json
from louder.histories.items import AttributeValue
from louder.ids import IdMap, RawId
from louder.inference.updates import Updates
from louder.models import RankingModel

Value = AttributeValue | np.ndarray  # of an attribute, as JSON or Python gives it
NewItems = Mapping[RawId, Mapping[str, Value]]


class Candidates(NamedTuple):
    """What can be scored of the items that a request names.

    raws         n raw ids, in the order of the request
    ids          [n] int64, -1 where the model does not know an item
    vectors      [n, D]; of an item that it does not know, by what is known of it
    unknown      raw ids of which nothing is known
    unavailable  raw ids of what is not to be had
    """

    raws: list[RawId]
    ids: np.ndarray
    vectors: Tensor
    unknown: list[RawId]
    unavailable: list[RawId]


@torch.no_grad()
def candidates_of(
    model: RankingModel, updates: Updates, asked: Sequence[RawId], new_items: NewItems | None
) -> Candidates:
    """New items that the model knows by now are those of its training. Raises InputError for new items that do not fit its
    columns, or of which nothing was known in training."""
    ids, columns = updates.item_ids.ids(list(asked)), model.item_attributes.columns
    there = np.array([updates.is_available(raw, number) for raw, number in zip(asked, ids.tolist())], dtype=bool)
    encoded_by_text = rows_of_new(columns, updates, [raw for raw, number in zip(asked, ids) if number < 0], new_items)
    usable = there & np.array([n >= 0 or str(raw) in encoded_by_text for raw, n in zip(asked, ids)], dtype=bool)
    raws, own = [raw for raw, use in zip(asked, usable) if use], ids[usable]
    vectors = model.items(torch.from_numpy(own.copy()))
    if (own < 0).any():
        rows = [encoded_by_text[str(raw)] for raw, number in zip(raws, own) if number < 0]
        vectors[torch.from_numpy(own < 0)] = model.new_items(columns_of(columns, rows))
    unknown = [raw for raw, use, is_there in zip(asked, usable, there) if is_there and not use]
    return Candidates(raws, own, vectors, unknown, [raw for raw, is_there in zip(asked, there) if not is_there])


def rows_of_new(
    columns: Sequence[Column], updates: Updates, unknown: Sequence[RawId], new_items: NewItems | None
) -> dict[str, list[np.ndarray]]:
    """The columns of items that the model has not met, by the text of their ids, since typed every id is one. What the
    request says of an item counts before what was told of it; what does not fit was not told for this model."""
    if not columns:
        return {}
    names, found = {column.name for column in columns}, dict[str, list[np.ndarray]]()
    for raw in unknown:
        if (facts := updates.facts.get(raw)) is not None:
            with suppress(InputError):
                told = {name: value for name, value in facts.attributes.items() if name in names}
                found[str(raw)] = encoded(columns, raw, told)
    given = new_items or {}
    for raw, number in zip(given, updates.item_ids.ids(list(given)).tolist()):
        if number < 0:
            found[str(raw)] = encoded(columns, raw, given[raw])
    return found


def require_new(item_ids: IdMap, new_items: NewItems) -> None:
    """Raises InputError for new items that are not new, for a person who would believe that what they say counts."""
    known = [str(item) for item, number in zip(new_items, item_ids.ids(list(new_items))) if number >= 0]
    if known:
        raise InputError(
            f"{len(known)} of the new items are known to the model: {', '.join(known[:5])}. Their attributes are "
            "those of the training, so leave them out of the new items."
        )


def left_out_sentence(columns: Sequence[Column], unknown: Sequence[RawId], unavailable: Sequence[RawId]) -> str:
    """Why candidates were not scored, and what a person may do about it."""
    if not unknown:
        return f"{len(unavailable)} of the candidates are not to be had: {', '.join(map(str, unavailable[:5]))}. Leave them out."
    instead = "or train on a log that has them: this model has no attributes of items to score them by."
    if columns:
        instead = f"or say what is known of them ({', '.join(x.name for x in columns)}): --new-items FILE.json."
    return (
        f"{len(unknown)} of the candidates are items that the model does not know: {', '.join(map(str, unknown[:5]))}. "
        f"Leave them out, {instead}"
    )


def encode_new_items(columns: Sequence[Column], items: NewItems) -> list[Column]:
    """The same columns with one row for each of these items, in their order.

    What is not given, or null, is absent; so is a value of a list that no item of the training had.
    Raises InputError for a name that is no column, for what does not fit its column, and for an item of which nothing
    that is given was known in training.
    """
    return columns_of(columns, [encoded(columns, item, given) for item, given in items.items()])


def columns_of(columns: Sequence[Column], rows: Sequence[Sequence[np.ndarray]]) -> list[Column]:
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
