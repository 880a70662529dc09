"""louder recommend"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from louder.api.lists import users_of, write
from louder.cli.lists import boosts_of, caps_of, pins_of, where_of
from louder.cli.options import At, Seen
from louder.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from louder.inference.recommender import Recommendation, Recommender
    from louder.inference.request import Event


def recommend(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    user: Annotated[list[str] | None, typer.Option(help="Raw id of a user of the table. Repeatable.")] = None,
    users: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|all", help="Many users: a line each, or the column 'user' of a Parquet or CSV file."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the lists of many users go: a .parquet or .csv file.")
    ] = None,
    history: Annotated[Path | None, typer.Option(help="JSON file with the history of an unseen user.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    at: At = None,
    seen: Seen = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="ITEM", help="Only these items. Repeatable.")] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="ITEM", help="None of these items. Repeatable.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Only items with this value of an attribute: genres=Drama. Repeatable."
        ),
    ] = None,
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
    next_by: Annotated[
        str, typer.Option(metavar="ACTION", help="The next item that this happens with: see ranking.next_item_by.")
    ] = "",
    table: Annotated[Path | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Recommend items to a user, or to many.

    A history file is a list of item ids, oldest first, or of objects:
    `[{"item": 1193, "time": 978300760, "actions": ["like"]}]`. Examples:

        louder recommend runs/ml1m-hstu --user 42 -k 10

        louder recommend runs/ml1m-hstu --history me.json --json

        louder recommend runs/ml1m-hstu --users all -k 100 -o recs.parquet

        louder recommend runs/ml1m-hstu --user 42 --where genres=Drama --boost year=1999:2 --cap genres=3 --pin 1193:1
    """
    from louder.cli.show import warn_of_skipped
    from louder.inference.recommender import Recommender, read_history
    from louder.progress import counting

    pins = pins_of(pin or [])
    asked: dict[str, Any] = {"k": k, "at": at, "seen": seen, "allow": allow, "deny": deny or (), "diversity": diversity}
    asked |= {"where": where_of(where or []), "boost": boosts_of(boost or []), "cap": caps_of(cap)}
    if users is not None:
        if user or history or pins or next_by or output is None:
            raise InputError(
                "--users goes with -o FILE.parquet or FILE.csv, and not with --user, --history, --pin or --next-by: "
                f"louder recommend {run} --users all -o recs.parquet."
            )
        if output.exists() and Path(users).exists() and output.samefile(users):
            raise InputError(
                f"{output} is the list of users, so it is not replaced. Choose another file: -o recs.parquet."
            )
        chosen, recommender = users_of(users), Recommender(run, table)
        with counting("recommending") as done:
            rows = write(counted(recommender.recommend_many(chosen, **asked), done), output)
        print(f"{output} has {rows:,} rows.")
        return
    if output is not None:
        raise InputError(f"-o is for many users: louder recommend {run} --users all -o {output}.")
    recommender = Recommender(run, table)
    events = read_history(history) if history else None
    named: list[str | None] = [*user] if user else [None]
    answers = [
        (one, recommender.recommend(user=one, history=events, pin=pins, next_by=next_by, **asked)) for one in named
    ]
    for _, items in answers:
        warn_of_skipped(items.skipped)
        if items.short:
            print(f"There are {len(items)} items and not {k}: {items.short}", file=sys.stderr)
    if json_output:
        lists = [[plain(item) for item in items] for _, items in answers]
        print(json.dumps(lists[0] if len(lists) == 1 else lists))
        return
    for one, items in answers:
        show(recommender, one, events, items)


def counted(parts: "Iterator[pa.Table]", done: Callable[[int], None]) -> "Iterator[pa.Table]":
    for part in parts:
        yield part
        done(len(part.column("user").unique()))


def plain(item: "Recommendation") -> dict[str, object]:
    """Its fields, but those of the second stage where there was none."""
    return {name: value for name, value in asdict(item).items() if value not in (None, {})}


def show(
    recommender: "Recommender", user: str | None, events: "list[Event] | None", items: "list[Recommendation]"
) -> None:
    from louder.cli.show import print_columns

    known, catalogue = recommender.known_items(user, events), recommender.engine.catalogue
    latest = [(*catalogue.describe(number), catalogue.text(number, "genres")) for number in known[-8:]]
    of = f" of user {user}" if user is not None else ""
    print_columns(f"Latest of {len(known):,} events{of}", ["item", "title", "genres"], latest)
    columns = ["rank", "item", "title", "score"]
    answer = [[rank, item.item, item.title, f"{item.score:.4f}"] for rank, item in enumerate(items, 1)]
    main = recommender.engine.main
    if items and items[0].actions:
        columns += ["next", main]
        for row, item in zip(answer, items):
            row += ["" if item.next is None else f"{item.next:.4f}", f"{item.actions[main]:.3f}"]
    print_columns("Recommended", columns, answer, right=["rank", "score", "next", main])
