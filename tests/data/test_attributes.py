"""Attributes as codes: the expected ones are written down, or made by a slow twin."""

import math
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from louder.data.attributes import MANY_NUMBERS, Attribute, code_of, encode, vectors
from louder.errors import InputError

TABLE = pa.table(
    {
        "kind": ["film", None, "series", "film", ""],
        "genres": [["War", "Drama"], None, [], ["Drama", None, "Drama"], [""]],
        "year": [1995, 10, None, 1995, 9],
        "rate": [9.0, -0.0, float("nan"), 0.0, 2.5],
        "kids": [True, False, None, True, True],
        "tags": pa.array([[12, 3], [3], None, [], [-1]], pa.list_(pa.int64())),
        "text": pa.array([[1, 2], None, [0, 0], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
        "image": [[1.0], [2.0], [3.0], None, [5.0]],
        "born": [date(2020, 1, 1)] * 5,
        "nothing": pa.nulls(5),
    }
)


def rows(attribute: Attribute) -> list[list[int]]:
    return [attribute.codes[start:end].tolist() for start, end in zip(attribute.offsets[:-1], attribute.offsets[1:])]


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("kind", ["film", "series"], [[1], [0], [2], [1], [0]]),
        ("genres", ["Drama", "War"], [[2, 1], [], [], [1, 1], []]),
        ("year", ["9", "10", "1995"], [[3], [2], [0], [3], [1]]),
        ("rate", ["0", "2.5", "9"], [[3], [1], [0], [1], [2]]),
        ("kids", ["false", "true"], [[2], [1], [0], [2], [2]]),
        ("tags", ["-1", "3", "12"], [[3, 2], [2], [], [], [1]]),
        ("nothing", [], [[0]] * 5),
    ],
)
def test_codes_are_places_among_the_sorted_values(name, labels, expected):
    (attribute,) = encode(TABLE, [name])
    assert attribute.name == name
    assert attribute.labels == ("", *labels)
    assert attribute.size == len(labels) + 1
    assert rows(attribute) == expected
    assert attribute.codes.dtype == attribute.offsets.dtype == torch.int64


def test_attributes_come_in_the_order_they_are_named():
    assert [attribute.name for attribute in encode(TABLE, ["tags", "kind"])] == ["tags", "kind"]
    assert encode(TABLE, []) == []


def test_a_value_of_a_request_gets_the_code_of_the_table():
    kind, year, rate, kids, tags = encode(TABLE, ["kind", "year", "rate", "kids", "tags"])
    assert [code_of(kind, value) for value in ("film", "series", "play", "", None, 7)] == [1, 2, 0, 0, 0, 0]
    assert [code_of(year, value) for value in (1995, 1995.0, "1995", 1996, True)] == [3, 3, 3, 0, 0]
    assert [code_of(rate, value) for value in (9, 9.0, 2.5, math.nan)] == [3, 3, 2, 0]
    assert [code_of(kids, value) for value in (True, False, None, np.True_)] == [2, 1, 0, 2]
    assert code_of(tags, np.int64(12)) == 3


texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "B", "é", "日本", "𝒳", "1", "nan"]))
numbers = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
fractions = st.one_of(st.none(), st.floats(width=64))
SCALARS = [
    (texts, [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]),
    (numbers, [pa.int64()]),
    (st.one_of(st.none(), st.integers(0, 255)), [pa.uint8(), pa.uint64(), pa.int16()]),
    (fractions, [pa.float64()]),
    (st.one_of(st.none(), st.booleans()), [pa.bool_()]),
]


def is_there(value) -> bool:
    return value is not None and value != "" and value == value


@given(st.data())
def test_scalars_against_a_slow_twin(data):
    values, kinds = data.draw(st.sampled_from(SCALARS))
    column = data.draw(st.lists(values, max_size=12))
    kind = data.draw(st.sampled_from(kinds))
    cut = data.draw(st.integers(0, len(column)))
    chunks = pa.chunked_array([pa.array(column[:cut], kind), pa.array(column[cut:], kind)])
    (attribute,) = encode(pa.table({"x": chunks}), ["x"])
    order = sorted({value + 0 if isinstance(value, float) else value for value in column if is_there(value)})
    assert rows(attribute) == [[order.index(value) + 1 if is_there(value) else 0] for value in column]
    assert attribute.size == len(order) + 1 == len(set(attribute.labels))
    assert [code_of(attribute, value) for value in column] == attribute.codes.tolist()


