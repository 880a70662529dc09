"""JSON lines -> Parquet, by DuckDB whatever the engine, and by one thread of it, which keeps the order of the lines."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from louder.etl.engines.duckdb import quoted, quoted_list
from louder.etl.files import head
from louder.etl.sources.source import File, RawTable

ONE_THREAD: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "preserve_insertion_order": False,
    "memory_limit": "1GiB",
}
NUMBERS = ("BIGINT", "UBIGINT", "HUGEINT", "DOUBLE")


def open_jsonl(name: str, files: Sequence[File], work: Path) -> RawTable:
    for path, _ in files:
        head(path)  # a damaged gzip gets its sentence here
    source = f"{quoted_list(path for path, _ in files)}, format = 'newline_delimited'"
    with duckdb.connect(config=ONE_THREAD) as con:
        found = con.execute(f"DESCRIBE SELECT * FROM read_json({source}, union_by_name = true)").fetchall()

    def parquet(wanted: list[str]) -> tuple[list[Path], int]:
        target = work / f"{name}.parquet"
        types = ", ".join(f"{quoted(column)}: 'VARCHAR'" for column in wanted)
        with duckdb.connect(config=ONE_THREAD) as con:
            con.execute(
                f"COPY (SELECT * FROM read_json({source}, columns = {{{types}}})) "
                f"TO {quoted(target)} (FORMAT parquet, COMPRESSION lz4_raw)"
            )
        return [target], 0

    return RawTable(name, [row[0] for row in found], {row[0] for row in found if row[1] in NUMBERS}, parquet)
