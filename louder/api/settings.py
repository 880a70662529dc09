"""Settings as Python has them -> NAME=VALUE, as the command line has them: one way to change a config."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

from louder.errors import InputError
from louder.training.config import Config


def assignments(settings: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> list[str]:
    """`{"training.epochs": 5}`, `{"training": {"epochs": 5}}` and `epochs=5` -> `["training.epochs=5"]`.

    Raises InputError for a keyword that several parts of a config have.
    """
    named = {full_name(name): value for name, value in keywords.items()}
    return [f"{name}={text(value)}" for name, value in flat({**(settings or {}), **named})]


def flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        full = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from flat(value, full)
        elif is_dataclass(value) and not isinstance(value, type):
            yield from flat({x.name: getattr(value, x.name) for x in fields(value)}, full)
        else:
            yield full, value


def text(value: Any) -> str:
    """YAML of a value: JSON is, and dates are as they are."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    if isinstance(value, set | frozenset):
        value = sorted(value)
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise InputError(
            f"A setting is {value!r}, but it must be a number, a text, a list or a dictionary of them."
        ) from None


def full_name(keyword: str) -> str:
    """epochs -> training.epochs; a name that no part of a config has stays, and is refused with the nearest one."""
    found = parts().get(keyword, [])
    if len(found) > 1:
        names = [f"{part}.{keyword}" for part in found]
        raise InputError(
            f"The setting {keyword!r} may be {' or '.join(names)}. Say which: settings={{{names[0]!r}: …}}."
        )
    return f"{found[0]}.{keyword}" if found else keyword


@cache
def parts() -> dict[str, list[str]]:
    """The last part of a name of a setting -> the parts of a config that have it; of those that every config has, if one
    does."""
    hints, found = get_type_hints(Config), dict[str, list[str]]()
    for part, hint in sorted(hints.items(), key=lambda x: NoneType in get_args(x[1])):
        classes = [x for x in (hint, *get_args(hint)) if is_dataclass(x)]
        for name in dict.fromkeys(field.name for x in classes for field in fields(x)):
            if name not in hints and not (name in found and NoneType in get_args(hint)):
                found.setdefault(name, []).append(part)
    return found
