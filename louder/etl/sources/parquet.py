"""Parquet files."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.files import first_line
from louder.etl.sources.source import File, RawTable


def open_parquet(name: str, files: Sequence[File]) -> RawTable:
    """Raises InputError for a damaged file, and if there is no row in any."""
    columns: list[str] = []
    numbers: set[str] = set()
    rows = 0
    for path, shown in files:
        try:
            found = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{shown} is not a whole Parquet file: {first_line(str(error))} Copy or write it again."
            ) from error
        rows += found.metadata.num_rows
        columns.extend(column for column in found.schema_arrow.names if column not in columns)
        numbers.update(column.name for column in found.schema_arrow if is_number(column.type))
    if rows == 0:
        raise InputError(
            f"{files[0][1]} is empty: it has columns but no rows. Give a file that holds at least one event."
        )
    return RawTable(name, columns, numbers, lambda wanted: ([path for path, _ in files], 0))


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
