"""What the pages say can be typed, and their figures come from rows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """Every line of a page that runs louder or a benchmark, without its comment and its prompt."""
    found = []
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
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
