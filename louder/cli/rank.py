"""louder rank"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from louder.cli.options import At
from louder.errors import InputError


def rank(
    run: Annotated[Path, typer.Argument(help="Folder of a ranking run.")],
    items: Annotated[str, typer.Option(help="Raw ids of the candidates: 1,2,3; or a file with one a line: @FILE.")],
    user: Annotated[str | None, typer.Option(help="Raw id of a user of the table.")] = None,
    history: Annotated[Path | None, typer.Option(help="JSON file with the history of an unseen user.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An attribute of the user: gender=F. Repeatable.")
    ] = None,
    new_items: Annotated[
        Path | None, typer.Option(help="JSON file with the attributes of candidates that the model has not met.")
    ] = None,
    at: At = None,
    sort: Annotated[str | None, typer.Option(metavar="ACTION", help="Order by the probability of this action.")] = None,
    microbatch: Annotated[int, typer.Option(min=1, help="Candidates that go through the model together.")] = 512,
    table: Annotated[Path | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what a user will do with items: the probability of each action.

    Candidates never see each other, so a probability does not depend on what else is asked for. Events after the time
    of the request are not looked at. A history file is a list of item ids, oldest first, or of objects:
    `[{"item": 1193, "time": 978300760, "actions": ["like"], "values": {"watch": 31}, "request": "a"}]`. Events of items
    that the model does not know are skipped, and counted. A file of new items is an object of raw ids and what
    is known of each, by the names of `ranking.item_attributes` and `ranking.item_vectors`:
    `{"new-film": {"genres": ["Drama"]}}`. Examples:

        louder rank runs/ml1m-rank-hstu --user 42 --items 1,2,3

        louder rank runs/ml1m-rank-hstu --user 42 --items @candidates.txt --sort like --json

        louder rank runs/ml1m-rank-hstu --history me.json --context gender=F --context age=25 --items 1,2,3

        louder rank runs/ml1m-rank-hstu --user 42 --items 1,2,new-film --new-items new.json
    """
    from louder.cli.etl import pairs
    from louder.cli.show import print_columns, warn_of_skipped
    from louder.inference.new_items import read_new_items
    from louder.inference.recommender import Recommender, read_history

    ranker = Recommender(run, table, microbatch=microbatch)
    actions = ranker.engine.actions
    if sort is not None and sort not in actions:
        raise InputError(f"--sort is {sort!r}, but the actions are {', '.join(actions)}.")
    answers = ranker.rank(
        items=candidates(items),
        user=user,
        history=read_history(history) if history else None,
        at=at,
        context=pairs(context, "--context", "gender=F") if context else None,
        new_items=read_new_items(new_items) if new_items else None,
    )
    warn_of_skipped(answers.skipped)
    if answers.unknown:
        print(ranker.left_out_sentence(answers.unknown, []), file=sys.stderr)
    if sort is not None:
        answers.sort(key=lambda answer: -answer.actions[sort])
    if json_output:
        print(json.dumps([asdict(answer) for answer in answers]))
        return
    titled = any(answer.title for answer in answers)
    names = [*actions, *(answers[0].values if answers else ())]
    rows = []
    for answer in answers:
        numbers = [f"{probability:.4f}" for probability in answer.actions.values()]
        numbers += [f"{value:.3f}" for value in answer.values.values()]
        rows.append([answer.item, *[answer.title] * titled, *numbers])
    print_columns("Probability of each action", ["item", *["title"] * titled, *names], rows, right=names)


def candidates(text: str) -> list[str]:
    """Raw ids of `1,2,3`, or of a file with one a line."""
    if not text.startswith("@"):
        return [item.strip() for item in text.split(",") if item.strip()]
    path = Path(text[1:])
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(
            f"The candidates {path} cannot be read: {why}. Give a text file with one id a line."
        ) from error
