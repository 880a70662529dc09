"""A recipe is a function that returns one whole Config. `louder train ml1m:hstu` runs louder.recipes.ml1m.hstu. The one
of own_log.py goes by a table, and `louder train --table TABLE` runs it."""

import difflib
import importlib
import inspect
import pkgutil
from pathlib import Path

from louder.config import load_yaml
from louder.errors import InputError
from louder.training.config import Config


def names() -> list[str]:
    """Every recipe that comes with Louder, as MODULE:FUNCTION."""
    return [f"{module.name}:{name}" for module in pkgutil.iter_modules(__path__) for name in functions(module.name)]


def functions(module: str) -> dict[str, object]:
    loaded = importlib.import_module(f"{__name__}.{module}")
    return {
        name: value
        for name, value in vars(loaded).items()
        if inspect.isfunction(value)
        and value.__module__ == loaded.__name__
        and not name.startswith("_")
        and not inspect.signature(value).parameters  # own_log.py takes a table's facts
    }


def load(name: str) -> Config:
    """A recipe by name, or a config from a YAML file. Raises InputError with the nearest name if there is none."""
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return load_yaml(Config, name)
    known = names()
    full = f"{name}:{name}" if f"{name}:{name}" in known else name
    if full not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f"Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"There is no recipe {name!r}. {hint} There are: {', '.join(known)}. A config file ends in .yaml."
        )
    module, _, function = full.partition(":")
    return functions(module)[function]()  # type: ignore[operator]
