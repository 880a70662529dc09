"""A chain of versions is the model, to the bit; what is damaged or missing is refused by name."""

import json
import shutil
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from versions import changed, files, model, same

from louder.errors import InputError
from louder.publishing import Keeping, current_version, publish, roll_back, state_of_run
from louder.publishing.chain import chain_of, deltas_from, numbers, read_version, refusals, state_of
from louder.publishing.changes import applied, changes_between, merged, read_changes
from louder.publishing.publish import as_rows

LONG = Keeping(longest=100, share=100.0, versions=100)


def put(folder, *states, keeping=LONG):
    return [publish(folder, state, keeping=keeping).version for state in states]


def test_the_first_version_is_whole_and_the_next_holds_the_rows_that_changed(tmp_path):
    first = model()
    second = changed(first, rows=[3, 17], raws={5: None})
    base, delta = put(tmp_path, first, second)
    assert (base.kind, base.number, base.parent) == ("base", 1, None)
    assert (delta.kind, delta.parent) == ("delta", (1, base.hash))
    assert delta.facts["rows"] == {"events.items.weight": [2, 40]}
    assert (delta.facts["left"], delta.facts["entered"]) == ({"item": 1}, {"item": 0})
    changes = read_changes(delta.folder)
    assert changes.rows["events.items.weight"].rows.tolist() == [3, 17] and not changes.whole
    assert (changes.raws["item"].rows.tolist(), changes.raws["item"].raws.to_pylist()) == ([5], [None])
    assert same(state_of(base), first) and same(state_of(delta), second)
    assert current_version(tmp_path) == delta


def test_a_table_grows_and_a_number_gets_another_owner(tmp_path):
    first = model()
    gone = changed(first, raws={5: None})
    again = changed(gone, rows=[5], raws={5: 777}, items=44)
    versions = put(tmp_path, first, gone, again)
    assert versions[-1].facts["entered"] == {"item": 5}
    assert same(state_of(versions[-1]), again)
    assert state_of(versions[-1]).raws["item"][5].as_py() == 777


def test_bits_are_kept_and_compared(tmp_path):
    first = model()
    first.weights["layers.0.bias"][:] = torch.tensor([0.0, -0.0, torch.inf, 1e-42])
    second = changed(first)
    second.weights["layers.0.bias"][0] = -0.0  # equal, and yet another number
    changes = changes_between(first, second)
    assert list(changes.whole) == ["layers.0.bias"] and not changes.rows
    first.weights["layers.0.bias"][0] = second.weights["layers.0.bias"][0] = torch.nan
    assert not changes_between(first, second).whole  # and NaN is itself
    for state, zero in ((first, 0.0), (second, -0.0)):
        state.weights["events.items.weight"][3] = zero
    assert changes_between(first, second).rows["events.items.weight"].rows.tolist() == [3]


def test_new_numbers_may_be_nobodys():
    first = model()
    second = changed(first, items=42, raws={40: None, 41: None})
    named = changes_between(first, second).raws["item"]
    assert (named.rows.tolist(), named.raws.to_pylist(), named.size) == ([40, 41], [None, None], 42)
    assert same(applied(first, changes_between(first, second)), second)


