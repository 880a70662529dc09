"""A store is of one data set: what it grew to, or was made anew from, is the same, and anything else is refused."""

import numpy as np
import pyarrow as pa
import pytest

from louder.errors import InputError
from louder.fingerprint import hash_of
from louder.histories.identity import SKETCH, DataSet, Known, in_common, sketch
from louder.histories.settings import StoreSettings, read, written
from tests.histories.events import NAMES, event

ITEMS, USERS = list(range(1, 301)), [f"user {n}" for n in range(100)]


def data(items=ITEMS, users=USERS, name="runs/a"):
    ids = {"item": pa.array(items), "user": pa.array(users)}
    return DataSet(name, {part: hash_of(raw) for part, raw in ids.items()}, ids.get)


SAME = {
    "the same": data(),
    "grown at the end, to many times as much": data([*ITEMS, *range(1000, 9000)], [*USERS, *"abc"]),
    "made anew, in another order and with some new ones": data([*range(5, 330)][::-1], [*USERS[20:], "new"]),
    "the one before it grew by a third": data(ITEMS[:225], USERS[:75]),
}
OTHER = {
    "other items": data(range(301, 601)),
    "other users": data(users=[f"somebody {n}" for n in range(100)]),
    "texts for numbers": data([str(item) for item in ITEMS]),
    "few items of many": data(ITEMS[::3], USERS),
    "many more, among which these are": data([-5, *range(1, 9000)], USERS),
}


@pytest.mark.parametrize("how", SAME)
def test_the_same_data_set_is_served_from_its_store(make, how):
    store = make(names=NAMES)
    assert not store.claim(data())
    store.append([event(1, "a")])
    assert not make().claim(SAME[how]) and not make().claim(SAME[how])


@pytest.mark.parametrize("how", OTHER)
def test_another_data_set_is_refused_with_what_to_type(make, how):
    make(names=NAMES).claim(data())
    with pytest.raises(
        InputError, match=r"The store .* has .* of another data set, of 300 items and 100 users, but runs/a"
    ):
        make().claim(OTHER[how])
    assert not make().claim(data())  # nothing changed
    assert not make().claim(OTHER[how], adopt=True)
    with pytest.raises(InputError, match=r"is of 300 items and 100 users. Give it .* --store OTHER. .* --adopt-store"):
        make().claim(data())


def test_a_store_of_an_older_louder_takes_the_first_and_says_so(make):
    store = make(names=NAMES)
    store.append([event(1, "a")])
    assert store.settings.data is None and store.claim(data()) and not store.claim(data())
    with pytest.raises(InputError, match=r"another data set"):
        make().claim(OTHER["other items"])


def test_what_it_is_known_by_comes_back_and_may_be_absent():
    settings = StoreSettings(NAMES, data={"item": Known("3:abc", (1, 2)), "user": Known("4:d", ())})
    assert read(written(settings)) == settings
    without = written(StoreSettings(NAMES)).replace(b', "data": null', b"")
    assert b"data" not in without and read(without) == StoreSettings(NAMES)


def test_what_two_vocabularies_have_in_common_is_told_by_their_sketches():
    small = sketch(pa.array(["a", "b", "c"])), sketch(pa.array(["c", "b", "d", "e"]))
    assert in_common(*small) == 2 / 5 and in_common((), ()) == 1 and in_common(small[0], ()) == 0
    draw = np.random.default_rng(1)
    for kind in (lambda x: pa.array(x), lambda x: pa.array([f"item-{n}" for n in x])):
        ids = draw.permutation(30_000)
        one, other = sketch(kind(ids[:20_000])), sketch(kind(ids[5_000:]))
        assert len(one) == SKETCH and list(one) == sorted(set(one))
        assert in_common(one, other) == pytest.approx(0.5, abs=0.1)
