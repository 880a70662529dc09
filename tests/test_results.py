"""Results are rows."""

import importlib.machinery
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from louder.errors import InputError
from louder.results import append_row, commit, program, provenance, read_rows


def test_rows_come_back_in_order(tmp_path):
    file = tmp_path / "results" / "ml1m.jsonl"
    rows = [{"hr@10": 0.3, "run": "ä"}, {"hr@10": 0.1, "by_length": [{"users": 2}]}]
    for row in rows:
        append_row(file, row)
    assert read_rows(file) == rows
    assert len(file.read_text().splitlines()) == 2


def test_a_last_row_cut_short_by_a_crash_is_left_out(tmp_path):
    file = tmp_path / "log.jsonl"
    append_row(file, {"step": 1})
    with open(file, "a") as stream:
        stream.write('{"step": 2, "lo')
    assert read_rows(file) == [{"step": 1}]


def test_a_damaged_row_before_the_last_is_told(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"Row 2 of .*log.jsonl is not JSON"):
        read_rows(tmp_path / "log.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_row_that_does_not_fit_the_disk_is_one_sentence():
    with pytest.raises(InputError, match=r"The disk that holds .* is full"):
        append_row("/dev/full", {"step": 1})


def test_provenance_says_what_is_needed_to_get_the_number_again():
    found = provenance()
    assert set(found) == {"command", "commit", "louder", "machine", "python", "date"}
    assert found["command"].startswith("louder")
    assert "core" in found["machine"]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("benchmarks.__main__", ["python", "-m", "benchmarks"]),
        ("experiments.ranking_search", ["python", "-m", "experiments.ranking_search"]),
        ("louder.__main__", ["louder"]),
        (None, ["louder"]),  # the installed script
    ],
)
def test_a_module_of_the_checkout_is_named_in_the_command(monkeypatch, module, words):
    main = types.ModuleType("__main__")
    main.__spec__ = module and importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr("sys.argv", ["whatever", "--json", "a b"])
    assert program() == words
    assert provenance()["command"] == " ".join([*words, "--json 'a b'"])


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository whose louder/results.py asks git."""
    import louder.results

    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in "louder/results.py", "benchmarks/some.py", "benchmarks/results/rows.jsonl", "docs/page.md":
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    monkeypatch.setattr(louder.results, "__file__", str(tmp_path / "louder" / "results.py"))
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "mark"),
    [
        ("louder/results.py", "+"),
        ("benchmarks/some.py", "+"),
        ("benchmarks/results/rows.jsonl", ""),
        ("docs/page.md", ""),
    ],
)
def test_a_commit_is_marked_where_the_code_differs_from_it(checkout, changed, mark):
    clean = commit()
    assert re.fullmatch("[0-9a-f]{10}", clean)
    (checkout / changed).write_text("changed")
    assert commit() == clean + mark


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    import louder.results

    monkeypatch.setattr(louder.results, "__file__", str(tmp_path / "louder" / "results.py"))
    assert commit() == ""


def test_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n\n{"step": 2}\n')
    assert read_rows(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}]
