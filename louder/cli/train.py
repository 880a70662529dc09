"""louder train"""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from louder.errors import Interrupted

SIZE = "small, medium or large: one dial of what the table decides."


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A recipe, such as ml1m:hstu, or a config file that ends in .yaml. Without one, the table decides.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run. [default: runs/NAME]")
    ] = None,
    table: Annotated[str | None, typer.Option(help="The sequence table; of a recipe, in place of its own.")] = None,
    size: Annotated[str | None, typer.Option(help=SIZE, show_default="medium")] = None,
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

    Without a recipe, model, width, lengths, batch, negatives, filter and patience are chosen from the table, by rules that
    are printed; whatever is --set wins. With one:

    Next item: demo; ml1m, ml20m or books with :sasrec, :transformer, :hstu or :hstu_large, ml1m also with
    :hstu_mol or :hstu_large_mol; synthetic with :hstu,
    :hstu_softmax or :transformer. Ranking: ml1m or kuairand with :rank_hstu, :rank_hstu_cross, :rank_transformer,
    :rank_dlrm or :rank_wukong, and kuairand:rank_joint. Examples:

        louder train --table tables/shop

        louder train --table tables/shop --size small --set training.epochs=5

        louder train ml1m:hstu

        louder train ml1m:sasrec --set protocol=official -o runs/sasrec-official

        louder train kuairand:rank_hstu

        louder train mine.yaml --table tables/mine --set training.epochs=5

        louder train ml1m:hstu --resume
    """
    from louder.api.choice import config_of, said
    from louder.config import to_dict

    config, choices = config_of(recipe, table, size=size, settings=settings or [], goes_on=output if resume else None)
    if choices:
        print(said(choices), file=sys.stderr)
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
