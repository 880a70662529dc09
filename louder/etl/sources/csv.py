"""CSV, and what goes by that name: any delimiter, with a header or without, gzipped or not."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.clean import MISSING
from louder.etl.files import first_line, head_lines
from louder.etl.sources.source import File, RawTable
from louder.etl.spec import NUMBER

DELIMITERS = (",", "\t", ";", "|", "::")
BLOCK_BYTES = 8 << 20


@dataclass
class Form:
    """How the lines of a CSV are to be read."""

    columns: list[str]
    delimiter: str
    header: bool


def open_csv(
    name: str,
    files: Sequence[File],
    work: Path,
    wanted: Iterable[str] = (),
    *,
    names: list[str] | None = None,
    delimiter: str | None = None,
) -> RawTable:
    """Files of one form; their heads are checked, the rest is read by `load`, as text.

    wanted      column names that mark a first line as a header
    names       columns of files without a header
    """
    form, cells = read_heads(files, list(wanted), names, delimiter)
    cells_of = zip(form.columns, zip(*(line for line in cells if len(line) == len(form.columns))))
    numbers = {column for column, found in cells_of if are_numbers(found)}

    def parquet(chosen: list[str]) -> tuple[list[Path], int]:
        targets = [work / f"{name}-{index}.parquet" for index in range(len(files))]
        rejected = (csv_to_parquet(file, target, form, chosen) for file, target in zip(files, targets))
        return targets, sum(rejected)

    return RawTable(name, form.columns, numbers, parquet)


def read_heads(
    files: Sequence[File], wanted: list[str], names: list[str] | None, delimiter: str | None
) -> tuple[Form, list[list[str]]]:
    """The form that all files share, and the cells of their first lines. Raises InputError where one has another."""
    header = False
    first_cells: list[list[str]] = []
    for path, shown in files:
        lines = head_lines(path)
        if not lines or not any(line.strip() for line in lines):
            raise InputError(f"{shown} is empty. Give a file that holds at least one event.")
        delimiter = delimiter or guess_delimiter(lines[0])
        cells = split_line(lines[0], delimiter)
        if names is None:
            header = has_header(cells, wanted)
            names = unique(cells) if header else [f"column{index}" for index in range(len(cells))]
        elif header and unique(cells) != names:
            raise InputError(
                f"{shown} has the columns {', '.join(cells)}, but {files[0][1]} has {', '.join(names)}. "
                "Give files with the same columns."
            )
        if header and len(lines) == 1:
            raise InputError(
                f"{shown} is empty: it has columns but no rows. Give a file that holds at least one event."
            )
        if len(cells) != len(names):
            raise InputError(
                f"{shown} has {len(cells)} columns in its first line, but {len(names)} were expected ({', '.join(names)}). "
                "Pass its format (--format csv), or give the right file."
            )
        first_cells += [split_line(line, delimiter) for line in lines[int(header) :]]
    assert names is not None and delimiter is not None, "there is a file"
    return Form(names, delimiter, header), first_cells


def csv_to_parquet(file: File, target: Path, form: Form, chosen: list[str]) -> int:
    """Copy columns of a CSV, as text and in order, to Parquet. Returns how many lines had other numbers of columns."""
    path, shown = file
    rejected = 0

    def skip(row: pc.InvalidRow) -> str:
        nonlocal rejected
        rejected += 1
        return "skip"

    reading = pc.ReadOptions(column_names=with_gaps(form), skip_rows=int(form.header), block_size=BLOCK_BYTES)
    quoted = len(form.delimiter) == 1
    parsing = pc.ParseOptions(delimiter=form.delimiter[0], newlines_in_values=quoted, invalid_row_handler=skip)
    parsing.quote_char = '"' if quoted else False
    texts = pc.ConvertOptions(column_types=dict.fromkeys(chosen, pa.string()), include_columns=chosen)
    with csv_errors(shown), pa.input_stream(path, compression="gzip" if is_gzip(path) else None) as stream:
        reader = pc.open_csv(stream, reading, parsing, texts)
        options = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
        with pq.ParquetWriter(target, reader.schema, **options) as writer:
            for batch in reader:
                writer.write_batch(batch)
    return rejected


def with_gaps(form: Form) -> list[str]:
    """The reader splits at one character: between two of them there is an empty column, which is left out."""
    gaps = range(1, len(form.delimiter))
    columns = [[column, *(f"\0{index}-{gap}" for gap in gaps)] for index, column in enumerate(form.columns)]
    return [name for group in columns for name in group][: len(columns) * len(form.delimiter) - len(gaps)]


@contextmanager
def csv_errors(shown: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, EOFError) as error:
        text = str(error)
        if "UTF8" in text or "UTF-8" in text:
            raise InputError(f"{shown} is not text in UTF-8 ({first_line(text)[:-1]}). Save it as UTF-8.") from error
        raise InputError(f"{shown} cannot be read as CSV: {first_line(text)} Check that the file is whole.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{shown} cannot be read: {first_line(str(error))} Copy or download it again.") from error


def is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def guess_delimiter(line: str) -> str:
    """The delimiter that splits a line into most parts, quoted parts left whole."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=lambda delimiter: (bare.count(delimiter) * len(delimiter), delimiter == ","))


def split_line(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter))


def are_numbers(cells: Iterable[str]) -> bool:
    """Whether texts are numbers, as far as they are there at all."""
    there = [cell for cell in cells if cell.strip() not in MISSING]
    return bool(there) and all(NUMBER.fullmatch(cell.strip()) for cell in there)


def has_header(cells: list[str], wanted: list[str]) -> bool:
    """A first line that holds a name which was asked for, or no number at all, is a header."""
    if set(cells) & set(wanted):
        return True
    if any(re.fullmatch(r"column\d+", name) for name in wanted):
        return False
    return not any(re.fullmatch(r"[+-]?\d+(\.\d*)?", cell.strip()) for cell in cells)


def unique(cells: list[str]) -> list[str]:
    """Names of a header line, made distinct and non-empty."""
    names: list[str] = []
    for index, cell in enumerate(cells):
        name = cell.strip() or f"column{index}"
        while name in names:
            name += "_2"
        names.append(name)
    return names
