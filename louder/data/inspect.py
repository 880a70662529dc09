"""What a sequence table holds: statistics, figures, and both on one HTML page.

The table is read part by part, so memory is bounded by one batch of users and one count per user and item.
"""

import html
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.folders import write_text
from louder.schema import ENGAGEMENT, Manifest

USERS_AT_ONCE = 8192
TIME_BINS = 96
GAP_EDGES = 10 ** np.arange(0, 9.01, 0.25)  # seconds; four bins a decade, so that none misses whole seconds
PAUSES = {  # seconds from which each begins
    "same second": 0,
    "under a minute": 1,
    "under an hour": 60,
    "under a day": 3600,
    "under a week": 86_400,
    "under 30 days": 604_800,
    "longer": 2_592_000,
}

Figures = list[Any]  # of plotly figures: plotly is imported where it draws


@dataclass
class Counts:
    """What one reading of the table gives; events are engagements, entries of auxiliary series are not counted.

    lengths      [users] events of each user
    popularity   [items] events of each item id
    gap_counts   [len(GAP_EDGES) - 1] pauses between a user's consecutive events, of a second and more
    pauses       [len(PAUSES)] the same in coarse bins, with those of no seconds
    time_counts  [TIME_BINS] events in equal slices from first to last time, bounds time_edges [TIME_BINS + 1]
    """

    manifest: Manifest
    lengths: np.ndarray
    popularity: np.ndarray
    gap_counts: np.ndarray
    pauses: np.ndarray
    time_counts: np.ndarray
    time_edges: np.ndarray
    tied: int = 0  # events at the same second as another of the same user
    repeated: int = 0  # events whose user had met the item before
    actions: dict[str, int] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)  # count, sum, least, greatest; NaN left out


def count(folder: Path | str) -> Counts:
    """Read a table once. Raises InputError if it is none, is empty or is damaged."""
    folder = Path(folder)
    manifest = Manifest.read(folder)
    # one second more, so that the last event is inside the last slice also where all are at one time
    edges = np.linspace(manifest.first_time, manifest.last_time + 1, TIME_BINS + 1)
    counts = Counts(
        manifest=manifest,
        lengths=np.zeros(0, np.int64),
        popularity=np.zeros(manifest.items, np.int64),
        gap_counts=np.zeros(len(GAP_EDGES) - 1, np.int64),
        pauses=np.zeros(len(PAUSES), np.int64),
        time_counts=np.zeros(TIME_BINS, np.int64),
        time_edges=edges,
        actions=dict.fromkeys(manifest.actions, 0),
        values={name: [0, 0.0, np.inf, -np.inf] for name in manifest.values},
    )
    lengths = [add(counts, batch) for batch in batches(folder, manifest)]
    counts.lengths = np.concatenate(lengths) if lengths else counts.lengths
    if len(counts.lengths) != manifest.users or not manifest.users:
        raise InputError(
            f"{folder} has {len(counts.lengths)} users and its manifest says {manifest.users}; "
            f"both must be the same, and not zero. Make the table again: louder etl SOURCE -o {folder} --overwrite."
        )
    return counts


