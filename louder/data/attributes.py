"""Attributes of items and users as codes for embedding tables, or as vectors.

They come from items.parquet and users.parquet (`read_attributes`), whose row number is the id. pyarrow is imported where
a column is read, so that training can be imported where only torch and numpy are installed.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from louder.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN = 0
MANY_NUMBERS = 1000  # a column with more different numbers than this holds quantities, not categories


@dataclass(frozen=True)
class Attribute:
    """One categorical attribute of R rows; row r owns codes[offsets[r] : offsets[r + 1]]: one code of a scalar column,
    UNKNOWN where it is null, and as many as the list has values of a list column. Codes follow the order of the values.
    """

    name: str
    size: int  # codes are 0 .. size - 1; UNKNOWN (0) stands for what is absent, or was never seen
    codes: Tensor  # [all codes] int64
    offsets: Tensor  # [R + 1] int64
    labels: tuple[str, ...]  # what each code stands for; "" for UNKNOWN
    is_list: bool = False

    @cached_property
    def code_of_label(self) -> dict[str, int]:
        return {label: code for code, label in enumerate(self.labels)}


@dataclass(frozen=True)
class Vectors:
    """One attribute that is a vector, such as the embedding of a text; zeros where a row has none."""

    name: str
    matrix: Tensor  # [R, W] float32


Column = Attribute | Vectors


def encode(table: "pa.Table", names: Sequence[str]) -> list[Attribute]:
    """Columns of texts, booleans, numbers or lists of them -> categories. Empty texts and NaN count as absent.

    Raises InputError for a column that is not there, holds quantities (more than MANY_NUMBERS different numbers)
    or vectors, or is of another type.
    """
    return [encode_column(name, column_of(table, name)) for name in names]


def code_of(attribute: Attribute, value: Any) -> int:
    """The code of one value, or element of a list, as it comes in a request; UNKNOWN for None and what no row had."""
    return UNKNOWN if value is None else attribute.code_of_label.get(label(value), UNKNOWN)


def first_codes(attributes: Sequence[Attribute]) -> Tensor:
    """[R, C] int64, the code of each attribute in each row; of a list the first, UNKNOWN of an empty one."""
    columns = []
    for attribute in attributes:
        starts, lengths = attribute.offsets[:-1], attribute.offsets.diff()
        padded = torch.cat([attribute.codes, attribute.codes.new_zeros(1)])
        columns.append(torch.where(lengths > 0, padded[starts.clamp(max=len(attribute.codes))], 0))
    return torch.stack(columns, dim=1) if columns else torch.zeros(0, 0, dtype=torch.int64)


def vectors(table: "pa.Table", names: Sequence[str]) -> list[Vectors]:
    """Columns of lists of fractional numbers, all of one length and finite -> matrices. Raises InputError for others."""
    return [vectors_of_column(name, column_of(table, name)) for name in names]


def encode_column(name: str, column: "pa.Array") -> Attribute:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = len(column)
    is_list = is_list_type(column.type)
    lengths = np.ones(rows, dtype=np.int64)
    if is_list:
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        column = pc.list_flatten(column)  # leaves out null lists
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = plain(name, column, is_list)
    distinct = pc.unique(values).drop_null()
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if is_number and not is_list and len(distinct) > MANY_NUMBERS:
        raise InputError(
            f"The attribute {name!r} has {len(distinct):,} different numbers, so it is a quantity and no category. "
            "Name another, or store its numbers as texts if they are names."
        )
    distinct = distinct.take(pc.array_sort_indices(distinct))
    found = pc.fill_null(pc.index_in(values, value_set=distinct), -1)
    codes = found.to_numpy(zero_copy_only=False).astype(np.int64) + 1
    if is_list:  # what is absent from a list is not in it
        there = codes != UNKNOWN
        lengths = np.bincount(np.repeat(np.arange(rows), lengths)[there], minlength=rows)
        codes = codes[there]
    labels = ("", *(label(value) for value in distinct.to_pylist()))
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return Attribute(name, len(labels), torch.from_numpy(codes), offsets, labels, is_list)


def plain(name: str, values: "pa.Array", is_list: bool) -> "pa.Array":
    """Values of one of a few types, null where they are absent."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values
    if pa.types.is_floating(kind) and not is_list:
        numbers = values.cast(pa.float64())
        return pc.add(pc.if_else(pc.is_nan(numbers), None, numbers), 0.0)  # -0 and 0 are one value
    if pa.types.is_null(kind) or kind in (pa.string(), pa.large_string(), pa.string_view()):
        texts = values.cast(pa.large_string())
        return pc.if_else(pc.equal(texts, ""), None, texts)
    if pa.types.is_floating(kind):
        raise InputError(
            f"The attribute {name!r} holds lists of fractional numbers, which are vectors and no categories. "
            "If they describe an item, name it in ranking.item_vectors; or name another."
        )
    raise InputError(
        f"The attribute {name!r} is of type {kind}, but a category is a text, a number, true or false, or a list of "
        "these. Store it as text, or name another."
    )


def vectors_of_column(name: str, column: "pa.Array") -> Vectors:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_list_type(column.type) or not pa.types.is_floating(column.type.value_type):
        raise InputError(
            f"The attribute {name!r} is of type {column.type}, but a vector is a list of fractional numbers. "
            "If it is a category, name it in ranking.item_attributes; or name another."
        )
    there = column.is_valid().to_numpy(zero_copy_only=False)
    lists = column.drop_null()
    widths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if len(np.unique(widths)) != 1 or not widths[0]:
        found = f"lists of {widths.min()} to {widths.max()} numbers" if len(widths) else "no list in any row"
        raise InputError(f"The attribute {name!r} has {found}, but vectors must be of one length. Name another.")
    numbers = pc.fill_null(pc.list_flatten(lists).cast(pa.float32()), float("nan"))
    found = numbers.to_numpy(zero_copy_only=False).reshape(-1, widths[0])
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(there)[np.argmin(finite)])
        raise InputError(
            f"The attribute {name!r} has a number in row {row} that is missing or not finite. "
            "Write the whole vector, or leave it out (null)."
        )
    matrix = np.zeros((len(column), widths[0]), dtype=np.float32)
    matrix[there] = found
    return Vectors(name, torch.from_numpy(matrix))


def label(value: str | float | np.bool_) -> str:
    """The text of a value; the same for 1 and 1.0, which are one value in JSON."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def is_list_type(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def column_of(table: "pa.Table", name: str) -> "pa.Array":
    """One column. Raises InputError if there is none, with the nearest that is."""
    import pyarrow as pa

    known = table.column_names
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"There is no attribute {name!r}; there are {', '.join(known)}.{hint}")
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
