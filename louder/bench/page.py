"""Measured rows -> tables, and one HTML page with plots that opens without a network."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from louder.data.inspect import BLUE, titled
from louder.errors import InputError
from louder.folders import write_text
from louder.reports.figures import ORANGE
from louder.reports.markup import Html, details, figures, joined, table, tag
from louder.reports.page import document, section
from louder.results import read_rows

Row = dict[str, Any]
BENCHES = {
    "attention": (
        "Attention",
        "The op over jagged histories; its naive twin; the official op on padded tensors; causal "
        "scaled_dot_product_attention of padded tensors, without bias. Uniform: every history is as long as the "
        "longest. Zipf: few are. Rab: with biases by position and by time.",
    ),
    "layer": (
        "One layer",
        "Forward and backward of one HSTU layer; the same with torch ops alone; Transformer layers of the same width. "
        "Kept is what the forward pass keeps for the backward pass.",
    ),
    "mfalcon": ("M-FALCON", "Candidates scored against one user's history; beside a DLRM of this repository."),
    "generative": ("Generative training", "All exposures of a history in one pass, beside a pass for each."),
    "loss": ("Loss", "Forward and backward of the loss alone."),
    "step": ("Training step", "Forward, loss, backward and optimizer."),
    "encoder": (
        "Encoder",
        "HSTU trained with stochastic length, on histories as long as in 30 days of the paper's service, beside a "
        "Transformer of the same width and depth on full histories padded to N; and both in inference.",
    ),
}
COLOURS = BLUE, ORANGE, "#4a9468", "#8a63b8", "#808890", "#b8504a", "#3d97a8"
MIB = 1 << 20
RATIOS = {"louder": "time ×", "louder, cached": "time ×", "transformer": "speed ×"}  # by the reference
EXTRA = {
    "kept_bytes_per_token": "kept B/token",
    "tokens": "tokens",
    "candidates_per_s": "candidates/s",
    "labels_per_s": "labels/s",
}
NOTE = (
    "× is beside louder, or beside the Transformer. Medians of runs in turn, A B C A B C, in one process after one run to warm up. Memory is what a run takes on top "
    "of what was there before it, at its highest: on a processor that of all tensors, without the few blocks that a "
    "C++ kernel keeps for itself."
)


def read(source: Path) -> list[Row]:
    """The rows of a file of JSON lines, or of all such files of a folder. A case measured again stands once, with its
    latest numbers. Raises InputError if there is none of these benches."""
    files = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    found: dict[tuple[Any, ...], Row] = {}
    for file in files:
        if not file.is_file():
            raise InputError(f"There is no file or folder {source}. Measure first: louder bench all --json FILE.")
        for row in read_rows(file):
            if row.get("bench") in BENCHES:
                names = "bench", "case", "implementation", "tokens", "dtype", "device", "threads", "machine"
                key = tuple(row.get(name) for name in names)
                found.pop(key, None)
                found[key] = row
    if not found:
        raise InputError(f"{source} has no rows of louder bench. Measure first: louder bench all --json FILE.")
    return list(found.values())


def columns(rows: Sequence[Row]) -> list[list[str]]:
    """The measured rows of one case as lines of a table, its head first."""
    measured = [row for row in rows if "skipped" not in row]
    if not measured:
        return [["implementation"]]
    reference = next((row for row in measured if row["implementation"] == row["reference"]), None)
    extra = [key for key in EXTRA if len({row.get(key) for row in measured}) > 1]
    head = ["implementation", "ms", "min", "max", RATIOS[measured[0]["reference"]], "MiB", "memory ×"]
    lines = [[*head, *(EXTRA[key] for key in extra)]]
    for row in measured:
        times = [short(1000 * row[key]) for key in ("median_s", "min_s", "max_s")]
        speed = of_memory = ""
        if reference:
            speed = f"{ratio(row, reference):.3g}"
            of_memory = f"{row['peak_bytes'] / max(1, reference['peak_bytes']):.2f}"
        line = [row["implementation"], *times, speed, short(row["peak_bytes"] / MIB), of_memory]
        lines.append([*line, *(f"{row[key]:,.0f}" if key in row else "" for key in extra)])
    return lines


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ratio(row: Row, reference: Row | None) -> float:
    """Others take a multiple of Louder's time; beside a Transformer, Louder is so many times as fast. NaN where the
    reference was not measured."""
    if reference is None:
        return math.nan
    of_time = row["median_s"] / reference["median_s"]
    return 1 / of_time if row["reference"] == "transformer" else of_time


def left_out(rows: Sequence[Row]) -> list[str]:
    """A sentence for each implementation of a case that was not measured."""
    return [f"Not measured: {row['implementation']}; it {row['skipped']}." for row in rows if "skipped" in row]


def write_page(rows: Sequence[Row], path: Path) -> None:
    """One HTML page of the rows, in sections by bench and by where it was measured."""
    sections = [tag("header", tag("h1", "Speed and memory"), tag("p", NOTE))]
    places = groups(rows, place)
    for at, measured in places.items():
        for bench, own in groups(measured, lambda row: row["bench"]).items():
            title, note = BENCHES[bench]
            drawn = figures(draw(bench, own), columns=3)
            sections.append(section(f"{title} · {at}" if len(places) > 1 else title, note, drawn, tables(own)))
    commands = joined(tag("div", tag("code", command)) for command in groups(rows, lambda row: row.get("command", "")))
    facts = [("measured on", " and ".join(places)), ("commands", commands)]
    for key, label in ("date", "date"), ("commit", "commit"), ("louder", "Louder"), ("python", "Python"):
        facts.append((label, ", ".join(dict.fromkeys(str(row.get(key, "")) for row in rows))))
    sections.append(section("Provenance", "", details(facts)))
    write_text(path, document("Louder: speed and memory", sections))


def groups(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def place(row: Row) -> str:
    """AMD EPYC, 2 cores, 2 threads, float32"""
    threads = row["threads"]
    where = row["device"]
    if where == "cpu":
        where = f"{row.get('machine', 'cpu')}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{where}, {row['dtype']}"


def tables(rows: Sequence[Row]) -> Html:
    parts: list[Html] = []
    for name, own in groups(rows, lambda row: row["case"]).items():
        sizes = ", ".join(f"{own[0][key]:,} {key}" for key in ("users", "tokens", "rows", "items") if own[0].get(key))
        head, *lines = columns(own)
        parts += [tag("h3", name), tag("div", sizes, class_="muted"), table(head, lines, numbers=1)]
        parts += [tag("p", sentence, class_="muted") for sentence in left_out(own)]
    return tag("details", tag("summary", "All numbers"), joined(parts))


# Plots -----------------------------------------------------------------------------------------------------------


def draw(bench: str, rows: Sequence[Row]) -> list[Any]:
    measured = [row for row in rows if "skipped" not in row]
    if bench in ("attention", "encoder"):
        drawn = []
        for name, own in groups(measured, lambda row: f"{row.get('kind', '')} {row['passes']}".strip()).items():
            drawn += [
                draw_lines(own, f"Time: {name}", "seconds", lambda row: row["median_s"]),
                draw_lines(own, f"Memory: {name}", "MiB", lambda row: row["peak_bytes"] / MIB),
                draw_lines(own, f"Ratio: {name}", f"{RATIOS[own[0]['reference']]} {own[0]['reference']}", ratios(own)),
            ]
        return drawn
    drawn = [
        draw_bars(measured, "Time", "seconds", lambda row: row["median_s"]),
        draw_bars(measured, "Memory", "MiB", lambda row: row["peak_bytes"] / MIB),
    ]
    if all("kept_bytes_per_token" in row for row in measured):
        drawn.append(
            draw_bars(measured, "Kept for the backward pass", "bytes a token", lambda row: row["kept_bytes_per_token"])
        )
    return drawn


def ratios(rows: Sequence[Row]) -> Callable[[Row], float]:
    """The ratio of a row to its case's reference."""
    references = {row["case"]: row for row in rows if row["implementation"] == row["reference"]}
    return lambda row: ratio(row, references.get(row["case"]))


