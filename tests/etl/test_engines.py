"""The protocol of engines: DuckDB's side of it, and that what is sent through it is understood elsewhere."""

from contextlib import contextmanager
from types import SimpleNamespace

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from louder.errors import InputError
from louder.etl import LogSpec, SideFile, build_table, pipeline, steps
from louder.etl.engines import RAW_POSITION
from louder.etl.engines.duckdb import default_memory, open_duckdb
from louder.etl.sources import csv, plain
from louder.etl.sources.jsonl import open_jsonl


def positions(table):
    return table.to_pyarrow().sort_by(RAW_POSITION)


def test_positions_grow_in_the_order_of_files_and_rows(engine, tmp_path):
    paths = [tmp_path / name for name in ("b.parquet", "a.parquet")]
    pq.write_table(pa.table({"x": [3, 1], 'a "name"': ["p", "q"]}), paths[0], row_group_size=1)
    pq.write_table(pa.table({"y": [9], "x": [2]}), paths[1])
    found = positions(engine.read_parquet("ordered", paths, ["x", 'a "name"']))
    assert found.column_names == ["x", 'a "name"', RAW_POSITION]
    assert found["x"].to_pylist() == [3, 1, 2]
    assert found['a "name"'].to_pylist() == ["p", "q", None]


def test_what_is_saved_stays_and_may_be_replaced(engine, in_engine):
    first = engine.save("kept", in_engine(pa.table({"x": [1, 2]})))
    assert sorted(first.to_pyarrow()["x"].to_pylist()) == [1, 2]
    second = engine.save("kept", in_engine(pa.table({"z": ["a"]})))
    assert second.to_pyarrow().to_pylist() == [{"z": "a"}]


def test_each_part_is_sorted_and_alone(engine, in_engine):
    table = in_engine(pa.table({"part": [1, 0, 1, 1], "x": [3, 5, 1, 2], "y": ["c", "e", "a", "b"]}))
    calls = engine.each_part(table, "part", 3, [table["x"]], ["y"], lambda part, rows: (part, rows.to_pylist()))
    assert list(calls) == [(0, [{"y": "e"}]), (1, [{"y": "a"}, {"y": "b"}, {"y": "c"}]), (2, [])]


SPARK_OPTIONS = SimpleNamespace(pyspark=SimpleNamespace(treat_nan_as_null=False))


class Recording:
    """An engine that keeps what is sent through it."""

    def __init__(self, engine):
        self.engine, self.seen = engine, []
        self.read_parquet, self.read_arrow = engine.read_parquet, engine.read_arrow
        self.epoch_us, self.strptime = engine.epoch_us, engine.strptime

    def save(self, name, table):
        self.seen.append(table)
        return self.engine.save(name, table)

    def each_part(self, table, column, parts, order, columns, function):
        self.seen.append(table.order_by(order))
        return self.engine.each_part(table, column, parts, order, columns, function)


@pytest.mark.parametrize("keep", [{"k_core": 2}, {"min_user_events": 2, "min_item_events": 2}])
def test_every_expression_compiles_for_spark(tmp_path, monkeypatch, keep):
    recorded = []

    @contextmanager
    def open_recording(*arguments, **options):
        with open_duckdb(*arguments, **options) as engine:
            recorded.append(Recording(engine))
            yield recorded[0]

    monkeypatch.setattr(steps, "open_duckdb", open_recording)
    rows = ["a,x,1000,s2,1,buy,3.5,Rome", "a,y,2000,s2,0,view,,Rome", "b,x,1000,,1,buy,1,Oslo", "b,y,3,s,1,buy,1,Oslo"]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,request_id,click,kind,secs,city", *rows]))
    (tmp_path / "items.csv").write_text("item_id,price\nz,5\ny,6\n")
    (tmp_path / "ages.csv").write_text("user_id,timestamp,value\na,2020-01-01,young\na,2020-01-02,old\n")
    spec = LogSpec(
        actions={"click": "click", "buy": "kind == buy", "long": "secs >= 2"},
        values={"secs": "secs"},
        series={"city": "city", "age": SideFile(file=str(tmp_path / "ages.csv"))},
        items=SideFile(file=str(tmp_path / "items.csv")),
    )
    build_table(tmp_path / "log.csv", tmp_path / "table", spec=spec, drop_duplicates=True, **keep)
    assert len(recorded[0].seen) > 12
    # which an Ibis that is connected to Spark would have set
    monkeypatch.setattr("ibis.backends.sql.compilers.pyspark.options", SPARK_OPTIONS)
    for expression in recorded[0].seen:
        sql = ibis.to_sql(expression, dialect="pyspark")
        assert "ORDER_BY" not in sql and "0x" not in sql


