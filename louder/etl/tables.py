"""CSV, Parquet and JSON-lines files as one raw table of the engine, each row with its position in the log.

The engine reads Parquet only, where a row knows its number in its file: tables that are written by several threads do
not always keep the order of a CSV (seen with DuckDB 2.0), and the order of the log decides ties.
"""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.clean import MISSING
from louder.etl.engine import first_line, quoted, quoted_list
from louder.etl.files import head, head_lines
from louder.etl.spec import NUMBER

RAW_POSITION = "__position"
DELIMITERS = (",", "\t", ";", "|", "::")
BLOCK_BYTES = 8 << 20
File = tuple[Path, str]  # where it is, and how messages call it


@dataclass
class RawTable:
    """Files of one kind before they are read.

    columns   names, in order
    parquet   makes Parquet files that hold (at least) the columns it is given, in the order of the log
    numbers   those of the columns that hold numbers, by their types or (CSV) the first lines
    rejected  lines that could not be split into the columns, counted by `load`
    """

    name: str
    columns: list[str]
    parquet: Callable[["RawTable", list[str]], list[Path]]
    numbers: set[str]
    rejected: int = 0

    def load(self, con: Any, columns: Iterable[str] | None = None) -> ir.Table:
        """A view with these columns and RAW_POSITION, which grows in the order of the log."""
        wanted = list(dict.fromkeys(self.columns if columns is None else columns))
        paths = self.parquet(self, wanted)
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in wanted)
        con.raw_sql(
            f'CREATE OR REPLACE VIEW "{self.name}" AS SELECT {names}, '
            f"(file_index::BIGINT << 40) + file_row_number AS {RAW_POSITION} "
            f"FROM read_parquet({quoted_list(paths)}, union_by_name = true)"
        )
        return con.table(self.name)


def kind_of(path: Path, shown: str) -> str:
    """csv, parquet or jsonl, from the first bytes. Raises InputError if it is none of them."""
    start = head(path)
    if not start.strip():
        raise InputError(f"{shown} is empty. Give a file that holds at least one event.")
    if start[:4] == b"PAR1" or path.suffix == ".parquet":
        return "parquet"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return "jsonl"
    if b"\0" in start:
        raise InputError(
            f"{shown} is in no format that is known (it begins with {start[:8]!r}). "
            "Give CSV, Parquet, JSON lines, a zip of one of them, or a MovieLens or KuaiRand archive."
        )
    return "csv"


def open_table(
    con: Any,
    name: str,
    files: Sequence[File],
    kind: str,
    work: Path,
    wanted: Iterable[str] = (),
    *,
    names: list[str] | None = None,
    delimiter: str | None = None,
) -> RawTable:
    """Files of one kind as one table; their heads are checked, the rest is read by `load`.

    wanted      column names that mark a first line as a header
    names       columns of a CSV without a header
    Columns of CSV and JSON are text, so that what cannot be read as a number can be counted instead of ending the run.
    """
    if kind == "parquet":
        return open_parquet(name, files)
    if kind == "jsonl":
        return open_jsonl(con, name, files, work)
    return open_csv(name, files, work, list(wanted), names, delimiter)


def open_parquet(name: str, files: Sequence[File]) -> RawTable:
    columns: list[str] = []
    numbers: set[str] = set()
    rows = 0
    for path, shown in files:
        try:
            opened = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{shown} is not a whole Parquet file: {first_line(str(error))} Copy or write it again."
            ) from error
        rows += opened.metadata.num_rows
        columns.extend(column for column in opened.schema_arrow.names if column not in columns)
        numbers.update(column.name for column in opened.schema_arrow if is_number(column.type))
    if rows == 0:
        raise InputError(
            f"{files[0][1]} is empty: it has columns but no rows. Give a file that holds at least one event."
        )
    return RawTable(name, columns, lambda table, wanted: [path for path, _ in files], numbers)


