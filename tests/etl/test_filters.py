"""Which events stay: to a fixed point, in one pass, once each. All beside plain Python."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.etl import filters

EXAMPLES = settings(max_examples=20, deadline=None)

pairs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=50)


@pytest.fixture(scope="module")
def events(in_engine):
    """(user, item, ...) in the order of a log, as events of the engine."""

    def put(rows):
        named = {"user": [row[0] for row in rows], "item": [row[1] for row in rows]}
        return in_engine(pa.table(named | {"position": list(range(len(rows)))}))

    return put


def kept(table) -> list[tuple[int, int]]:
    return [(row["user"], row["item"]) for row in table.order_by("position").to_pyarrow().to_pylist()]


def core(rows, k):
    while True:
        users, items = Counter(user for user, _ in rows), Counter(item for _, item in rows)
        rest = [(user, item) for user, item in rows if users[user] >= k and items[item] >= k]
        if len(rest) == len(rows):
            return rest
        rows = rest


@pytest.mark.parametrize("links", [1, 2, 5, 9])
def test_a_k_core_is_a_fixed_point(engine, events, links):
    """A chain of users and items, each hanging on the next: every pass takes only its two ends."""
    chain = [(user, item) for user in range(links) for item in (user, user + 1)]
    square = [(user, item) for user in (100, 101) for item in (100, 101)]
    dropped = {}
    left = filters.k_core(engine, events(chain + square), 2, dropped)
    assert kept(left) == square
    assert dropped == {"outside the 2-core": 2 * links}


@EXAMPLES
@given(pairs, st.integers(2, 4))
def test_a_k_core_beside_plain_python(engine, events, rows, k):
    dropped = {}
    expected = core(rows, k)
    assert kept(filters.k_core(engine, events(rows), k, dropped)) == expected
    assert dropped == ({f"outside the {k}-core": len(rows) - len(expected)} if len(expected) < len(rows) else {})


def test_one_pass_drops_users_whom_rare_items_left_with_too_little(engine, events):
    rows = [(0, 1), (0, 9), *((user, item) for user in (1, 2) for item in (1, 2))]  # only the first user had item 9
    dropped = {}
    found, _ = filters.one_pass(engine, events(rows), 2, 2, dropped)
    assert kept(found) == rows[2:]
    assert dropped == {"item with fewer than 2 events": 1, "user left with fewer than 2 events": 1}


@EXAMPLES
@given(pairs, st.integers(0, 4), st.integers(0, 4))
def test_one_pass_beside_plain_python(engine, events, rows, at_least_user, at_least_item):
    users, items = Counter(user for user, _ in rows), Counter(item for _, item in rows)
    common = [(user, item) for user, item in rows if items[item] >= at_least_item]
    first = [(user, item) for user, item in common if users[user] >= at_least_user]
    left = Counter(user for user, _ in first)
    both = at_least_user > 1 and at_least_item > 1
    expected = [(user, item) for user, item in first if left[user] >= at_least_user] if both else first
    dropped = {}
    found, catalogue = filters.one_pass(engine, events(rows), at_least_user, at_least_item, dropped)
    assert kept(found) == expected
    assert sorted(catalogue.to_pyarrow()["item"].to_pylist()) == sorted({item for _, item in first})
    counted = {
        f"item with fewer than {at_least_item} events": len(rows) - len(common),
        f"user with fewer than {at_least_user} events": len(common) - len(first),
        f"user left with fewer than {at_least_user} events": len(first) - len(expected),
    }
    assert dropped == {reason: count for reason, count in counted.items() if count}


def test_reasons_add_up(engine, events):
    dropped = {"outside the 2-core": 3}
    filters.k_core(engine, events([(1, 1)]), 2, dropped)
    assert dropped == {"outside the 2-core": 4}


def test_the_first_of_equal_rows_is_kept(engine, in_engine):
    columns = {
        "user": [1, 1, 1, 1, 2, 1, 1],
        "item": [5, 5, 5, 5, 5, 5, 6],
        "micros": [9, 9, 8, 9, 9, 9, 9],
        "value.watch": [1.0, 1.0, 1.0, 2.0, 1.0, None, 1.0],
        "reason": [0] * 7,
        "position": [3, 1, 2, 4, 5, 6, 7],
    }
    left = filters.drop_duplicates(engine, in_engine(pa.table(columns)))
    assert sorted(left.to_pyarrow()["position"].to_pylist()) == [1, 2, 4, 5, 6, 7]
    twice = {name: column + column for name, column in columns.items()} | {"position": list(range(14))}
    left = filters.drop_duplicates(engine, in_engine(pa.table(twice)))
    assert sorted(left.to_pyarrow()["position"].to_pylist()) == [0, 2, 3, 4, 5, 6]  # nothing equals nothing, too
    assert "repeat" not in left.columns
