"""One file a format: named files -> a raw table with the meaning of its columns.

A format is recognised from what the files hold; `format` in the LogSpec overrides it.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from louder import schema
from louder.errors import InputError
from louder.etl.files import Input, head_lines
from louder.etl.sources.amazon_ratings import open_amazon_ratings
from louder.etl.sources.kuairand import kuairand_logs, open_kuairand
from louder.etl.sources.leave_one_out import open_leave_one_out
from louder.etl.sources.movielens import open_movielens
from louder.etl.sources.plain import kind_of, open_plain
from louder.etl.sources.sequences import open_sequences
from louder.etl.sources.source import LogSource, log_files
from louder.etl.spec import LogSpec

MOST_COLUMNS = 8  # of a log without a header; lines with more words are sequences
FORMATS: dict[str, Callable[[list[Input], LogSpec, Path], LogSource]] = {
    "movielens": open_movielens,
    "amazon-ratings": open_amazon_ratings,
    "kuairand": open_kuairand,
    "leave-one-out": open_leave_one_out,
    "sequences": open_sequences,
    "csv": open_plain,
    "parquet": open_plain,
    "jsonl": open_plain,
}


def open_source(inputs: list[Input], spec: LogSpec, work: Path) -> LogSource:
    """Recognise and open the log. Raises InputError if no format fits."""
    kind = spec.format if spec.format != "auto" else recognise(inputs, spec)
    if kind not in FORMATS:
        raise InputError(
            f"The format {kind!r} is not known; known are {', '.join(FORMATS)}. Pass one of them: --format csv."
        )
    return FORMATS[kind](inputs, replace(spec, format=kind), work)


def recognise(inputs: list[Input], spec: LogSpec) -> str:
    """The format of a source, from its content. Raises InputError where that may be one or another."""
    first = inputs[0]
    if kuairand_logs(first):
        return "kuairand"
    if (len(inputs) == 1 and not first.member) or Path(first.member).name in ("ratings.dat", "u.data"):
        recent = first.find("ratings.csv") and first.find("movies.csv")
        if first.find("ratings.dat") or first.find("u.data") or recent:
            return "movielens"
        if all(first.find(f"{part}.csv") for part in ("train", "dev", "test")):
            return "leave-one-out"
    name = log_files(first)[0]
    kind = kind_of(first.file(name), first.shown(name))
    if kind != "csv":
        return kind
    lines = [line for line in head_lines(first.file(name)) if line.strip()]
    if first.member == "ratings.csv" and first.find("movies.csv") and lines[0].startswith("userId,movieId"):
        return "movielens"
    if lines and all(re.fullmatch(r"[^,\t]+,[^,\t]+,[0-5](\.\d+)?,\d{9,10}", line) for line in lines[:20]):
        return "amazon-ratings"
    if "auto" not in (spec.delimiter, spec.format) or not words_only(lines):
        return "csv"
    return words_or_columns(lines, spec, first.shown(name))


def words_only(lines: list[str]) -> bool:
    """Whether lines are words with blanks between them, and nothing else that could be between columns."""
    return bool(lines) and all(
        re.fullmatch(r"\S+( \S+)+ ?", line) and not re.search(r"[,;\t|]|::", line) for line in lines[:20]
    )


def words_or_columns(lines: list[str], spec: LogSpec, shown: str) -> str:
    """Lines of words: sequences, `user item item ...`, or the columns of a CSV with blanks?"""
    words = [line.split() for line in lines[:200]]
    if len({len(line) for line in words}) > 1 or len(words) == 1:
        return "csv" if set(words[0]) & set(spec.used) else "sequences"
    names = {*spec.used, schema.USER, schema.ITEM, schema.TIME}
    times = any(all(re.fullmatch(r"\d{9,19}(\.\d+)?", line[at]) for line in words[1:]) for at in range(len(words[0])))
    if set(words[0]) & names or times or spec.columns:
        return "csv"
    if len(words[0]) > MOST_COLUMNS:
        return "sequences"
    raise InputError(
        f"Each line of {shown} has {len(words[0])} words, which may be columns, or a user and items. Say which: --format csv "
        "or --format sequences."
    )
