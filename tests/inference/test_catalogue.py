"""Which items a filter leaves, and what is told of items."""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from tables import Token, write_table

from louder.errors import InputError
from louder.histories.history import empty_history
from louder.histories.items import ItemFacts
from louder.ids import IdMap
from louder.inference.catalogue import Catalogue
from louder.inference.limits import MOST_VALUES
from louder.inference.request import Request

COLUMNS = {
    "title": ["One", None, "Three", ""],
    "genres": [["drama"], ["war", "love"], [], None],
    "year": [1990, 1991, None, 1991],
    "length": [1.5, 2.5, 3.5, 4.5],
    "text": [[0.5, 0.1], [0.1, 0.2], None, [0.3, 0.3]],
    "_row": ["a", "b", "c", "d"],
}


def catalogue_of(columns, path="nowhere", items=4):
    from pathlib import Path

    run = SimpleNamespace(item_ids=IdMap(pa.array([f"i{n}" for n in range(items)])), items=columns)
    return Catalogue(run, Path(path))


@pytest.fixture(scope="module")
def catalogue():
    return catalogue_of(pa.table(COLUMNS))


def allowed(catalogue, **filters):
    mask = catalogue.allowed(Request(history=empty_history(), **filters))
    return None if mask is None else np.flatnonzero(mask).tolist()


def test_without_filters_everything_is_allowed(catalogue):
    assert allowed(catalogue) is None and allowed(catalogue, seen=True, k=3) is None


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"where": {"genres": ["war"]}}, [1]),
        ({"where": {"genres": ["love"]}}, [1]),  # any value of a list
        ({"where": {"genres": ["drama", "war"]}}, [0, 1]),  # any of the values
        ({"where": {"genres": ["war", "drama", "fly"]}}, [0, 1]),
        ({"where": {"genres": ["fly"]}}, []),
        ({"where": {"genres": ["war", *(f"g{n}" for n in range(20_000))]}}, [1]),
        ({"where": {"genres": []}}, []),
        ({"where": {"year": [1991]}}, [1, 3]),  # a number, or its text
        ({"where": {"year": ["1991"]}}, [1, 3]),
        ({"where": {"year": [1991], "genres": ["war", "drama"]}}, [1]),  # all of the attributes
        ({"allow": ["i0", "i3", "x"]}, [0, 3]),
        ({"allow": []}, []),
        ({"deny": ["i0", "x"]}, [1, 2, 3]),
        ({"allow": ["i0", "i1"], "deny": ["i1"]}, [0]),
        ({"allow": ["i1", "i2"], "where": {"year": [1991]}, "deny": ["i3"]}, [1]),
    ],
    ids=lambda x: str(x)[:60],
)
def test_filters(catalogue, filters, left):
    assert allowed(catalogue, **filters) == left


def test_attributes_with_few_values_can_be_filtered_by(catalogue):
    assert catalogue.labels == {
        "genres": ["drama", "love", "war"],
        "year": ["1990", "1991"],
        "length": ["1.5", "2.5", "3.5", "4.5"],
    }
    with pytest.raises(InputError, match="the attribute 'text', but items have these: genres, year, length"):
        allowed(catalogue, where={"text": ["a"]})
    with pytest.raises(InputError, match="but items have these: none"):
        allowed(catalogue_of(None), where={"year": [1991]})
    for count, known in (MOST_VALUES - 1, True), (MOST_VALUES, False):  # the unknown is one of them
        names = [f"n{item}" for item in range(count)]
        assert ("name" in catalogue_of(pa.table({"name": names}), items=count).labels) == known


def test_any_category_may_be_asked_for_however_many_values_it_has():
    names = [f"n{item}" for item in range(MOST_VALUES)]
    found = catalogue_of(pa.table({"name": names, "vector": [[0.5]] * MOST_VALUES}), items=MOST_VALUES)
    assert found.labels == {} and found.labels_of(3, "name") == ["n3"]
    for name, text in ("fly", "no attribute 'fly'; items have these: name, vector"), ("vector", "are vectors and no"):
        with pytest.raises(InputError, match=text):
            found.labels_of(0, name)


def test_values_of_an_item_and_items_that_have_them(catalogue):
    assert [catalogue.labels_of(item, "genres") for item in range(4)] == [["drama"], ["war", "love"], [], []]
    assert [catalogue.labels_of(item, "year") for item in range(4)] == [["1990"], ["1991"], [], ["1991"]]
    where = {"genres": ["love", "drama"], "year": [1990, "1991"]}
    assert catalogue.having(where, np.array([3, 1, 0, 1])).tolist() == [False, True, True, True]
    assert catalogue.having({}, np.array([3, 1])).tolist() == [True, True]
    some, filters = np.array([2, 0, 3, 1, 1]), {"genres": ["war", "fly"], "year": [1991, 1990], "length": ["3.5"]}
    for name, values in filters.items():  # as the mask over all items says
        mask = catalogue.matching(name, frozenset(map(str, values)))
        assert catalogue.having({name: values}, some).tolist() == mask[some].tolist()


