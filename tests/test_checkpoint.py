"""A checkpoint is whole or refused."""

import errno
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder import checkpoint
from louder.errors import InputError

MODEL = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}
OPTIMIZER = {"weight.exp_avg": torch.full((2, 3), 0.5), "weight.step": torch.tensor(3.0)}


@pytest.fixture
def folder(tmp_path):
    beside = tmp_path / "run"
    (beside / "vocabulary").mkdir(parents=True)
    (beside / "vocabulary" / "item.parquet").write_bytes(b"items")
    (beside / "items.parquet").write_bytes(b"titles")
    (beside / "users.parquet").write_bytes(b"ages")
    folder = checkpoint.step_folder(beside, 7)
    checkpoint.save(folder, model=MODEL, optimizer=OPTIMIZER, state={"progress": {"step": 7}}, beside=beside)
    return folder


def test_whoever_may_read_new_files_may_read_the_weights(folder):
    (folder / "new").touch()
    for name in "model", "optimizer":
        assert (folder / f"{name}.safetensors").stat().st_mode == (folder / "new").stat().st_mode


def test_what_is_saved_comes_back(folder):
    assert folder.name == "step-00000007"
    assert checkpoint.load_state(folder)["progress"] == {"step": 7}
    for name, saved in ("model", MODEL), ("optimizer", OPTIMIZER):
        found = checkpoint.load_tensors(folder, name)
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[key], saved[key]) for key in saved)
    assert (folder / "vocabulary" / "item.parquet").read_bytes() == b"items"
    assert (folder / "items.parquet").read_bytes() == b"titles"
    assert (folder / "users.parquet").read_bytes() == b"ages"


def test_nothing_in_a_checkpoint_is_pickled(folder):
    kinds = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert kinds == {".safetensors", ".json", ".parquet"}


def test_the_latest_checkpoint_is_the_one_of_the_highest_step(folder):
    run = folder.parents[1]
    for step in 12, 9:
        checkpoint.save(checkpoint.step_folder(run, step), model=MODEL, optimizer={}, state={})
    assert checkpoint.latest(run) == checkpoint.step_folder(run, 12)
    assert checkpoint.latest(run / "nothing") is None


@pytest.mark.parametrize("name", ["model", "optimizer"])
@settings(max_examples=20)
@given(share=st.floats(0, 1, exclude_max=True))
def test_tensors_cut_short_anywhere_are_refused(tmp_path_factory, name, share):
    folder = tmp_path_factory.mktemp("cut") / "checkpoint"
    checkpoint.save(folder, model=MODEL, optimizer=OPTIMIZER, state={})
    file = folder / f"{name}.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=f"{name}.safetensors is missing, cut short or damaged"):
        checkpoint.load_tensors(folder, name)


@settings(max_examples=20)
@given(share=st.floats(0, 0.99))
def test_a_state_cut_short_anywhere_is_refused(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut") / "checkpoint"
    checkpoint.save(folder, model={}, optimizer={}, state={"progress": {"step": 7}})
    text = (folder / "state.json").read_text().strip()
    (folder / "state.json").write_text(text[: int(len(text) * share)])
    with pytest.raises(InputError, match=r"state.json is missing, cut short or damaged"):
        checkpoint.load_state(folder)


def test_missing_files_are_refused(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="missing, cut short or damaged"):
        checkpoint.load_tensors(folder, "model")
    with pytest.raises(InputError, match=r"is not a checkpoint: it has no state\.json"):
        checkpoint.load_state(tmp_path)


def test_another_format_is_told(folder):
    values = checkpoint.load_state(folder) | {"format_version": 99}
    (folder / "state.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="is a checkpoint of format 99, but this Louder reads format 1"):
        checkpoint.load_state(folder)


def test_weights_of_another_model_are_told(folder):
    with pytest.raises(InputError, match="do not fit the model of its config"):
        checkpoint.load_model(torch.nn.Linear(4, 2), folder)


def test_a_full_disk_keeps_the_checkpoint_that_was_there(folder, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InputError, match=r"The disk that holds .* is full"):
        checkpoint.save(folder, model={}, optimizer={}, state={})
    assert checkpoint.load_tensors(folder, "model").keys() == MODEL.keys()
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]


def test_files_are_copied_where_links_are_not_possible(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    (tmp_path / "a").write_text("content")
    checkpoint.link_or_copy(tmp_path / "a", tmp_path / "deep" / "b")
    assert (tmp_path / "deep" / "b").read_text() == "content"


def test_the_best_checkpoint_is_the_one_that_is_named(folder):
    run = folder.parents[1]
    (run / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"has no best checkpoint yet\. Finish its training"):
        checkpoint.best(run)
    (run / "best.json").write_text(json.dumps({"checkpoint": folder.name}))
    assert checkpoint.best(run) == folder
    for damage in "", "{}", "[]", "5":
        (run / "best.json").write_text(damage)
        with pytest.raises(InputError, match=r"best\.json is damaged"):
            checkpoint.best(run)
    with pytest.raises(InputError, match="There is no run"):
        checkpoint.best(run / "none")
