"""Pages and their pieces. Every text that comes from data goes through `text`; what returns Html is markup already."""

import json
from collections.abc import Collection, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from louder.errors import InputError
from louder.folders import write_text
from louder.reports.theme import SCRIPT, STYLE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Html(str):
    """Markup that must not be escaped again."""

    __slots__ = ()


def text(value: object) -> Html:
    """Anything as text of a page: escaped, unless it is markup."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """tag("td", 5, class_="number") -> <td class="number">5</td>"""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items() if value
    )
    return Html(f"<{name}{given}>{''.join(text(child) for child in children)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    return Html("".join(text(part) for part in parts))


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    numbers: int = 0,
    marked: int | Collection[int] = (),
) -> Html:
    """A table that scrolls by itself where it is too wide; columns from `numbers` on are right-aligned, and the row
    `marked`, or each of several, is emphasised."""
    emphasised = {marked} if isinstance(marked, int) else marked

    def row(cells: Sequence[object], kind: str) -> Html:
        return joined(tag(kind, cell, class_="number" if at >= numbers else "") for at, cell in enumerate(cells))

    body = joined(
        tag("tr", row(cells, "td"), class_="marked" if at in emphasised else "") for at, cells in enumerate(rows)
    )
    top = tag("thead", tag("tr", row(head, "th"))) if head else ""
    return tag("div", tag("table", top, tag("tbody", body)), class_="scroll")


def details(facts: Iterable[tuple[str, object]]) -> Html:
    """A list of names with what they stand for."""
    return tag("dl", joined(joined([tag("dt", name), tag("dd", value)]) for name, value in facts))


def script_json(encoded: str) -> Html:
    """JSON inside a <script> element: nothing in it can end the element."""
    safe = encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(f'<script type="application/json">{safe}</script>')


def figure(drawn: "Figure", *, height: int = 300) -> Html:
    """A plotly figure, to be drawn by the page's script in the page's colours. Its title becomes a heading."""
    spec = json.loads(drawn.to_json())
    layout = spec["layout"]
    layout.pop("template", None)
    title = layout.pop("title", {}).get("text", "")
    above = 34 if layout.get("showlegend") or layout.get("annotations") else 10
    layout["margin"] = {"l": 52, "r": 12, "t": above, "b": 50}
    layout["height"] = height
    plot = tag("div", class_="plot", role="img", aria_label=title)
    return tag("figure", tag("h3", title), plot, script_json(json.dumps({"data": spec["data"], "layout": layout})))


def figures(drawn: "Iterable[Figure]", *, columns: int = 2) -> Html:
    """Figures side by side, as many as the page is wide enough for."""
    size = {2: "figures", 3: "figures three", 4: "figures four"}[columns]
    return tag("div", joined(figure(one, height=220 if columns == 4 else 300) for one in drawn), class_=size)


def section(title: str, *content: object) -> Html:
    first, *rest = content
    return tag("section", tag("h2", title), tag("p", first, class_="muted") if first else "", *rest)


def document(title: str, sections: Sequence[Html]) -> str:
    """A whole page, which needs nothing from elsewhere: plotly is in it."""
    from plotly.offline import get_plotlyjs

    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body>\n{joined(sections)}\n"
        f"<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>\n</body></html>\n"
    )


def is_page(path: Path) -> bool:
    """Whether a file begins as HTML does."""
    with open(path, "rb") as file:
        return file.read(200).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def write_page(page: str, path: Path, *, option: str = "-o") -> None:
    """Raises InputError, which names the command's `option`, if the page cannot be written there."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, but the page is one file. Pass {option} {path / 'page.html'}.")
    if path.is_file() and path.stat().st_size and not is_page(path):
        raise InputError(
            f"{path} is there and is no page, so it is left alone. Choose another place: {option} FILE.html."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{path} cannot be written ({why}). Choose another place: {option} FILE.html.") from error
