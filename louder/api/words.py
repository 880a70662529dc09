"""What a sentence for the command line says in Python: --time-unit ms is time_unit='ms'."""

import os
import re
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from louder.errors import InputError

PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
P = ParamSpec("P")
T = TypeVar("T")

COMMAND = re.compile(r"louder [a-z]+ (?:[^.:()]|[.:](?! |$))*")  # up to the end of the sentence
VALUE = r"'[^']*'|\"[^\"]*\"|[^\s;()]*[^\s,;().:]"
PROSE = "or|and|to|in|for|of|with|is|are|was|has|must|needs|also|goes|run|repeats|replaces|before|after"  # goes on after an option, and is no value
OPTION = re.compile(rf"(?<![\w-])(--[a-z][a-z-]*|-o)(?:[ =](?!(?:{PROSE})\b)({VALUE}))?(?=[\s,;().:]|$)")
WORDS = {"user_id": "user", "item_id": "item", "timestamp": "time", "request_id": "request"}
NAMED = {"--action": "actions", "--value": "values", "--series": "series", "--set": "settings"}
PLAIN = {"--no-times": "time=False", "--overwrite": "overwrite=True", "--resume": "resume=True"}
OTHER_NAMES = {"-o": "folder", "--time-format": "time_unit"}


def in_python(sentence: str) -> str:
    """The sentence with keywords of Python in place of options; commands, which begin with `louder`, stay. It begins with a
    capital where it begins with what a log is called."""
    parts, end = [], 0
    for command in COMMAND.finditer(sentence):
        parts += [OPTION.sub(keyword, sentence[end : command.start()]), command[0]]
        end = command.end()
    said = "".join([*parts, OPTION.sub(keyword, sentence[end:])])
    return f"The {said[4:]}" if said.startswith("the ") else said


def keyword(option: re.Match[str]) -> str:
    flag, value = option[1], (option[2] or "").strip("'\"")
    if flag in PLAIN:
        return PLAIN[flag] + (f" {option[2]}" if option[2] else "")  # it has no value
    name, equals, inner = value.partition("=")
    if flag == "--column" and equals:
        return f"{WORDS[name]}={inner!r}" if name in WORDS else f"{name}={inner!r}"
    if flag in NAMED and equals:
        return f"{NAMED[flag]}={{{name!r}: {literal(inner) if flag == '--set' else repr(inner)}}}"
    called = OTHER_NAMES.get(flag, flag.lstrip("-").replace("-", "_"))
    return f"{called}={literal(value)}" if value else called


def literal(text: str) -> str:
    """How Python writes a value: numbers as they are, lists in brackets."""
    if re.fullmatch(r"-?[\d.]+(e-?\d+)?|None", text):
        return text
    words = {"true": "True", "false": "False", "null": "None"}
    return words.get(text) or (f"[{', '.join(map(literal, text.split(',')))}]" if "," in text else repr(text))


def speaking_python(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, whose InputErrors say what to write in Python."""

    @wraps(function)
    def called(*arguments: P.args, **keywords: P.kwargs) -> T:
        try:
            return function(*arguments, **keywords)
        except InputError as error:
            raise InputError(in_python(str(error))) from None

    return called


def warn(sentence: str) -> None:
    """A warning in words of Python, of the line that called Louder."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(in_python(sentence), stacklevel=level)