def draw_lines(rows: Sequence[Row], title: str, unit: str, value: Callable[[Row], float]) -> Any:
    """A line by length of the longest history for each implementation, on logarithmic axes."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for (name, own), colour in zip(groups(rows, lambda row: row["implementation"]).items(), itertools.cycle(COLOURS)):
        own = sorted(own, key=lambda row: row["max_len"])
        figure.add_scatter(
            x=[row["max_len"] for row in own],
            y=[value(row) for row in own],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            hovertemplate=f"{name}, N = %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    lengths = sorted({row["max_len"] for row in rows})
    figure.update_xaxes(type="log", tickvals=lengths, ticktext=[f"{length:,}" for length in lengths])
    figure.update_yaxes(type="log")
    return legend_below(titled(figure, title, "longest history", unit))


def draw_bars(rows: Sequence[Row], title: str, unit: str, value: Callable[[Row], float]) -> Any:
    """A group of bars for each case."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for (name, own), colour in zip(groups(rows, lambda row: row["implementation"]).items(), itertools.cycle(COLOURS)):
        figure.add_bar(
            x=[row["case"].replace(", ", "<br>") for row in own],
            y=[value(row) for row in own],
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate=f"{name}: %{{y:.3g}}<extra></extra>",
        )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(type="category")
    return legend_below(titled(figure, title, "", unit))


def legend_below(figure: Any) -> Any:
    below = {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.28, "yanchor": "top", "font": {"size": 10}}
    figure.update_layout(showlegend=True, legend=below)
    return figure
