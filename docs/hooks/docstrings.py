"""Louder's docstrings as mkdocstrings reads them, so that parameters, returns and errors become tables.

In the source a docstring is for who reads the code: names of arguments or fields in a column, what they are in the
next, `returns` among them, and a sentence that begins with `Raises`.

    q, k      [L, H, K]   queries and keys
    returns   [L, H, V]

    Raises InputError if there is no run.
"""

import re
from collections.abc import Iterable
from typing import Any

import griffe

LINE = re.compile(r"(?P<names>\w+(?:, \w+)*) +(?P<text>\S.*)")  # of a table; one blank where the names are long
ENTRY = re.compile(r" *(?P<names>\w+(?:, \w+)*) {2,}\S.*")  # which begins one
RAISES = re.compile(
    r"(?:^|(?<=\. )|(?<=\n))Raises? (?P<error>\w+(?:Error|Refused)\w*)(?P<why>(?:.(?!\n\n))*.?)", re.DOTALL
)


class Docstrings(griffe.Extension):
    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        rewrite(func, {parameter.name for parameter in func.parameters}, "Args")

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        arguments = {parameter.name for parameter in cls.parameters} - {"self"}
        rewrite(cls, {*cls.members, *arguments}, "Attributes" if cls.members.keys() - {"__init__"} else "Args")


def rewrite(thing: griffe.Object, names: set[str], kind: str) -> None:
    if thing.docstring:
        thing.docstring.value = google(thing.docstring.value, names, kind)


def google(text: str, names: Iterable[str], kind: str = "Args") -> str:
    """A docstring in Google's form; what is not a table of `names`, and no sentence on errors, stays as it is."""
    known = {*names, "returns", "raises"}
    paragraphs: list[str] = []
    sections: dict[str, list[str]] = {kind: [], "Returns": [], "Raises": []}
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        first = ENTRY.fullmatch(lines[0])
        if first and {name for name in first["names"].split(", ")} <= known:
            for name, said in entries(lines, known):
                if name == "returns":
                    sections["Returns"].append(said)
                elif name == "raises":
                    sections["Raises"].append(error_line(*said.partition(" ")[0::2]))
                else:
                    sections[kind].append(f"{name}: {said}")
        else:
            for match in RAISES.finditer(paragraph):
                sections["Raises"].append(error_line(match["error"], match["why"]))
            if left := RAISES.sub("", paragraph).rstrip():
                paragraphs.append(left)
    for title, found in sections.items():
        if found:
            paragraphs.append(f"{title}:\n" + "\n".join(f"    {line}" for line in found))
    return "\n\n".join(paragraphs)


def entries(lines: list[str], known: set[str]) -> list[tuple[str, str]]:
    """name and text of each line of a table; a line that is indented further goes on with the one before."""
    found: list[tuple[list[str], str]] = []
    indent = len(lines[0]) - len(lines[0].lstrip())
    for line in lines:
        match = LINE.fullmatch(line[indent:])
        if match and {*match["names"].split(", ")} <= known:
            found.append((match["names"].split(", "), shape_as_code(match["text"])))
        else:
            found[-1] = found[-1][0], f"{found[-1][1]} {line.strip()}"
    return [(name, text) for names, text in found for name in names]


def shape_as_code(text: str) -> str:
    """[L, H, K]  queries -> `[L, H, K]` queries"""
    return re.sub(r"^(\[[^\]]*\]) *", r"`\1` ", text).strip()


def error_line(error: str, why: str) -> str:
    return f"{error.rstrip(':')}: {' '.join(why.split()).rstrip('.')}."
