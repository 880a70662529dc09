"""Raw ids, numbers or texts, in slots: what is asked by a raw id is what was admitted under it."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from louder.ids import IdMap
from louder.online import slots as module
from louder.online.slots import Slots
from louder.ops.id_table import NEW, IdSettings, IdTable

NUMBERS, TEXTS = [30, 10, 20], ["ü", "", "a-1"]
both = pytest.mark.parametrize("raw", [NUMBERS, TEXTS], ids=["numbers", "texts"])


def slots_of(raw, **given):
    return Slots(IdTable(IdSettings(**{"budget": 2} | given)), pa.array(raw).type)


@both
def test_ids_come_and_go_by_their_raw_ids(raw):
    slots = slots_of(raw, admit_at=2)
    assert slots.observe(raw[:2], np.array([1, 1])).tolist() == [NEW, NEW]
    slots.observe([raw[1], raw[0]], np.array([2, 3]))
    changes = slots.update(3)
    assert slots.named(changes.admitted.ids.numpy()) == [raw[0], raw[1]]
    assert slots.find([raw[1], raw[2], raw[0]]).tolist() == [1, NEW, 0]
    assert slots.raws(np.array([1, 0])) == [raw[1], raw[0]]
    slots.observe([raw[2], raw[2]], np.array([4, 5]))
    changes = slots.update(5, in_flight=np.array([0]))
    assert changes.evicted.slots.tolist() == [1]
    assert slots.find(raw).tolist() == [0, NEW, 1]


@both
def test_a_vocabulary_for_inference_has_holes_where_slots_are_free(raw):
    slots = slots_of(raw, budget=5, segment=5)
    slots.observe(raw, np.array([3, 2, 1]))
    slots.update(3)
    slots.table.evict(torch.tensor([1]))
    ids = slots.id_map()
    assert ids.raw.to_pylist() == [raw[0], None, raw[2], None, None]
    assert ids.ids(raw).tolist() == slots.find(raw).tolist() == [0, -1, 2]


@both
def test_a_run_that_was_trained_before_keeps_its_numbers(raw):
    slots = Slots.of(IdMap(pa.array(raw)), IdSettings(budget=4), now=9)
    assert slots.find(raw).tolist() == [0, 1, 2]
    assert slots.raws(np.arange(3)) == raw
    with pytest.raises(ValueError, match="nobody's"):
        Slots.of(IdMap(pa.array([*raw, None])), IdSettings(budget=4), now=9)


@both
def test_a_state_is_all_there_is(raw):
    slots = slots_of(raw, admit_at=2)
    slots.observe([raw[0], raw[0], raw[1]], np.array([1, 2, 3]))
    slots.update(3)
    again = Slots.from_state(slots.table.settings, slots.raw_type, slots.state())
    for one in slots, again:
        assert one.observe([raw[1], raw[2]], np.array([4, 5])).tolist() == [NEW, NEW]
        one.update(5)
        assert one.find(raw).tolist() == [0, 1, NEW]
        assert one.raws(np.array([0, 1])) == raw[:2]
    empty = slots_of(raw)
    assert Slots.from_state(empty.table.settings, empty.raw_type, empty.state()).find(raw).tolist() == [NEW] * 3


def test_numbers_that_come_as_texts_are_the_same_and_other_texts_are_new():
    slots = slots_of(NUMBERS)
    slots.observe(["30", "x", 10], np.array([1, 2, 3]))
    slots.update(3)
    assert slots.find([30, "10", "x", 2**70]).tolist() == [1, 0, NEW, NEW]
    texts = slots_of(["7"])
    texts.observe([7], np.array([1]))
    texts.update(1)
    assert texts.find(["7"]).tolist() == [0]


def test_a_text_whose_hash_is_anothers_stays_new(monkeypatch):
    monkeypatch.setattr(module, "key_of_text", lambda text: ord(text[0]))
    slots = slots_of(TEXTS)
    assert slots.observe(["apple", "avocado", "banana"], np.array([1, 2, 3])).tolist() == [NEW] * 3
    slots.update(3)
    assert slots.find(["apple", "avocado", "banana"]).tolist() == [1, NEW, 0]
    assert slots.observe(["avocado", "apple"], np.array([4, 4])).tolist() == [NEW, 1]
    assert slots.collisions == 2


def test_texts_are_forgotten_with_their_ids():
    slots = slots_of(TEXTS, budget=1, counted=1, max_age_s=10)
    slots.observe(["a", "b", "c"], np.array([1, 2, 3]))
    slots.update(3)
    assert set(slots.texts.values()) == set(slots.keys) <= {"a", "b", "c"} and len(slots.keys) <= 2
    slots.update(20)
    assert (slots.texts, slots.keys) == ({}, {})
    assert slots.find(["a", "b", "c"]).tolist() == [NEW] * 3
