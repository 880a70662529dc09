"""louder recommend"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.errors import InputError

if TYPE_CHECKING:
    from louder.inference.request import Boost, Pin


def recommend(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    user: Annotated[str | None, typer.Option(help="Raw id of a user of the table.")] = None,
    history: Annotated[Path | None, typer.Option(help="JSON file with the history of an unseen user.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    at: Annotated[
        int | None, typer.Option(help="Time of the request, seconds since 1970.", show_default="the latest event's")
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Also recommend what the user had already.")] = False,
    boost: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE:FACTOR", help="Scores that count more or less: genres=Drama:1.5. Repeatable."),
    ] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="At most so many items with one value: genres=3. Repeatable."),
    ] = None,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="0: by score alone; 1: by difference from what is above alone.")
    ] = 0.0,
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="ITEM:POSITION", help="An item and its position, 1 the first. Repeatable."),
    ] = None,
    table: Annotated[Path | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Recommend items to a user.

    A history file is a list of item ids, oldest first, or of objects:
    `[{"item": 1193, "time": 978300760, "actions": ["like"]}]`. Examples:

        louder recommend runs/ml1m-hstu --user 42 -k 10

        louder recommend runs/ml1m-hstu --history me.json --json

        louder recommend runs/ml1m-hstu --user 42 --boost genres=Drama:2 --cap genres=3 --pin 1193:1
    """
    from louder.cli.show import print_columns, warn_of_skipped
    from louder.inference.recommender import Recommender, read_history

    boosts, caps, pins = boosts_of(boost or []), caps_of(cap), pins_of(pin or [])
    recommender = Recommender(run, table)
    events = read_history(history) if history else None
    items = recommender.recommend(
        user=user,
        history=events,
        k=k,
        at=at,
        seen=seen,
        boost=boosts,
        cap=caps,
        diversity=diversity,
        pin=pins,
    )
    warn_of_skipped(items.skipped)
    if items.short:
        print(f"There are {len(items)} items and not {k}: {items.short}", file=sys.stderr)
    if json_output:
        print(json.dumps([asdict(item) for item in items]))
        return
    known, catalogue = recommender.known_items(user, events), recommender.engine.catalogue
    latest = [(*catalogue.describe(number), catalogue.text(number, "genres")) for number in known[-8:]]
    print_columns(f"Latest of {len(known):,} events", ["item", "title", "genres"], latest)
    answer = [(rank, item.item, item.title, f"{item.score:.4f}") for rank, item in enumerate(items, 1)]
    print_columns("Recommended", ["rank", "item", "title", "score"], answer, right=["rank", "score"])


def boosts_of(entries: list[str]) -> "list[Boost]":
    """`["genres=Drama:1.5"]`; names and values may hold colons, the factor is behind the last."""
    from louder.inference.request import Boost

    found = []
    for entry in entries:
        named, _, factor = entry.rpartition(":")
        name, equals, value = named.partition("=")
        try:
            found.append(Boost(factor=float(factor), where={name.strip(): [value.strip()]} if equals else {}))
        except ValueError as error:
            example = "an attribute, '=', a value, ':' and a factor: --boost genres=Drama:1.5"
            raise InputError(f"--boost is {entry!r}, but it must be {example}.") from error
    return found


def caps_of(entries: list[str] | None) -> dict[str, int]:
    from louder.cli.etl import pairs

    try:
        return {name: int(most) for name, most in pairs(entries, "--cap", "genres=3").items()}
    except ValueError as error:
        raise InputError(
            f"--cap is {', '.join(entries or [])}, but it must be a number of items: --cap genres=3."
        ) from error


def pins_of(entries: list[str]) -> "list[Pin]":
    from louder.inference.request import Pin

    found = []
    for entry in entries:
        item, _, position = entry.rpartition(":")
        try:
            found.append(Pin(item, int(position if item else "")))
        except ValueError as error:
            example = "an item, ':' and a position: --pin 1193:1"
            raise InputError(f"--pin is {entry!r}, but it must be {example}.") from error
    return found
