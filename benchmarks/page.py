"""Measured rows -> one HTML page, ratios first, that opens without a network."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.overview import overview
from benchmarks.plots import Strip, as_lines, colours, draw, is_own, legend
from benchmarks.rows import (
    BENCHES,
    EXTRA,
    MIB,
    RATIOS,
    columns,
    groups,
    left_out,
    measured,
    multiple,
    place,
    ratio,
    reference_of,
    short,
)
from louder.folders import write_text
from louder.reports.markup import Html, details, document, figures, joined, section, table, tag
from louder.results import Row

NOTES = {
    "attention": (
        "HSTU attention over jagged histories, the longest of N events. Naive is the reference implementation, one user at a time; padded, "
        "the official op; sdpa, causal scaled_dot_product_attention of tensors that are padded already, without bias. "
        "Uniform: every history is as long as the longest. Zipf: few are; louder, padding is what it takes if they "
        "were. Rab: with biases by position and by time."
    ),
    "layer": (
        "One HSTU layer, forward and backward. Naive and padded: the same with torch ops alone. Torch and transformer: "
        "Transformer layers of the same width. Kept is what the forward pass keeps for the backward pass."
    ),
    "loss": (
        "Forward and backward of the loss alone. Naive is the reference implementation; official gathers a vector for each negative; "
        "cross_entropy holds the logits of all items."
    ),
    "step": (
        "Forward, loss, backward and optimizer of the recipes. Naive: torch ops, attention one user at a time. Padded: "
        "the official way."
    ),
    "encoder": (
        "HSTU trained with stochastic length, on histories of up to N events that are as long as in 30 days of the paper's "
        "service, beside a Transformer of the same width and depth on full histories padded to N; and inference."
    ),
    "generative": "All exposures of a history trained in one pass, beside a pass for each, timed on a sample of them.",
    "mfalcon": (
        "A ranker scores m candidates for one user, in microbatches of b, whose history has n tokens. Cached: the "
        "history was cached in a request before. Cold: it is computed in the request. One batch: one pass over the "
        "history and all candidates. One pass per candidate is timed on a few. The DLRM is this repository's."
    ),
    "mol_topk": (
        "The k items of highest score for a batch of users. Brute force scores every item. Two passes are exact too; the "
        "others score the first items of each dot product, of one averaged dot product, or of both, and recall says what "
        "share of the k they find."
    ),
}
SUMMARY = (
    "Each part of Louder beside its reference implementation and beside what one would use instead. In this table × says how many "
    "times as fast Louder is, or how many times less memory it takes: above 1 Louder is ahead."
)
SCALE = (
    "A bar goes from the least to the most of all cases and machines, on a logarithmic scale, with a mark at the median "
    "and a line at 1."
)
METHOD = (
    "Times are medians of runs in turn, A B C A B C, in one process after one run to warm up. Memory is what a run takes "
    "on top of what was there before it, at its highest: on a processor that of all tensors, without the few blocks that "
    "a C++ kernel keeps for itself."
)
RATES = "candidates_per_s", "labels_per_s", "max_error", "recall"


def write_page(rows: Sequence[Row], path: Path) -> None:
    """An overview, a section for each bench, and what made the rows."""
    summary = tag("p", SUMMARY, tag("span", f" {SCALE}", class_="wide"))
    header = tag("header", tag("h1", "Speed and memory"), summary, overview(rows))
    benches = groups(rows, lambda row: row["bench"])
    sections = [bench_section(bench, benches[bench]) for bench in BENCHES if bench in benches]
    write_text(path, document("Louder: speed and memory", [header, *sections, provenance(rows)]))


def bench_section(bench: str, rows: Sequence[Row]) -> Html:
    """Each machine by itself, the one with most rows first: lines of what was measured at several sizes, and bars of
    the other cases."""
    shades, parts = colours(rows), []
    for at, own in sorted(groups(rows, place).items(), key=lambda one: -len(one[1])):
        lines = as_lines(bench, measured(own))
        strips = draw(bench, lines, shades)
        parts.append(tag("h3", at, class_="place"))
        if strips:
            parts += [legend(shades), *(strip(one) for one in strips if not one.folded)]
        drawn = {row["case"] for row in lines}
        others = groups((row for row in own if row["case"] not in drawn), lambda row: row["case"])
        parts.append(tag("div", joined(bars(name, case) for name, case in others.items()), class_="cases"))
        if folded := [strip(one) for one in strips if one.folded]:
            parts.append(tag("details", tag("summary", "Time and memory"), legend(shades), *folded))
        parts.append(tables(own))
    return tag("div", section(BENCHES[bench], NOTES[bench], *parts), id=bench)


def strip(one: Strip) -> Html:
    columns = {1: 2, 2: 2, 4: 4}.get(len(one.figures), 3)
    return joined([tag("h4", one.heading), figures(one.figures, columns=columns)])


def bars(name: str, rows: Sequence[Row]) -> Html:
    """One case: a bar of time for each implementation, with its numbers."""
    found = measured(rows)
    reference = reference_of(found)
    extra = [key for key in RATES if any(key in row for row in found)]
    longest = max((row["median_s"] for row in found), default=0.0)
    head = ["", "", "time", RATIOS[rows[0]["reference"]], *([EXTRA[key] for key in extra] or ["memory"])]
    body = []
    for row in found:
        width = f"width: {100 * row['median_s'] / longest:.1f}%"
        bar = tag("i", style=width, class_="own" if is_own(row["implementation"]) else "")
        numbers = [short(row[key]) if key in row else "" for key in extra] or [f"{short(row['peak_bytes'] / MIB)} MiB"]
        ratio_of = multiple(ratio(row, reference)) if reference else ""
        body.append([row["implementation"], bar, seconds(row["median_s"]), ratio_of, *numbers])
    marked = found.index(reference) if reference else -1
    notes = joined(tag("p", sentence, class_="muted") for sentence in left_out(rows))
    return tag("div", tag("h4", name), table(head, body, numbers=2, marked=marked), notes, class_="bars")


def seconds(time: float) -> str:
    """0.0082 -> 8.2 ms, 561.2 -> 561 s"""
    return f"{short(1000 * time)} ms" if time < 10 else f"{short(time)} s"


def tables(rows: Sequence[Row]) -> Html:
    parts: list[Html] = []
    for name, own in groups(rows, lambda row: row["case"]).items():
        sizes = ", ".join(f"{own[0][key]:,} {key}" for key in ("users", "tokens", "rows", "items") if own[0].get(key))
        head, *lines = columns(own)
        parts += [tag("h4", name), tag("div", sizes, class_="muted"), table(head, lines, numbers=1)]
        parts += [tag("p", sentence, class_="muted") for sentence in left_out(own)]
    return tag("details", tag("summary", "All numbers"), joined(parts))


def provenance(rows: Sequence[Row]) -> Html:
    def different(name: str) -> list[str]:
        return list(groups(rows, lambda row: str(row.get(name, ""))))

    def lines(texts: Iterable[object]) -> Html:
        return joined(tag("div", one) for one in texts)

    facts: list[tuple[str, object]] = [("measured on", lines(groups(rows, place)))]
    names = {"date": "date", "commit": "commit", "louder": "Louder", "python": "Python"}
    facts += [(title, ", ".join(different(name))) for name, title in names.items()]
    facts.append(("commands", lines(tag("code", command) for command in different("command"))))
    return section("How it was measured", METHOD, details(facts))
