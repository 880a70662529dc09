"""Parquet files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.files import first_line, partition_of
from louder.etl.sources.source import File, RawTable, Stored

RESERVED = (
    "file_index",
    "file_row_number",
    "filename",
    "file_size",
    "file_last_modified",
)  # what an engine calls its own


def open_parquet(name: str, files: Sequence[File], work: Path | None = None) -> RawTable:
    """Raises InputError for a damaged file, and if there is no row in any. Folders such as dt=2024-05-01 give a column."""
    columns: list[str] = []
    numbers: set[str] = set()
    rows = empty = 0
    for path, shown in files:
        try:
            found = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{shown} is not a whole Parquet file: {first_line(str(error))} Copy or write it again."
            ) from error
        rows += found.metadata.num_rows
        empty += not found.metadata.num_rows
        columns.extend(column for column in found.schema_arrow.names if column not in columns)
        numbers.update(column.name for column in found.schema_arrow if is_number(column.type))
    if rows == 0:
        raise InputError(
            f"{files[0][1]} is empty: it has columns but no rows. Give a file that holds at least one event."
        )
    partitions = [column for column in partition_of(files[0][0]) if column not in columns]
    stored = partial(store, name, files, work, columns, partitions)
    return RawTable(name, columns + partitions, numbers, stored, "Parquet", empty)


def store(
    name: str, files: Sequence[File], work: Path | None, columns: list[str], partitions: list[str], wanted: list[str]
) -> Stored:
    """The files as they are, or copies with other names of columns where an engine could take one for another."""
    lowered = [column.lower() for column in columns]
    clash = len(set(lowered)) < len(lowered) or set(lowered) & set(RESERVED)
    if work is None or not (clash or set(partitions) & set(wanted)):
        return Stored([path for path, _ in files])
    names = {column: f"copied_{index}" for index, column in enumerate(wanted)}
    targets = [work / f"{name}-{index}.parquet" for index in range(len(files))]
    for (path, _), target in zip(files, targets):
        copy(path, target, wanted, names)
    return Stored(targets, names)


def copy(path: Path, target: Path, wanted: list[str], names: dict[str, str]) -> None:
    """These columns of one file, under other names; those of its folders are texts."""
    file, constants = pq.ParquetFile(path), partition_of(path)
    there = [column for column in wanted if column in file.schema_arrow.names]
    kinds = [(names[column], file.schema_arrow.field(column).type) for column in there]
    constants = {names[column]: constants[column] for column in wanted if column in constants and column not in there}
    schema = pa.schema([*kinds, *((column, pa.string()) for column in constants)])
    with pq.ParquetWriter(target, schema, compression="lz4") as writer:
        for batch in file.iter_batches(columns=there):
            # a batch has the file's order of columns, and may have one more than once
            arrays = [batch.column(batch.schema.names.index(column)) for column in there]
            arrays += [pa.array([text] * len(batch), pa.string()) for text in constants.values()]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
