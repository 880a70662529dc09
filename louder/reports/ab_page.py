"""The page of an A/B test: the answer first, then how it came about over time."""

from datetime import UTC, datetime
from pathlib import Path

from louder.reports.chart import Figure, legend, titled
from louder.reports.markup import Html, document, figures, joined, section, table, tag, write_page
from louder.reports.theme import BLUE, GREEN, GREY, ORANGE
from louder.results import Row

COLOURS = (GREY, BLUE, ORANGE, GREEN)  # the control first
SAID = {
    "better": "is better than the control",
    "worse": "is worse than the control",
    "open": "shows no difference yet",
    "refused": "is not judged",
}


def write_ab_page(found: Row, path: Path) -> None:
    """`found` is what `louder ab --json` prints. Raises InputError if the page cannot be written there."""
    write_page(ab_page(found), path, option="--html")


def ab_page(found: Row) -> str:
    return document(f"A/B test in {found['log']}", [headline(found), drawn_figures(found), numbers(found)])


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y, %H:%M")


def percent(part: float | None) -> str:
    return "" if part is None else f"{part:+.1%}".replace("-", "−")


def short(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.4g}"


def headline(found: Row) -> Html:
    verdicts = [verdict(x) for x in found["variants"][1:]]
    facts = f"{found['requests']:,} answers for {found['users']:,} users · {moment(found['since'])} to {moment(found['until'])} UTC"
    refused = tag("p", found["refused"], class_="note") if found["refused"] else ""
    cards = []
    for x in found["variants"]:
        mean = x["per_request"]["reward"]["mean"]
        note = f"{x['users']:,} users, {x['share']:.4g} were drawn"
        cards.append(
            tag("div", f"{x['name']}, reward per request", tag("b", short(mean)), tag("small", note), class_="card")
        )
    title = tag("h1", f"A/B test in {found['log']}")
    return tag(
        "header", title, tag("div", facts, class_="muted"), *verdicts, refused, tag("div", *cards, class_="cards")
    )


def verdict(variant: Row) -> Html:
    look = variant["against_control"]["per_request"]["reward"]
    lift = "" if look["lift"] is None else f": {percent(look['lift'])} reward per request"
    colour = {"better": "yes", "worse": "no", "open": "unclear", "refused": "unclear"}[variant["verdict"]]
    return tag("p", f"{variant['name']} {SAID[variant['verdict']]}{lift}", class_=f"verdict {colour}")


def drawn_figures(found: Row) -> Html:
    note = (
        "Left: what a request earned in each part of the time. Right: the difference from the control, as a share of what the "
        "control earns, with the interval that holds at all times together: looked at as often as one likes, with a probability of 95 % the true "
        "difference is never outside it. Once it leaves zero out, the test is decided."
    )
    return section("Over time", note, figures([rewards(found), differences(found)]))


def dates(seconds: list[int]) -> list[str]:
    return [datetime.fromtimestamp(x, UTC).strftime("%Y-%m-%d %H:%M:%S") for x in seconds]


def rewards(found: Row) -> Figure:
    figure = Figure()
    times = dates(found["over_time"]["times"])
    for colour, (name, values) in zip(COLOURS, found["over_time"]["reward"].items()):
        figure.add_scatter(x=times, y=values, name=name, mode="lines", line={"color": colour, "width": 2})
    return legend(titled(figure, "Reward per request", "", "")).update_yaxes(rangemode="tozero")


def differences(found: Row) -> Figure:
    figure = Figure()
    base = found["variants"][0]["per_request"]["reward"]["mean"] or 1.0
    for colour, variant in zip(COLOURS[1:], found["variants"][1:]):
        looks = variant["looks"]
        times = dates([time for time, *_ in looks])
        low, high = ([(d + sign * radius) / base for _, d, radius, _ in looks] for sign in (-1, 1))
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=times, y=low, **band)
        figure.add_scatter(x=times, y=high, fill="tonexty", fillcolor=colour + "33", **band)
        middle = [difference / base for _, difference, *_ in looks]
        figure.add_scatter(x=times, y=middle, name=variant["name"], mode="lines", line={"color": colour, "width": 2})
    figure.add_hline(y=0, line={"color": GREY, "width": 1, "dash": "dot"})
    drawn = legend(titled(figure, "Difference from the control", "", "")).update_yaxes(tickformat="+.0%")
    radii = [radius / base for x in found["variants"][1:] for _, _, radius, _ in x["looks"]]
    if radii:  # the first looks know next to nothing
        shown = max(
            sorted(radii)[len(radii) // 2] * 2, 2 * max(abs(x["looks"][-1][1]) for x in found["variants"][1:]) / base
        )
        drawn.update_yaxes(range=[-shown, shown])
    return drawn


def numbers(found: Row) -> Html:
    names = ["reward", "events", *found["actions"]]
    rows = []
    for x in found["variants"]:
        for per, words in ("per_request", "a request"), ("per_user", "a user"):
            cells = [x["name"] if per == "per_request" else "", words]
            for name in names:
                mean, look = x[per][name]["mean"], x.get("against_control", {}).get(per, {}).get(name)
                lift = (
                    ""
                    if look is None or look["lift"] is None
                    else (f"{percent(look['lift'])} ({percent(look['lift_low'])} to {percent(look['lift_high'])})")
                )
                cells.append(joined([short(mean), tag("small", lift)]))
            rows.append(cells)
    drawn = found["drawn"]
    note = (
        "In brackets: the interval of 95 % for one look, by user (delta method). "
        f"The users beside the shares they were drawn by: p {drawn['p']:.2g}"
        + (f"; {drawn['moved']:,} were answered by several variants and are left out." if drawn["moved"] else ".")
    )
    return section("Numbers", note, table(["variant", "what", *names], rows, numbers=2))
