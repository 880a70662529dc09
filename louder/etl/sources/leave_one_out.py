"""A split log put together again."""

from dataclasses import replace
from pathlib import Path

from louder.errors import InputError
from louder.etl.files import Input
from louder.etl.sources.attributes import typed_attributes
from louder.etl.sources.csv import open_csv
from louder.etl.sources.source import LogSource, opened
from louder.etl.spec import LogSpec
from louder.schema import TIME


def open_leave_one_out(inputs: list[Input], spec: LogSpec, work: Path) -> LogSource:
    """train.csv, dev.csv, test.csv; item_meta.csv if there."""
    source = inputs[0]
    names = [source.find(f"{part}.csv") for part in ("train", "dev", "test")]
    if None in names:
        raise InputError(
            f"{source.path} has no train.csv, dev.csv and test.csv. Pass --format csv and the file of the log."
        )
    table = open_csv("raw", [opened(source, name) for name in names if name], work, ["user_id", "item_id"])
    spec = replace(spec, columns={TIME: "time" if "time" in table.columns else TIME, **spec.columns})
    items = None
    if name := source.find("item_meta.csv"):
        meta = open_csv("item_meta", [opened(source, name)], work, ["item_id"])
        items = typed_attributes(meta.fetch().table(), "item_id")
    return LogSource(source.path.stem, str(source.path), table, spec, items)
