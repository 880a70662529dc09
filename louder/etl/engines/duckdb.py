"""DuckDB: opened, and kept within memory."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend

from louder.etl.engines import RAW_POSITION, EtlEngine, T
from louder.etl.engines.sql import identifier, plain_paths, quoted_list, sentences

GIB = 1 << 30


@ibis.udf.scalar.builtin(name="epoch_us")
def zoned_epoch_us(moment: dt.Timestamp(timezone="UTC")) -> dt.int64:  # type: ignore[valid-type]
    """DuckDB's own function."""


@ibis.udf.scalar.builtin(name="epoch_us")
def naive_epoch_us(moment: dt.Timestamp()) -> dt.int64:  # type: ignore[valid-type]
    """The same for a time without a zone."""


@ibis.udf.scalar.builtin(name="try_strptime")
def naive_strptime(text: dt.string, form: dt.string) -> dt.Timestamp():  # type: ignore[valid-type]
    """DuckDB's own function."""


@ibis.udf.scalar.builtin(name="try_strptime")
def zoned_strptime(text: dt.string, form: dt.string) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """The same for forms with a zone."""


@contextmanager
def open_duckdb(
    work: Path,
    source: str,
    *,
    memory_bytes: int | None = None,
    threads: int | None = None,
    small: bool = False,
) -> Iterator[EtlEngine]:
    """An engine with a database in the folder `work`, or in memory where the log is small: what is stored in a file is
    compressed, which takes longer. It spills to the folder in either case.

    What it says of the disk, of memory and of files is raised as InputError; `source` names what is read.
    """
    with sentences(source, work):
        con = ibis.duckdb.connect(
            ":memory:" if small else work / "etl.duckdb",
            threads=threads or cores(),
            memory_limit=f"{(memory_bytes or default_memory()) // (1 << 20)}MiB",
            temp_directory=str(work / "spill"),
        )
        try:
            con.raw_sql("SET TimeZone = 'UTC'")
            # in a notebook without ipywidgets there is none, and saying so would be an error
            if con.raw_sql("SELECT current_setting('enable_progress_bar')").fetchone()[0]:
                con.raw_sql("SET enable_progress_bar = false")
            # rows carry their position in the log, so tables need no order of their own
            con.raw_sql("SET preserve_insertion_order = false")
            # what is spilled or stored is deleted at the end: a log of it for crashes would only cost time
            con.raw_sql("SET checkpoint_threshold = '1GiB'")
            yield DuckDBEngine(con, work)
        finally:
            con.disconnect()


class DuckDBEngine:
    """One process. See EtlEngine."""

    def __init__(self, con: Backend, work: Path) -> None:
        self.con, self.work = con, work

    def read_parquet(self, name: str, paths: Sequence[Path], columns: Sequence[str]) -> ir.Table:
        files = f"read_parquet({quoted_list(plain_paths(paths, self.work))}, union_by_name = true)"
        return self.view(name, columns, "(file_index::BIGINT << 40) + file_row_number", files)

    def read_arrow(self, name: str, table: pa.Table) -> ir.Table:
        positions = pa.array(np.arange(len(table), dtype=np.int64))
        self.con.con.register(f"{name}_arrow", table.append_column(RAW_POSITION, positions))
        return self.view(name, table.column_names, RAW_POSITION, identifier(f"{name}_arrow"))

    def view(self, name: str, columns: Sequence[str], position: str, source: str) -> ir.Table:
        names = ", ".join(identifier(column) for column in columns)
        described = self.con.raw_sql(f"DESCRIBE SELECT {names} FROM {source}").fetchall()
        parts = [readable(identifier(column), kind, position) for column, kind, *_ in described]
        names = ", ".join(f"{part} AS {identifier(column)}" for part, column in zip(parts, columns))
        names += f", {position} AS {RAW_POSITION}"
        self.con.raw_sql(f'CREATE OR REPLACE VIEW "{name}" AS SELECT {names} FROM {source}')
        return self.con.table(name)

    def save(self, name: str, table: ir.Table) -> ir.Table:
        self.con.raw_sql(f'CREATE OR REPLACE TABLE "{name}" AS {self.con.compile(table)}')
        return self.con.table(name)

    def epoch_us(self, moment: ir.TimestampValue) -> ir.IntegerValue:
        return naive_epoch_us(moment) if moment.type().timezone is None else zoned_epoch_us(moment)

    def strptime(self, text: ir.StringValue, form: str) -> ir.TimestampValue:
        return zoned_strptime(text, form) if "%z" in form.lower() else naive_strptime(text, form)

    def each_part(
        self,
        table: ir.Table,
        column: str,
        parts: int,
        order: Sequence[ir.Value],
        columns: Sequence[str],
        function: Callable[[int, pa.Table], T],
    ) -> Iterator[T]:
        for part in range(parts):
            rows = table.filter(table[column] == part).order_by(order).select(*columns)
            yield function(part, rows.to_pyarrow())


def readable(column: str, kind: str, position: str) -> str:
    """A column in SQL, as what is asked of it later can be answered. `position` is that of a row, at least 0."""
    if kind == "TIMESTAMPTZ_NS":  # pandas writes times with a zone so, and Ibis does not know the type
        return f"{column}::TIMESTAMPTZ"
    if kind in ("DOUBLE", "FLOAT"):
        # statistics of Parquet leave NaN out, so DuckDB would take isnan for false; it knows none of an expression
        return f"CASE WHEN {position} >= 0 THEN {column} END"
    return column


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_memory() -> int:
    """Bytes DuckDB may use before it spills: 40 % of what is free, at most 2 GiB, at least 256 MiB.

    Little is gained by more: each step streams, and only sorts and joins of very large logs spill.
    """
    free = 4 * GIB
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdigit():
            free = min(free, int(limit))
    except OSError:
        pass
    return max(256 << 20, min(2 * GIB, int(free * 0.4)))
