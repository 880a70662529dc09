"""Files beside the log: attributes of items and users, and series of their own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from louder.etl.engines import RAW_POSITION
from louder.etl.files import open_input
from louder.etl.sources.arrow import arrow_table
from louder.etl.sources.plain import kind_of, open_table
from louder.etl.sources.source import RawTable, log_files, opened
from louder.etl.spec import LogSpec, SideFile, TextForm
from louder.schema import require_columns

if TYPE_CHECKING:
    from louder.etl.engines import EtlEngine

TITLES = ("title", "name")  # what a person calls it is no number, even where all look like one


def open_side_file(
    side: SideFile, name: str, wanted: list[str], work: Path, text: TextForm, what: str
) -> tuple[RawTable, str]:
    """A side file as a raw table, and how messages call it."""
    if not isinstance(side.file, str):
        shown = side.shown(what)
        return arrow_table(name, side.file, shown), shown
    source = open_input(side.file, work, f"Give the file of {what}, or leave it out.")
    files = [opened(source, name) for name in log_files(source)]
    text = replace(side.text, encoding=text.encoding if side.encoding == "auto" else side.encoding)
    return open_table(name, files, kind_of(*files[0]), work, wanted, text), files[0][1]


def open_attributes(engine: "EtlEngine", side: SideFile, what: str, spec: LogSpec, word: str, work: Path) -> pa.Table:
    """All columns of an attribute file; its id column is called "raw". One row an id: the first one counts."""
    candidates = [side.id] if side.id else [word, spec.column(word), "id"]
    table, shown = open_side_file(side, f"side_{what}", candidates, work, spec.text, what)
    key = next((name for name in candidates if name in table.columns), candidates[0])
    hint = f"Name it in the schema: {what}: {{file: {Path(side.shown(what)).name}, id: NAME}}."
    require_columns(shown, table.columns, [key], hint)
    return typed_attributes(loaded(engine, table), key)


def loaded(engine: "EtlEngine", table: RawTable) -> pa.Table:
    """A small table, whole and in order."""
    return table.load(engine).order_by(RAW_POSITION).drop(RAW_POSITION).to_pyarrow()


def typed_attributes(table: pa.Table, key: str) -> pa.Table:
    """Text columns -> integers, floats, or lists of numbers or texts where every value is one; titles stay texts. The key
    is called "raw"."""
    others = [name for name in table.column_names if name != key]
    names = [name if name != "raw" else "raw_2" for name in others]
    trimmed = {name: without_blanks(table.column(name)) for name in others}
    columns = [trimmed[name] if name in TITLES else typed(trimmed[name]) for name in others]
    return pa.Table.from_arrays([table.column(key), *columns], ["raw", *names])


def without_blanks(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column


def typed(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if not pa.types.is_string(column.type):
        return column
    column = pc.if_else(pc.equal(column, ""), None, column)
    # 01 and 1 are two codes: a column that has such is no column of numbers
    if not pc.any(pc.match_substring_regex(column, r"^[+-]?0[0-9]")).as_py():
        for kind in pa.int64(), pa.float64():
            try:
                return column.cast(kind)
            except pa.ArrowInvalid:
                continue
    if pc.all(pc.starts_with(column, "[")).as_py():
        return lists_of_json(column)
    return split_at_bars(column)


def lists_of_json(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    try:
        lists = pa.array([value and json.loads(value) for value in column.to_pylist()])
    except (ValueError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError):
        return column
    kind = lists.type.value_type
    if pa.types.is_null(kind):  # every list is empty
        return lists.cast(pa.list_(pa.int64()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind):
        return lists
    return column


def split_at_bars(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """`Drama|Comedy` -> a list of texts, where the parts are fewer than the wholes: then they are categories."""
    if not pc.any(pc.match_substring(column, "|")).as_py():
        return column
    lists = pc.split_pattern(column, "|")
    parts = pc.unique(pc.list_flatten(lists))
    return lists if len(parts) <= len(pc.unique(column.drop_null())) else column
