"""Small pieces of HTML. Every text that comes from data goes through `text`; what returns Html is markup already."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


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


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: int = 0, marked: int = -1) -> Html:
    """A table that scrolls by itself where it is too wide; columns from `numbers` on are right-aligned, and the row
    `marked` is emphasised."""

    def row(cells: Sequence[object], kind: str) -> Html:
        return joined(tag(kind, cell, class_="number" if at >= numbers else "") for at, cell in enumerate(cells))

    body = joined(tag("tr", row(cells, "td"), class_="marked" if at == marked else "") for at, cells in enumerate(rows))
    top = tag("thead", tag("tr", row(head, "th"))) if head else ""
    return tag("div", tag("table", top, tag("tbody", body)), class_="scroll")


def details(facts: Iterable[tuple[str, object]]) -> Html:
    """A list of names with what they stand for."""
    return tag("dl", joined(joined([tag("dt", name), tag("dd", value)]) for name, value in facts))


def script_json(value: Any) -> Html:
    """JSON inside a <script> element: nothing in it can end the element."""
    safe = json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(f'<script type="application/json">{safe}</script>')


def figure(drawn: Any, *, height: int = 300) -> Html:
    """A plotly figure, to be drawn by the page's script in the page's colours. Its title becomes a heading."""
    spec = json.loads(drawn.to_json())
    layout = spec["layout"]
    layout.pop("template", None)
    title = layout.pop("title", {}).get("text", "")
    layout["margin"] = {
        "l": 52,
        "r": 12,
        "t": 34 if layout.get("showlegend") or layout.get("annotations") else 10,
        "b": 50,
    }
    layout["height"] = height
    for axis in "xaxis", "yaxis":
        given = layout.get(axis, {})
        if given.get("type") == "log" and not {"dtick", "tickvals"} & set(given):
            given["dtick"] = "D2"  # 2 and 5 between the powers of ten, not every digit
    plot = tag("div", class_="plot", role="img", aria_label=title)
    return tag("figure", tag("h3", title), plot, script_json({"data": spec["data"], "layout": layout}))


def figures(drawn: Iterable[Any], *, columns: int = 2) -> Html:
    """Figures side by side, as many as the page is wide enough for."""
    size = {2: "figures", 3: "figures three", 4: "figures four"}[columns]
    return tag("div", joined(figure(one, height=220 if columns == 4 else 300) for one in drawn), class_=size)
