"""The first page begins as README.md does: what stands there before its first heading of the second level."""

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.md"


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace("<!-- first screen -->", first_screen(README.read_text(encoding="utf-8")))


def first_screen(readme: str) -> str:
    """Links to docs/ become links of the site."""
    return re.sub(r"\]\(docs/", "](", readme.partition("\n## ")[0]).strip()
