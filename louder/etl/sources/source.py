"""What every format gives: a raw table in Parquet, and what its columns mean."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa

from louder.errors import InputError
from louder.etl.engines import EtlEngine
from louder.etl.files import Input, some
from louder.etl.spec import LogSpec

File = tuple[Path, str]  # where it is, and how messages call it


@dataclass
class RawTable:
    """Files of one kind before they are read.

    An engine reads Parquet only, where a row knows its number in its file: tables that are written by several threads do
    not always keep the order of a CSV (seen with DuckDB 2.0), and the order of the log decides ties.
    """

    name: str
    columns: list[str]
    numbers: set[str]  # the columns that hold numbers, by their types or (CSV) the first lines
    # columns -> Parquet files that hold (at least) these in the order of the log, and how many lines could not be split
    parquet: Callable[[list[str]], tuple[list[Path], int]]
    rejected: int = 0  # those lines, once `load` has counted them

    def load(self, engine: EtlEngine, columns: Iterable[str] | None = None) -> ir.Table:
        """A table of the engine with these columns and RAW_POSITION, which grows in the order of the log."""
        wanted = list(dict.fromkeys(self.columns if columns is None else columns))
        paths, self.rejected = self.parquet(wanted)
        return engine.read_parquet(self.name, paths, wanted)


@dataclass
class LogSource:
    """An event log that is ready to be cleaned."""

    name: str
    shown: str  # how messages call it
    log: RawTable
    spec: LogSpec  # what its columns mean
    items: pa.Table | None = None  # attributes of items; the column "raw" holds their ids
    users: pa.Table | None = None
    repeats: bool = True  # an event can be there twice; False: equal rows are one event that was written twice


def log_files(source: Input) -> list[str]:
    """The files of a plain source, in order. Raises InputError if they are of several kinds."""
    if source.member:
        return [source.member]
    if source.is_archive and len(source.names) > 1:
        raise InputError(
            f"{source.path} holds several files ({some(source.names)}) and no archive that is known. "
            f"Pass the one that is the log: '{source.path}::{source.names[0]}'."
        )
    kinds = {
        "".join(Path(name).suffixes[-2:] if name.endswith(".gz") else Path(name).suffixes[-1:]) for name in source.names
    }
    if len(kinds) > 1:
        raise InputError(
            f"The folder {source.path} holds files of several kinds ({some(source.names)}). "
            "Give the files of the log by name, or a folder that holds nothing else."
        )
    return source.names


def opened(source: Input, name: str) -> File:
    """One file of a source, unpacked if need be."""
    return source.file(name), source.shown(name)


def all_shown(files: list[File]) -> str:
    """How messages call several files."""
    return files[0][1] if len(files) == 1 else f"{files[0][1]} and {len(files) - 1} more"
