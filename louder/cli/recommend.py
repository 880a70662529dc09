"""louder recommend"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def recommend(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    user: Annotated[str | None, typer.Option(help="Raw id of a user of the table.")] = None,
    history: Annotated[Path | None, typer.Option(help="JSON file with the history of an unseen user.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    at: Annotated[
        int | None, typer.Option(help="Time of the request, seconds since 1970.", show_default="the latest event's")
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Also recommend what the user had already.")] = False,
    table: Annotated[Path | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Recommend items to a user.

    A history file is a list of item ids, oldest first, or of objects:
    `[{"item": 1193, "time": 978300760, "actions": ["like"]}]`. Examples:

        louder recommend runs/ml1m-hstu --user 42 -k 10

        louder recommend runs/ml1m-hstu --history me.json --json
    """
    from louder.cli.show import print_columns, warn_of_skipped
    from louder.inference.recommender import Recommender, read_history

    recommender = Recommender(run, table)
    events = read_history(history) if history else None
    items = recommender.recommend(user=user, history=events, k=k, at=at, seen=seen)
    warn_of_skipped(items.skipped)
    if json_output:
        print(json.dumps([asdict(item) for item in items]))
        return
    known, catalogue = recommender.known_items(user, events), recommender.engine.catalogue
    latest = [(*catalogue.describe(number), catalogue.text(number, "genres")) for number in known[-8:]]
    print_columns(f"Latest of {len(known):,} events", ["item", "title", "genres"], latest)
    answer = [(rank, item.item, item.title, f"{item.score:.4f}") for rank, item in enumerate(items, 1)]
    print_columns("Recommended", ["rank", "item", "title", "score"], answer, right=["rank", "score"])
