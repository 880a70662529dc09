"""Fills docs/reference/commands.md from the commands themselves, so that the page can't go stale."""

from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    if "<!-- commands -->" not in markdown:
        return markdown
    import typer
    from typer.cli import get_docs_for_click

    from louder.cli import app

    command = typer.main.get_command(app)
    with command.make_context("louder", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="louder")
    return markdown.replace("<!-- commands -->", text.replace("# `louder`", "## `louder`", 1))
