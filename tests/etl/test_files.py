"""Files, folders and archives as named files; CSV of every form."""

import zipfile

import pytest

from louder.errors import InputError
from louder.etl.files import describe, in_background, open_input
from louder.etl.sources.csv import open_csv
from louder.etl.sources.csv_form import are_numbers, guess_delimiter, has_header, unique
from louder.etl.spec import TextForm


def read(table, columns):
    stored = table.stored(columns)
    return stored.table().to_pydict(), sum(stored.rejected.values())


def written(folder, *texts):
    for index, text in enumerate(texts):
        (folder / f"{index}.csv").write_text(text)
    return [(folder / f"{index}.csv", f"{index}.csv") for index in range(len(texts))]


def test_lines_of_several_files_that_cannot_be_split_are_counted_together(tmp_path):
    table = open_csv("raw", written(tmp_path, "a,b\n1,2\n3\n4,5\n", "a,b\n6\n7,8,9\n10,11\n"), tmp_path)
    assert read(table, ["b", "a"]) == ({"b": ["2", "5", "11"], "a": ["1", "4", "10"]}, 3)
    assert table.numbers == {"a", "b"}


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::"])
def test_every_delimiter(tmp_path, delimiter):
    text = "".join(delimiter.join(row) + "\n" for row in (["1", "x y", "2.5"], ["2", "", ""], ["3", "z", "x"]))
    files = written(tmp_path, text)
    table = open_csv("raw", files, tmp_path)
    assert table.columns == ["column0", "column1", "column2"]
    assert table.numbers == {"column0"}
    found = {"column0": ["1", "2", "3"], "column1": ["x y", "", "z"], "column2": ["2.5", "", "x"]}
    assert read(table, table.columns) == (found, 0)
    named = open_csv("raw", files, tmp_path, names=["a", "b", "c"], text=TextForm(delimiter))
    assert read(named, ["c"])[0] == {"c": ["2.5", "", "x"]}


def test_heads_of_files():
    assert guess_delimiter(['"a,b,c";d'], [], "log") == ";"
    assert guess_delimiter(["alone"], [], "log") == ","
    assert unique(["a", "", " a ", "a"]) == ["a", "column1", "a_2", "a_2_2"]
    assert has_header(["user_id", "7"], ["user_id"])
    assert has_header(["who", "when"], [])
    assert not has_header(["who", "7"], [])
    assert not has_header(["who", "when"], ["column0"])
    assert are_numbers(["1", "", "-2.5e3", "NaN"])
    assert not are_numbers(["1", "x"])
    assert not are_numbers(["", "NULL"])


def test_a_file_of_an_archive_is_the_shallowest_of_its_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        for name in ("z/deep/log.csv", "b/log.csv", "a/b/c/log.csv", "other/x_log.csv", "__MACOSX/log.csv"):
            archive.writestr(name, name)
    source = open_input(tmp_path / "log.zip", tmp_path)
    assert source.find("log.csv") == "b/log.csv"
    assert source.find("og.csv") is None
    assert source.file("b/log.csv").read_text() == "b/log.csv"
    assert source.shown("b/log.csv") == f"{tmp_path / 'log.zip'}::b/log.csv"
    assert open_input(f"{tmp_path / 'log.zip'}::x_log.csv", tmp_path).member == "other/x_log.csv"


def test_hidden_files_of_a_folder_are_passed_over(tmp_path):
    for name in ("b/2.csv", "a.csv", ".hidden/1.csv", "_SUCCESS", "b/.crc"):
        (tmp_path / "log" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "log" / name).write_text(name)
    source = open_input(tmp_path / "log", tmp_path)
    assert source.names == ["a.csv", "b/2.csv"]
    assert source.shown("b/2.csv") == str(source.file("b/2.csv")) == str(tmp_path / "log" / "b/2.csv")
    assert [entry["bytes"] for entry in describe(tmp_path / "log" / "b")] == [6, 7]


def test_what_runs_in_the_background_gives_its_value_or_its_error():
    assert in_background(lambda: 7).result() == 7

    def fail():
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        in_background(fail).result()
