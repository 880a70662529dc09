"""louder train"""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from louder.errors import Interrupted


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe, such as ml1m:hstu, or a config file that ends in .yaml.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run. [default: runs/NAME]")
    ] = None,
    table: Annotated[str | None, typer.Option(help="The sequence table, in place of the recipe's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: NAME=VALUE. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run if there is one.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole config as YAML and stop.")] = False,
    row: Annotated[Path | None, typer.Option(help="Add the result as one row to this JSON-lines file.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model on a sequence table, and measure its best epoch.

    Next item: demo; ml1m, ml20m or books with :sasrec, :transformer, :hstu or :hstu_large, ml1m also with
    :hstu_mol or :hstu_large_mol; synthetic with :hstu,
    :hstu_softmax or :transformer. Ranking: ml1m or kuairand with :rank_hstu, :rank_transformer, :rank_dlrm or
    :rank_wukong, and kuairand:rank_joint. Examples:

        louder train ml1m:hstu

        louder train ml1m:sasrec --set protocol=official -o runs/sasrec-official

        louder train kuairand:rank_hstu

        louder train mine.yaml --table tables/mine --set training.epochs=5

        louder train ml1m:hstu --resume
    """
    from louder import recipes
    from louder.config import override, to_dict

    config = recipes.load(recipe)
    if table:
        config = replace(config, data=replace(config.data, table=table))
    config = override(config, settings or [])
    if show:
        import yaml

        print(yaml.safe_dump(json.loads(json.dumps(to_dict(config))), sort_keys=False), end="")
        return
    run = output or Path("runs") / config.name
    from louder.results import append_row, provenance, require_row_file
    from louder.training.loop import train as train_run

    require_row_file(row)
    try:
        result = train_run(config, run, resume=resume, overwrite=overwrite)
    except KeyboardInterrupt:
        if not (run / "config.json").exists():
            raise
        words = [word for word in sys.argv[1:] if word not in ("--overwrite", "--resume")]
        raise Interrupted(f"interrupted. Go on: {shlex.join(['louder', *words, '--resume'])}") from None
    if row:
        append_row(row, {"experiment": config.name} | result | provenance())
    if json_output:
        print(json.dumps(result))
        return
    from louder.cli.show import print_results

    print_results([result])
    if config.ranking is not None:
        print(f"\nNext: louder rank {run} --user ID --items A,B,C")
    else:
        print(f"\nNext: louder recommend {run} --user ID    louder report {run}")