@given(st.data())
def test_lists_against_a_slow_twin(data):
    values, kinds = data.draw(st.sampled_from([SCALARS[0], SCALARS[1], SCALARS[2], SCALARS[4]]))
    kind = data.draw(st.sampled_from(kinds))
    fixed = data.draw(st.one_of(st.none(), st.integers(0, 3)))
    lists = st.lists(values, min_size=fixed or 0, max_size=4 if fixed is None else fixed)
    column = data.draw(st.lists(st.one_of(st.none(), lists), max_size=8))
    kind = pa.list_(kind, -1 if fixed is None else fixed)
    if fixed is None and data.draw(st.booleans()):
        kind = pa.large_list(kind.value_type)
    start = data.draw(st.integers(0, len(column)))
    (attribute,) = encode(pa.table({"x": pa.array(column, kind)}).slice(start), ["x"])
    column = [[value for value in row or [] if is_there(value)] for row in column[start:]]
    order = sorted({value for row in column for value in row})
    assert rows(attribute) == [[order.index(value) + 1 for value in row] for row in column]
    assert [code_of(attribute, value) for value in order] == list(range(1, attribute.size))


def test_codes_do_not_depend_on_the_order_of_the_rows():
    column = [f"v{n * 7 % 50}" for n in range(200)]
    (one,), (other,) = (encode(pa.table({"x": values}), ["x"]) for values in (column, column[::-1]))
    assert one.labels == other.labels
    assert one.codes.tolist() == other.codes.tolist()[::-1]


def test_quantities_are_refused():
    table = pa.table(
        {"price": [n / 4 for n in range(MANY_NUMBERS + 1)], "name": [f"{n}" for n in range(MANY_NUMBERS + 1)]}
    )
    with pytest.raises(InputError, match=r"'price' has 1,001 different numbers, so it is a quantity .*Name another"):
        encode(table, ["price"])
    (name,) = encode(table, ["name"])
    assert name.size == MANY_NUMBERS + 2
    (price,) = encode(table.slice(1), ["price"])
    assert price.size == MANY_NUMBERS + 1


def test_an_unknown_name_gets_the_nearest():
    for function in encode, vectors:
        with pytest.raises(
            InputError, match=r"no attribute 'genre'; there are kind, genres, .*Did you mean 'genres'\?"
        ):
            function(TABLE, ["genre"])


def test_other_types_are_refused():
    with pytest.raises(InputError, match=r"'born' is of type date32\[day\], but a category is .*Store it as text"):
        encode(TABLE, ["born"])
    for name in "text", "image":
        with pytest.raises(
            InputError,
            match=rf"'{name}' holds lists of fractional numbers, which are vectors .* name it in ranking\.item_vectors",
        ):
            encode(TABLE, [name])
    nested = pa.table({"x": [[[1]]], "y": [{"a": 1}], "z": [b"1"]})
    for name in nested.column_names:
        with pytest.raises(InputError, match=rf"'{name}' is of type"):
            encode(nested, [name])


def test_vectors_of_one_length():
    text, image = vectors(TABLE, ["text", "image"])
    assert (text.name, text.matrix.tolist()) == ("text", [[1, 2], [0, 0], [0, 0], [3, 4], [5, 6]])
    assert (image.name, image.matrix.tolist()) == ("image", [[1], [2], [3], [0], [5]])
    assert image.matrix.dtype == torch.float32
    (sliced,) = vectors(TABLE.slice(1, 3), ["text"])
    assert sliced.matrix.tolist() == [[0, 0], [0, 0], [3, 4]]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([[1.0], [1.0, 2.0]], "has lists of 1 to 2 numbers, but vectors must be of one length"),
        ([[], []], "has lists of 0 to 0 numbers"),
        ([None, None], "has no list in any row"),
        ([None, [1.0, 2.0], [3.0, None]], "a number in row 2 that is missing or not finite"),
        ([[1.0], [math.inf]], "a number in row 1 that"),
    ],
)
def test_damaged_vectors_are_refused(column, words):
    with pytest.raises(InputError, match=words):
        vectors(pa.table({"x": pa.array(column, pa.list_(pa.float64()))}), ["x"])


def test_categories_are_no_vectors():
    for name in "genres", "tags", "kind":
        with pytest.raises(
            InputError, match=rf"'{name}' is of type .*If it is a category, name it in ranking\.item_attributes"
        ):
            vectors(TABLE, [name])