def batches(folder: Path, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    columns = (
        ["kind", "id", "time"] + ["actions"] * bool(manifest.actions) + [f"value.{name}" for name in manifest.values]
    )
    again = f"Make the table again: louder etl SOURCE -o {folder} --overwrite."
    for file in sorted((folder / "sequences").glob("part-*.parquet")):
        try:
            with pq.ParquetFile(file) as part:
                for name in columns:
                    if name not in part.schema_arrow.names:
                        raise InputError(f"{file} has no column {name!r}, which its manifest speaks of. {again}")
                yield from part.iter_batches(batch_size=USERS_AT_ONCE, columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file} cannot be read ({str(error).splitlines()[0]}). {again}") from error


def add(counts: Counts, batch: pa.RecordBatch) -> np.ndarray:
    """Count one batch of users -> the number of events of each."""

    def flat(name: str) -> np.ndarray:
        return batch.column(name).flatten().to_numpy(zero_copy_only=False)

    engaged = flat("kind") == ENGAGEMENT
    tokens = batch.column("kind").value_lengths().to_numpy(zero_copy_only=False)
    user = np.repeat(np.arange(len(batch)), tokens)[engaged]
    item, time = flat("id")[engaged], flat("time")[engaged]

    counts.popularity += np.bincount(item, minlength=counts.manifest.items)
    counts.repeated += len(item) - len(np.unique(user * counts.manifest.items + item))
    if counts.manifest.has_times:
        same_user = user[1:] == user[:-1]
        tie = same_user & (time[1:] == time[:-1])
        tied = np.zeros(len(time), bool)
        tied[1:] |= tie
        tied[:-1] |= tie
        counts.tied += int(tied.sum())
        gap = np.diff(time)[same_user]
        counts.gap_counts += np.histogram(gap, GAP_EDGES)[0]
        counts.pauses += np.bincount(
            np.searchsorted(list(PAUSES.values()), gap, side="right") - 1, minlength=len(PAUSES)
        )
        counts.time_counts += np.histogram(time, counts.time_edges)[0]
    if counts.actions:
        mask = flat("actions")[engaged]
        for bit, name in enumerate(counts.actions):
            counts.actions[name] += int((mask >> bit & 1).sum())
    for name, entry in counts.values.items():
        value = flat(f"value.{name}")[engaged]
        value = value[~np.isnan(value)].astype(np.float64)
        if len(value):
            least, greatest = min(entry[2], value.min()), max(entry[3], value.max())
            counts.values[name] = [entry[0] + len(value), entry[1] + value.sum(), least, greatest]
    return np.bincount(user, minlength=len(batch))


def describe(folder: Path | str) -> dict[str, Any]:
    """Statistics of a table, as plain numbers and texts that JSON can hold. Raises InputError as `count` does."""
    return summary(count(folder))


def summary(counts: Counts) -> dict[str, Any]:
    """Shares are of events unless named otherwise; `time` and `ties` are None where the log has no clock."""
    manifest, lengths = counts.manifest, counts.lengths
    events = int(lengths.sum())
    cold = int((counts.popularity == 0).sum())
    one_event = int((lengths == 1).sum())
    busiest = np.sort(counts.popularity)[::-1]

    def share(part: int) -> float:
        return part / events if events else 0.0

    return {
        "table": manifest.name,
        "users": manifest.users,
        "items": manifest.items,
        "events": events,
        "tokens": manifest.tokens,
        "lengths": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "mean": float(lengths.mean()),
            "p90": float(np.percentile(lengths, 90)),
            "max": int(lengths.max()),
        },
        "time": {
            "first": iso(manifest.first_time),
            "last": iso(manifest.last_time),
            "days": (manifest.last_time - manifest.first_time) / 86_400,
        }
        if manifest.has_times
        else None,
        "ties": {"events": counts.tied, "share": share(counts.tied)} if manifest.has_times else None,
        "repeats": {"events": counts.repeated, "share": share(counts.repeated)},
        "cold_items": {"items": cold, "share_of_items": cold / manifest.items if manifest.items else 0.0},
        "one_event_users": {"users": one_event, "share_of_users": one_event / manifest.users},
        "popularity": {
            f"top_{percent}_percent": share(int(busiest[: -(-manifest.items * percent // 100)].sum()))
            for percent in (1, 10, 50)
        },
        "actions": {name: {"events": n, "share": share(n)} for name, n in counts.actions.items()},
        "values": {
            name: {
                "mean": total / n if n else None,
                "min": float(least) if n else None,
                "max": float(greatest) if n else None,
                "missing": events - int(n),
            }
            for name, (n, total, least, greatest) in counts.values.items()
        },
        "series": dict(manifest.series),
        "dropped": dict(manifest.dropped),
        "left_out": list(manifest.left_out),
    }


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def length_bins(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users by number of events, in bins that double, from the first that has users.

    returns   starts [n]: 0, 1, 2, 4, 8 ...; a bin ends where the next starts
              users [n]
    """
    edges = np.concatenate([[0], 2 ** np.arange(int(lengths.max()).bit_length() + 1)])
    users = np.histogram(lengths, edges)[0]
    first = int(np.flatnonzero(users)[0])
    return edges[first:-1], users[first:]


# Figures and page ------------------------------------------------------------------------------------------------

TICKS = {"1 s": 1, "1 min": 60, "1 h": 3600, "1 day": 86_400, "30 days": 2_592_000, "3 years": 94_672_800}
BLUE, GREY = "#2f6db5", "#5b6470"


def figures(folder: Path | str) -> Figures:
    """Plotly figures: history lengths, item popularity and, where the log has a clock, activity and pauses."""
    return draw(count(folder))


def draw(counts: Counts) -> Figures:
    drawn = [draw_lengths(counts), draw_popularity(counts)]
    return [*drawn, draw_activity(counts), draw_gaps(counts)] if counts.manifest.has_times else drawn


def draw_lengths(counts: Counts) -> Any:
    shortest, longest = max(int(counts.lengths.min()), 1), max(int(counts.lengths.max()), 1)
    # bins of equal width on the log axis, as far as whole numbers can be
    edges = np.unique(np.round(np.geomspace(shortest, longest + 1, 21)).astype(np.int64))
    users = np.histogram(counts.lengths, edges)[0]
    texts = [f"{a:,} events" if b - a == 1 else f"{a:,} to {b - 1:,} events" for a, b in itertools.pairwise(edges)]
    median = float(np.median(counts.lengths))
    figure = histogram(edges, users, texts, "users")
    figure.add_vline(x=max(median, 1), line_dash="dot", line_color=GREY)
    note = {"text": f" median {median:g}", "showarrow": False, "xanchor": "left", "font": {"color": GREY}}
    # a note on a log axis is placed by the logarithm, unlike the line beside it
    figure.add_annotation(x=np.log10(max(median, 1)), y=1.06, yref="paper", **note)
    return titled(figure, "Events a user", "events (log)", "users")


def draw_popularity(counts: Counts) -> Any:
    import plotly.graph_objects as go

    events = np.sort(counts.popularity[counts.popularity > 0])[::-1]
    # a curve on log axes needs few points: the first hundred, then some a decade
    rank = np.unique(np.concatenate([np.arange(1, 101), np.geomspace(1, max(len(events), 1), 400)]).astype(np.int64))
    rank = rank[rank <= len(events)]
    figure = go.Figure(
        go.Scatter(
            x=rank.tolist(),
            y=events[rank - 1].tolist(),
            mode="lines",
            line={"color": BLUE, "width": 2.5},
            hovertemplate="rank %{x:,}: %{y:,} events<extra></extra>",
        )
    )
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", dtick=1)
    return titled(figure, "Events of each item, most popular first", "rank (log)", "events (log)")


def draw_activity(counts: Counts) -> Any:
    import plotly.graph_objects as go

    middles = (counts.time_edges[1:] + counts.time_edges[:-1]) / 2
    figure = go.Figure(
        go.Bar(
            x=[iso(int(middle)) for middle in middles],
            y=counts.time_counts.tolist(),
            marker={"color": BLUE, "line": {"width": 0}},
            hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:,} events<extra></extra>",
        )
    )
    figure.update_layout(bargap=0.05)
    return titled(figure, "Events over time", f"each bar is {duration(float(np.diff(counts.time_edges)[0]))}", "events")


def draw_gaps(counts: Counts) -> Any:
    used = np.flatnonzero(counts.gap_counts)
    bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    edges = GAP_EDGES[bins.start : bins.stop + 1]
    texts = [f"{duration(start)} to {duration(end)}" for start, end in itertools.pairwise(edges)]
    figure = histogram(edges, counts.gap_counts[bins], texts, "pauses")
    figure.update_xaxes(tickvals=list(TICKS.values()), ticktext=list(TICKS))
    same = int(counts.pauses[0])
    axis = f"pause (log); not drawn: {same:,} within the same second" if same else "pause (log)"
    return titled(figure, "Pauses between a user's events", axis, "pauses")


def histogram(edges: np.ndarray, heights: np.ndarray, texts: list[str], what: str) -> Any:
    """Heights [n] over edges [n + 1] on a log axis, drawn as one area, since bars would need a width each."""
    import plotly.graph_objects as go

    figure = go.Figure(
        [
            go.Scatter(
                x=np.repeat(edges, 2).tolist(),
                y=[0, *np.repeat(heights, 2).tolist(), 0],
                mode="lines",
                line={"color": BLUE, "width": 1},
                fill="tozeroy",
                fillcolor="rgba(47,109,181,.75)",
                hoverinfo="skip",
            ),
            go.Scatter(  # unseen points in the middle of the bars, to hover over
                x=np.sqrt(edges[:-1] * edges[1:].astype(float)).tolist(),
                y=heights.tolist(),
                mode="markers",
                marker={"opacity": 0},
                text=texts,
                hovertemplate="%{text}: %{y:,} " + what + "<extra></extra>",
            ),
        ]
    )
    figure.update_xaxes(type="log")
    return figure


def titled(figure: Any, title: str, x: str, y: str) -> Any:
    figure.update_layout(
        template="plotly_white",
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 16}},
        xaxis_title=x,
        yaxis_title=y,
        showlegend=False,
        height=340,
        margin={"l": 60, "r": 20, "t": 50, "b": 55},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
    )
    return figure


def duration(seconds: float) -> str:
    """5400 -> 1.5 h"""
    for name, unit in ("days", 86_400), ("h", 3600), ("min", 60):
        if seconds >= unit:
            return f"{seconds / unit:.2g} {name}" if seconds / unit < 100 else f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.2g} s"


def rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """A summary as lines to show: what, its number, a remark."""
    lengths, time, ties, repeats = found["lengths"], found["time"], found["ties"], found["repeats"]
    cold, single, top = found["cold_items"], found["one_event_users"], found["popularity"]
    spread = f"least {lengths['min']:,}, mean {lengths['mean']:,.1f}, 90 % up to {lengths['p90']:,.0f}, most {lengths['max']:,}"
    others = found["tokens"] - found["events"]
    out = [
        (
            "users",
            f"{found['users']:,}",
            f"{single['users']:,} of them ({percent(single['share_of_users'])}) with one event",
        ),
        (
            "items",
            f"{found['items']:,}",
            f"{cold['items']:,} of them ({percent(cold['share_of_items'])}) cold: never touched",
        ),
        ("events", f"{found['events']:,}", f"and {others:,} entries of series" if others else ""),
        ("events a user", f"{lengths['median']:,g}", f"median; {spread}"),
        ("top 1 % of items", percent(top["top_1_percent"]), f"of events; top 10 %: {percent(top['top_10_percent'])}"),
        ("repeats", percent(repeats["share"]), f"{repeats['events']:,} events on an item the user had met before"),
    ]
    if time:
        out += [
            ("ties", percent(ties["share"]), f"{ties['events']:,} events at the same second as another of the user"),
            ("time", f"{time['days']:,.1f} days", f"{time['first'][:10]} to {time['last'][:10]} (UTC)"),
        ]
    else:
        out.append(("time", "none", "there is no clock, only the order of events"))
    for name, action in found["actions"].items():
        out.append((f"action {name}", percent(action["share"]), f"{action['events']:,} events"))
    for name, value in found["values"].items():
        mean = f"{value['mean']:,.4g}" if value["mean"] is not None else "none"
        bounds = f"mean; {value['min']:,.6g} to {value['max']:,.6g}; " if value["mean"] is not None else ""
        out.append((f"value {name}", mean, f"{bounds}{value['missing']:,} missing"))
    out += [(f"series {name}", f"{size:,}", "different values") for name, size in found["series"].items()]
    out += [(f"dropped: {reason}", f"{n:,}", "rows of the log") for reason, n in found["dropped"].items() if n]
    return out


def percent(share: float) -> str:
    """0.0004 -> 0.04 %"""
    return f"{100 * share:.3g} %"


STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
p { color: #5b6470; margin-top: 0; }
table { border-collapse: collapse; margin: 1.5rem 0; }
td { padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid #e6e8eb; vertical-align: top; }
td:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums; font-weight: 600; white-space: nowrap; }
td:nth-child(3) { color: #5b6470; }
/* a fixed number of columns: a figure is drawn as wide as its cell is when it comes, before the next ones are there */
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
@media (max-width: 900px) { .figures { grid-template-columns: minmax(0, 1fr); } }
"""


def write_page(counts: Counts, path: Path) -> None:
    """Raises InputError if the page cannot be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page(counts))
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{path} cannot be written ({why}). Choose another place: --html FILE.html.") from error


def page(counts: Counts) -> str:
    """One HTML page with everything in it, plotly too, so that it opens without a network."""
    manifest = counts.manifest
    table = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(summary(counts))
    )
    shown = {"displayModeBar": False, "responsive": True}
    plots = "".join(  # the first brings plotly itself, for all
        f"<div>{figure.to_html(full_html=False, include_plotlyjs=number == 0, config=shown)}</div>"
        for number, figure in enumerate(draw(counts))
    )
    name = html.escape(manifest.name)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: a sequence table</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<h1>{name}</h1><p>A sequence table made by Louder {html.escape(manifest.louder)}: "
        f"<code>{html.escape(manifest.command)}</code></p>"
        f'<table>{table}</table><div class="figures">{plots}</div></body></html>\n'
    )
