"""Configs are nested frozen dataclasses. Here they become dictionaries and files, and come back checked."""

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from louder.errors import InputError

T = TypeVar("T")
Values = Mapping[str, Any]  # of a config, as JSON and YAML hold them

# settings by their old names, which runs and files may hold, and their new ones
RENAMED = {"model.unit": "unit_hidden"}


def to_dict(config: Any) -> dict[str, Any]:
    return asdict(config)


def from_dict(cls: type[T], values: Values, path: str = "") -> T:
    """Build a config from plain values. Raises InputError for a misspelt name or a value of the wrong type."""
    from pydantic import TypeAdapter, ValidationError  # not needed by a recipe, nor where models only compute

    checked: dict[str, Any] = {}
    for given, value in values.items():
        name = current_name(cls, given, path)
        if name != given and name in values:
            raise InputError(f"{join(path, given)} is {join(path, name)} now, and both are given. Leave out the first.")
        if isinstance(value, date):  # YAML has a type for dates, and a config holds seconds
            value = seconds_of(value)
        inner = nested(cls, name, value) if isinstance(value, Mapping) else None
        checked[name] = from_dict(inner, value, join(path, name)) if inner else value
    try:
        return TypeAdapter(cls).validate_python(checked)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if not str(part).endswith("Config"))
        if first["type"] == "missing":
            raise InputError(f"{join(path, name)} is missing, and it has no default.") from error
        raise InputError(
            f"{join(path, name)} is {first['input']!r}, which does not fit: {first['msg'][0].lower()}{first['msg'][1:]}."
        ) from error


def seconds_of(moment: date) -> int:
    """Seconds since 1970 of a date, or of a time, which is UTC unless it says otherwise."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def override(config: T, settings: list[str]) -> T:
    """Apply settings such as "training.epochs=5" or "model.time_bias=false" (values are read as YAML)."""
    values = to_dict(config)
    for name, value in map(parse_setting, settings):
        *parents, leaf = name.split(".")
        at: Any = values
        cls: Any = type(config)
        for depth, parent in enumerate(parents):
            current_name(cls, parent, ".".join(parents[:depth]))
            cls = nested(cls, parent, at[parent])
            if at[parent] is None:
                at[parent] = {}
            if cls is None or not isinstance(at[parent], dict):
                raise InputError(f"{'.'.join(parents[: depth + 1])} is one value; it has no setting {leaf!r} inside.")
            at = at[parent]
        at[current_name(cls, leaf, ".".join(parents))] = value
    return from_dict(type(config), values)


def parse_setting(setting: str) -> tuple[str, Any]:
    """ "training.epochs=5" -> its name and its value, read as YAML. Raises InputError if it is neither."""
    import yaml

    name, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"--set needs NAME=VALUE, but it got {setting!r}. Such as: --set training.epochs=5")
    try:
        return name.strip(), plain(yaml.safe_load(text), text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {setting}: the value is not valid YAML: {' '.join(str(error).split())}") from error


def nest(settings: Values) -> dict[str, Any]:
    """{"training.epochs": 5} -> {"training": {"epochs": 5}}"""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        *parents, leaf = name.split(".")
        at = values
        for depth, parent in enumerate(parents):
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise InputError(f"{'.'.join(parents[: depth + 1])} is one value; it has no setting {leaf!r} inside.")
        at[leaf] = value
    return values


def plain(value: Any, text: str) -> Any:
    """YAML 1.1 reads 1e-3 as a string; here it is the number that its writer meant."""
    if isinstance(value, str):
        try:
            return float(text)
        except ValueError:
            return value
    return value


def load_yaml(cls: type[T], path: Path | str) -> T:
    """Read a config file. Raises InputError if it is missing, no YAML, or has a wrong name or value."""
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The config {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The config {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"The config {path} holds {type(values).__name__}, but it needs names and values.")
    return from_dict(cls, values)


def current_name(cls: Any, name: str, path: str) -> str:
    """The name of a setting, old ones with one line that says the new. Raises InputError if there is none."""
    names, new = [field.name for field in fields(cls)], RENAMED.get(join(path, str(name)))
    if new in names:
        tell_renamed(join(path, name), join(path, new))
        return new
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
        hint = f"Did you mean {join(path, near[0])!r}?" if near else f"There are: {', '.join(names)}."
        raise InputError(f"There is no setting {join(path, str(name))!r}. {hint}")
    return name


@cache
def tell_renamed(old: str, new: str) -> None:
    print(f"louder: the setting {old} is called {new} now.", file=sys.stderr)


def nested(cls: Any, name: str, value: Any) -> Any:
    """The dataclass that a field holds, if it does."""
    return of_kind(get_type_hints(cls)[name], name, value)


def of_kind(hint: Any, name: str, value: Any) -> Any:
    """The dataclass of a type. Of several, the one whose `kind` the values name."""
    options = [x for x in (get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]) if is_dataclass(x)]
    if len(options) < 2:
        return options[0] if options else None
    by_kind = {get_args(get_type_hints(option)["kind"])[0]: option for option in options}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if kind not in by_kind:
        raise InputError(f"{name}.kind is {kind!r}, but it must be one of {', '.join(by_kind)}.")
    return by_kind[kind]


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


# --- what a config requires of its settings, said once; one that is None was left out ---------------------------------


def require_at_least(least: float, section: str, config: object, *names: str) -> None:
    require(lambda value: value >= least, f"at least {least}", section, config, names)


def require_above_zero(section: str, config: object, *names: str) -> None:
    require(lambda value: value > 0, "above 0", section, config, names)


def require_fraction(section: str, config: object, *names: str) -> None:
    """Such as a dropout: not all."""
    require(lambda value: 0 <= value < 1, "in [0, 1)", section, config, names)


def require_one_of(section: str, config: object, **allowed: Sequence[str]) -> None:
    for name, choices in allowed.items():
        require(choices.__contains__, f"{', '.join(choices[:-1])} or {choices[-1]}", section, config, [name])


def require(holds: Callable[[Any], bool], needed: str, section: str, config: object, names: Sequence[str]) -> None:
    """Raises InputError for the first of these settings that does not fit. Each of several values has to."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not all(map(holds, value if isinstance(value, tuple) else (value,))):
            raise InputError(f"{join(section, name)} must be {needed}, but it is {value!r}.")
