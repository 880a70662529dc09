"""Items that a model has not met: what a request says of them, in the form of the columns it was trained with."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from louder.data.attributes import UNKNOWN, Attribute, Column, Vectors, code_of
from louder.errors import InputError
from louder.folders import read_json
from louder.ids import RawId

NewItems = Mapping[RawId, Mapping[str, Any]]


def encode_new_items(columns: Sequence[Column], items: NewItems) -> list[Column]:
    """The same columns with one row for each of these items, in their order.

    What is not given, or null, is absent; so is a value of a list that no item of the training had.
    Raises InputError for a name that is no column, for what does not fit its column, and for an item of which nothing
    that is given was known in training.
    """
    for item, given in items.items():
        check(columns, item, given)
    return [
        categories(column, items) if isinstance(column, Attribute) else rows_of_vectors(column, items)
        for column in columns
    ]


def check(columns: Sequence[Column], item: RawId, given: Mapping[str, Any]) -> None:
    names = [column.name for column in columns]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else "Leave it out."
            raise InputError(f"The new item {item!r} has {name!r}, but the model knows {', '.join(names)}. {hint}")
    for column in columns:
        value = given.get(column.name)
        if isinstance(column, Vectors):
            if any(vector(column, item, value)):
                return
        elif any(codes(column, item, value)):
            return
    raise InputError(
        f"Nothing that is given of the new item {item!r} was known in training, so there is nothing to score it by. "
        f"Give values that other items have ({example(columns)}), or leave the item out."
    )


def categories(column: Attribute, items: NewItems) -> Attribute:
    rows = [codes(column, item, given.get(column.name)) for item, given in items.items()]
    offsets = np.cumsum([0, *map(len, rows)])
    flat = torch.tensor([code for row in rows for code in row], dtype=torch.int64)
    return replace(column, codes=flat, offsets=torch.from_numpy(offsets))


def codes(column: Attribute, item: RawId, value: Any) -> list[int]:
    if isinstance(value, list | tuple) and not column.is_list:
        raise InputError(
            f"The new item {item!r} has {column.name!r} = {shown(value)}, but items have one {column.name}, not a list. "
            "Give one value."
        )
    values = value if isinstance(value, list | tuple) else [value]
    known = [code for code in (code_of(column, value) for value in values) if code != UNKNOWN]
    return known if known or column.is_list else [UNKNOWN]


def rows_of_vectors(column: Vectors, items: NewItems) -> Vectors:
    rows = [vector(column, item, given.get(column.name)) for item, given in items.items()]
    return Vectors(column.name, torch.from_numpy(np.stack(rows)))


def vector(column: Vectors, item: RawId, value: Any) -> np.ndarray:
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


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"


def read_new_items(path: Path) -> dict[RawId, dict[str, Any]]:
    """A JSON file with an object of raw ids, each with an object of attributes.

    Raises InputError if the file is missing or holds anything else.
    """
    form = 'an object such as {"new-film": {"genres": ["Drama"]}}'
    values: dict[RawId, dict[str, Any]] = read_json(path, "file of new items", dict, form)
    for item, given in values.items():
        if not isinstance(given, dict):
            raise InputError(f"The new item {item!r} of {path} is {json.dumps(given)[:80]}. The file must be {form}.")
    return values
