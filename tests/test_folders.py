"""Folders are whole or not there."""

import errno
import os
import subprocess
import sys

import pytest

from louder import folders
from louder.errors import InputError
from louder.folders import FolderKind, new_folder, one_writer, require_replaceable, write_text

KIND = FolderKind("a kind", "note.json", "mark", ("*.part", "deep/*.part"))


def everything(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def write_half(folder, mistake):
    with new_folder(folder, KIND) as temporary:
        (temporary / "half.txt").write_text("half")
        raise mistake


def test_a_folder_appears_only_when_the_block_has_ended(tmp_path):
    with new_folder(tmp_path / "deep" / "run", KIND) as temporary:
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
    with pytest.raises(InputError, match="is full"), new_folder(tmp_path / "run", KIND) as temporary:
        (temporary / "half.txt").write_text("half")
    assert everything(tmp_path) == []


def test_a_disk_too_full_for_the_folder_itself_is_the_same_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders.Path, "mkdir", full)
    with pytest.raises(InputError, match="is full"), new_folder(tmp_path / "run", KIND):
        pass


def test_another_error_of_the_system_stays_what_it_is(tmp_path):
    with pytest.raises(PermissionError), new_folder(tmp_path / "run", KIND):
        raise PermissionError(errno.EACCES, "no")
    assert everything(tmp_path) == []


def test_an_existing_folder_is_not_replaced_unasked(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match=r"run exists already\. Choose another name, or add --overwrite"):
        with new_folder(tmp_path / "run", KIND):
            pytest.fail("the block must not run")


def test_overwriting_keeps_the_old_one_until_the_end(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.json").write_text("a mark")
    with new_folder(tmp_path / "run", KIND, overwrite=True) as temporary:
        (temporary / "b.part").write_text("new")
        assert everything(tmp_path / "run") == ["note.json"]
    assert everything(tmp_path) == ["run", "run/b.part"]


def test_overwriting_that_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.json").write_text("a mark")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "run", KIND, overwrite=True):
        raise RuntimeError
    assert everything(tmp_path) == ["run", "run/note.json"]


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
    with new_folder(tmp_path / "run", KIND):
        pass
    assert not left.exists()
    assert living.exists()


def test_what_a_killed_process_had_moved_away_is_put_back_or_gone(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    moved = tmp_path / f".run[1].{dead.pid}.old"
    moved.mkdir()
    (moved / "note.json").write_text("a mark")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "run[1]", KIND):
        raise RuntimeError
    assert everything(tmp_path) == ["run[1]", "run[1]/note.json"]
    moved.mkdir()
    with new_folder(tmp_path / "run[1]", KIND, overwrite=True) as new:
        (new / "note.json").write_text("a mark, new")
    assert everything(tmp_path) == ["run[1]", "run[1]/note.json"]


def place(tmp_path, files):
    folder = tmp_path / "there"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    folder.mkdir(exist_ok=True)
    return folder


OWN = {"note.json": '{"mark": 1}', "a.part": "", "deep/b.part": ""}


@pytest.mark.parametrize(
    "files",
    [{}, OWN, {"note.json": "", "a.part": ""}, {"note.json": '{"mark'}],
    ids=["empty", "whole", "damaged", "cut short"],
)
def test_what_louder_made_is_replaced(files, tmp_path):
    folder = place(tmp_path, files)
    (folder / "empty").mkdir()
    with new_folder(folder, KIND, overwrite=True) as new:
        (new / "note.json").write_text("new")
    assert everything(tmp_path) == ["there", "there/note.json"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"thesis.txt": "precious"}, "there is not a kind, and --overwrite replaces nothing else"),
        ({"a.part": "", "deep/b.part": ""}, "is not a kind"),
        ({"note.json": '{"name": "an app of somebody"}'}, "is not a kind"),
        ({"deep/note.json": '{"mark": 1}'}, "is not a kind"),
        (OWN | {"thesis.txt": "precious"}, "there holds thesis.txt, which Louder did not write"),
        (OWN | {"deep/photo.jpg": "precious"}, "holds deep/photo.jpg"),
        (OWN | {"other/c.part": "precious"}, "holds other/c.part"),
        (OWN | {".hidden": "precious"}, "holds .hidden"),
    ],
)
def test_whatever_louder_did_not_make_is_left_alone(files, words, tmp_path):
    folder = place(tmp_path, files)
    before = everything(tmp_path)
    with (
        pytest.raises(InputError, match=rf"{words}.*another name: -o NAME\."),
        new_folder(folder, KIND, overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert everything(tmp_path) == before


def test_a_file_that_came_while_the_folder_was_made_is_kept(tmp_path):
    folder = place(tmp_path, OWN)
    with pytest.raises(InputError, match=r"holds thesis\.txt"), new_folder(folder, KIND, overwrite=True):
        (folder / "thesis.txt").write_text("precious")
    assert (folder / "thesis.txt").read_text() == "precious"
    fresh = tmp_path / "fresh"
    with pytest.raises(InputError, match="fresh exists already"), new_folder(fresh, KIND):
        fresh.mkdir()


def test_a_link_a_file_and_what_is_read_are_never_replaced(tmp_path, monkeypatch):
    folder = place(tmp_path, OWN)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("precious")
    for path, words in (("link", "is a link to"), ("file", "is a file, and not a kind")):
        with pytest.raises(InputError, match=words), new_folder(tmp_path / path, KIND, overwrite=True):
            pytest.fail("the block must not run")
    for needed in (folder, folder / "deep" / "b.part", tmp_path / "link" / "a.part"):
        with pytest.raises(InputError, match="which this command reads"):
            require_replaceable(folder, KIND, [needed])
    require_replaceable(folder, KIND, [tmp_path / "there2", tmp_path])
    (folder / "a.part").unlink()
    (folder / "a.part").symlink_to(tmp_path / "file")
    with new_folder(folder, KIND, overwrite=True):
        pass
    assert (tmp_path / "file").read_text() == "precious"
    monkeypatch.chdir(place(tmp_path, OWN) / "deep")
    for path in (folder, ".", "..", folder / "deep" / ".."):
        with pytest.raises(InputError, match="where this command runs"):
            require_replaceable(path if isinstance(path, type(folder)) else folder.__class__(path), KIND)


@pytest.mark.parametrize("path", ["file/run", "file/deep/run"])
def test_a_place_where_nothing_can_be_made_is_told(path, tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"run cannot be made \(.*\)\. Choose another place with -o"):
        with new_folder(tmp_path / path, KIND):
            pytest.fail("the block must not run")


def test_one_process_writes_at_a_time(tmp_path):
    script = "import sys; from pathlib import Path; from louder.folders import one_writer\n"
    script += "with one_writer(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "mine\n"
    with pytest.raises(InputError, match=rf"is being written by process {other.pid}\. Wait"), one_writer(tmp_path):
        pytest.fail("the block must not run")
    other.kill()
    other.communicate()
    with one_writer(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
        with pytest.raises(InputError, match=f"process {os.getpid()}"), one_writer(tmp_path):
            pytest.fail("the block must not run")
    assert everything(tmp_path) == []
