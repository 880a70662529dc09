"""The command `louder etl`."""

import json
import re

import pytest


@pytest.fixture
def louder(monkeypatch, capfd):
    """Run the command line in this process: (exit code, standard output, standard error)."""
    from louder.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["louder", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return (caught.value.code or 0, *capfd.readouterr())

    return run


def test_flags_say_what_the_columns_mean(louder, tmp_path, sequences):
    (tmp_path / "log.csv").write_text("who,what,ts,stars,secs,n,page\na,x,2000,5,1.5,0,home\na,y,1000,2,2.5,,0\n")
    flags = ["--column", "user_id=who", "--column", "item_id=what", "--column", "timestamp=ts"]
    flags += ["--time-unit", "ms", "--value", "watch=secs"]
    code, out, err = louder(
        "etl", tmp_path / "log.csv", "-o", tmp_path / "table", *flags, "--action", "like=stars >= 4", "--json"
    )
    assert code == 0
    manifest = json.loads(out)
    assert manifest["actions"] == ["like"]
    assert sequences(tmp_path / "table") == {"a": [(0, "y", 1, 0, 2.5), (0, "x", 2, 1, 1.5)]}
    assert (manifest["left_out"], manifest["left_out_numbers"]) == (["n", "page"], ["n"])
    assert "Numerical columns and counters have no place in a sequence" in err
    assert "--value NAME=COLUMN): n.\n" in err
    assert "Columns of the log that are not used: page.\n" in err


def test_what_was_dropped_is_printed(louder, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,2,3\n1,,3\n")
    code, _, err = louder("etl", tmp_path / "log.csv", "-o", tmp_path / "table")
    assert code == 0
    assert re.search(r"dropped: item_id missing\W+1\b", err)


def test_a_mistake_is_one_line_and_exit_code_2(louder, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,when\n1,2,3\n")
    code, out, err = louder("etl", tmp_path / "log.csv", "-o", tmp_path / "table")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("louder: ")
    assert "has no column 'timestamp'" in err
    assert "Traceback" not in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--column", "timestamp"], "--column timestamp=ts"),
        (["--memory", "lots"], "such as 4GB"),
        (["--memory", "4"], "64MB"),
    ],
)
def test_a_flag_with_a_mistake(louder, tmp_path, flags, words):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,2,3\n")
    code, _, err = louder("etl", tmp_path / "log.csv", "-o", tmp_path / "table", *flags)
    assert code == 2
    assert words in err


def test_help_shows_examples(louder):
    code, out, _ = louder("etl", "--help")
    assert code == 0
    assert "louder etl ml-1m.zip -o tables/ml-1m" in out
