"""louder evaluate"""

import json
from pathlib import Path
from typing import Annotated

import typer

from louder.cli.options import Sources


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folder of a run; of several, a table compares them.")],
    part: Annotated[str, typer.Option(help="test or validation.")] = "test",
    seen: Annotated[
        str | None,
        typer.Option(
            help="Leave out what the user had in the model's window, in the whole history, or none.",
            show_default="the run's",
        ),
    ] = None,
    table: Annotated[str | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    ranker: Annotated[
        Path | None,
        typer.Option(help="A ranking run for a run that retrieves: their answer together is measured, too."),
    ] = None,
    sources: Sources = None,
    requests: Annotated[int, typer.Option(min=1, help="At most so many, for the lists of two stages.")] = 4000,
    row: Annotated[Path | None, typer.Option(help="Add the result as one row to this JSON-lines file.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure the best checkpoint of a run on what was held out.

    Next item: the rank of every user's held-out item in the whole catalogue; exact, every item is scored, and items
    with equal scores count half. Ranking: normalised entropy (NE), AUC and more of each action. Of a joint run, and of a
    run with a ranker beside it, also the lists that louder serve would give, on 4,000 events. Examples:

        louder evaluate runs/ml1m-hstu

        louder evaluate runs/ml1m-hstu --seen history --json

        louder evaluate runs/ml1m-hstu --ranker runs/ml1m-rank-hstu

        louder evaluate runs/ml1m-rank-hstu runs/ml1m-rank-dlrm runs/ml1m-rank-wukong
    """
    from louder.cli.show import print_results
    from louder.errors import InputError
    from louder.progress import counting
    from louder.results import append_row, provenance, require_row_file
    from louder.training.tasks import evaluate_run

    if part not in ("test", "validation"):
        raise InputError(f"--part must be test or validation, but it is {part!r}.")
    if seen not in (None, "window", "history", "none"):
        raise InputError(f"--seen must be window, history or none, but it is {seen!r}.")
    require_row_file(row)
    results = []
    for run in runs:
        with counting(f"measuring {run}") as done:
            results.append(
                evaluate_run(
                    run,
                    part=part,
                    table=table,
                    seen=seen,
                    ranker=ranker,
                    sources=sources or (),
                    requests=requests,
                    on_batch=done,
                )
            )
        if row:
            append_row(row, {"experiment": results[-1]["run"]} | results[-1] | provenance())
    if json_output:
        print(json.dumps(results[0] if len(results) == 1 else results))
        return
    print_results(results)
