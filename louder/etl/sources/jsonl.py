"""JSON -> Parquet, by DuckDB whatever the engine, and by one thread of it, which keeps the order of the lines."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from louder.etl.engines.sql import identifier, plain_paths, quoted, quoted_list
from louder.etl.files import head, partition_of
from louder.etl.sources.source import File, RawTable, Stored

ONE_THREAD: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "preserve_insertion_order": False,
    "memory_limit": "1GiB",
}
NUMBERS = ("BIGINT", "UBIGINT", "HUGEINT", "DOUBLE")


def open_jsonl(name: str, files: Sequence[File], work: Path, wanted: Iterable[str] = ()) -> RawTable:
    """Objects, one a line, or in one array. Broken lines are counted. The first lines say which columns there are; where
    one of `wanted` is not among them, all lines do."""
    heads = [head(path) for path, _ in files]  # a damaged gzip gets its sentence here
    lines = not all(start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") for start in heads)
    form = "format = 'newline_delimited', ignore_errors = true" if lines else "format = 'array'"
    paths = plain_paths([path for path, _ in files], work)
    partitions = partition_of(files[0][0])
    with duckdb.connect(config=ONE_THREAD) as con:
        for sample in (20_480, -1):
            query = f"DESCRIBE SELECT * FROM read_json({quoted_list(paths)}, {form}, union_by_name = true, sample_size = {sample})"
            found = con.execute(query).fetchall()
            if set(wanted) <= {row[0] for row in found} | set(partitions):
                break

    def parquet(chosen: list[str]) -> Stored:
        of_folders = [column for column in chosen if column in partitions and column not in columns]
        read = [column for column in chosen if column not in of_folders]
        types = ", ".join(f"{quoted(column)}: 'VARCHAR'" for column in read)
        targets, rejected = [work / f"{name}-{index}.parquet" for index in range(len(files))], 0
        with duckdb.connect(config=ONE_THREAD) as con:
            for (path, _), plain, target in zip(files, paths, targets):
                texts = [f"{quoted(partition_of(path)[column])} AS {identifier(column)}" for column in of_folders]
                select = ", ".join([*map(identifier, read), *texts])
                save(con, f"SELECT {select} FROM read_json({quoted(plain)}, {form}, columns = {{{types}}})", target)
                rejected += without_blanks(con, target, read)
        return Stored(targets, rejected={"line without any of these columns": rejected} if rejected else {})

    columns = [row[0] for row in found]
    numbers = {row[0] for row in found if row[1] in NUMBERS}
    nested = frozenset(row[0] for row in found if row[1].endswith("]") or row[1].startswith(("STRUCT(", "MAP(")))
    others = [column for column in partitions if column not in columns]
    read_as = "JSON lines" if lines else "a JSON array"
    return RawTable(name, columns + others, numbers, parquet, read_as, nested=nested)


def save(con: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    con.execute(f"COPY ({query}) TO {quoted(target)} (FORMAT parquet, COMPRESSION lz4_raw)")


def without_blanks(con: duckdb.DuckDBPyConnection, file: Path, columns: Sequence[str]) -> int:
    """Take out the rows where all columns are null, which is how a broken line is read -> how many there were."""
    nothing = " AND ".join(f"{identifier(column)} IS NULL" for column in columns)
    (blank,) = con.execute(f"SELECT count(*) FROM {quoted(file)} WHERE {nothing}").fetchall()[0]
    if blank:
        kept = file.with_suffix(".kept")
        save(con, f"SELECT * FROM {quoted(file)} WHERE NOT ({nothing})", kept)
        kept.replace(file)
    return int(blank)
