"""Measured rows -> lines by length of history, number of candidates or microbatch, on logarithmic axes. An
implementation has the same colour in all figures of a bench; Louder's own are blue."""

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import mode
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.rows import MIB, RATIOS, Row, groups, ratio, reference_of
from louder.reports.chart import titled
from louder.reports.markup import Html, joined, tag
from louder.reports.theme import BLUE, GREEN, GREY, ORANGE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Value = Callable[[Row], float]
OWN = BLUE, "#3d97a8", "#8fbbe6", "#5a62b8", "#6cc0b8", "#9aa7c7"
OTHERS = ORANGE, GREEN, "#8a63b8", "#b8504a", GREY


class Strip(NamedTuple):
    """Figures that belong together; `folded`: what the page shows when asked to."""

    heading: str
    figures: list["Figure"]
    folded: bool = False


def colours(rows: Sequence[Row]) -> dict[str, str]:
    """A colour for each implementation."""
    shades = {True: itertools.cycle(OWN), False: itertools.cycle(OTHERS)}
    names = sorted(groups(rows, lambda row: row["implementation"]), key=lambda name: not is_own(name))
    return {name: next(shades[is_own(name)]) for name in names}


def is_own(implementation: str) -> bool:
    return implementation.startswith("louder")


def legend(shades: dict[str, str]) -> Html:
    entries = joined(tag("span", tag("i", data_colour=colour), name) for name, colour in shades.items())
    return tag("p", entries, class_="legend")


def as_lines(bench: str, rows: Sequence[Row]) -> list[Row]:
    """Those of them that lines are drawn of: what was measured at several sizes."""
    if bench == "mfalcon":
        rows = [row for row in rows if row["kind"] == "request"]
        return rows if len({row["case"] for row in rows}) > 1 else []
    if bench not in ("attention", "encoder"):
        return []
    curves = groups(rows, lambda row: f"{row.get('kind')} {row['passes']}").values()
    return [row for own in curves if len({row["max_len"] for row in own}) > 1 for row in own]


def draw(bench: str, rows: Sequence[Row], shades: dict[str, str]) -> list[Strip]:
    """Figures of the rows that as_lines chose, ratios first."""
    if not rows:
        return []
    if bench == "mfalcon":
        return draw_mfalcon(rows, shades)
    reference = rows[0]["reference"]
    references = {name: reference_of(own) for name, own in groups(rows, lambda row: row["case"]).items()}
    measures: dict[str, tuple[str, Value]] = {
        "Ratio": (f"{RATIOS[reference]} {reference}", lambda row: ratio(row, references[row["case"]])),
        "Time": ("seconds", lambda row: row["median_s"]),
        "Memory": ("MiB", lambda row: row["peak_bytes"] / MIB),
    }
    return [
        Strip(f"{measure}{passes}", panels(own, unit, value, shades), folded=measure != "Ratio")
        for measure, (unit, value) in measures.items()
        for passes, own in groups(rows, lambda row: f", {row['passes']}" if "kind" in row else "").items()
    ]


def panels(rows: Sequence[Row], unit: str, value: Value, shades: dict[str, str]) -> list["Figure"]:
    """A figure for each kind, or for training and inference, with one scale, so that they can be compared."""
    figures = [
        draw_lines(own, name, "max_len", "N", unit, value, shades)
        for name, own in groups(rows, lambda row: str(row.get("kind", row["passes"]))).items()
    ]
    return logarithmic(figures, [value(row) for row in rows])


# M-FALCON ---------------------------------------------------------------------------------------------------------

AXES = {
    "candidates": ("number of candidates", "m"),
    "microbatch": ("microbatch", "b"),
    "tokens": ("length of history", "n"),
}


Quantity = tuple[str, str, Value]  # name, unit
SPEED: Quantity = "Speed", "candidates a second", lambda row: row["candidates_per_s"]
ERROR: Quantity = "Error", "of a probability, at most", lambda row: row["max_error"]


