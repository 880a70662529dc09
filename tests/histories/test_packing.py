"""Events <-> bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from louder.histories import StoreDamaged
from louder.histories.history import History
from louder.histories.packing import HEAD, pack, packed_version, unpack
from tests.histories.events import events_of

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)


@st.composite
def histories(draw):
    count, values = draw(st.integers(0, 12)), draw(st.integers(0, 3))
    narrow = draw(st.sampled_from([st.integers(0, 3), st.integers(-300, 300), st.just(-1), INTEGERS]))

    def column():
        return np.array(draw(st.lists(narrow, min_size=count, max_size=count)), np.int64)

    items = column()
    if draw(st.booleans()):
        items = np.empty(count, object)
        # surrogates too: JSON can hold half of a pair
        items[:] = draw(st.lists(st.text(st.characters(exclude_categories=[])), min_size=count, max_size=count))
    numbers = draw(arrays.arrays(np.float32, (count, values), elements=st.floats(width=32)))
    return History(
        items=items,
        times=column(),
        actions=column(),
        values=numbers,
        requests=column(),
        version=draw(INTEGERS),
        total=draw(INTEGERS),
    )


@given(histories())
def test_comes_back_equal(events):
    packed = pack(events)
    back = unpack(packed)
    for name in ("items", "times", "actions", "values", "requests"):
        old, new = getattr(events, name), getattr(back, name)
        assert (
            new.dtype == old.dtype and new.tobytes() == old.tobytes() if old.dtype != object else list(new) == list(old)
        )
        assert new.shape == old.shape
    assert (back.version, back.total) == (events.version, events.total)
    assert packed_version(packed[:HEAD]) == events.version


def test_what_comes_back_can_be_written_to():
    back = unpack(memoryview(pack(events_of([1, 2], [3, 4]))))
    assert all(column.flags.writeable for column in (back.items, back.times, back.actions, back.values, back.requests))


def test_columns_take_no_more_than_they_need():
    same, bytes_apart = events_of([5] * 100, [9] * 100), events_of(list(range(100)), [9] * 100)
    assert len(pack(bytes_apart)) - len(pack(same)) == 100


@pytest.mark.parametrize("texts", [False, True])
def test_any_changed_byte_is_noticed(texts):
    packed = pack(events_of(["a", "ü"] if texts else [1, 2], [3, 4]))
    for at in range(len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 1
        with pytest.raises(StoreDamaged, match="damaged"):
            unpack(bytes(changed))
        with pytest.raises(StoreDamaged, match="damaged"):
            unpack(packed[:at])
