"""Whatever is wrong with the input gets one sentence, and leaves nothing behind."""

import errno
import gzip
import json
import subprocess
import sys
import tarfile
import time
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from louder.errors import InputError
from louder.etl import LogSpec, SideFile, build_table, read_spec, steps
from louder.etl.spec import Rule
from louder.schema import Manifest

HEADER = "user_id,item_id,timestamp\n"


@pytest.fixture
def refused(tmp_path):
    """Build from a file with this content, and check the sentence and that nothing is left."""

    def check(content, *words, name="log.csv", spec=None, **options):
        if content is not None:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        before = sorted(entry.name for entry in tmp_path.iterdir())
        with pytest.raises(InputError) as caught:
            build_table(tmp_path / name, tmp_path / "table", spec=spec, **options)
        sentence = str(caught.value)
        for word in words:
            assert word in sentence, sentence
        assert "\n" not in sentence
        assert sentence.endswith((".", "'"))
        assert sorted(entry.name for entry in tmp_path.iterdir()) == before
        return sentence

    return check


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


GOOD = pa.table({"user_id": [1, 2], "item_id": [3, 4], "timestamp": [5, 6]})


def test_a_file_that_is_not_there(refused):
    refused(None, "There is no file or folder", "louder etl SOURCE")


@pytest.mark.parametrize("content", ["", "\n\n", HEADER, "\ufeff"])
def test_an_empty_file(refused, content):
    refused(content, "log.csv is empty", "at least one event")


def test_an_empty_parquet_jsonl_zip_folder(refused, tmp_path):
    refused(parquet(GOOD.slice(0, 0)), "is empty", name="log.parquet")
    refused(gzip.compress(b""), "is empty", name="log.csv.gz")
    (tmp_path / "folder").mkdir()
    refused(None, "folder", "is empty", name="folder")


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.jsonl"])
def test_a_missing_column(refused, name):
    content = {
        "log.csv": "user_id,item_id,when\n1,2,3\n",
        "log.parquet": parquet(GOOD.rename_columns(["user_id", "item_id", "when"])),
        "log.jsonl": '{"user_id": 1, "item_id": 2, "when": 3}\n',
    }[name]
    refused(content, "has no column 'timestamp'", "user_id, item_id, when", "--column timestamp=NAME", name=name)


@pytest.mark.parametrize("values", [[[1, 2], [3]], [{"id": 1}, {"id": 2}]], ids=["lists", "objects"])
def test_a_column_of_lists_or_objects(refused, values):
    log = pa.table({"user_id": [1, 2], "item_id": values, "timestamp": [1_700_000_000, 1_700_000_001]})
    lines = "".join(json.dumps(row) + "\n" for row in log.to_pylist())
    for name, content in {"log.parquet": parquet(log), "log.jsonl": lines}.items():
        refused(content, "The column 'item_id'", "holds lists or objects", "--column item_id=NAME", name=name)


def test_a_log_of_one_column_is_asked_what_is_between(refused):
    refused(HEADER.replace(",", "^") + "1^2^1700000000\n", "has no column 'user_id'", "--delimiter ';'")


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
def test_an_absent_number_is_absent_also_where_statistics_of_parquet_leave_it_out(tmp_path, sequences, kind):
    absent = float("nan")
    table = {
        "user_id": pa.array([1, 2, absent, 3, 4], kind),
        "item_id": pa.array([5, absent, 6, 7, 8], kind),
        "timestamp": pa.array([1_600_000_000, 1_600_000_000, 1_600_000_000, absent, 1_600_000_000], pa.float64()),
    }
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    manifest = build_table(tmp_path / "log.parquet", tmp_path / "table")
    assert manifest.dropped == {"user_id missing": 1, "item_id missing": 1, "timestamp missing": 1}
    assert set(sequences(tmp_path / "table")) == {1, 4}


def test_a_column_that_was_named_wrongly(refused):
    refused(HEADER + "1,2,3\n", "has no column 'ts'", spec=LogSpec(columns={"timestamp": "ts"}))
    refused(HEADER + "1,2,3\n", "has no column 'is_click'", spec=LogSpec(actions={"click": "is_click"}))


def test_times_in_another_unit(refused):
    now = int(time.time())
    refused(HEADER + f"1,2,{now * 1000}\n", "look like milliseconds", "--time-unit ms", "after the year 2100")
    refused(HEADER + f"1,2,{now * 10**6}\n", "look like microseconds", "--time-unit us")
    refused(HEADER + f"1,2,{now * 10**9}\n", "look like nanoseconds", "--time-unit ns")
    refused(parquet(GOOD.set_column(2, "timestamp", pa.array([now * 1000] * 2))), "milliseconds", name="log.parquet")


def test_times_that_are_all_in_the_future(refused):
    refused(HEADER + f"1,2,{int(time.time()) + 10**8}\n", "lie in the future", "--time-unit")
    refused(HEADER + "1,2,2999-01-01\n", "lie in the future", "2999-01-01")


