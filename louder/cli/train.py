"""louder train"""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.errors import InputError, Interrupted

if TYPE_CHECKING:
    from louder.recipes.own_log import Choice
    from louder.training.config import Config

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
    :hstu_softmax or :transformer. Ranking: ml1m or kuairand with :rank_hstu, :rank_transformer, :rank_dlrm or
    :rank_wukong, and kuairand:rank_joint. Examples:

        louder train --table tables/shop

        louder train --table tables/shop --size small --set training.epochs=5

        louder train ml1m:hstu

        louder train ml1m:sasrec --set protocol=official -o runs/sasrec-official

        louder train kuairand:rank_hstu

        louder train mine.yaml --table tables/mine --set training.epochs=5

        louder train ml1m:hstu --resume
    """
    from louder.config import to_dict

    config = config_of(recipe, table, size, settings or [], output if resume else None)
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


def config_of(
    recipe: str | None, table: str | None, size: str | None, settings: Sequence[str], goes_on: Path | None
) -> "Config":
    """The config by a recipe, or by the rules for a table, which are printed; a run that goes on without a recipe has its own."""
    from louder import recipes
    from louder.config import from_dict, override
    from louder.recipes import own_log
    from louder.training.config import Config

    if recipe is not None:
        if size is not None:
            raise InputError(
                f"--size is for a table without a recipe, but the recipe is {recipe}. Leave one of them out."
            )
        config = recipes.load(recipe)
        if table:
            config = replace(config, data=replace(config.data, table=table))
        return override(config, list(settings))
    if goes_on is not None and (goes_on / "config.json").is_file():
        from louder.folders import read_json

        started = read_json(goes_on / "config.json", "config", dict, "that of a run")
        return override(from_dict(Config, started), list(settings))
    if table is None:
        raise InputError("Say what to train on: louder train --table TABLE, or name a recipe: louder train ml1m:hstu.")
    config, choices = own_log.config_for(own_log.facts_of(table), table, size=size or "medium", settings=settings)
    print_choices(choices)
    return config


def print_choices(choices: "Sequence[Choice]") -> None:
    """What the rules chose and why, on standard error."""
    print("Chosen from the table; change any of it with --set NAME=VALUE:", file=sys.stderr)
    for choice in choices:
        print(f"  {choice.why[0].upper()}{choice.why[1:]}.", file=sys.stderr)
        print(
            f"      {'  '.join(f'{name}={json.dumps(value)}' for name, value in choice.settings.items())}",
            file=sys.stderr,
        )
    print(file=sys.stderr)
