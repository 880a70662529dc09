"""Folders are whole or not there."""

import errno
import os
import subprocess
import sys

import pytest

from louder import folders
from louder.errors import InputError
from louder.folders import new_folder, write_text


def everything(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def write_half(folder, mistake):
    with new_folder(folder) as temporary:
        (temporary / "half.txt").write_text("half")
        raise mistake


def test_a_folder_appears_only_when_the_block_has_ended(tmp_path):
    with new_folder(tmp_path / "deep" / "run") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "a.txt").write_text("whole")
        assert not (tmp_path / "deep" / "run").exists()
    assert everything(tmp_path) == ["deep", "deep/run", "deep/run/inner", "deep/run/inner/a.txt"]
    assert (tmp_path / "deep" / "run" / "inner" / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("mistake", [RuntimeError, KeyboardInterrupt, InputError])
def test_an_exception_leaves_nothing(mistake, tmp_path):
    with pytest.raises(mistake):
        write_half(tmp_path / "run", mistake())
    assert everything(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(number, tmp_path):
    with pytest.raises(InputError, match=r"^The disk that holds .* is full\. Free some space"):
        write_half(tmp_path / "run", OSError(number, os.strerror(number)))
    assert everything(tmp_path) == []


def test_a_disk_that_fills_up_while_files_are_synced_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(InputError, match="is full"), new_folder(tmp_path / "run") as temporary:
        (temporary / "half.txt").write_text("half")
    assert everything(tmp_path) == []


def test_a_disk_too_full_for_the_folder_itself_is_the_same_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders.Path, "mkdir", full)
    with pytest.raises(InputError, match="is full"), new_folder(tmp_path / "run"):
        pass


def test_another_error_of_the_system_stays_what_it_is(tmp_path):
    with pytest.raises(PermissionError), new_folder(tmp_path / "run"):
        raise PermissionError(errno.EACCES, "no")
    assert everything(tmp_path) == []


def test_an_existing_folder_is_not_replaced_unasked(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match=r"run exists already\. Choose another name, or add --overwrite"):
        with new_folder(tmp_path / "run"):
            pytest.fail("the block must not run")


def test_overwriting_keeps_the_old_one_until_the_end(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.txt").write_text("old")
    with new_folder(tmp_path / "run", overwrite=True) as temporary:
        (temporary / "new.txt").write_text("new")
        assert everything(tmp_path / "run") == ["old.txt"]
    assert everything(tmp_path) == ["run", "run/new.txt"]


def test_overwriting_that_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "run", overwrite=True):
        raise RuntimeError
    assert everything(tmp_path) == ["run", "run/old.txt"]


def test_a_text_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "best.json"
    write_text(file, "one")
    write_text(file, "two")
    assert file.read_text() == "two"
    assert everything(tmp_path) == ["best.json"]


def test_a_text_that_does_not_fit_the_disk_leaves_the_old_text_alone(tmp_path, monkeypatch):
    file = tmp_path / "best.json"
    write_text(file, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(InputError, match="is full"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert everything(tmp_path) == ["best.json"]


def test_what_a_killed_process_left_is_swept_away_but_not_what_a_living_one_writes(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, living = tmp_path / f".run.{dead.pid}.tmp", tmp_path / f".run.{os.getppid()}.tmp"
    left.mkdir()
    living.mkdir()
    with new_folder(tmp_path / "run"):
        pass
    assert not left.exists()
    assert living.exists()
