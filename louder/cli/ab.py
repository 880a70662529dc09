"""louder ab"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.errors import InputError

if TYPE_CHECKING:
    from louder.results import Row


def ab(
    log: Annotated[str, typer.Argument(help="What louder serve --events wrote: a folder, or kafka://HOST:PORT/TOPIC.")],
    reward: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACTION=WORTH",
            help="What an event with this action is worth. Repeatable; by default every event that came of an answer is 1.",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Answers from then on: seconds, or 2026-11-26T10:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Answers before then.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Also write a page with figures.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare the variants of an A/B test: what each of them earned, and whether it may be concluded yet.

    It may be asked at any time and as often as you like: what it calls better or worse stays within an error of 5 % over
    all looks. It concludes nothing where the users are not those that were drawn. Examples:

        louder ab events

        louder ab events --reward click=1 --reward like=5 --html ab.html
    """
    from louder.evaluation.ab import compare_variants
    from louder.evaluation.ab_log import read_test
    from louder.streaming.joiner import END

    found = {"log": log} | compare_variants(
        read_test(log, since=seconds_of(since, "--since", 0), until=seconds_of(until, "--until", END)),
        worths(reward or []),
    )
    if page:
        from louder.reports.ab_page import write_ab_page

        write_ab_page(found, page)
    if json_output:
        print(json.dumps(found, indent=1))
        return
    show(found)
    if page:
        print(f"Figures: {page}")


def seconds_of(text: str | None, option: str, otherwise: int) -> int:
    if text is None:
        return otherwise
    try:
        if text.isdecimal():
            return int(text)
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except ValueError as error:
        raise InputError(
            f"{option} is {text!r}, but it must be seconds or a date: {option} 2026-11-26T10:00."
        ) from error


def worths(entries: list[str]) -> dict[str, float]:
    from louder.cli.etl import pairs

    try:
        return {name: float(worth) for name, worth in pairs(entries, "--reward", "like=5").items()}
    except ValueError as error:
        raise InputError(
            f"--reward is {', '.join(entries)}, but an action is worth a number: --reward like=5."
        ) from error


def show(found: "Row") -> None:
    from louder.cli.show import print_table

    def shown(mean: float | None) -> str:
        return "" if mean is None else f"{mean:.4g}"

    print(
        f"{found['log']}: {found['requests']:,} answers for {found['users']:,} users, {moment(found['since'])} to "
        f"{moment(found['until'])} UTC"
    )
    variants, names = found["variants"], ["reward", "events", *found["actions"]]
    if found["reward"] == {"events": 1.0}:
        names.remove("events")
    for per, title in ("per_request", "per request"), ("per_user", "per user"):
        columns = [
            "variant",
            *(["users", "requests"] if per == "per_request" else []),
            *(x + " " + title for x in names),
        ]
        rows = []
        for x in variants:
            counts = [f"{x['users']:,}", f"{x['requests']:,}"] if per == "per_request" else []
            rows.append([x["name"], *counts, *(shown(x[per][name]["mean"]) for name in names)])
        print_table(columns, rows)
    for x in variants[1:]:
        against = x["against_control"]["per_request"]["reward"]
        print(f"\n{x['name']}: {sentence(x)}")
        if against["lift"] is not None:
            lift = f"{against['lift']:+.1%}, of one look {against['lift_low']:+.1%} to {against['lift_high']:+.1%}"
            print(f"  reward per request beside the control {lift} (95 %)")
        base = variants[0]["per_request"]["reward"]["mean"]
        if x["always"] and base:
            low, high = (f"{x['always'][end] / base:+.1%}" for end in ("low", "high"))
            print(f"  whenever one looks {low} to {high}, p {x['p']:.2g}")
    if found["refused"]:
        print(f"\n{found['refused']}")
    else:
        drawn = ", ".join(f"{x['name']} {x['users']:,} ({x['share']:.4g} drawn)" for x in variants)
        print(f"\nUsers are as they were drawn: {drawn}, p {found['drawn']['p']:.2g}.")


def sentence(variant: "Row") -> str:
    """What is concluded of a variant."""
    if variant["verdict"] == "refused":
        return "nothing is concluded, see below."
    if variant["verdict"] == "open":
        return "no difference from the control is shown yet."
    return f"{variant['verdict']} than the control, known since {moment(variant['decided_at'])} UTC."


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
