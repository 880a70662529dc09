"""louder evaluate"""

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    part: Annotated[str, typer.Option(help="test or validation.")] = "test",
    seen: Annotated[
        str | None,
        typer.Option(
            help="Leave out what the user had in the model's window, in the whole history, or none.",
            show_default="the run's",
        ),
    ] = None,
    table: Annotated[str | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    row: Annotated[Path | None, typer.Option(help="Add the result as one row to this JSON-lines file.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Rank every user's held-out item in the whole catalogue, with the best checkpoint of a run.

    Exact: every item is scored. Items with equal scores count half. Examples:

        louder evaluate runs/ml1m-hstu

        louder evaluate runs/ml1m-hstu --seen history --json
    """
    from louder.cli.show import counting, print_metrics
    from louder.errors import InputError
    from louder.results import append_row, provenance
    from louder.training.retrieval import evaluate_run

    if part not in ("test", "validation"):
        raise InputError(f"--part must be test or validation, but it is {part!r}.")
    if seen not in (None, "window", "history", "none"):
        raise InputError(f"--seen must be window, history or none, but it is {seen!r}.")
    with counting("ranking", "users") as ranked:
        result = evaluate_run(run, part=part, table=table, seen=seen, on_batch=ranked)
    if row:
        append_row(row, {"experiment": result["run"]} | result | provenance())
    if json_output:
        print(json.dumps(result))
        return
    print_metrics(result)