def open_jsonl(con: Any, name: str, files: Sequence[File], work: Path) -> RawTable:
    for path, _ in files:
        head(path)  # a damaged gzip gets its sentence here
    paths = quoted_list(path for path, _ in files)
    options = "format = 'newline_delimited'"
    found = con.raw_sql(f"DESCRIBE SELECT * FROM read_json({paths}, {options}, union_by_name = true)").fetchall()
    columns = [row[0] for row in found]
    numbers = {row[0] for row in found if row[1] in ("BIGINT", "UBIGINT", "HUGEINT", "DOUBLE")}

    def parquet(table: RawTable, wanted: list[str]) -> list[Path]:
        target = work / f"{name}.parquet"
        types = ", ".join(f"{quoted(column)}: 'VARCHAR'" for column in wanted)
        (threads,) = con.raw_sql("SELECT current_setting('threads')").fetchall()[0]
        con.raw_sql("SET threads = 1")  # one thread keeps the order of the lines
        try:
            con.raw_sql(
                f"COPY (SELECT * FROM read_json({paths}, {options}, columns = {{{types}}})) "
                f"TO {quoted(target)} (FORMAT parquet, COMPRESSION lz4_raw)"
            ).fetchall()
        finally:
            con.raw_sql(f"SET threads = {threads}")
        return [target]

    return RawTable(name, columns, parquet, numbers)


def open_csv(
    name: str, files: Sequence[File], work: Path, wanted: list[str], names: list[str] | None, delimiter: str | None
) -> RawTable:
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
                "Name its format (--format csv), or give the right file."
            )
        first_cells += [split_line(line, delimiter) for line in lines[int(header) :]]
    assert names is not None and delimiter is not None
    columns = names
    cells_of = zip(columns, zip(*(cells for cells in first_cells if len(cells) == len(columns))))
    numbers = {column for column, cells in cells_of if are_numbers(cells)}

    def parquet(table: RawTable, chosen: list[str]) -> list[Path]:
        table.rejected = 0
        targets = []
        for index, (path, shown) in enumerate(files):
            targets.append(work / f"{name}-{index}.parquet")
            table.rejected += csv_to_parquet(path, shown, targets[-1], columns, chosen, delimiter, header)
        return targets

    return RawTable(name, columns, parquet, numbers)


def csv_to_parquet(
    path: Path, shown: str, target: Path, columns: list[str], chosen: list[str], delimiter: str, header: bool
) -> int:
    """Copy columns of a CSV, as text and in order, to Parquet. Returns how many lines had other numbers of columns."""
    rejected = 0

    def skip(row: pc.InvalidRow) -> str:
        nonlocal rejected
        rejected += 1
        return "skip"

    if len(delimiter) > 1:
        # the reader splits at one character: between two of them there is an empty column, which is left out
        gaps = [
            [column] + [f"\0{index}-{gap}" for gap in range(1, len(delimiter))] for index, column in enumerate(columns)
        ]
        columns = [column for group in gaps for column in group][: 1 - len(delimiter)]
    many = len(delimiter) > 1
    try:
        with pa.input_stream(path, compression="gzip" if is_gzip(path) else None) as stream:
            reader = pc.open_csv(
                stream,
                read_options=pc.ReadOptions(column_names=columns, skip_rows=int(header), block_size=BLOCK_BYTES),
                parse_options=pc.ParseOptions(
                    delimiter=delimiter[0],
                    quote_char=False if many else '"',
                    newlines_in_values=not many,
                    invalid_row_handler=skip,
                ),
                convert_options=pc.ConvertOptions(
                    column_types={column: pa.string() for column in chosen}, include_columns=chosen
                ),
            )
            with pq.ParquetWriter(
                target, reader.schema, compression="lz4", use_dictionary=False, write_statistics=False
            ) as writer:
                for batch in reader:
                    writer.write_batch(batch)
    except (pa.ArrowInvalid, EOFError) as error:
        text = str(error)
        if "UTF8" in text or "UTF-8" in text:
            raise InputError(f"{shown} is not text in UTF-8 ({first_line(text)[:-1]}). Save it as UTF-8.") from error
        raise InputError(f"{shown} cannot be read as CSV: {first_line(text)} Check that the file is whole.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{shown} cannot be read: {first_line(str(error))} Copy or download it again.") from error
    return rejected


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


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


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
