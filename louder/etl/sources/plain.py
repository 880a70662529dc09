"""Any table: CSV, Parquet or JSON lines, with columns that the spec names."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from louder.errors import InputError
from louder.etl.files import Input, head
from louder.etl.sources.csv import open_csv
from louder.etl.sources.jsonl import open_jsonl
from louder.etl.sources.parquet import open_parquet
from louder.etl.sources.source import File, LogSource, RawTable, all_shown, log_files, opened
from louder.etl.spec import LogSpec, TextForm
from louder.schema import RATING

OTHER_FORMATS = {
    b"\xd0\xcf\x11\xe0": "an old Excel workbook, which is not read",
    b"SQLite format 3": "a SQLite database, which is not read",
    b"ARROW1": "an Arrow or Feather file, which is not read",
    b"ORC": "an ORC file, which is not read",
    b"Obj\x01": "an Avro file, which is not read",
    b"\x89HDF": "an HDF5 file, which is not read",
    b"\x93NUMPY": "a NumPy file, which is not read",
    b"%PDF": "a PDF, which is not read",
    b"<": "HTML or XML, which is not read",
    b"7z\xbc\xaf": "a 7z archive, which is not read",
    b"Rar!": "a RAR archive, which is not read",
}


def open_plain(inputs: list[Input], spec: LogSpec, work: Path) -> LogSource:
    files = [opened(entry, name) for entry in inputs for name in log_files(entry)]
    table = open_table("raw", files, spec.format, work, [*spec.columns.values(), *spec.used], spec.text)
    first = inputs[0]
    name = re.sub(
        r"(\.(csv|tsv|txt|parquet|jsonl|ndjson|json|gz|bz2|xz|zst|zip))+$", "", Path(first.member or first.path).name
    )
    return LogSource(name or "log", all_shown(files), table, with_rating(spec, table.columns))


def with_rating(spec: LogSpec, columns: Sequence[str]) -> LogSpec:
    """A column under the schema's word for a rating is a value without being asked for."""
    if RATING in spec.columns:
        return replace(spec, values={RATING: spec.columns[RATING], **spec.values})
    if RATING in columns and RATING not in spec.values and RATING not in spec.values.values():
        return replace(spec, values={RATING: RATING, **spec.values})
    return spec


def open_table(
    name: str, files: Sequence[File], kind: str, work: Path, wanted: Sequence[str] = (), text: TextForm = TextForm()
) -> RawTable:
    """Files of one kind as one table; their heads are checked, the rest is read by `load`.

    wanted      column names that mark a first line of a CSV as a header
    Columns of CSV and JSON are text, so that what cannot be read as a number can be counted instead of ending the run.
    """
    if kind == "parquet":
        return open_parquet(name, files, work)
    if kind == "jsonl":
        return open_jsonl(name, files, work, wanted)
    return open_csv(name, files, work, wanted, text=text)


def kind_of(path: Path, shown: str) -> str:
    """csv, parquet or jsonl, from the first bytes. Raises InputError if it is none of them."""
    start = head(path)
    if not start.strip():
        raise InputError(f"{shown} is empty. Give a file that holds at least one event.")
    if start[:4] == b"PAR1" or path.suffix == ".parquet":
        return "parquet"
    if re.match(rb"\{|\[\s*\{", start.lstrip(b"\xef\xbb\xbf \t\r\n")):
        return "jsonl"
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "csv"  # texts in UTF-16
    named = next((what for magic, what in OTHER_FORMATS.items() if start.startswith(magic)), None)
    if named or b"\0" in start:
        raise InputError(
            f"{shown} is {named or f'in no format that is known (it begins with {start[:8]!r})'}. "
            "Give CSV, Parquet, JSON lines, a zip of one of them, or a MovieLens or KuaiRand archive."
        )
    return "csv"