def test_rows_that_cannot_be_used_are_dropped_and_counted(tmp_path):
    good = "".join(f"{n},{n},{n}\n" for n in range(1000))
    bad = "-1,2,3\n1,,3\n1,x,3\n1,2,soon\n1,2,\n1,2,-5\n1,2,9999999999\n,,\n1,2\n1,2,3,4\n"
    (tmp_path / "log.csv").write_text(HEADER + good + bad)
    manifest = build_table(tmp_path / "log.csv", tmp_path / "table", spec=LogSpec(ids="integer"))
    assert manifest.dropped == {
        "line with another number of columns": 2,
        "user_id missing": 1,
        "item_id missing": 1,
        "item_id not an integer": 1,
        "timestamp missing": 1,
        "timestamp not readable": 1,
        "timestamp before 1970": 1,
        "timestamp in the future": 1,
    }
    assert manifest.counts["rows read"] == 1010
    assert manifest.counts["users with one event"] == 1001


def test_ids_that_only_look_like_integers_at_first(tmp_path, sequences):
    (tmp_path / "log.csv").write_text(HEADER + "".join(f"{n},{n},1\n" for n in range(21_000)) + "a,1,1\n" * 2000)
    manifest = build_table(tmp_path / "log.csv", tmp_path / "table")
    assert manifest.events == 23_000
    assert len(sequences(tmp_path / "table")["a"]) == 2000


def test_no_row_can_be_used(refused):
    refused(HEADER + "1,2,soon\n", "1 of the 1 times", "such as 'soon', cannot be read", "--column timestamp=NAME")
    refused(HEADER + ",2,3\n", "None of the 1 rows", "user_id missing: 1", "--column user_id=NAME")


def test_nothing_is_left_by_the_filters(refused):
    refused(HEADER + "1,2,3\n", "Nothing is left of the 1 rows", "outside the 5-core: 1", "Lower --k-core", k_core=5)
    refused(HEADER + "1,2,3\n", "Nothing is left", "user with fewer than 2 events: 1", min_user_events=2)


def test_filters_that_exclude_each_other(refused):
    refused(HEADER + "1,2,3\n", "Give one kind", k_core=5, min_user_events=2)
    refused(HEADER + "1,2,3\n", "--k-core is -1", k_core=-1)


