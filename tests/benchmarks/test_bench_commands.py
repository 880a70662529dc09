import json

import pytest
from typer.testing import CliRunner

from benchmarks import etl
from benchmarks.commands import app, main
from benchmarks.page import write_page
from benchmarks.rows import read
from louder.cli import app as louder
from louder.errors import InputError
from louder.results import read_rows


def bench(*words: str):
    return CliRunner().invoke(app, words)


ATTENTION = "attention", "--kind", "zipf", "--length", "16", "--length", "32", "--tokens", "64", "--width", "8"
OTHERS = [
    ("layer", "--length", "16", "--tokens", "32", "--width", "16", "--heads", "2"),
    ("step", "--recipe", "ml1m:hstu", "--users", "2"),
    ("encoder", "--length", "16", "--tokens", "32", "--layers", "1"),
]


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    for words in [ATTENTION, *OTHERS]:
        done = bench(*words, "--repeats", "1", "--threads", "1", "--json", str(file))
        assert done.exit_code == 0, done.output
    return file


def test_rows_are_appended_with_what_made_them(rows_file):
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    assert {row["bench"] for row in rows} == {"attention", "layer", "step", "encoder"}
    for row in rows:
        assert {"case", "implementation", "median_s", "peak_bytes", "command", "commit", "machine", "date"} <= set(row)


def test_a_case_measured_again_stands_once_with_its_latest_numbers(rows_file, tmp_path):
    rows = read(rows_file)
    again = tmp_path / "again.jsonl"
    again.write_text(rows_file.read_text() + json.dumps(rows[0] | {"median_s": 123.0}) + "\n")
    assert len(read(again)) == len(rows)
    assert 123.0 in [row["median_s"] for row in read(tmp_path)]


def test_page_of_rows(rows_file, tmp_path):
    page = tmp_path / "bench.html"
    done = bench("all", "--from", str(rows_file), "-o", str(page))
    assert done.exit_code == 0, done.output
    text = page.read_text()
    for words in "Attention", "One layer", "Training step", "Encoder", "louder, padding", "N = 32", "speed ×":
        assert words in text
    assert "http" not in text.split("<body>")[1].split("<script>")[0]


def test_page_says_what_was_left_out(rows_file, tmp_path):
    rows = read(rows_file)
    left_out = {key: value for key, value in rows[0].items() if not key.endswith("_s")}
    rows.append(left_out | {"implementation": "huge", "skipped": "would need about 99.0 GiB of memory"})
    write_page(rows, tmp_path / "bench.html")
    assert "Not measured: huge; it would need about 99.0 GiB of memory." in (tmp_path / "bench.html").read_text()


def test_page_without_the_reference_of_a_case(rows_file, tmp_path):
    rows = [row for row in read(rows_file) if row["implementation"] != "transformer"]
    write_page(rows, tmp_path / "bench.html")
    assert "Encoder" in (tmp_path / "bench.html").read_text()
    done = bench("encoder", *OTHERS[2][1:], "--memory", "1e-6", "--repeats", "1")
    assert done.exit_code == 0, done.output
    assert "Not measured: transformer" in done.output


def test_every_index_has_a_row_for_one_query_and_for_many(tmp_path):
    done = bench("index", "--items", "500", "--repeats", "2", "--threads", "1", "--json", str(tmp_path / "rows.jsonl"))
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["implementation"] for row in rows] == ["exact", "ivf", "hnsw"] * 2
    assert [row["recall@100"] for row in rows if row["implementation"] == "exact"] == [1.0, 1.0]
    for row in rows:
        assert row["recall@100"] > 0.9 and row["runs"] == 2 and row["index_bytes"] >= 500 * 64 * 4
        assert 0 < row["min_s"] <= row["median_s"] <= row["p99_s"] <= row["max_s"]


def test_mistakes_are_told(tmp_path):
    assert "no kind 'zipff'" in str(bench("attention", "--kind", "zipff").exception)
    assert "no recipe 'demo'" in str(bench("step", "--recipe", "demo").exception)
    assert "Pass one: --table" in str(bench("step", "--epoch").exception)
    assert "no kind 'tree'" in str(bench("index", "--kind", "tree").exception)
    assert "--dtype" in str(bench("layer", "--dtype", "int8").exception)
    assert "multiple of --heads" in str(bench("layer", "--width", "30").exception)
    with pytest.raises(InputError, match="no rows of a benchmark"):
        read(tmp_path)
    with pytest.raises(InputError, match="no file or folder"):
        read(tmp_path / "nothing")


def test_rows_of_the_etl_beside_pandas(tmp_path):
    flags = ["--ratings", "2000", "--events", "0", "--repeats", "1"]
    done = bench("etl", *flags, "--json", str(tmp_path / "rows.jsonl"))
    assert done.exit_code == 0, done.output
    assert "times as fast" in done.output
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row["implementation"] for row in rows] == ["louder", "pandas"]
    assert all(row["median_s"] > 0 and row["peak_bytes"] > 1 << 20 and row["bench"] == "etl" for row in rows)


def test_generated_logs_are_measured(tmp_path):
    row = etl.generated(3000, tmp_path, "csv", repeats=1)
    assert row["runs"] == 1
    assert (tmp_path / "table" / "manifest.json").is_file()


def test_a_mistake_is_one_sentence_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "attention", "--dtype", "int8"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "benchmarks: --dtype is 'int8', but it must be float32 or bfloat16.\n"


@pytest.mark.parametrize("words", [[], ["attention", "--dtype", "bfloat16"], ["--help"]])
def test_the_command_of_old_says_where_the_benchmarks_are(words):
    assert "python -m benchmarks in a checkout" in str(CliRunner().invoke(louder, ["bench", *words]).exception)
