"""Options that several commands have."""

from typing import Annotated

import typer

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", help="Candidates beside retrieval's: popular:50, new:50, similar:100 or RUN:200. Repeatable."
    ),
]
