"""Events <-> bytes."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from louder.histories import StoreDamaged
from louder.histories.history import History
from louder.histories.packing import HEAD, mark, pack, unpack
from tests.histories.events import events_of

GOLDEN = (
    "01000200020000000500000000000000090000000000000005000000000000000100021e0000000000000001000a00000000"
    "0000000000ffffffffffffffff000000c07f0000c07f0000c07f0000c07f4a30651f"
)
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)


@st.composite
def histories(draw):
    count, values = draw(st.integers(0, 12)), draw(st.integers(0, 3))
    narrow = draw(st.sampled_from([st.integers(0, 3), st.integers(-300, 300), st.just(-1), INTEGERS]))

    def column():
        return np.array(draw(st.lists(narrow, min_size=count, max_size=count)), np.int64)

    items = keys = column()
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
        older=keys[draw(st.integers(0, count)) :][::-1],
    )


@given(histories())
def test_comes_back_equal(events):
    packed = pack(events)
    back = unpack(packed)
    for name in ("items", "times", "actions", "values", "requests", *["older"] * bool(len(events.older))):
        old, new = getattr(events, name), getattr(back, name)
        assert (
            new.dtype == old.dtype and new.tobytes() == old.tobytes() if old.dtype != object else list(new) == list(old)
        )
        assert new.shape == old.shape
    assert (back.version, back.total) == (events.version, events.total) and len(back.older) == len(events.older)


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


@pytest.mark.parametrize(("bits", "width"), [(8, 1), (16, 2), (32, 4)])
@pytest.mark.parametrize("least", [-3, 0, 1 << 40])
def test_a_column_grows_by_a_byte_just_where_it_must(bits, width, least):
    """The widest span of each width, the first that it cannot hold, and the next power of two."""
    flat, spans = len(pack(events_of([least] * 2, [0, 0]))), ((1 << bits) - 1, 1 << bits, (1 << bits) + 1)
    packed = [pack(events_of([least, least + span], [0, 0])) for span in spans]
    assert [len(one) - flat for one in packed] == [2 * width, 4 * width, 4 * width]
    assert [unpack(one).items.tolist() for one in packed] == [[least, least + span] for span in spans]


@pytest.mark.parametrize("length", [1, 2, 127, 128, 255, 256, 257, 65_535, 65_536, 65_537])
def test_lengths_of_texts_come_back_at_powers_of_two(length):
    for shortest in "", "a":
        items = [shortest, "ü" * (length + len(shortest)), shortest]
        assert unpack(pack(events_of(items, [1, 2, 3]))).items.tolist() == items


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1024])
def test_histories_of_any_length_come_back(count):
    history = events_of(list(range(count)), list(range(7, 7 + count)))
    back = unpack(pack(history), history.names)
    assert back.items.tolist() == list(range(count)) and back.times.tolist() == list(range(7, 7 + count))
    assert back.values.shape == (count, 2) and np.isnan(back.values).all() and back.names == history.names


@pytest.mark.parametrize("version", [1, -1, 255, 256, (1 << 63) - 1])
def test_versions_differ_in_the_head_alone(version):
    old, new = (pack(events_of([1], [2], version=number, total=9)) for number in (version - 1, version))
    assert old[:HEAD] != new[:HEAD] and old[HEAD:-4] == new[HEAD:-4] and unpack(new).version == version


def test_another_format_is_told_from_damage():
    packed = bytearray(pack(events_of([1], [2])))
    packed[0] = 9
    packed[-4:] = zlib.crc32(packed[:-4]).to_bytes(4, "little")
    with pytest.raises(StoreDamaged, match="has format 9, but this Louder reads formats 1 and 2"):
        unpack(bytes(packed))


def test_a_record_of_an_older_louder_is_read():
    """Which knew nothing of items that are older than the events; without such items nothing else is written."""
    history = events_of([5, 7], [30, 40], version=5, total=9)
    written = bytes.fromhex(GOLDEN)
    assert pack(history) == written
    back = unpack(written)
    assert back.items.tolist() == [5, 7] and back.times.tolist() == [30, 40]
    assert (back.version, back.total, back.dropped, len(back.older)) == (5, 9, 7, 0)


def test_a_mark_differs_where_anything_does():
    one, other = (pack(events_of([item], [2], version=3, total=9)) for item in (1, 2))
    assert one[:HEAD] == other[:HEAD] and mark(one) != mark(other) and len(mark(one)) == HEAD + 4
    assert mark(b"") == b""
