"""What is said to DuckDB, and what it says: paths and names in SQL, its errors as sentences. No Ibis here, which takes long to
import."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from louder.errors import InputError
from louder.etl.files import first_line
from louder.folders import full_disk


def plain_paths(paths: Iterable[Path], work: Path) -> list[Path]:
    """The same files under names that DuckDB does not take for patterns: links to them where need be."""
    plain = []
    for index, path in enumerate(paths):
        if re.search(r"[*?\[]", str(path)):
            link = work / f"named-{index}-{hashlib.md5(str(path).encode(), usedforsecurity=False).hexdigest()}"
            if not link.is_symlink():
                link.symlink_to(path.resolve())
            path = link
        plain.append(path)
    return plain


def identifier(name: str) -> str:
    """The name of a column in SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str | Path) -> str:
    """A string literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted_list(values: Iterable[str | Path]) -> str:
    return "[" + ", ".join(quoted(value) for value in values) + "]"


@contextmanager
def sentences(source: str, work: Path) -> Iterator[None]:
    """Raise DuckDB's errors that a caller can fix as InputError."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if "No space left" in text or "max_temp_directory_size" in text or "Disk quota" in text:
            raise full_disk(work.parent.parent) from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise InputError(
                f"Reading {source} needs more memory than it was given ({first_line(text)}). Give it more: --memory 4GB."
            ) from error
        unreadable = (duckdb.InvalidInputException, duckdb.IOException, duckdb.ConversionException)
        damaged = type(error) is duckdb.Error  # what the readers inside say, such as that of Parquet of odd bytes
        if damaged or (isinstance(error, unreadable) and not isinstance(error, duckdb.InternalException)):
            raise InputError(
                f"{source} cannot be read: {first_line(text)} Check that the file is whole, or name its format: --format FORMAT."
            ) from error
        raise
