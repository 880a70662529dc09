"""The second half of the page of `louder try`: some people, the log, how to go on, and how it was measured."""

from datetime import UTC, datetime

from louder.reports.markup import Html, details, joined, section, table, tag
from louder.results import Row

MODELS = "SASRec and HSTU have the settings that the rules of louder train choose for this log; nothing was searched."
SEEN = {
    "none": "Items that people had before may be recommended again, since they repeat themselves here ({repeats:.0%} of the events).",
    "history": "Items that somebody had before are not recommended again.",
    "window": "Items in the history that a model reads are not recommended again.",
}


def example_section(found: Row) -> Html:
    note = (
        f"What {found['best']} would have shown to some people just before the event that was held out, and the past events "
        "without which the score would fall most. Drawn at random: half of them hits, as far as there are, and half misses."
    )
    return section("Some people", note, joined(example(one) for one in found["examples"]))


def example(one: Row) -> Html:
    def moment(event: Row) -> str:
        return "" if event["time"] is None else datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%d %H:%M")

    past = [[moment(event), event["item"]] for event in one["history"]]
    past.append([moment(one) or "next", joined([one["next"], tag("small", "what came next")])])
    listed = [
        [
            place,
            joined(
                [
                    x["item"],
                    tag("small", f"because of {' and '.join(dict.fromkeys(x['because']))}") if x["because"] else "",
                ]
            ),
        ]
        for place, x in enumerate(one["recommended"], 1)
    ]
    hit = next((at for at, x in enumerate(one["recommended"]) if x["hit"]), -1)
    shown = f"The latest of {one['events']:,} events" if one["events"] > len(one["history"]) else "All events"
    sides = (
        tag("div", tag("h4", shown), table([], past, numbers=9, marked=len(past) - 1)),
        tag("div", tag("h4", "Recommended, and why"), table([], listed, numbers=9, marked=hit)),
    )
    rank = f"place {one['rank']:,.0f} of the list" if one["rank"] <= 10 else f"place {one['rank']:,.0f}: missed"
    return tag(
        "article",
        tag("h3", f"User {one['user']}"),
        tag("div", "Came next: ", tag("b", one["next"]), f", at {rank}.", class_="muted"),
        tag("div", *sides, class_="sides"),
        class_="sample",
    )


# The log, and what to do ---------------------------------------------------------------------------------------------


def finding_section(found: Row) -> Html:
    rows = [[joined([tag("b", "! ") if one["serious"] else "", one["what"]]), one["todo"]] for one in found["findings"]]
    if not rows:
        return section("What to fix in the log", "Nothing odd was found.")
    note = "Found while reading; what is marked with ! touches the numbers on this page."
    return section("What to fix in the log", note, table(["found", "what to do"], rows, numbers=9))


def next_section(found: Row) -> Html:
    typed = found["commands"]
    steps = [
        ("Look at it with your own eyes: a page on which you pick a user and click.", typed["serve"]),
        ("For people, train on the whole log: this trial kept the latest part of it for questions.", typed["train"]),
        ("Serve that one, and show its lists to some of the people.", typed["serve_final"]),
    ]
    if found["actions"]:
        what = f"The log has actions that tell events apart ({', '.join(found['actions'])}), so that training makes a model that ranks by them, too."
        steps.insert(2, (what, ""))
    lead = {"yes": "", "no": "Only if you want to see for yourself.", "unclear": "A test with people would tell."}
    shown = [joined([tag("p", text), tag("pre", command) if command else ""]) for text, command in steps]
    return section("Go on", lead[found["verdict"]["answer"]], *shown)


def chosen(found: Row) -> Html:
    """The rules' choices for the better of the two, folded away."""
    rows = [
        [f"{why[0].upper()}{why[1:]}.", joined(tag("div", tag("code", one)) for one in made)]
        for why, made in found["choices"]
    ]
    return tag("details", tag("summary", f"Settings of {found['best']}"), table(["why", "settings"], rows, numbers=9))


def method_section(found: Row) -> Html:
    positive = f" What counts is an event with {', '.join(found['positive'])}." if found["positive"] else ""
    seen = SEEN[found["seen"]].format(repeats=found["repeats"])
    facts: list[tuple[str, object]] = [
        ("held out", found["split"] + positive),
        ("list", f"The ten best of the whole catalogue; equal scores count half. {seen}"),
        ("simple systems", "Popularity and item-kNN are each the best on validation of three settings."),
        (
            "models",
            joined([MODELS, chosen(found)]),
        ),
        ("intervals", "95 %, by a paired bootstrap over people, 1,000 draws."),
        ("not measured", "What people would do if they were shown other lists. Only a test with people tells that."),
    ]
    for name in "command", "date", "commit", "machine":
        if value := found.get(name):
            facts.append((name, tag("code", value) if name == "command" else value))
    return section("How it was measured", "", details(facts))
