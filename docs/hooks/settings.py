"""Tables of every setting, made from the dataclasses that hold them, and of every recipe, made from its docstring."""

import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    if "<!-- settings -->" in markdown:
        from louder.training.config import Config

        markdown = markdown.replace("<!-- settings -->", "\n\n".join(section(*one) for one in configs(Config)))
    if "<!-- recipes -->" in markdown:
        markdown = markdown.replace("<!-- recipes -->", recipes())
    return markdown


def configs(cls: type, path: str = "") -> Iterator[tuple[type, str]]:
    """A config, and then every config that a field of it may hold, with the path by which --set names its fields."""
    yield cls, path
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        for held in dataclasses_in(hints[field.name]):
            yield from configs(held, f"{path}{field.name}.")


def dataclasses_in(hint: Any) -> list[type]:
    if dataclasses.is_dataclass(hint):
        return [hint]
    return [cls for part in typing.get_args(hint) for cls in dataclasses_in(part)]


def section(cls: type, path: str) -> str:
    """A heading, what the dataclass says of itself, and a row for each setting."""
    hints, said = typing.get_type_hints(cls), comments(cls)
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        if not dataclasses_in(hints[field.name]):
            cells = [f"{path}{field.name}", type_name(hints[field.name]), default(field)]
            lines.append(row([*(f"`{cell}`" if cell else "" for cell in cells), said.get(field.name, "")]))
    title = f"## {cls.__name__}" + (f": `{path.rstrip('.')}`" if path else "")
    return "\n\n".join([title, summary(cls), "\n".join(lines)])


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def type_name(hint: Any) -> str:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " | ".join(type_name(part) for part in typing.get_args(hint))
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    return repr(field.default_factory()) if field.default_factory is not dataclasses.MISSING else ""


def summary(cls: type) -> str:
    """The docstring without its table of fields."""
    names = "|".join(field.name for field in dataclasses.fields(cls))
    return re.split(rf"\n\n(?=(?:{names})  )", inspect.getdoc(cls) or "")[0]


def comments(cls: type) -> dict[str, str]:
    """What is said of each field: the comment behind it, or its line in the docstring; of parents too."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= table_of(inspect.getdoc(base) or "") | comments_behind(textwrap.dedent(inspect.getsource(base)))
    return found


def comments_behind(source: str) -> dict[str, str]:
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    fields = [node for node in body.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    behind = {node.target.id: lines[node.end_lineno - 1][node.end_col_offset :].partition("#")[2] for node in fields}
    return {name: text.strip() for name, text in behind.items() if text.strip()}


def table_of(docstring: str) -> dict[str, str]:
    """Lines of `name  what it is`, which may go on in the next line."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.splitlines():
        if match := re.match(r"(\w+) {2,}(\S.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif name and line.startswith("   "):
            found[name] += " " + line.strip()
        else:
            name = ""
    return found


def recipes() -> str:
    from louder.recipes import functions, names

    lines = ["| recipe | what it is |", "|---|---|"]
    for recipe in names():
        module, _, name = recipe.partition(":")
        lines.append(row([f"`{recipe}`", (inspect.getdoc(functions(module)[name]) or "").partition("\n\n")[0]]))
    return "\n".join(lines)
