"""Keys are in the order of the users, and a prefix is a range of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from louder.errors import InputError
from louder.histories.keys import key_of, ranges, user_of

NUMBERS = st.one_of(st.integers(-2000, 2000), st.integers(-(1 << 63), (1 << 63) - 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


@given(st.lists(NUMBERS, unique=True))
def test_numbers_sort_by_size(users):
    keys = sorted(map(key_of, users))
    assert [user_of(key, False) for key in keys] == sorted(users)


@given(st.lists(TEXTS, unique=True))
def test_texts_sort_by_their_characters(users):
    keys = sorted(map(key_of, users))
    assert [user_of(key, True) for key in keys] == sorted(users)


def found(users, prefix, texts):
    keys = sorted(map(key_of, users))
    return [user_of(key, texts) for low, high in ranges(prefix, texts) for key in keys if low <= key < high]


@given(
    st.lists(NUMBERS, unique=True),
    st.one_of(NUMBERS.map(str), st.sampled_from(["", "-", "0", "-0", "1", "-2", "01", "x", "٣"])),
)
def test_a_prefix_finds_the_numbers_written_so(users, prefix):
    assert found(users, prefix, False) == sorted(user for user in users if str(user).startswith(prefix))


@given(st.lists(TEXTS, unique=True), st.text(st.characters(exclude_categories=["Cs"]), max_size=2))
def test_a_prefix_finds_the_texts_that_start_with_it(users, prefix):
    assert found(users, prefix, True) == sorted(user for user in users if user.startswith(prefix))


def test_a_text_has_1_to_500_bytes():
    assert key_of("ü" * 250) == "ü".encode() * 250
    for text in "", "x" * 501, "ü" * 251:
        with pytest.raises(InputError, match=f"has {len(text.encode())} bytes as UTF-8, but a store takes 1 to 500"):
            key_of(text)


@pytest.mark.parametrize(
    ("prefix", "users"),
    [("-1", [-199, -100, -19, -12, -1]), ("1", [1, 12, 19, 100, 199]), ("-", [-199, -2, -1]), ("0", [0])],
)
def test_users_of_one_prefix_come_in_order(prefix, users):
    assert found([*users[::-1], 5, 200, -5 if prefix != "-" else 6, 21], prefix, False) == users
