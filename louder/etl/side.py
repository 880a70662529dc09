"""Files beside the log: attributes of items and users."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from louder.errors import InputError
from louder.etl.files import open_input
from louder.etl.sources import loaded, log_files, typed_attributes
from louder.etl.spec import SideFile
from louder.etl.tables import RawTable, kind_of, open_table


def open_side_file(con: Any, side: SideFile, view: str, wanted: list[str], work: Path) -> tuple[RawTable, str]:
    """A side file as a raw table, and how messages call it."""
    source = open_input(side.file, work)
    files = [(source.file(name), source.shown(name)) for name in log_files(source)]
    return open_table(con, view, files, kind_of(*files[0]), work, wanted), files[0][1]


def open_attributes(con: Any, side: SideFile, what: str, log_column: str, word: str, work: Path) -> pa.Table:
    """All columns of an attribute file; its id column is called "raw". One row an id: the first one counts."""
    candidates = [side.id] if side.id else [word, log_column, "id"]
    table, shown = open_side_file(con, side, f"side_{what}", [name for name in candidates if name], work)
    key = next((name for name in candidates if name in table.columns), None)
    if key is None:
        raise InputError(
            f"{shown} has no column {candidates[0]!r}; its columns are {', '.join(table.columns)}. "
            f"Say in the schema which of them holds the id: {what}: {{file: {Path(side.file).name}, id: NAME}}."
        )
    return typed_attributes(loaded(con, table), key)
