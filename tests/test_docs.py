"""What the pages say can be typed, and their figures come from rows."""

import ast
import dataclasses
import inspect
import pydoc
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from docs.hooks import commands as commands_hook
from docs.hooks import docstrings, first_screen, settings
from louder.config import override
from louder.inference.recommender import Recommender
from louder.training.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """Every line of a page that runs louder or a benchmark, without its comment and its prompt."""
    found = []
    for page in PAGES:
        for line in re.sub(r"\s*\\\n\s*", " ", page.read_text(encoding="utf-8")).splitlines():
            if match := re.match(r"\s*(?:\$ )?((?:louder|python -m benchmarks) [a-z].*)", line):
                text = re.split(r"\s+#|\s+> ", match[1])[0]
                found.append((str(page.relative_to(ROOT)), text))
    return found


@pytest.mark.parametrize(("page", "text"), commands(), ids=lambda x: x.replace("/", "-"))
def test_a_command_on_a_page_exists_with_all_its_options(page: str, text: str) -> None:
    import benchmarks.commands
    import louder.cli

    program = "louder" if text.startswith("louder") else "python -m benchmarks"
    app = louder.cli.app if program == "louder" else benchmarks.commands.app
    command: click.Command = typer.main.get_command(app)
    words = shlex.split(text.removeprefix(program))
    while isinstance(getattr(command, "commands", None), dict):
        name = words.pop(0)
        assert name in command.commands, f"{page}: there is no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in known, f"{page}: {command.name} has no option {word}"


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 20


def test_tables_on_the_pages_equal_the_rows() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.tables", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_screen_is_the_readmes_and_fits_a_page_of_the_site() -> None:
    screen = first_screen.first_screen((ROOT / "README.md").read_text(encoding="utf-8"))
    assert screen.startswith("# Louder\n") and "make demo" in screen and "\n## " not in screen
    assert max(len(line) for line in screen.splitlines() if line.startswith("    ")) <= 4 + 80
    assert first_screen.first_screen("# A\n\n[b](docs/b.md#c) [d](e.md)\n\n## F\n") == "# A\n\n[b](b.md#c) [d](e.md)"
    assert first_screen.on_page_markdown("x\n<!-- first screen -->\ny") == f"x\n{screen}\ny"


def test_every_setting_of_every_config_is_in_the_reference() -> None:
    made = settings.on_page_markdown("<!-- settings -->")
    rows = {row[0]: row[1:] for row in map(cells, made.splitlines()) if len(row) == 4}
    plain = {
        path
        for cls, prefix in settings.configs(Config)
        for path in (f"{prefix}{field.name}" for field in dataclasses.fields(cls))
    }
    nested = {
        "data",
        "data.split",
        "data.stochastic_length",
        "model",
        "loss",
        "mol",
        "ranking",
        "training",
        "evaluation",
    }
    assert {f"`{path}`" for path in plain - nested} == rows.keys() - {"setting", "---"}
    override(Config(name="x"), ["data.split.kind=time", "data.split.validation_from=1", "data.split.test_from=2"])
    assert {"`data.split.kind`", "`data.split.test_from`", "`data.stochastic_length.alpha`"} < rows.keys()
    assert rows["`training.epochs`"] == ["`int`", "`101`", ""]
    assert rows["`training.seed`"][1] == "`42`"
    assert (
        rows["`data.max_len`"][2] == "longest history given to a model, in tokens; the latest are kept"
    )  # behind the field
    assert rows["`ranking.hidden`"][2] == "width of the head, as a multiple of the model's"  # in the docstring
    assert rows["`ranking.tokens`"][2].endswith("half as long, for logs without requests")  # over several lines
    assert rows["`data.events_per_batch`"][0] == "`int \\| None`"  # or the table would have one column more
    assert rows["`model.counter_vectors`"][2] == "vectors that all counters together become"  # of a parent
    for name in "HSTUConfig", "SASRecConfig", "TransformerConfig", "DLRMConfig", "WukongConfig", "MoLConfig":
        assert f"## {name}: `" in made
    assert "Shape of one DLRM." in made and "main             the action" not in made


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def test_every_recipe_is_in_the_reference() -> None:
    from louder.recipes import names

    made = settings.on_page_markdown("<!-- recipes -->")
    assert re.findall("^\\| `(.*?)`", made, re.MULTILINE) == names()
    assert "| `ml1m:hstu_large` | HSTU-large: 4 times the layers, 2 times the heads. |" in made


DOCSTRING = """Mix events.

    y = x @ w

q, k     [L, H, K]  float32, all users
         end to end
a_long_name, b two names and one blank
returns  [L] what
         it is
raises   ValueError for nothing

It stays. Raises InputError if there is none, or
if there are two.

other    is no argument
"""


def test_docstrings_become_tables() -> None:
    made = docstrings.google(DOCSTRING, ["q", "k", "a_long_name", "b"])
    text, _, sections = made.partition("Args:\n")
    assert text == "Mix events.\n\n    y = x @ w\n\nIt stays.\n\nother    is no argument\n\n"
    assert sections.split("\n\n") == [
        "    q: `[L, H, K]` float32, all users end to end\n    k: `[L, H, K]` float32, all users end to end\n"
        "    a_long_name: two names and one blank\n    b: two names and one blank",
        "Returns:\n    `[L]` what it is",
        "Raises:\n    ValueError: for nothing.\n    InputError: if there is none, or if there are two.",
    ]
    assert docstrings.google("One line.", ["x"]) == "One line."
    assert docstrings.google("Raises InputError if it is so.", []) == "Raises:\n    InputError: if it is so."
    fields = docstrings.google("A.\n\nx  one", ["x"], "Attributes")
    assert fields == "A.\n\nAttributes:\n    x: one"


def test_commands_are_in_the_reference() -> None:
    made = commands_hook.on_page_markdown("<!-- commands -->")
    assert made.startswith("## `louder`") and "`louder data inspect`" in made and "--html" in made
    assert commands_hook.on_page_markdown("nothing") == "nothing"


def test_pages_are_in_the_navigation_and_their_links_lead_somewhere() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f": {page.relative_to(ROOT / 'docs')}\n" in navigation
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page}: {link}"


def code(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_code_on_the_pages_imports_what_there_is_and_calls_what_it_has() -> None:
    blocks = [block for page in PAGES for block in code(page)]
    assert len(blocks) > 5
    for block in blocks:
        tree = ast.parse(block)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        exec("\n".join(map(ast.unparse, imports)), {})
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            match call.func:
                case ast.Attribute(attr="recommend" | "rank" as name, value=ast.Name(id="recommender")):
                    known = inspect.signature(getattr(Recommender, name)).parameters
                    assert {keyword.arg for keyword in call.keywords} <= known.keys(), ast.unparse(call)
                case ast.Name(id="Recommender") | ast.Attribute(attr="load"):
                    known = inspect.signature(Recommender).parameters
                    assert {keyword.arg for keyword in call.keywords} <= known.keys(), ast.unparse(call)


def test_every_name_of_the_reference_exists_and_says_what_it_is() -> None:
    entries = [
        (path, re.findall(r"\w+", members or ""))
        for page in PAGES
        for path, members in re.findall(
            r"^::: (\S+)\n(?:    options:\n      members: \[(.*?)\])?", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert len(entries) > 30
    for path, members in entries:
        thing = pydoc.locate(path)
        assert thing is not None, f"there is no {path}"
        for name in ["", *members]:
            assert inspect.getdoc(getattr(thing, name) if name else thing), f"{path}.{name} has no docstring"
