"""The page of `louder try`: the answer first, then what it rests on."""

from collections.abc import Sequence

from louder.reports.chart import Figure, legend, titled
from louder.reports.markup import Html, document, figures, joined, section, table, tag
from louder.reports.run_page import span
from louder.reports.theme import BLUE, GREEN, GREY, ORANGE
from louder.reports.trial_rest import example_section, finding_section, method_section, next_section
from louder.results import Row
from louder.trial.verdict import minus, relative

COLOURS = {"popularity": GREY, "item-kNN": GREEN, "SASRec": ORANGE, "HSTU": BLUE}


def page(found: Row) -> str:
    """One HTML document from what louder.trial.trial.run_trial found."""
    sections = [
        headline(found),
        systems_section(found),
        present_section(found),
        group_section(found),
        cost_section(found),
        example_section(found),
        finding_section(found),
        next_section(found),
        method_section(found),
    ]
    return document(f"{found['name']}: is a generative recommender worth it?", sections)


# The answer ----------------------------------------------------------------------------------------------------------


def headline(found: Row) -> Html:
    verdict, log = found["verdict"], found["log"]
    facts = (
        f"{log['users']:,} users, {log['items']:,} items, {log['events']:,} events · {found['users']:,} users were asked about · "
        f"{span(found['seconds'])} of the {found['minutes']:g} minutes that were given"
    )
    best, simple = system(found, found["best"]), system(found, found["simple"])
    gain, cost = found["gains"][found["simple"]], found["cost"]
    cards = [
        (f"{best['name']} finds", share(best["hr@10"]), "of what people took next, in a list of ten"),
        (f"{simple['name']} finds", share(simple["hr@10"]), "the best without training"),
        ("gain", ratio(gain), f"95 % interval {points(gain['low'])} to {points(gain['high'])} points"),
        ("an answer takes", f"{cost['request_ms']:.0f} ms", f"training took {span(cost['train_seconds'])}"),
    ]
    boxes = joined(tag("div", name, tag("b", value), tag("small", note), class_="card") for name, value, note in cards)
    return tag(
        "header",
        tag("h1", f"{found['name']}: is a generative recommender worth it?"),
        tag("div", facts, class_="muted"),
        tag("p", verdict["headline"], class_=f"verdict {verdict['answer']}"),
        tag("ul", joined(tag("li", reason) for reason in verdict["reasons"])),
        tag("div", boxes, class_="cards"),
    )


def system(found: Row, name: str) -> Row:
    return next(one for one in found["systems"] if one["name"] == name)


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    return minus(f"{100 * value:+.1f}")


def ratio(gain: Row) -> str:
    return f"{points(gain['mean'])} points" if gain["ratio"] is None else relative(gain["ratio"])


# What it rests on ----------------------------------------------------------------------------------------------------


def systems_section(found: Row) -> Html:
    note = (
        "For how many of a hundred people the item that they took next was in the list of ten (HR@10), from the whole "
        "catalogue. The end of a bar is its 95 % interval; gains are over each of the others, on the same people."
    )
    top = max(one["high"] for one in found["systems"]) or 1
    rows = [system_row(one, found["gains"].get(one["name"]), top) for one in found["systems"]]
    at = next(at for at, one in enumerate(found["systems"]) if one["name"] == found["best"])
    head = ["system", "", "HR@10", "NDCG@10", "time", f"gain of {found['best']}"]
    return section(
        "How often each is right", note, tag("div", table(head, rows, numbers=2, marked=at), class_="overview trial")
    )


def system_row(one: Row, gain: Row | None, top: float) -> list[object]:
    bar = tag(
        "div",
        tag("i", style=f"left:0;width:{100 * one['hr@10'] / top:.1f}%"),
        tag("b", style=f"left:{100 * one['low'] / top:.1f}%;width:{100 * (one['high'] - one['low']) / top:.1f}%"),
        class_="span",
    )
    return [
        joined([one["name"], tag("small", one["how"])]),
        bar,
        share(one["hr@10"]),
        f"{one['ndcg@10']:.4f}",
        span(one["seconds"]),
        ""
        if gain is None
        else joined([ratio(gain), tag("small", f"{points(gain['low'])} to {points(gain['high'])} points")]),
    ]


