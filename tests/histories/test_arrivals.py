"""New events -> columns: bits, values and numbers of requests."""

import math

import numpy as np
import pytest

from louder.errors import InputError
from louder.histories.arrivals import bits, by_user, columns, event_ids, request_number
from louder.histories.history import Names
from louder.histories.settings import StoreSettings
from louder.histories.times import request_time
from tests.histories.events import NAMES, event

NOW = 1_750_000_000.5
MANY = Names(tuple(f"a{n}" for n in range(63)))


@pytest.mark.parametrize(
    ("actions", "expected"),
    [((), 0), (("click",), 1), (("like",), 2), (("like", "click"), 3), (("like", "like"), 2), (("click",) * 5, 1)],
)
def test_an_action_sets_its_own_bit_however_often_it_is_named(actions, expected):
    assert bits(actions, NAMES) == expected


def test_the_last_action_of_many_fits_into_64_bits():
    made = columns([event(1, "a", actions=("a62", "a0", "a62"))], MANY)
    assert made.actions.tolist() == [(1 << 62) + 1]


def test_values_go_to_their_columns_and_the_others_are_absent():
    events = [
        event(1, "a", values={"rating": 2.0}),
        event(1, "b"),
        event(1, "c", values={"seconds": 0.0, "rating": -1}),
    ]
    made = columns(events, NAMES)
    shown = [[None if math.isnan(value) else value for value in row] for row in made.values.tolist()]
    assert shown == [[None, 2.0], [None, None], [0.0, -1.0]]
    assert made.names == NAMES and made.total == len(made) == 3


def test_arrivals_are_parted_by_user_in_their_order():
    events = [event(2, "a", item=1), event(1, "a", item=2), event(2, "b", item=3)]
    users = by_user(events, NAMES, StoreSettings(NAMES), now=NOW)
    assert {user: [one.item for one in own] for user, own in users.items()} == {2: [1, 3], 1: [2]}
    (first, second), (other,) = event_ids(users[2]), event_ids(users[1])
    assert first == other != second


def test_ids_are_hashes_of_64_bits():
    """Of fewer bits, two of a user's many ids would soon be taken for one."""
    ids = event_ids([event(1, number) for number in range(64)])
    assert len(set(ids)) == 64 and -(1 << 63) <= min(ids) < -(1 << 62)
    assert 1 << 62 < max(ids) < 1 << 63


def test_equal_requests_have_equal_numbers_for_good():
    assert request_number(None) == -1
    assert request_number("r-9") == 2_668_103_829_926_713_154  # stores that exist hold it
    texts = [str(n) for n in range(500)]
    numbers = [request_number(text) for text in texts]
    assert len(set(numbers)) == 500 and min(numbers) >= 0 and max(numbers) < 1 << 63
    assert numbers == [request_number(text) for text in texts]


DAY = 86_400


@pytest.mark.parametrize(
    ("time", "sentence"),
    [
        (-(1 << 63) - 1, "does not fit into 64 bits"),
        (1_750_000_000 + DAY + 1, "more than a day after now, which is 1750000000. Send seconds since 1970"),
        (4_000_000_000, "more than a day after now"),
        (1_750_000_000_000, "looks like milliseconds, but times are seconds since 1970: divide it by 1,000."),
        (1_100_000_000_000, "looks like milliseconds"),
        (1_750_000_000_000_000, "looks like microseconds, but times are seconds since 1970: divide it by 1,000,000."),
        (1_750_000_000_000_000_000, "looks like nanoseconds"),
        (1 << 53, "more than a day after now"),
        (1 << 70, "more than a day after now"),
    ],
)
def test_a_time_that_is_not_yet_is_refused_and_its_unit_named(time, sentence):
    with pytest.raises(InputError, match=sentence):
        by_user([event(1, "a", time)], NAMES, StoreSettings(NAMES), now=NOW)


@pytest.mark.parametrize("time", [-(1 << 63), 0, 1_750_000_000, 1_750_000_000 + DAY])
def test_a_time_of_the_past_is_taken_and_of_a_clock_that_is_ahead(time):
    (own,) = by_user([event(1, "a", time)], NAMES, StoreSettings(NAMES), now=NOW).values()
    assert columns(own, NAMES).times.tolist() == [time]


def test_a_request_comes_after_what_is_stored_also_where_a_clock_was_ahead():
    now = 1_750_000_000
    for times, at in (
        ([], now),
        ([5, now - 1], now),
        ([5, now + 3], now + 3),
        ([now + DAY], now + DAY),
        ([5, now + 1, now + DAY + 1], now + 1),  # the last one is a mistake of an older store
        ([now * 1000, 1 << 53], now),
    ):
        assert request_time(np.array(times, np.int64), now) == at


@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_beyond_32_bits_is_refused_whatever_its_sign(sign):
    largest = (2 - 2**-23) * 2.0**127
    with pytest.raises(InputError, match="32 bits do not hold"):
        by_user([event(1, "a", values={"rating": sign * largest * 1.001})], NAMES, StoreSettings(NAMES), now=NOW)
    users = by_user([event(1, "a", values={"rating": sign * largest})], NAMES, StoreSettings(NAMES), now=NOW)
    assert columns(users[1], NAMES).values[0, 1] == sign * largest
