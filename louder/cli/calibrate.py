"""louder calibrate"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from louder.cli.options import Sources


def calibrate(
    run: Annotated[Path, typer.Argument(help="A joint run, or a run that retrieves.")],
    ranker: Annotated[Path | None, typer.Option(help="A ranking run for a run that retrieves.")] = None,
    sources: Sources = None,
    table: Annotated[str | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print what was chosen as JSON.")] = False,
) -> None:
    """Choose how two stages become one score, on the validation part.

    The score of an item is P(next)^weight x worth: how likely it comes next, by retrieval, and what that would be worth, by
    the ranker. The weight is the one whose lists find most of what was liked and, within a standard error, no less of what came
    next than retrieval alone. It is kept with the ranker's best checkpoint. louder train does this at its end for a joint
    run; two runs beside each other need it once. Examples:

        louder calibrate runs/ml1m-hstu-large --ranker runs/ml1m-rank-hstu

        louder calibrate runs/ml1m-rank-hstu
    """
    from louder.cli.show import OF_A_LIST, print_table, shown
    from louder.progress import counting
    from louder.training.two_stages import calibrate_run

    with counting(f"asking {run}") as done:
        scoring = calibrate_run(run, table=table, ranker=ranker, sources=sources or (), on_batch=done)
    if json_output:
        print(json.dumps(asdict(scoring)))
        return
    rows = [
        [
            "retrieval alone" if row["weight"] is None else f"{row['weight']:g}",
            *(shown(row[name]) for name in OF_A_LIST),
        ]
        for row in scoring.chosen["rows"]
    ]
    print(f"{scoring.chosen['requests']:,} requests of {scoring.chosen['users']:,} users of the validation part")
    print_table(["weight", *(name.replace("_", " ") for name in OF_A_LIST)], rows)
    print(f"\nChosen: weight {scoring.weight:g}, temperature {scoring.temperature:.4f}; kept with {ranker or run}.")
