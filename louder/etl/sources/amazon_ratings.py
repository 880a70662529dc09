"""Amazon, ratings only, release of 2014."""

from dataclasses import replace
from pathlib import Path

from louder.etl.files import Input
from louder.etl.sources.csv import open_csv
from louder.etl.sources.source import LogSource, log_files, opened
from louder.etl.spec import LogSpec, TextForm
from louder.schema import ITEM, RATING, TIME, USER


def open_amazon_ratings(inputs: list[Input], spec: LogSpec, work: Path) -> LogSource:
    """No header; user, item, rating, time."""
    files = [opened(entry, name) for entry in inputs for name in log_files(entry)]
    table = open_csv("raw", files, work, names=[USER, ITEM, RATING, TIME], text=TextForm(","))
    ids = "string" if spec.ids == "auto" else spec.ids  # 0000000078 is a text, though it looks like a number
    spec = replace(spec, values={RATING: RATING, **spec.values}, ids=ids)
    return LogSource(Path(inputs[0].member or inputs[0].path).stem, files[0][1], table, spec)
