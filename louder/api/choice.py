"""The config of a training: of a recipe, of a run that goes on, or of what is known of a table."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from louder import recipes
from louder.config import from_dict, override
from louder.errors import InputError
from louder.folders import read_json
from louder.recipes import own_log
from louder.recipes.own_log import Choice
from louder.training.config import Config


def config_of(
    recipe: str | Config | None,
    table: str | None,
    *,
    size: str | None = None,
    settings: Sequence[str] = (),
    goes_on: Path | None = None,
) -> tuple[Config, list[Choice]]:
    """The config, and what was chosen in it by the table, if no recipe is named.

    recipe    by name, in a YAML file, or whole
    table     in place of the recipe's; None: the recipe's
    size      see own_log
    settings  NAME=VALUE, which win
    goes_on   the folder of a run: without a recipe its own config counts

    Raises InputError where neither says what to train on, and for settings that are misspelt or do not fit.
    """
    if recipe is not None:
        if size is not None:
            raise InputError(
                f"--size is for a table without a recipe, but the recipe is {recipe}. Leave one of them out."
            )
        config = recipe if isinstance(recipe, Config) else recipes.load(recipe)
        if table:
            config = replace(config, data=replace(config.data, table=table))
        return override(config, list(settings)), []
    if goes_on is not None and (goes_on / "config.json").is_file():
        started = read_json(goes_on / "config.json", "config", dict, "that of a run")
        return override(from_dict(Config, started), list(settings)), []
    if table is None:
        raise InputError("Say what to train on: louder train --table TABLE, or name a recipe: louder train ml1m:hstu.")
    return own_log.config_for(own_log.facts_of(table), table, size=size or "medium", settings=settings)


def said(choices: Sequence[Choice]) -> str:
    """What the rules chose and why."""
    lines = ["Chosen from the table; change any of it with --set NAME=VALUE:"]
    for choice in choices:
        values = "  ".join(f"{name}={json.dumps(value)}" for name, value in choice.settings.items())
        lines += [f"  {choice.why[0].upper()}{choice.why[1:]}.", f"      {values}"]
    return "\n".join([*lines, ""])