STEPS = st.lists(
    st.tuples(
        st.sets(st.integers(0, 39), max_size=25),
        st.floats(-4, 4),
        st.sampled_from([0.0, 0.5]),
        st.dictionaries(st.integers(0, 39), st.one_of(st.none(), st.integers(2000, 2050)), max_size=3),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_any_chain_equals_the_model(steps):
    states = [model()]
    for number, (rows, by, dense, raws, grown) in enumerate(steps):
        fresh = {n: raw if raw is None else raw + 100 * number for n, raw in raws.items()}
        items = len(states[-1].raws["item"]) + grown
        states.append(changed(states[-1], rows, by, dense, fresh, items, progress={"step": number}))
    with tempfile.TemporaryDirectory() as place:
        versions = put(Path(place), *states)
        for version, state in zip(versions, states):
            assert same(state_of(version), state)
        if deltas := deltas_from(versions[0].hash, versions[-1]):
            parts = [read_changes(version.folder) for version in deltas]
            together = parts[0]
            for part in parts[1:]:
                together = merged(together, part)
            start = state_of(versions[0])
            assert same(applied(start, together), states[-1])
            assert same(applied(applied(start, together), together), states[-1])  # twice is harmless


def test_touched_rows_are_taken_at_their_word_only_since_the_served_version(tmp_path):
    first = model()
    (base,) = put(tmp_path, first)
    second = changed(first, rows=[1, 2])
    touched = {"events.items.weight": torch.tensor([2, 9, 2])}
    delta = publish(tmp_path, second, touched=touched, since=base.hash, keeping=LONG).version
    assert delta.facts["rows"]["events.items.weight"] == [2, 40]
    found = state_of(delta).weights["events.items.weight"]
    assert torch.equal(found[2], second.weights["events.items.weight"][2])
    assert torch.equal(found[1], first.weights["events.items.weight"][1])  # nobody said so
    last = publish(tmp_path, second, touched=touched, since=base.hash, keeping=LONG).version
    assert same(state_of(last), second)  # since another version than the served one: compared


def test_a_whole_model_is_written_when_the_chain_is_long_or_large(tmp_path):
    states = [model()]
    for number in range(6):
        states.append(changed(states[-1], rows=[number]))
    versions = put(tmp_path / "long", *states, keeping=Keeping(longest=2, share=9.0))
    assert [x.kind for x in versions] == ["base", "delta", "delta", "base", "delta", "delta", "base"]
    assert all(b.parent == (a.number, a.hash) for a, b in pairwise(versions))
    big = changed(states[0], rows=range(30))
    assert put(tmp_path / "large", states[0], big, keeping=Keeping(share=0.1))[1].kind == "base"
    other = model(config={"model": {"kind": "sasrec"}})
    assert put(tmp_path / "other", states[0], other)[1].facts["note"] == "the model is another"


def test_old_versions_go_and_what_the_kept_are_made_from_stays(tmp_path):
    states = [model()]
    for number in range(7):
        states.append(changed(states[-1], rows=[number]))
    versions = put(tmp_path, *states, keeping=Keeping(longest=3, share=9.0, versions=2))
    assert [x.kind for x in versions] == ["base", *["delta"] * 3, "base", *["delta"] * 3]
    assert numbers(tmp_path) == [5, 6, 7, 8]
    assert same(state_of(current_version(tmp_path)), states[-1])


def test_a_rollback_is_the_version_before_and_the_next_goes_on_from_there(tmp_path):
    first = model()
    states = [first, changed(first, rows=[1]), changed(first, rows=[1, 2])]
    base, second, third = put(tmp_path, *states)
    assert roll_back(tmp_path) == second == current_version(tmp_path)
    assert same(state_of(current_version(tmp_path)), states[1])
    new = publish(tmp_path, changed(first, rows=[9]), keeping=LONG).version
    assert (new.number, new.parent) == (4, (2, second.hash))
    assert roll_back(tmp_path, 3) == third  # also forwards
    assert roll_back(tmp_path, 1) == base
    with pytest.raises(
        InputError, match=r"Nothing was served before version 1\. Look what there is: louder publish --in"
    ):
        roll_back(tmp_path)
    with pytest.raises(InputError, match=r"has no version 9\. Look what there is"):
        roll_back(tmp_path, 9)
    assert [(x["number"], x["served"]) for x in refusals(tmp_path)] == [(3, 2), (4, 3), (3, 1)]
    assert [(row["version"], row["served"]) for row in as_rows(tmp_path)] == [
        (1, True),
        (2, False),
        (3, False),
        (4, False),
    ]


def damage(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["changes.safetensors", "state.json"])
def test_a_damaged_file_is_refused_by_its_checksum_and_the_next_version_is_whole(tmp_path, name):
    first = model()
    put(tmp_path, first, changed(first, rows=[1]))
    damage(current_version(tmp_path).folder / name)
    with pytest.raises(InputError, match=rf"{name} is damaged: its checksum is another than when it was published"):
        state_of(current_version(tmp_path))
    new = publish(tmp_path, changed(first, rows=[1, 2]), keeping=LONG).version
    assert new.kind == "base" and "checksum" in new.facts["note"]
    assert same(state_of(new), changed(first, rows=[1, 2]))


def test_a_wrong_parent_and_a_gap_are_told_by_name(tmp_path):
    first = model()
    base, second, third = put(tmp_path, first, changed(first, rows=[1]), changed(first, rows=[2]))
    assert deltas_from(base.hash, third) == [second, third]
    assert deltas_from(third.hash, third) == []
    assert deltas_from("of nobody", third) is None
    text = (second.folder / "version.json").read_text()
    (second.folder / "version.json").write_text(text.replace('"note": ""', '"note": "x"'))
    with pytest.raises(
        InputError, match=r"Version 3 goes on from 2 \(\w{8}\), but the version 2 that is there is another"
    ):
        chain_of(third)
    shutil.rmtree(second.folder)
    with pytest.raises(InputError, match="has no version 2"):
        chain_of(third)
    pointer = tmp_path / "current.json"
    pointer.write_text(json.dumps({"number": 3, "hash": base.hash}))
    with pytest.raises(InputError, match="is not what was published"):
        current_version(tmp_path)
    pointer.write_text("{}")
    with pytest.raises(InputError, match=r"is damaged. Choose a version: louder rollback"):
        current_version(tmp_path)


def test_an_empty_folder_and_a_newer_format_are_sentences(tmp_path):
    with pytest.raises(InputError, match=r"has no version yet\. Publish one: louder publish RUN --to"):
        current_version(tmp_path)
    (version,) = put(tmp_path, model())
    file = version.folder / "version.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InputError, match=r"is of format 2, but this Louder reads 1"):
        read_version(tmp_path, 1)


def test_a_full_disk_leaves_the_chain_as_it_was(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    first = model()
    put(tmp_path, first)
    before = files(tmp_path)

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(InputError, match=r"The disk that holds .* is full"):
            publish(tmp_path, changed(first, rows=[1]), keeping=LONG)
    assert files(tmp_path) == before
    assert same(state_of(put(tmp_path, changed(first, rows=[1]))[0]), changed(first, rows=[1]))


def test_two_trainers_do_not_share_a_folder(tmp_path):
    from louder.folders import one_writer

    with one_writer(tmp_path), pytest.raises(InputError, match="is being written by process"):
        publish(tmp_path, model())


def test_attributes_travel_by_rows(tmp_path):
    first = model()
    titles = first.attributes["items"].column("title").to_pylist()
    titles[4] = "another"
    table = first.attributes["items"].set_column(0, "title", pa.array(titles))
    second = replace(first, attributes={"items": table})
    _, delta = put(tmp_path, first, second)
    assert read_changes(delta.folder).attributes["items"].column("_row").to_pylist() == [4]
    assert same(state_of(delta), second)


def test_a_run_is_a_state(tmp_path):
    from louder import checkpoint

    state = model()
    run = tmp_path / "run"
    checkpoint.save(checkpoint.step_folder(run, 1), model=dict(state.weights), optimizer={}, state=dict(state.state))
    (run / "best.json").write_text('{"checkpoint": "step-00000001"}')
    found = state_of_run(run)
    assert np.array_equal(found.weights["layers.0.bias"], state.weights["layers.0.bias"])
    with pytest.raises(InputError, match=r"is a folder of versions, and no run\. Serve it: louder serve"):
        state_of_run(put(tmp_path / "chain", state)[0].folder.parent)
