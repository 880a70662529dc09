"""KuaiRand-Pure, 1K or 27K."""

import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from louder.errors import InputError
from louder.etl.files import Input, some
from louder.etl.sources.attributes import typed_attributes
from louder.etl.sources.csv import open_csv
from louder.etl.sources.source import LogSource, all_shown, opened
from louder.etl.spec import LogSpec
from louder.schema import ITEM, TIME, USER

LOG = re.compile(r"log_(?P<policy>standard|random)_.+_(?P<edition>pure|1k|27k)(_part\d+)?\.csv")
ACTIONS = {name: f"is_{name}" for name in ("click", "like", "follow", "comment", "forward", "hate")} | {
    "long_view": "long_view",
    "profile_enter": "is_profile_enter",
}


def open_kuairand(inputs: list[Input], spec: LogSpec, work: Path) -> LogSource:
    """Videos shown, and what the user did with each; the standard logs one after the other.

    The log of randomly shown videos is read if it is named, and left out of an archive or a folder: it is of another
    policy. The value is the time watched as it is in the log, in milliseconds. Its clock is in milliseconds too, so equal
    rows are one exposure that was written twice: 2.6 % of the pure log, from which a counter could read off the label.
    """
    logs = [(entry, name) for entry in inputs for name in kuairand_logs(entry)]
    if not logs:
        raise InputError(
            f"{inputs[0].path} has no log_standard_*.csv of KuaiRand; it holds {some(inputs[0].names)}. "
            "Give the archive, or the folder that it unpacks to."
        )
    files = [opened(entry, name) for entry, name in logs]
    table = open_csv("raw", files, work, [USER, "video_id"])
    spec = replace(
        spec,
        columns={ITEM: "video_id", TIME: "time_ms", **spec.columns},
        time_unit="ms" if spec.time_unit == "auto" else spec.time_unit,
        actions=spec.actions or ACTIONS,
        values=spec.values or {"play_time_ms": "play_time_ms"},
    )
    match = LOG.fullmatch(Path(logs[0][1]).name)
    assert match is not None
    items = features(inputs, "video_features_basic", "video_id", work)
    users = features(inputs, "user_features", "user_id", work)
    name = f"kuairand-{match['edition']}"
    return LogSource(name, all_shown(files), table, spec, items, users, repeats=False)


def kuairand_logs(source: Input) -> list[str]:
    """The logs of one source, in the order of their dates; none where it is no KuaiRand."""
    if source.member:
        return [source.member] if LOG.fullmatch(Path(source.member).name) else []
    matches = {name: LOG.fullmatch(Path(name).name) for name in source.names}
    return sorted(name for name, match in matches.items() if match and match["policy"] == "standard")


def features(inputs: list[Input], kind: str, key: str, work: Path) -> pa.Table | None:
    """The file `KIND_*.csv` beside the log. Numbers that are names (an author, a masked category) become texts, tags a
    list of texts."""
    pattern = rf"(.*/)?{kind}_(pure|1k|27k)\.csv"
    found = [(source, name) for source in inputs for name in source.names if re.fullmatch(pattern, name)]
    if not found:
        return None
    texts = open_csv(kind, [opened(*found[0])], work, [key]).fetch().table()
    table = typed_attributes(texts, key)
    for index, column in enumerate(table.column_names):
        if re.fullmatch(r"\w+_id|onehot_feat\d+", column):
            table = table.set_column(index, column, named(table.column(column)))
        elif column == "tag":
            tags = pc.if_else(pc.equal(texts.column(column), ""), None, texts.column(column))
            table = table.set_column(index, column, pc.split_pattern(tags, ","))
    return table


def named(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers as texts, 1.0 as "1"; what is none stays."""
    try:
        return column.cast(pa.int64()).cast(pa.string())
    except pa.ArrowInvalid:
        return column
