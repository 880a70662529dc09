"""Killed anywhere, or out of disk, a stream ends with the bits of one that was not."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import untrained_run
from tables import random_users, tiny_config, write_table

from louder import checkpoint
from louder.errors import InputError
from louder.folders import one_writer
from louder.online import folder as folders
from tests.online import killed_stream
from tests.online.streams import arrivals, learnt, require_equal, rows, write_log


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run, a log, and what a stream from one through the other ends with."""
    place = tmp_path_factory.mktemp("kills")
    users = random_users(20, items=15, longest=12, actions=2)
    table = write_table(place / "t", users, items=15, actions=["like", "share"])
    run = untrained_run(tiny_config(table), place / "run")
    log = write_log(place / "log", arrivals(users, start=1_700_200_800))
    learnt(run, log, place / "whole")
    return run, log, place / "whole"


def test_killed_at_random_moments(begun, tmp_path):
    run, log, whole = begun
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests"), *sys.path])
    done = subprocess.run(
        [sys.executable, killed_stream.__file__, str(run), str(log), str(tmp_path / "s"), "12", "1.0"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5  # kills
    require_equal(whole, tmp_path / "s")


@pytest.mark.parametrize("at", ["write_cut", "save", "point"])
def test_stopped_between_what_is_written(begun, tmp_path, monkeypatch, at):
    """Before the third time that this is called; each leaves another mixture of old and new on the disk."""
    run, log, whole = begun
    where = sys.modules["louder.online.stream"] if at == "write_cut" else folders
    real, calls = getattr(where, at), 0

    def stopped(*given, **named):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(where, at, stopped)
        with pytest.raises(KeyboardInterrupt):
            learnt(run, log, tmp_path / "s")
    learnt(run, log, tmp_path / "s")
    require_equal(whole, tmp_path / "s")


def test_a_window_that_was_cut_is_cut_there_again(begun, tmp_path, monkeypatch):
    """Also where what came since would cut it elsewhere: the cut on the disk counts, and not what is read now."""
    run, log, whole = begun
    learnt(run, log, tmp_path / "s", windows=2)
    cut = folders.read_json(whole / "cut.json", "cut", dict, "")
    assert cut["window"] == rows(whole)[-1]["window"] and cut["ends"]
    state = checkpoint.load_state(checkpoint.latest(tmp_path / "s"))
    (tmp_path / "s" / "cut.json").write_text(
        (whole / "cut.json").read_text().replace(f'"window": {cut["window"]}', '"window": 3')
    )
    row = learnt(run, log, tmp_path / "s", windows=1)
    assert row["offsets"] == cut["offsets"] != state["stream"]["position"]["offsets"] and row["upto"] == cut["upto"]


def test_a_full_disk_stops_it_with_a_sentence_and_loses_nothing(begun, tmp_path, monkeypatch):
    run, log, whole = begun
    real, calls = checkpoint.save, 0

    def full(*given, **named):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(InputError, match="is full"):
            learnt(run, log, tmp_path / "s")
    assert checkpoint.latest(tmp_path / "s").name == "step-00000002"
    learnt(run, log, tmp_path / "s")
    require_equal(whole, tmp_path / "s")


def test_two_trainers_on_one_folder(begun, tmp_path):
    run, log, _ = begun
    learnt(run, log, tmp_path / "s", windows=1)
    with one_writer(tmp_path / "s"), pytest.raises(InputError, match=f"being written by process {os.getpid()}"):
        learnt(run, log, tmp_path / "s")
