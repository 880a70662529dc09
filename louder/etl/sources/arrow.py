"""An Arrow table in memory, which is what a data frame becomes: its types are the log's, and nothing is copied."""

from functools import partial

import pyarrow as pa

from louder.errors import InputError
from louder.etl.sources.parquet import is_number
from louder.etl.sources.plain import with_rating
from louder.etl.sources.source import LogSource, RawTable, Stored
from louder.etl.spec import LogSpec
from louder.schema import ITEM, TIME, USER

FRAME = "the frame"  # how messages call it


def open_arrow(table: pa.Table, spec: LogSpec) -> LogSource:
    """Raises InputError for an empty table, and for ids and times of a type that cannot be one."""
    raw = arrow_table("raw", table, FRAME)
    kinds = {field.name: field.type for field in table.schema}
    for word in (USER, ITEM, TIME) if spec.has_times else (USER, ITEM):
        if (kind := kinds.get(column := spec.column(word))) is not None and not fits(value_type(kind), word):
            wanted = "times: seconds, dates or texts of them" if word == TIME else "ids: integers or texts"
            raise InputError(f"The column {column!r} holds {kind}, but it must hold {wanted}.")
    return LogSource("log", FRAME, raw, with_rating(spec, raw.columns), typed=True)


def arrow_table(name: str, table: pa.Table, shown: str) -> RawTable:
    if not len(table):
        raise InputError(f"{shown} is empty: it has columns but no rows. Give one that holds at least one row.")
    numbers = {field.name for field in table.schema if is_number(field.type)}
    return RawTable(name, table.column_names, numbers, partial(readable, table), "Arrow")


def readable(table: pa.Table, wanted: list[str]) -> Stored:
    """Columns of types that an engine knows: texts where nothing is known."""
    columns = {}
    for name in wanted:
        column = table.column(name)
        if pa.types.is_null(column.type):
            column = column.cast(pa.string())
        elif pa.types.is_float16(column.type):
            column = column.cast(pa.float32())
        columns[name] = column
    return Stored(pa.table(columns))


def value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def fits(kind: pa.DataType, word: str) -> bool:
    """Whether ids, or times, may be of this type; a column without a value has none."""
    dates = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    return is_number(kind) or is_text(kind) or pa.types.is_null(kind) or (dates and word == TIME)