def present_section(found: Row) -> Html:
    shown = found["present"]
    if shown is None:
        note = (
            "Nothing is known of what you show today. With the lists that were shown (user, item, position, and if there is one "
            "a timestamp) this page compares it, too: "
        )
        return section(
            "Your present system", "", tag("p", note, tag("code", "louder try LOG --present lists.csv"), class_="note")
        )
    k = shown["k"]
    note = (
        f"The lists that {shown['users']:,} of these users were shown, beside lists as long ({k} places): for how many the item "
        "that they took next was in it."
    )
    rows: list[list[object]] = [["what was shown", share(shown["hr"]), ""]]
    rows += [
        [
            name,
            share(one["hr"]),
            joined([ratio(one), tag("small", f"{points(one['low'])} to {points(one['high'])} points")]),
        ]
        for name, one in shown["systems"].items()
    ]
    caution = [
        "People can only take what they are shown, so what was shown has an advantage here: a system that is level with it is "
        "probably ahead, and only a test with people tells.",
        ""
        if shown["timed"]
        else "The lists have no timestamp, so it is not known that each was shown before what it is compared with.",
        f"{shown['unknown']:,} of {shown['rows']:,} rows are of users or items that the log does not have."
        if shown["unknown"]
        else "",
    ]
    compared = table(["system", f"HR@{k}", "gain over what was shown"], rows, numbers=1, marked=0)
    return section("Your present system", note, compared, tag("p", " ".join(x for x in caution if x), class_="note"))


def group_section(found: Row) -> Html:
    lengths, items = found["by_length"], found["by_item"]
    drawn = [
        draw_groups(lengths, "By what is known of the person", "events of the person before"),
        draw_groups(items, "By what is known of the item", "events of the item in training"),
    ]
    note = "Where is the gain? Groups of fewer than 20 people are left out."
    unseen = next((one for one in items if one["group"] == "0"), None)
    remark: object = ""
    if unseen is not None:
        what = (
            f"{unseen['users']:,} of {found['users']:,} people took an item that was not in training at all. No system here can "
            "find those: train often, and give items attributes (louder etl --items) so that new ones can be scored."
        )
        remark = tag("p", what, class_="note")
    return section("Known and new", note, figures([figure for figure in drawn if figure is not None]), remark)


def draw_groups(rows: Sequence[Row], title: str, x: str) -> Figure | None:
    if not rows:
        return None
    figure = Figure()
    labels = [f"{row['group']}<br>{row['users']:,} people" for row in rows]
    for name, colour in COLOURS.items():
        values = [100 * row["hr@10"][name] for row in rows]
        hover = f"%{{x}}: {name} %{{y:.1f}} %<extra></extra>"
        figure.add_bar(
            x=labels, y=values, name=name, marker={"color": colour, "line": {"width": 0}}, hovertemplate=hover
        )
    figure.update_layout(barmode="group", bargap=0.25).update_xaxes(type="category")
    return legend(titled(figure, title, x, "HR@10, %"))


def cost_section(found: Row) -> Html:
    cost, best = found["cost"], system(found, found["best"])
    times = cost["larger"]
    rows = [
        ["training", span(cost["train_seconds"]), span(cost["larger_train_seconds"])],
        ["events a second in training", f"{cost['events_per_s']:,.0f}", "the same"],
        ["one answer, alone", f"{cost['request_ms']:.1f} ms", "more"],
        ["weights on disk", size(cost["checkpoint_bytes"]), size(cost["larger_checkpoint_bytes"])],
        ["memory of this whole trial", size(cost["memory_bytes"]), "–"],
    ]
    note = (
        f"{best['name']} on {found['machine']}. The last column is a straight line: {times} times the events, users and "
        "items, and as many passes over them. Larger logs usually need fewer passes; an answer takes longer with the "
        "catalogue, which an index (louder index) keeps short."
    )
    return section("What it costs", note, table(["", "here", f"at {times} times the log"], rows, numbers=1))


def size(count: float) -> str:
    """1_500_000 -> 1.5 MB"""
    for unit in "bytes", "kB", "MB", "GB":
        if count < 1000:
            return f"{count:,.0f} {unit}" if count >= 100 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