def test_what_is_told_of_an_item(catalogue):
    assert [catalogue.describe(n) for n in range(4)] == [("i0", "One"), ("i1", ""), ("i2", "Three"), ("i3", "")]
    assert catalogue.attributes_of(0) == {"genres": ["drama"], "year": ["1990"], "length": ["1.5"]}
    assert catalogue.attributes_of(2) == {"genres": [], "length": ["3.5"]}
    assert (catalogue.text(1, "genres"), catalogue.text(3, "genres"), catalogue.text(0, "fly")) == ("war, love", "", "")
    assert catalogue.titles(["i2", "x"]) == ["Three", ""]
    assert catalogue_of(None).describe(1) == ("i1", "") and len(catalogue) == 4


def test_popularity_counts_engagements_of_the_table(tmp_path):
    users = [[Token(0), Token(1), Token(1, kind=1)], [Token(1)], []]
    write_table(tmp_path / "t", users, items=3, raw_items=["i0", "i1", "i2"], series={"city": 4})
    assert catalogue_of(None, tmp_path / "t", items=3).popularity.tolist() == [1, 2, 0]
    assert catalogue_of(None, tmp_path / "gone", items=3).popularity is None
    assert catalogue_of(None, tmp_path / "t", items=4).popularity is None  # of other items


def test_is_freed_without_a_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        catalogue = catalogue_of(pa.table(COLUMNS))
        assert catalogue.describe(0) == ("i0", "One") and allowed(catalogue, where={"genres": ["war"]}) == [1]
        gone = weakref.ref(catalogue)
        del catalogue
        assert gone() is None
    finally:
        gc.enable()


def test_what_was_told_counts_before_the_training(catalogue):
    catalogue = catalogue_of(pa.table(COLUMNS))
    plain = allowed(catalogue, where={"genres": ["war", "drama"]})
    assert plain == [0, 1] and allowed(catalogue) is None
    told = {
        "i0": ItemFacts("Uno", {"genres": ["war", "new"], "price": 9.0}),
        "i2": ItemFacts(attributes={"year": 1991, "used": True}, available=False),
        "x": ItemFacts("Ex", {"genres": ["war"]}),
        "i3": ItemFacts(attributes={"text": [0.5, 1.0]}),  # what a model may score by is nothing to filter by
    }
    catalogue.updates.take(told)
    assert allowed(catalogue) == [0, 1, 3]  # without any filter
    assert allowed(catalogue, where={"genres": ["drama"]}) == []
    assert allowed(catalogue, where={"genres": ["new"]}) == [0]
    assert allowed(catalogue, where={"genres": ["war"], "price": [9]}) == [0]
    assert allowed(catalogue, where={"price": ["8"]}) == []
    assert allowed(catalogue, where={"year": [1991]}) == [1, 3]  # the third has it, and is not to be had
    assert allowed(catalogue, allow=["i2", "i3"]) == [3]
    assert catalogue.having({"used": ["true"]}, np.arange(4)).tolist() == [False, False, True, False]
    assert [catalogue.describe(n) for n in (0, 2)] == [("i0", "Uno"), ("i2", "Three")]
    assert catalogue.titles(["i0", "x", "y"]) == ["Uno", "Ex", ""]
    assert catalogue.attributes_of(0) == {"genres": ["war", "new"], "year": ["1990"], "length": ["1.5"], "price": ["9"]}
    assert "text" not in catalogue.labels and "text" not in catalogue.attributes_of(3)
    assert catalogue.labels["genres"] == ["drama", "love", "war", "new"] and catalogue.labels["price"] == ["9"]
    assert [catalogue.labels_of(n, "genres") for n in (0, 1)] == [("war", "new"), ["war", "love"]]
    assert [catalogue.labels_of(n, "price") for n in (0, 1)] == [("9",), ()]

    catalogue.updates.take({"i0": ItemFacts(attributes={"price": 8}), "i2": ItemFacts()})
    assert allowed(catalogue) is None
    assert allowed(catalogue, where={"genres": ["war", "drama"]}) == plain
    assert allowed(catalogue, where={"genres": ["drama"]}) == [0]  # asked before as well, when it had other genres
    assert allowed(catalogue, where={"price": ["9"]}) == [] and allowed(catalogue, where={"price": ["8"]}) == [0]
    assert catalogue.describe(0) == ("i0", "One") and "used" not in catalogue.labels
    with pytest.raises(InputError, match="the attribute 'used', but items have these: genres, year, length, price"):
        allowed(catalogue, where={"used": ["true"]})


def test_requests_without_filters_have_one_mask_in_common():
    catalogue = catalogue_of(pa.table(COLUMNS))
    catalogue.updates.take({"i1": ItemFacts(available=False)})
    request = Request(history=empty_history())
    assert catalogue.allowed(request) is catalogue.allowed(request)  # so that they share a search
    assert catalogue.updates.is_available("i0", 0) and not catalogue.updates.is_available("i1", 1)


def test_ids_as_texts_are_told_of_the_integers_that_they_write():
    run = SimpleNamespace(item_ids=IdMap(pa.array([7, 8])), items=None)
    from pathlib import Path

    catalogue = Catalogue(run, Path("nowhere"))
    catalogue.updates.take({"8": ItemFacts("Eight", available=False), "new": ItemFacts("New")})
    assert catalogue.describe(1) == (8, "Eight") and catalogue.updates.available.tolist() == [True, False]
    assert catalogue.titles(["8", 7, "new"]) == ["Eight", "", "New"]
