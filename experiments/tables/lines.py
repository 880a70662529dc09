"""Rows by the name of their file, and lines of a table in Markdown."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from louder.results import Row, read_rows

ROOT = Path(__file__).parents[2]
FOLDERS = ROOT / "experiments" / "results", ROOT / "benchmarks" / "results"
Tables = dict[str, Callable[[], list[str]]]  # the lines of each, by its name on a page


def rows_of(name: str) -> list[Row]:
    """Those of a file in one of the folders; none where there is no such file."""
    return [row for folder in FOLDERS if (file := folder / f"{name}.jsonl").exists() for row in read_rows(file)]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    body = [line(cells) for cells in lines]
    return [line(head), "|" + "---|" * len(head), *body] if body else ["Not measured yet."]


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """.6123"""
    return f"{value:.4f}".lstrip("0")


def mean_and_deviation(values: Sequence[float]) -> str:
    """.6123 ± .0012; of one value no deviation is known"""
    shown = number(statistics.mean(values))
    return f"{shown} ± {number(statistics.stdev(values))}" if len(values) > 1 else shown


def amount(name: str) -> Callable[[Row], str]:
    """A field as a whole number; "" where a row lacks it."""
    return lambda row: f"{row[name]:,.0f}" if name in row else ""


def mib(row: Row, name: str = "peak_bytes") -> str:
    return f"{row[name] / 2**20:,.0f}"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.01 else f"{1e3 * seconds:.2g}"


def times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.1g}"