def test_damaged_files(refused, tmp_path):
    whole = parquet(GOOD)
    refused(whole[: len(whole) // 2], "not a whole Parquet file", name="log.parquet")
    refused(b"PAR1" + b"\0" * 50 + b"PAR1", "not a whole Parquet file", name="log.parquet")
    text = (HEADER + "".join(f"{n},{n * 7919 % 1013},{n}\n" for n in range(50_000))).encode()
    with zipfile.ZipFile(tmp_path / "good.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", text)
    packed = (tmp_path / "good.zip").read_bytes()
    refused(packed[: len(packed) // 2], "not a whole zip archive", name="log.zip")
    middle = len(packed) // 2
    refused(
        packed[:middle] + bytes(b ^ 255 for b in packed[middle : middle + 20]) + packed[middle + 20 :],
        "not a whole zip",
        name="log.zip",
    )
    with tarfile.open(tmp_path / "good.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "good.zip", "good.zip")
    taped = (tmp_path / "good.tar.gz").read_bytes()
    refused(taped[: len(taped) // 2], "not a whole tar archive", name="log.tar.gz")
    refused(text, "not a whole tar archive", name="log.tar")
    with tarfile.open(tmp_path / "none.tar", "w"):
        pass
    refused(None, "holds no files", name="none.tar")
    zipped = gzip.compress(text)
    refused(zipped[: len(zipped) // 2], "log.csv.gz", name="log.csv.gz")
    refused(b"\x00\x01\x02" * 100, "in no format that is known", name="log.bin")
    refused((HEADER + "1,caf\xe9,3\n").encode("latin-1"), "not text in UTF-8")


def test_a_zip_of_several_files(refused, tmp_path):
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("a.csv", HEADER + "1,2,3\n")
        archive.writestr("b.csv", HEADER + "1,2,3\n")
    with tarfile.open(tmp_path / "log.tgz", "w:gz") as archive:
        archive.add(tmp_path / "log.zip", "a.zip")
        archive.add(tmp_path / "log.zip", "b.zip")
    refused(None, "several files (a.zip, b.zip)", "log.tgz::a.zip'", name="log.tgz")
    refused(None, "several files (a.csv, b.csv)", "log.zip::a.csv'", name="log.zip")
    with pytest.raises(InputError, match=r"has no member 'c\.csv'; it has a\.csv, b\.csv"):
        build_table(f"{tmp_path / 'log.zip'}::c.csv", tmp_path / "table")


def test_files_with_other_columns(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "1,2,3\n")
    (tmp_path / "b.csv").write_text("user_id,timestamp,item_id\n1,2,3\n")
    with pytest.raises(InputError, match="Give files with the same columns"):
        build_table([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "table")


def test_an_output_that_exists(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + "1,2,3\n")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "mine").write_text("keep")
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        build_table(tmp_path / "log.csv", tmp_path / "table")
    assert (tmp_path / "table" / "mine").read_text() == "keep"
    with pytest.raises(InputError, match="is not a sequence table, and --overwrite replaces nothing else"):
        build_table(tmp_path / "log.csv", tmp_path / "table", overwrite=True)
    assert (tmp_path / "table" / "mine").read_text() == "keep"
    build_table(tmp_path / "log.csv", tmp_path / "made")
    (tmp_path / "log.csv").write_text(HEADER)
    with pytest.raises(InputError, match="is empty"):
        build_table(tmp_path / "log.csv", tmp_path / "made", overwrite=True)
    assert Manifest.read(tmp_path / "made").events == 1


@pytest.mark.parametrize("output", ["data", ".", "data/log.csv", "data/deep"])
def test_what_is_read_is_never_replaced(output, tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    log, photo = tmp_path / "data" / "log.csv", tmp_path / "data" / "deep" / "photo.jpg"
    log.write_text(HEADER + "1,2,3\n")
    photo.write_text("precious")
    with pytest.raises(InputError, match="another name: -o NAME"):
        build_table(log, tmp_path / output, overwrite=True)
    assert (log.read_text(), photo.read_text()) == (HEADER + "1,2,3\n", "precious")


def test_a_table_whose_files_are_read_is_not_replaced(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + "1,2,3\n")
    (tmp_path / "items.csv").write_text("item_id,title\n2,Two\n")
    table = tmp_path / "t"
    build_table(tmp_path / "log.csv", table, spec=LogSpec(items=SideFile(file=str(tmp_path / "items.csv"))))
    spec = LogSpec(items=SideFile(file=str(table / "items.parquet")))
    with pytest.raises(InputError, match="which this command reads"):
        build_table(tmp_path / "log.csv", table, spec=spec, overwrite=True)
    with pytest.raises(InputError, match="which this command reads"):
        build_table(table / "sequences", table, overwrite=True)
    assert Manifest.read(table).events == 1


def test_a_full_disk(refused, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(steps, "write_table", full)
    refused(HEADER + "1,2,3\n", "is full", "-o")


def test_a_damaged_file_that_the_engine_meets(refused, monkeypatch):
    import duckdb

    def damaged(*arguments, **options):
        raise duckdb.Error("Parquet file is likely corrupted, dictionary offset out of range")

    monkeypatch.setattr(steps, "read_log", damaged)
    refused(
        HEADER + "1,2,3\n", "log.csv cannot be read: Parquet file is likely corrupted", "Check that the file is whole"
    )


def test_a_full_disk_met_by_the_engine(refused, monkeypatch):
    import duckdb

    def full(*arguments, **options):
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    monkeypatch.setattr(steps, "write_table", full)
    refused(HEADER + "1,2,3\n", "is full", "-o")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colums: {item_id: film}", ["'colums'", "Did you mean 'columns'?"]),
        ("columns: {itemid: film}", ["'itemid'", "Did you mean 'item_id'?"]),
        ("time_unit: sec", ["time_unit is 'sec'", "s, ms, us"]),
        ("items: {fil: x.csv}", ["must name a file"]),
        ("series: {city: {file: x.csv, tim: t}}", ["'tim'", "time"]),
        ("has_times: maybe", ["must be true or false"]),
        ("columns: [", ["not valid YAML"]),
        ("just text", ["must be keys with values"]),
        ("actions: {like: 'rating >> 4'}", ["rating >> 4", "not understood"]),
        ("actions: {like: 'rating >= good'}", ["only numbers have an order", "=="]),
        ("series: {item: city}", ["cannot be called 'item'"]),
        ("values: {'../x': y}", ["letters, digits"]),
    ],
)
def test_a_schema_with_a_mistake(tmp_path, text, words):
    (tmp_path / "log.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_spec(tmp_path / "log.yaml")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("is_click", Rule("is_click")),
        ("rating >= 4", Rule("rating", ">=", 4.0)),
        ("rating<2.5", Rule("rating", "<", 2.5)),
        ("kind = buy", Rule("kind", "==", "buy")),
        ("kind != 'a b'", Rule("kind", "!=", "a b")),
        ('"play time" > 3', Rule("play time", ">", 3.0)),
        ("x; DROP TABLE log", Rule("x; DROP TABLE log")),  # the name of a column, which no log has
    ],
)
def test_rules(text, rule):
    assert Rule.parse(text) == rule


def test_etl_does_not_import_torch_nor_ibis_before_the_log_is_read():
    script = """
import sys, louder.etl.pipeline
assert "ibis" not in sys.modules
import louder.etl.steps, benchmarks.etl
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
