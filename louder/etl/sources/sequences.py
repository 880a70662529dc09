"""Ordered sequences without times: `user item item ...`, one user a line, oldest first."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.files import Input, text_lines
from louder.etl.sources.parquet import open_parquet
from louder.etl.sources.source import LogSource, log_files
from louder.etl.spec import LogSpec
from louder.schema import ITEM, USER


def open_sequences(inputs: list[Input], spec: LogSpec, work: Path) -> LogSource:
    source = inputs[0]
    name = log_files(source)[0]
    path = work / "sequences.parquet"
    write_sequences(source.file(name), path)
    stem = Path(name).stem
    items = None
    if beside := source.find(f"{stem}_item2attributes.json"):
        text = source.file(beside).read_text(encoding="utf-8")
        try:
            attributes = json.loads(text)
            items = pa.table(
                {"raw": list(attributes), "attributes": pa.array(list(attributes.values()), pa.list_(pa.int64()))}
            )
        except (ValueError, AttributeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"{source.shown(beside)} is not JSON of item -> list of attribute ids ({error})."
            ) from error
    shown = source.shown(name)
    table = replace(open_parquet("raw", [(path, shown)]), read_as="sequences, a user and items a line")
    return LogSource(stem, shown, table, replace(spec, has_times=False), items)


def write_sequences(path: Path, out: Path, lines_at_once: int = 50_000) -> None:
    """Lines `user item item ...` -> Parquet with a row per event, in order."""
    schema = pa.schema({USER: pa.string(), ITEM: pa.string()})
    lines = text_lines(path, "utf-8-sig")
    with pq.ParquetWriter(out, schema) as writer:
        while rows := [line.split() for line in itertools.islice(lines, lines_at_once)]:
            users = [user for user, *items in rows for _ in items]
            writer.write_table(pa.table({USER: users, ITEM: [item for row in rows for item in row[1:]]}, schema=schema))
