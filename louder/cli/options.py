"""Options that several commands have."""

from typing import Annotated

import typer

from louder.api.moments import seconds

At = Annotated[
    int | None,
    typer.Option(
        parser=seconds,
        metavar="TIME",
        help="Time of the request: seconds since 1970, or a date (UTC).",
        show_default="the latest event's",
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", help="Candidates beside retrieval's: popular:50, new:50, similar:100 or RUN:200. Repeatable."
    ),
]
Seen = Annotated[
    bool | None,
    typer.Option(
        "--seen/--unseen",
        help="Also what the user had already, or not.",
        show_default="--unseen, or --seen for a run with evaluation.seen=none",
    ),
]
