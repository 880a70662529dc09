"""The page of a stream: how well each window was foretold, how far behind it is, and what was published."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from louder.errors import InputError
from louder.folders import read_json
from louder.reports.chart import Figure, legend, mode, titled
from louder.reports.markup import Html, document, figures, joined, section, table, tag, write_page
from louder.reports.theme import BLUE, GREEN, GREY, ORANGE
from louder.results import Row, read_rows

ROWS, SETTINGS = "stream.jsonl", "stream.json"
LATEST = 25  # rows of the table
MOST_POINTS = 2_000
INTERVAL_FILL = "rgba(128, 148, 170, 0.25)"
LIVE_S = 30 * 86_400  # events that are older when they are learnt from were played, and no clock says anything of them
PACE = "How old the newest event is when the model that learnt from it is saved."
OF_ANOTHER_TIME = "The events are of another time, so nothing is said of how old they are."
NEXT_ITEM = {
    "hr@10": "HR@10",
    "ndcg@10": "NDCG@10",
    "log_perplexity": "Log-perplexity",
}
RANKING = {"ne": "NE", "auc": "AUC"}


def is_stream(folder: Path) -> bool:
    return (folder / SETTINGS).is_file()


def write_stream_report(folder: Path, output: Path | None = None) -> Path:
    """Raises InputError where no window has been learnt from yet."""
    about = read_json(folder / SETTINGS, "settings of a stream", dict, "what louder stream wrote")
    rows = read_rows(folder / ROWS) if (folder / ROWS).is_file() else []
    if not rows:
        raise InputError(f"{folder} has learnt from no window yet. Wait for the first, or look at its screen.")
    output = output or folder / "report.html"
    write_page(page(folder.name, about, rows), output)
    return output


def page(name: str, about: Row, rows: Sequence[Row]) -> str:
    sections = [
        headline(name, about, rows),
        section(
            "Foretold before it was learnt from",
            "Each window by the model as it was before; the band is a 95 % interval, by a bootstrap over users.",
            figures(metric_figures(rows), columns=3 if "ranking" not in rows[-1] else 2),
        ),
        section(
            "Keeping up",
            PACE if is_live(rows) else OF_ANOTHER_TIME,
            figures(pace(rows), columns=2 if is_live(rows) else 3),
        ),
        section("What came", "Events of unknown items are left out of the training.", figures(contents(rows))),
        versions(rows),
        section("Latest windows", "Times are UTC.", windows(rows[-LATEST:])),
    ]
    return document(f"{name}: a stream of Louder", sections)


def headline(name: str, about: Row, rows: Sequence[Row]) -> Html:
    last, settings = rows[-1], about["settings"]
    events = sum(row["events"] for row in rows)
    facts = (
        f"from {about['from']} · windows of {span(settings['window_s'])}, {len(rows):,} of them · {events:,} events · "
        f"up to {clock(last['upto'])}"
    )
    cards = [*card_metrics(rows), ("Work", span(last["seconds"]["all"]), "on the latest window")]
    if is_live(rows):
        cards.append(("Behind", span(last["behind_s"]), "the newest event"))
    cards.append(("Lag", f"{last['lag']:,}", "records not read yet"))
    if events:
        unknown = sum(row["unknown"] for row in rows) / events
        cards.append(("Unknown", f"{unknown:.1%}", "of all events, left out"))
    shown = joined(
        tag("div", title, tag("b", value), tag("small", note), class_="card") for title, value, note in cards
    )
    return tag("header", tag("h1", name), tag("div", facts, class_="muted"), tag("div", shown, class_="cards"))


def is_live(rows: Sequence[Row]) -> bool:
    return bool(rows[-1]["behind_s"] < LIVE_S)


def card_metrics(rows: Sequence[Row]) -> Iterator[tuple[str, str, str]]:
    for title, of, interval in metrics(fullest(rows)):
        found = [(value, interval(row)) for row in rows if (value := of(row)) is not None]
        if title.endswith(("HR@10", "NE", "AUC")) and found:
            value, bounds = found[-1]
            yield title, f"{value:.4f}", f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "latest window"


def fullest(rows: Sequence[Row]) -> Row:
    """A row with all metrics: one of a window in which nothing was shown names no actions."""
    return max(rows, key=lambda row: len(row.get("ranking", {}).get("actions", {})))


Reading = Callable[[Row], float | None]
Bounds = Callable[[Row], Sequence[float] | None]


def metrics(row: Row) -> Iterator[tuple[str, Reading, Bounds]]:
    """Title, and how a row is read, of each metric that rows have."""
    if "next_item" in row:
        for name, title in NEXT_ITEM.items():
            yield title, reading(("next_item",), name), bounds(("next_item",), name)
    for action in row.get("ranking", {}).get("actions", {}):
        for name, title in RANKING.items():
            path = "ranking", "actions", action
            yield f"{action}: {title}", reading(path, name), bounds(path, name)


def reading(path: Sequence[str], name: str) -> Reading:
    return lambda row: inside(row, path).get(name)


def bounds(path: Sequence[str], name: str) -> Bounds:
    return lambda row: inside(row, path).get(f"{name}_interval")


def inside(row: Row, path: Sequence[str]) -> Row:
    for name in path:
        row = row.get(name) or {}
    return row


def thinned(rows: Sequence[Row]) -> Sequence[Row]:
    return rows[:: -(-len(rows) // MOST_POINTS)]


def metric_figures(rows: Sequence[Row]) -> Iterator[Figure]:
    for title, of, interval in metrics(fullest(rows)):
        found = [(clock(row["upto"]), value, interval(row)) for row in thinned(rows) if (value := of(row)) is not None]
        if not found:
            continue
        figure, banded = Figure(), [(time, own) for time, _, own in found if own]
        line = {"width": 0}
        hidden = {"mode": "lines", "line": line, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=[time for time, _ in banded], y=[own[0] for _, own in banded], **hidden)
        figure.add_scatter(
            x=[time for time, _ in banded],
            y=[own[1] for _, own in banded],
            fill="tonexty",
            fillcolor=INTERVAL_FILL,
            **hidden,
        )
        figure.add_scatter(
            x=[time for time, _, _ in found], y=[value for _, value, _ in found], mode=mode(found), line={"color": BLUE}
        )
        yield titled(figure, title, "end of the window", "")


def lines(rows: Sequence[Row], title: str, unit: str, **series: tuple[str, Callable[[Row], float | None]]) -> Figure:
    figure, rows = Figure(), thinned(rows)
    times = [clock(row["upto"]) for row in rows]
    for name, (colour, of) in series.items():
        figure.add_scatter(
            x=times, y=[of(row) for row in rows], mode=mode(rows), line={"color": colour}, name=name.replace("_", " ")
        )
    drawn = titled(figure, title, "end of the window", unit)
    return legend(drawn) if len(series) > 1 else drawn


def pace(rows: Sequence[Row]) -> list[Figure]:
    behind = lines(rows, "Behind the newest event", "seconds", behind=(BLUE, lambda row: row["behind_s"]))
    work = lines(
        rows,
        "Work on a window",
        "seconds",
        all=(GREY, lambda row: row["seconds"]["all"]),
        test=(ORANGE, lambda row: row["seconds"]["test"]),
        train=(BLUE, lambda row: row["seconds"]["train"]),
    )
    lag = lines(rows, "Lag", "records not read yet", lag=(BLUE, lambda row: row["lag"]))
    speed = lines(rows, "Speed, testing included", "events/s", speed=(BLUE, lambda row: row["events_per_s"]))
    return [behind, work, lag, speed] if is_live(rows) else [work, lag, speed]


def contents(rows: Sequence[Row]) -> list[Figure]:
    came = lines(
        rows,
        "Events and negatives",
        "in a window",
        events=(BLUE, lambda row: row["events"]),
        negatives=(ORANGE, lambda row: row["negatives"]),
        corrections=(GREEN, lambda row: row["corrections"]),
    )
    unknown = lines(
        rows,
        "Unknown items",
        "share of events",
        unknown=(BLUE, lambda row: row["unknown"] / row["events"] if row["events"] else None),
    )
    some = any(row["unknown"] for row in rows)
    unknown.update_yaxes(tickformat=".1%", rangemode="tozero", range=None if some else [0, 0.01])
    return [came, unknown]


def versions(rows: Sequence[Row]) -> Html:
    """What the gate said, where there is one."""
    gated = [row for row in rows if "published" in row]
    if not gated:
        return Html("")
    refused = [row for row in gated if row.get("refused") or row.get("rolled_back")]
    note = f"{len(gated) - len(refused):,} of {len(gated):,} windows were published; {gated[-1]['published'] or 'nothing'} is served."
    said = [
        [
            row["window"],
            clock(row["upto"]),
            "; ".join(row.get("refused", [])) or "the served version fell behind the one before, and was rolled back",
            row["published"] or "–",
        ]
        for row in refused[-LATEST:][::-1]
    ]
    return section("Versions", note, table(["window", "to", "why not", "served"], said) if said else "")


def windows(rows: Sequence[Row]) -> Html:
    named = list(metrics(fullest(rows)))[:6]
    head = [
        "window",
        "to",
        "events",
        "users",
        "steps",
        "loss",
        *(title for title, _, _ in named),
        "late",
        "version",
    ]
    body = [
        [
            row["window"],
            clock(row["upto"]),
            f"{row['events']:,}",
            f"{row['users']:,}",
            row["steps"],
            decimal(row["loss"]),
            *(decimal(of(row)) for _, of, _ in named),
            f"{row['joined'].get('late', 0):,}",
            row.get("published") or row["version"],
        ]
        for row in rows[::-1]
    ]
    return table(head, body, numbers=1)


def decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def clock(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S") if abs(second) < 1 << 36 else str(second)


def span(seconds: float) -> str:
    """75 -> 1 min 15 s"""
    if seconds < 10:
        return f"{seconds:.1f} s"
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in [x for x in parts if x[0]][:2])
