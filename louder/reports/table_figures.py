"""Figures of a sequence table: history lengths, item popularity and, where the log has a clock, activity and pauses."""

import itertools

import numpy as np

from louder.data.inspect import GAP_EDGES, TableCounts, iso
from louder.reports.chart import Figure, histogram, titled
from louder.reports.theme import BLUE, GREY

TICKS = {"1 s": 1, "1 min": 60, "1 h": 3600, "1 day": 86_400, "30 days": 2_592_000, "3 years": 94_672_800}


def table_figures(counts: TableCounts) -> list[Figure]:
    drawn = [draw_lengths(counts), draw_popularity(counts)]
    return [*drawn, draw_activity(counts), draw_gaps(counts)] if counts.manifest.has_times else drawn


def draw_lengths(counts: TableCounts) -> Figure:
    shortest, longest = max(int(counts.lengths.min()), 1), max(int(counts.lengths.max()), 1)
    # bins of equal width on the log axis, as far as whole numbers can be
    edges = np.unique(np.round(np.geomspace(shortest, longest + 1, 21)).astype(np.int64))
    users = np.histogram(counts.lengths, edges)[0]
    texts = [f"{a:,} events" if b - a == 1 else f"{a:,} to {b - 1:,} events" for a, b in itertools.pairwise(edges)]
    median = float(np.median(counts.lengths))
    figure = histogram(edges, users, texts, "users")
    figure.update_xaxes(tickvals=[step * 10**power for power in range(8) for step in (1, 2, 5)], tickformat=",")
    figure.add_vline(x=max(median, 1), line_dash="dot", line_color=GREY)
    note = {"text": f" median {median:g}", "showarrow": False, "xanchor": "left"}
    # a note on a log axis is placed by the logarithm, unlike the line beside it
    figure.add_annotation(x=np.log10(max(median, 1)), y=1.06, yref="paper", **note)
    return titled(figure, "Events a user", "events (log)", "users")


def draw_popularity(counts: TableCounts) -> Figure:
    events = np.sort(counts.popularity[counts.popularity > 0])[::-1]
    # a curve on log axes needs few points: the first hundred, then some a decade
    rank = np.unique(np.concatenate([np.arange(1, 101), np.geomspace(1, max(len(events), 1), 400)]).astype(np.int64))
    rank = rank[rank <= len(events)]
    figure, hover = Figure(), "rank %{x:,}: %{y:,} events<extra></extra>"
    line = {"color": BLUE, "width": 2.5}
    figure.add_scatter(x=rank.tolist(), y=events[rank - 1].tolist(), mode="lines", line=line, hovertemplate=hover)
    figure.update_xaxes(type="log", dtick=1).update_yaxes(type="log", dtick=1)
    return titled(figure, "Events of each item, most popular first", "rank (log)", "events (log)")


def draw_activity(counts: TableCounts) -> Figure:
    middles = (counts.time_edges[1:] + counts.time_edges[:-1]) / 2
    figure = Figure()
    figure.add_bar(
        x=[iso(int(middle)) for middle in middles],
        y=counts.time_counts.tolist(),
        marker={"color": BLUE, "line": {"width": 0}},
        hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:,} events<extra></extra>",
    )
    figure.update_layout(bargap=0.05)
    return titled(figure, "Events over time", f"each bar is {duration(float(np.diff(counts.time_edges)[0]))}", "events")


def draw_gaps(counts: TableCounts) -> Figure:
    used = np.flatnonzero(counts.gap_counts)
    bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    edges = GAP_EDGES[bins.start : bins.stop + 1]
    texts = [f"{duration(start)} to {duration(end)}" for start, end in itertools.pairwise(edges)]
    figure = histogram(edges, counts.gap_counts[bins], texts, "pauses")
    figure.update_xaxes(tickvals=list(TICKS.values()), ticktext=list(TICKS))
    same = int(counts.pauses[0])
    axis = f"pause (log); not drawn: {same:,} within the same second" if same else "pause (log)"
    return titled(figure, "Pauses between a user's events", axis, "pauses")


def duration(seconds: float) -> str:
    """5400 -> 1.5 h"""
    for name, unit in ("days", 86_400), ("h", 3600), ("min", 60):
        if seconds >= unit:
            return f"{seconds / unit:.2g} {name}" if seconds / unit < 100 else f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.2g} s"
