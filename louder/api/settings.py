"""Settings as Python has them -> NAME=VALUE, as the command line has them: one way to change a config."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from typing import Any

from louder.config import to_dict
from louder.errors import InputError
from louder.training.config import Config


def assignments(settings: Mapping[str, Any] | None, keywords: Mapping[str, Any], config: Config) -> list[str]:
    """`{"training.epochs": 5}`, `{"training": {"epochs": 5}}` and `epochs=5` -> `["training.epochs=5"]`.

    Raises InputError for a keyword that several parts of the config have, or none.
    """
    named = {full_name(name, config): value for name, value in keywords.items()}
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


def full_name(keyword: str, config: Config) -> str:
    """epochs -> training.epochs"""
    values = to_dict(config)
    if keyword in values:
        return keyword
    found = [f"{part}.{keyword}" for part, inner in values.items() if isinstance(inner, dict) and keyword in inner]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"The setting {keyword!r} may be {' or '.join(found)}. Say which: settings={{{found[0]!r}: …}}."
        )
    return keyword  # which the config refuses, with the nearest name