def test_errors_of_duckdb_are_sentences(tmp_path):
    import duckdb

    for error, words in (
        (duckdb.OutOfMemoryException("failed to allocate"), "more memory than it was given .* --memory 4GB"),
        (duckdb.IOException("IO Error: No such thing\nmore"), r"a log cannot be read: No such thing\. Check"),
        (duckdb.IOException("max_temp_directory_size"), "is full"),
    ):
        with pytest.raises(InputError, match=words), open_duckdb(tmp_path, "a log"):
            raise error
    with pytest.raises(duckdb.InternalException), open_duckdb(tmp_path, "a log"):
        raise duckdb.InternalException("a bug")


def test_memory_is_a_part_of_what_is_free():
    assert 256 << 20 <= default_memory() <= 2 << 30


def test_lines_of_json_are_texts_in_the_order_of_the_files(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"id": 1, "n": 2.5, "tags": ["x"]}\n{"id": 2}\n')
    (tmp_path / "a.jsonl").write_text('{"id": 3, "note": "007", "n": 1}\n')
    table = open_jsonl("raw", [(tmp_path / name, name) for name in ("b.jsonl", "a.jsonl")], tmp_path)
    assert table.columns == ["id", "n", "tags", "note"]
    assert table.numbers == {"id", "n"}
    stored = table.stored(["n", "id", "note"])
    assert not stored.rejected
    found = pa.concat_tables(pq.read_table(path) for path in stored.rows)
    assert found.to_pydict() == {"n": ["2.5", None, "1"], "id": ["1", "2", "3"], "note": [None, None, "007"]}


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"PAR1", "parquet"), (b' \n{"a": 1}', "jsonl"), (b"\xef\xbb\xbf{}", "jsonl"), (b"a,b", "csv"), (b"1 2", "csv")],
)
def test_the_kind_of_a_file_is_seen_in_its_first_bytes(tmp_path, content, kind):
    (tmp_path / "log").write_bytes(content)
    assert plain.kind_of(tmp_path / "log", "log") == kind


def test_a_small_log_is_worked_on_in_memory_and_a_large_one_in_a_file(tmp_path, monkeypatch):
    log = tmp_path / "log.csv"
    rows = [f"{user * 7 % 5},i{user * 11 % 9},{1_700_000_000 + user % 13},{user % 6}\n" for user in range(60)]
    log.write_text("user_id,item_id,timestamp,stars\n" + "".join(rows))
    spec, where = LogSpec(values={"stars": "stars"}, actions={"like": "stars > 3"}), []

    def opened(work, *arguments, **settings):
        where.append(settings["small"])
        return open_duckdb(work, *arguments, **settings)

    monkeypatch.setattr(steps, "open_duckdb", opened)
    for name, size, filters in ("a", 1 << 20, {}), ("b", 0, {}), ("c", 1 << 20, {"k_core": 2}), ("d", 0, {"k_core": 2}):
        monkeypatch.setattr(pipeline, "SMALL_BYTES", size)
        monkeypatch.setattr(csv, "HELD_BYTES", size)
        build_table(log, tmp_path / name, spec=spec, **filters)
    assert where == [True, False, True, False]
    for one, other in ("a", "b"), ("c", "d"):
        for file in (tmp_path / one).rglob("*.parquet"):
            assert file.read_bytes() == (tmp_path / other / file.relative_to(tmp_path / one)).read_bytes()
    assert pq.read_table(tmp_path / "a" / "sequences").num_rows == 5
