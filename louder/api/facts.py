"""What handles say of themselves: a few facts, as text and as HTML. A terminal shows the same ones."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from louder.schema import Manifest

Fact = tuple[str, object]


def title(manifest: Manifest, path: Path) -> str:
    return f"{manifest.name} → {path}"


def of_table(manifest: Manifest) -> list[Fact]:
    """How many of what a sequence table holds."""
    rows: list[Fact] = [("read as", manifest.read_as)] if manifest.read_as else []
    rows += [("users", manifest.users), ("items", manifest.items), ("events", manifest.events)]
    if manifest.series:
        rows.append(("tokens, with changes of series", manifest.tokens))
    if manifest.has_times:
        for which, second in ("first", manifest.first_time), ("last", manifest.last_time):
            rows.append((f"{which} event (UTC)", f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M}"))
    else:
        rows.append(("times", "none: the order of the log"))
    if manifest.values:
        rows.append(("values", ", ".join(manifest.values)))
    rows += [(f"series {series}", f"{size:,} values") for series, size in manifest.series.items()]
    return [*rows, *manifest.counts.items()]


def of_dropped(manifest: Manifest) -> list[Fact]:
    """Why rows were left out, and how many."""
    return [(f"dropped: {reason}", count) for reason, count in manifest.dropped.items()]


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def lines(title: str, rows: Sequence[Fact], notes: Iterable[str] = ()) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {shown(value)}" for name, value in rows), *notes])


def html(title: str, rows: Sequence[Fact], notes: Iterable[str] = ()) -> str:
    """A small table that notebooks show; every text is escaped."""
    return table(title, (), [[name, value] for name, value in rows], notes)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]], notes: Iterable[str] = ()) -> str:
    def row(cells: Sequence[object], tag: str) -> str:
        aligned = (f'<{tag} style="text-align:{"right" if at else "left"}">' for at in range(len(cells)))
        return "<tr>" + "".join(f"{begin}{escape(shown(x))}</{tag}>" for begin, x in zip(aligned, cells)) + "</tr>"

    top = f"<thead>{row(head, 'th')}</thead>" if head else ""
    body = "".join(row(cells, "td") for cells in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<div><p><b>{escape(title)}</b></p><table>{top}<tbody>{body}</tbody></table>{below}</div>"
