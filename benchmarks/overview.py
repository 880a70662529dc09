"""Measured rows -> one table of ratios: what Louder is beside, with the least, the median and the most of all cases."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.rows import BENCHES, Row, groups, measured, multiple, place, ratio, reference_of
from louder.reports.markup import Html, joined, tag

HEAD = "", "", "median ×", "least – most", "memory ×", "cases"


class Span(NamedTuple):
    """Ratios to one implementation; `memory` is a median."""

    least: float
    median: float
    most: float
    memory: float  # NaN where a share of the case was measured
    cases: int


def overview(rows: Sequence[Row]) -> Html:
    """Of the benches, which are sections of the page, in their order; without the rankers that were made to be many
    times M-FALCON's DLRM."""
    alike = [row for row in measured(rows) if row.get("kind") not in ("amortised", "one pass")]
    found = groups(alike, lambda row: row["bench"])
    benches = {bench: spans(found[bench]) for bench in BENCHES if bench in found}
    at = scale([end for own in benches.values() for span in own.values() for end in (span.least, span.most)])
    lines = []
    for bench, own in benches.items():
        heading = joined([tag("a", BENCHES[bench], href=f"#{bench}"), f" · {beside(found[bench][0]['reference'])}"])
        lines.append(tag("tr", tag("th", heading, colspan=len(HEAD))))
        for name, span in own.items():
            ends = f"{multiple(span.least)} – {multiple(span.most)}"
            numbers = multiple(span.median), ends, "" if math.isnan(span.memory) else multiple(span.memory), span.cases
            cells = joined(tag("td", number, class_="number") for number in numbers)
            lines.append(tag("tr", tag("td", name), tag("td", bar(span, at)), cells))
    head = tag("tr", joined(tag("th", name, class_="number") for name in HEAD))
    return tag("div", tag("table", tag("thead", head), tag("tbody", joined(lines)), class_="overview"), class_="scroll")


def spans(rows: Sequence[Row]) -> dict[str, Span]:
    """Of each implementation but the reference."""
    ratios: dict[str, list[tuple[float, float]]] = {}
    for own in groups(rows, lambda row: f"{place(row)} {row['case']}").values():
        reference = reference_of(own)
        for row in own:
            if reference is not None and row is not reference:
                whole = not any(key.startswith("measured_") for key in row)
                memory = ratio(row, reference, "peak_bytes") if whole else math.nan
                ratios.setdefault(row["implementation"], []).append((ratio(row, reference), memory))
    found = {}
    for name, pairs in ratios.items():
        times, memory = [time for time, _ in pairs], median(memory for _, memory in pairs)
        found[name] = Span(min(times), median(times), max(times), memory, len(pairs))
    return found


def scale(numbers: Sequence[float]) -> Callable[[float], float]:
    """Where a number stands on a logarithmic axis that has all of them and 1, in percent from the left."""
    low, high = (math.log(end(1.0, *numbers)) for end in (min, max))
    return lambda number: round(100 * (math.log(number) - low) / ((high - low) or 1), 1)


def bar(span: Span, at: Callable[[float], float]) -> Html:
    """From the least to the most, a mark at the median and a line at 1."""
    from_to = tag("i", style=f"left: {at(span.least)}%; right: {100 - at(span.most):.1f}%")
    return tag(
        "div", tag("s", style=f"left: {at(1)}%"), from_to, tag("b", style=f"left: {at(span.median)}%"), class_="span"
    )


def beside(reference: str) -> str:
    if reference == "brute force":
        return "beside brute force"
    return f"{reference} beside" if reference.startswith("louder") else f"beside a {reference.capitalize()}"
