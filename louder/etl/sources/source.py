"""What every format gives: a raw table, in Parquet or in memory, and what its columns mean."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.engines import RAW_POSITION
from louder.etl.files import COMPRESSED, Input, head, some
from louder.etl.spec import LogSpec
from louder.schema import REQUEST, require_columns

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from louder.etl.engines import EtlEngine

File = tuple[Path, str]  # where it is, and how messages call it


@dataclass
class Stored:
    """A raw table as Parquet: files that hold the columns in the order of the log; or, in their place, one in memory.

    names     column -> its name in the files, where that is another
    rejected  why lines could not be read -> how many
    """

    rows: list[Path] | pa.Table
    names: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    def table(self) -> pa.Table:
        """All rows in memory: for what is small, and for files that hold texts under their own names."""
        return self.rows if isinstance(self.rows, pa.Table) else pa.concat_tables(map(pq.read_table, self.rows))


@dataclass
class RawTable:
    """Files of one kind before they are read, or a table in memory.

    Of files an engine reads Parquet only, where a row knows its number in its file: tables that are written by several threads do
    not always keep the order of a CSV (seen with DuckDB 2.0), and the order of the log decides ties.
    """

    name: str
    columns: list[str]
    numbers: set[str]  # the columns that hold numbers, by their types or (CSV) the first lines
    stored: Callable[[list[str]], Stored]  # columns -> what holds (at least) these
    read_as: str = ""  # how, in words
    empty: int = 0  # files without a row, which are passed over
    nested: frozenset[str] = frozenset()  # columns that hold lists or objects, where they are read as text
    rejected: dict[str, int] = field(
        default_factory=dict
    )  # lines that could not be read, once `fetch` has counted them

    def fetch(self, columns: Iterable[str] | None = None) -> Stored:
        """Read these columns."""
        wanted = list(dict.fromkeys(self.columns if columns is None else columns))
        require_distinct(wanted)
        stored = self.stored(wanted)
        self.rejected = stored.rejected
        return stored

    def load(self, engine: "EtlEngine", columns: Iterable[str] | None = None) -> "ir.Table":
        """A table of the engine with these columns and RAW_POSITION, which grows in the order of the log."""
        wanted = list(dict.fromkeys(self.columns if columns is None else columns))
        stored = self.fetch(wanted)
        if isinstance(stored.rows, pa.Table):
            return engine.read_arrow(self.name, stored.rows)
        table = engine.read_parquet(self.name, stored.rows, [stored.names.get(column, column) for column in wanted])
        return table.rename(stored.names) if stored.names else table


def require_distinct(columns: Iterable[str]) -> None:
    """Raises InputError for columns that an engine cannot tell apart."""
    known = {RAW_POSITION: "a name that Louder needs"}
    for column in columns:
        if column.lower() in known:
            raise InputError(
                f"The column {column!r} cannot be used beside {known[column.lower()]}. Rename it in the log, or leave it out."
            )
        known[column.lower()] = repr(column)


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
    typed: bool = False  # ids that are texts are meant so, also where all of them look like numbers

    def fetched(self) -> "LogSource":
        """The same once the columns are read that its spec uses, which from now on has that of requests where there is one.

        Raises InputError if the log lacks one.
        """
        spec, found = self.spec, self.log.columns
        if REQUEST in found:
            spec = replace(spec, columns={REQUEST: REQUEST, **spec.columns})
        for column in spec.used:
            between = " Or say what is between the columns: --delimiter ';'." if len(found) == 1 else ""
            require_columns(self.shown, found, [column], f"Name the right one: {spec.flag_of(column)}.{between}")
        stored = self.log.fetch(spec.used)
        return replace(self, spec=spec, log=replace(self.log, stored=lambda columns: stored))


def log_files(source: Input) -> list[str]:
    """The files of a plain source, in order. Raises InputError if they are of several kinds."""
    if source.member:
        return [source.member]
    if source.is_archive and len(source.names) > 1:
        raise InputError(
            f"{source.path} holds several files ({some(source.names)}) and no archive that is known. "
            f"Pass the one that is the log: '{source.path}::{source.names[0]}'."
        )
    names = [name for name in source.names if source.is_archive or head(source.file(name)).strip()]
    kinds = {suffix(name) for name in names}
    if len(kinds) > 1:
        raise InputError(
            f"The folder {source.path} holds files of several kinds ({some(source.names)}). "
            "Give the files of the log by name, or a folder that holds nothing else."
        )
    return names or source.names


def suffix(name: str) -> str:
    return "".join(Path(name).suffixes[-2:] if name.endswith(COMPRESSED) else Path(name).suffixes[-1:])


def opened(source: Input, name: str) -> File:
    """One file of a source, unpacked if need be."""
    return source.file(name), source.shown(name)


def all_shown(files: list[File]) -> str:
    """How messages call several files."""
    return files[0][1] if len(files) == 1 else f"{files[0][1]} and {len(files) - 1} more"
