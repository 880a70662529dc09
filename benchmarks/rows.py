"""Measured rows: read, grouped, compared, and the lines of a table."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from louder.errors import InputError
from louder.results import Row, read_rows

BENCHES = {
    "attention": "Attention",
    "layer": "One layer",
    "loss": "Loss",
    "step": "Training step",
    "encoder": "Encoder",
    "generative": "Generative training",
    "mfalcon": "M-FALCON",
    "mol_topk": "Top k under a mixture of logits",
}
MEASURE = "python -m benchmarks all --json FILE"
MIB = 1 << 20
RATIOS = {  # by the reference
    "louder": "time ×",
    "louder, cached": "time ×",
    "transformer": "speed ×",
    "brute force": "speed ×",
}
EXTRA = {
    "kept_bytes_per_token": "kept B/token",
    "tokens": "tokens",
    "candidates_per_s": "candidates/s",
    "labels_per_s": "exposures/s",
    "max_error": "error",
    "recall": "recall",
    "scored": "scored",
}


def read(source: Path) -> list[Row]:
    """The rows of a file of JSON lines, or of all such files of a folder. A case measured again stands once, with its
    latest numbers. Raises InputError if there is none of these benches."""
    files = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    found: dict[tuple[str | int | None, ...], Row] = {}
    for file in files:
        if not file.is_file():
            raise InputError(f"There is no file or folder {source}. Measure first: {MEASURE}.")
        for row in read_rows(file):
            if row.get("bench") in BENCHES:
                names = "bench", "case", "implementation", "tokens", "dtype", "device", "threads", "machine"
                key = tuple(row.get(name) for name in names)
                found.pop(key, None)
                found[key] = row
    if not found:
        raise InputError(f"{source} has no rows of a benchmark. Measure first: {MEASURE}.")
    return list(found.values())


def groups(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def place(row: Row) -> str:
    """AMD EPYC, 2 cores, 2 threads, float32"""
    threads = f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"
    where = f"{row.get('machine', 'cpu')}, {threads}" if row["device"] == "cpu" else row["device"]
    return f"{where}, {row['dtype']}"


def measured(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if "skipped" not in row]


def reference_of(rows: Iterable[Row]) -> Row | None:
    """The measured row of one case that the others are beside."""
    return next((row for row in measured(rows) if row["implementation"] == row["reference"]), None)


def ratio(row: Row, reference: Row | None, of: str = "median_s") -> float:
    """Others take a multiple of Louder's time or memory; of a Transformer's or of brute force's, Louder takes a part. Either way above 1
    where Louder is better. NaN where the reference was not measured."""
    if reference is None:
        return math.nan
    one, other = row[of] or 1, reference[of] or 1  # a run may take no memory at all
    return other / one if RATIOS[row["reference"]] == "speed ×" else one / other


def columns(rows: Sequence[Row]) -> list[list[str]]:
    """The measured rows of one case as lines of a table, its head first."""
    found = measured(rows)
    if not found:
        return [["implementation"]]
    reference = reference_of(found)
    extra = [key for key in EXTRA if len({row.get(key) for row in found}) > 1]
    head = ["implementation", "ms", "min", "max", RATIOS[found[0]["reference"]], "MiB", "memory ×"]
    lines = [[*head, *(EXTRA[key] for key in extra)]]
    for row in found:
        times = [short(1000 * row[key]) for key in ("median_s", "min_s", "max_s")]
        speed = of_memory = ""
        if reference:
            speed = multiple(ratio(row, reference))
            of_memory = multiple(row["peak_bytes"] / max(1, reference["peak_bytes"]))
        line = [row["implementation"], *times, speed, short(row["peak_bytes"] / MIB), of_memory]
        lines.append([*line, *(short(row[key]) if key in row else "" for key in extra)])
    return lines


def short(value: float) -> str:
    """561, 7.4, 0.0022"""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 or value == 0 else f"{value:.2g}"


def multiple(ratio: float) -> str:
    """0.0088, 0.86, 7.40, 24.1, 561"""
    for least, shown in (100, ",.0f"), (10, ".1f"), (0.1, ".2f"):
        if ratio >= least:
            return format(ratio, shown)
    return f"{ratio:.2g}"


def left_out(rows: Sequence[Row]) -> list[str]:
    """A sentence for each implementation of a case that was not measured."""
    return [f"Not measured: {row['implementation']}; it {row['skipped']}." for row in rows if "skipped" in row]
