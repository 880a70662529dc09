"""Files of users, and of the lists of many users."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from louder.errors import InputError
from louder.folders import told_when_full, told_where

if TYPE_CHECKING:
    import pyarrow as pa


def users_of(source: str) -> list[str | int] | None:
    """The users that a file names: one raw id a line, or the column `user` of a Parquet or CSV file. None for "all"."""
    if source == "all":
        return None
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    path, form = Path(source), "It must have one user a line, or be a Parquet or CSV file with a column 'user'."
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        elif path.suffix == ".csv":
            table = csv.read_csv(path)
        else:
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise InputError(f"The users {path} cannot be read ({str(error).splitlines()[0]}). {form}") from error
    if "user" not in table.column_names:
        raise InputError(f"The users {path} have the columns {', '.join(table.column_names)}. {form}")
    found: list[str | int] = [raw for raw in dict.fromkeys(table.column("user").to_pylist()) if raw is not None]
    return found


def write(parts: Iterable["pa.Table"], path: Path) -> int:
    """Lists into a Parquet or CSV file, batch by batch; it is whole or not there. How many rows it has."""
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path} must end in .parquet or .csv, which says how lists are written: -o recs.parquet.")
    temporary, rows, writer = path.with_name(f".{path.name}.{os.getpid()}.tmp"), 0, None
    kind = pq.ParquetWriter if path.suffix == ".parquet" else csv.CSVWriter
    try:
        with told_when_full(path.parent):
            for part in parts:
                if writer is None:
                    with told_where(path):
                        path.parent.mkdir(parents=True, exist_ok=True)
                        writer = kind(temporary, part.schema)
                writer.write_table(part)
                rows += len(part)
            if writer is None:
                raise InputError("There is no user to recommend to, so nothing was written.")
            writer.close()
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows
