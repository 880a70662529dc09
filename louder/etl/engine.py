"""DuckDB behind Ibis: open it, keep it within memory, and turn its errors into sentences."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from louder.errors import InputError
from louder.folders import full_disk

GIB = 1 << 30


@ibis.udf.scalar.builtin
def epoch_us(moment: dt.Timestamp(timezone="UTC")) -> dt.int64:  # type: ignore[valid-type]
    """Microseconds since 1970, UTC. Ibis has whole seconds only; Spark calls it unix_micros."""


@ibis.udf.scalar.builtin(name="epoch_us")
def naive_epoch_us(moment: dt.Timestamp()) -> dt.int64:  # type: ignore[valid-type]
    """The same for a time without a zone, which is taken as UTC."""


@contextmanager
def connect(work: Path, *, memory_bytes: int | None = None, threads: int | None = None) -> Iterator[Any]:
    """A DuckDB database in the folder `work`, which it also spills to. Yields an Ibis backend."""
    memory_bytes = memory_bytes or default_memory()
    database = work / "etl.duckdb"
    con = ibis.duckdb.connect(
        database,
        threads=threads or cores(),
        memory_limit=f"{memory_bytes // (1 << 20)}MiB",
        temp_directory=str(work / "spill"),
    )
    try:
        con.raw_sql("SET TimeZone = 'UTC'")
        con.raw_sql("SET enable_progress_bar = false")
        # rows carry their position in the log, so tables need no order of their own
        con.raw_sql("SET preserve_insertion_order = false")
        # what is spilled or stored is deleted at the end: a log of it for crashes would only cost time
        con.raw_sql("SET checkpoint_threshold = '1GiB'")
        yield con
    finally:
        con.disconnect()


def save(con: Any, name: str, table: ir.Table) -> ir.Table:
    """Compute a table once and keep it on disk, rows in any order. Replaces one of the same name."""
    con.raw_sql(f'CREATE OR REPLACE TABLE "{name}" AS {con.compile(table)}')
    return con.table(name)


def quoted(text: object) -> str:
    """A string literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted_list(values: Any) -> str:
    return "[" + ", ".join(quoted(value) for value in values) + "]"


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


@contextmanager
def sentences(what: str, out: Path) -> Iterator[None]:
    """Raise DuckDB's errors that a caller can fix as InputError. `what` names the source that is read."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if "No space left" in text or "max_temp_directory_size" in text or "Disk quota" in text:
            raise full_disk(out.parent) from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise InputError(
                f"Reading {what} needs more memory than it was given ({first_line(text)}). Give it more: --memory 4GB."
            ) from error
        unreadable = (duckdb.InvalidInputException, duckdb.IOException, duckdb.ConversionException)
        if isinstance(error, unreadable) and not isinstance(error, duckdb.InternalException):
            raise InputError(
                f"{what} cannot be read: {first_line(text)} Check that the file is whole, or name its format: --format FORMAT."
            ) from error
        raise


def first_line(text: str) -> str:
    """What an engine's many-lined message says first, as the end of a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0].removeprefix("Invalid Input Error:").removeprefix("IO Error:").removeprefix("Conversion Error:")
    return line.strip().rstrip(".:") + "."


class Background(threading.Thread):
    """One function that runs beside the engine (which leaves Python's lock); `result()` waits for it."""

    def __init__(self, function, *arguments) -> None:
        super().__init__(daemon=True)
        self.function, self.arguments = function, arguments
        self.value: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.function(*self.arguments)
        except BaseException as error:
            self.error = error

    def result(self) -> Any:
        self.join()
        if self.error:
            raise self.error
        return self.value