def draw_mfalcon(rows: Sequence[Row], shades: dict[str, str]) -> list[Strip]:
    strips = []
    for model, own in groups(rows, lambda row: f"{row['layers']} layers of width {row['width']}").items():
        usual = {axis: mode(row[axis] for row in own) for axis in AXES}
        whole = [row for row in own if "weights" not in row]
        reduced = [row for row in own if "weights" in row]
        exact = [row for row in whole if row["implementation"] == row["reference"]]
        speeds = [sweep(whole, axis, usual, SPEED, shades) for axis in AXES]
        smaller = (exact + reduced, SPEED), (reduced, ERROR)
        weights = [sweep(chosen, "candidates", usual, of, shades) for chosen, of in smaller]
        strips.append(Strip(f"Ways to score, {model}", [figure for figure in speeds if figure]))
        strips.append(Strip("Smaller weights, history cached", [figure for figure in weights if figure]))
    return [strip for strip in strips if strip.figures]


def sweep(
    rows: Sequence[Row], axis: str, usual: dict[str, int], of: Quantity, shades: dict[str, str]
) -> "Figure | None":
    """A figure of what was measured at several numbers of an axis while the others have their usual one; None if
    nothing was."""
    held = {name: number for name, number in usual.items() if name != axis}
    found = [row for row in rows if all(row[name] == number for name, number in held.items())]
    lines = groups(found, lambda row: row["implementation"]).values()
    found = [row for own in lines if len({row[axis] for row in own}) > 1 for row in own]
    if not found:
        return None
    words, letter = AXES[axis]
    x = f"{letter} (" + ", ".join(f"{AXES[name][1]} = {number}" for name, number in held.items()) + ")"
    name, unit, value = of
    figure = draw_lines(found, f"{name} by {words}", axis, x, unit, value, shades)
    return logarithmic([figure], [value(row) for row in found])[0]


# One figure -------------------------------------------------------------------------------------------------------


def draw_lines(
    rows: Sequence[Row], title: str, axis: str, x: str, unit: str, value: Value, shades: dict[str, str]
) -> "Figure":
    """A line by the numbers of an axis for each implementation."""
    from plotly.graph_objects import Figure

    figure = Figure()
    for name, own in groups(rows, lambda row: row["implementation"]).items():
        own = sorted(own, key=lambda row: row[axis])
        figure.add_scatter(
            x=[row[axis] for row in own],
            y=[value(row) or None for row in own],  # 0 has no place on a logarithmic axis
            name=name,
            mode="lines+markers",
            line={"color": shades[name], "width": 3 if name == own[0]["reference"] else 1.75},
            hovertemplate=f"{name}, %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    numbers = sorted({row[axis] for row in rows})
    figure.update_xaxes(type="log", tickvals=numbers, ticktext=spaced(numbers), tickangle=0, title_standoff=6)
    return titled(figure, title, x, unit)


def spaced(numbers: Sequence[int]) -> list[str]:
    """A label for each, but for those that the next one on a logarithmic axis would run into."""
    least = (numbers[-1] / numbers[0]) ** 0.2
    following = [*numbers[1:], numbers[-1] * least]
    return [str(number) if after / number >= least else "" for number, after in zip(numbers, following)]


def logarithmic(figures: list["Figure"], values: Sequence[float]) -> list["Figure"]:
    """The figures with one logarithmic scale for all the values."""
    logs = [math.log10(value) for value in values if value > 0]
    if logs:
        low, high = min(logs), max(logs)
        margin = 0.06 * (high - low) + 0.02
        numbers = ticks(high - low, math.floor(low - margin), math.ceil(high + margin))
        labels = [short(number) for number in numbers]
        for figure in figures:
            figure.update_yaxes(type="log", range=[low - margin, high + margin], tickvals=numbers, ticktext=labels)
    return figures


def ticks(decades: float, first: int, last: int) -> list[float]:
    """Powers of ten, and what stands between them if there are few."""
    steps = (1,) if decades > 2 else (1, 2, 5) if decades > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    return [step * 10.0**power for power in range(first, last + 1) for step in steps]


def short(number: float) -> str:
    """0.02, 500, 20k, 1M"""
    for unit, letter in (1e6, "M"), (1e3, "k"):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"
