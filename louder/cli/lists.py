"""What louder recommend is told of lists, as a Request has it."""

from typing import TYPE_CHECKING

from louder.errors import InputError

if TYPE_CHECKING:
    from louder.inference.request import Boost, Pin


def boosts_of(entries: list[str]) -> "list[Boost]":
    """`["genres=Drama:1.5"]`; names and values may hold colons, the factor is behind the last."""
    from louder.inference.request import Boost

    found = []
    for entry in entries:
        named, _, factor = entry.rpartition(":")
        name, equals, value = named.partition("=")
        try:
            found.append(Boost(factor=float(factor), where={name.strip(): [value.strip()]} if equals else {}))
        except ValueError as error:
            example = "an attribute, '=', a value, ':' and a factor: --boost genres=Drama:1.5"
            raise InputError(f"--boost is {entry!r}, but it must be {example}.") from error
    return found


def caps_of(entries: list[str] | None) -> dict[str, int]:
    from louder.cli.etl import pairs

    try:
        return {name: int(most) for name, most in pairs(entries, "--cap", "genres=3").items()}
    except ValueError as error:
        raise InputError(
            f"--cap is {', '.join(entries or [])}, but it must be a number of items: --cap genres=3."
        ) from error


def pins_of(entries: list[str]) -> "list[Pin]":
    from louder.inference.request import Pin

    found = []
    for entry in entries:
        item, _, position = entry.rpartition(":")
        try:
            found.append(Pin(item, int(position if item else "")))
        except ValueError as error:
            example = "an item, ':' and a position: --pin 1193:1"
            raise InputError(f"--pin is {entry!r}, but it must be {example}.") from error
    return found


def where_of(entries: list[str]) -> dict[str, list[str]]:
    """`["genres=Drama", "genres=War"]`: values of one attribute are alternatives."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name or not value:
            raise InputError(
                f"--where is {entry!r}, but it must be an attribute, '=' and a value: --where genres=Drama."
            )
        found.setdefault(name.strip(), []).append(value.strip())
    return found
