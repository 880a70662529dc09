"""louder stream"""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from louder.errors import Interrupted


def stream(
    begin: Annotated[
        str, typer.Argument(metavar="RUN|RECIPE", help="A run to go on from, or a recipe to begin with random weights.")
    ],
    source: Annotated[str, typer.Option(help="The event log: a folder, or kafka://HOST:PORT/TOPIC.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the stream, which can be served like a run.")
    ],
    window: Annotated[str, typer.Option(help="Of the events' time, such as 60s, 15m or 1d.")] = "15m",
    wait: Annotated[str, typer.Option(help="After which what was shown and left alone is a negative.")] = "10m",
    lateness: Annotated[str, typer.Option(help="For so long after it happened an event may come.")] = "1m",
    table: Annotated[
        Path | None,
        typer.Option(help="With the ids of a recipe, and the histories of known users.", show_default="the run's"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of the run, or stream.NAME of the stream. Repeatable."),
    ] = None,
    publish: Annotated[
        Path | None, typer.Option(help="Each window's model into this folder of versions, if it passes the gate.")
    ] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop at the end of the log.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the last window's row as JSON.")] = False,
) -> None:
    """Learn from an event log as it grows: each window of time is first foretold, then trained on once.

    A stream that was stopped, or killed, goes on by itself where it was: type the same again. Examples:

        louder stream runs/shop --source events -o streams/shop

        louder stream runs/shop --source kafka://kafka:9092/events -o streams/shop --window 60s

        louder stream runs/shop --source events -o streams/shop --publish live

        louder stream ml1m:hstu --source events -o streams/cold --until-end --set training.learning_rate=3e-4
    """
    from louder.api.streams import stream as run_stream
    from louder.config import override
    from louder.online.config import StreamConfig

    own = [text.removeprefix("stream.") for text in settings or [] if text.startswith("stream.")]
    try:
        row = run_stream(
            begin,
            source,
            output,
            window=window,
            wait=wait,
            lateness=lateness,
            table=table,
            settings=[text for text in settings or [] if not text.startswith("stream.")],
            config=override(StreamConfig(), own),
            publish=publish,
            until_end=until_end,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted. Go on: {shlex.join(['louder', *sys.argv[1:]])}") from None
    if json_output:
        print(json.dumps(row))
    elif row:
        print(f"\nNext: louder serve {publish or output}    louder report {output}")
    else:
        print(f"There is nothing new in {source} since the last window of {output}.")
