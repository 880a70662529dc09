"""louder live"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from louder.errors import InputError, Interrupted


def live(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")] = Path("live"),
    hours: Annotated[int, typer.Option(min=1, help="Hours of the world that pass.")] = 48,
    minutes: Annotated[
        float, typer.Option(min=0.0, help="Minutes in which a day of the world passes, at the least.")
    ] = 3.0,
    users: Annotated[int, typer.Option(min=50, help="People in it.")] = 400,
    launches: Annotated[float, typer.Option(min=0.0, help="Items that are launched in an hour, on average.")] = 4.0,
    window: Annotated[str, typer.Option(help="Of the trainer, in the world's time.")] = "30m",
    seed: Annotated[int, typer.Option(help="The same seed is the same world.")] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Watch a model learn from people who react to it: service, trainer and a simulated crowd on this machine.

    A world is watched for two days, and a model is trained on that. From then on half of the people are answered by
    it as it was, the others by one that louder stream trains on the service's log. Tastes drift and items are launched
    meanwhile; the page shows what both earn, beside an oracle and popularity. Examples:

        louder live --open

        louder live --hours 96 --minutes 5 --window 15m -o live-slow
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not find_spec("uvicorn"):
        raise InputError("louder live needs more packages: pip install 'louder[serve]'.")
    from louder.data.world import WorldSettings
    from louder.folders import require_free
    from louder.live.demo import live as run_live
    from louder.online.config import seconds_of
    from louder.progress import counting

    require_free(output, overwrite=False)

    def ready(address: str) -> None:
        print(f"Watch it: {address}", flush=True)
        if show:
            typer.launch(address)

    print("A world is watched, and a model is trained on what was seen.", file=sys.stderr)
    try:
        with counting("hours") as advance:
            found = run_live(
                output,
                WorldSettings(users=users, launches=launches, seed=seed),
                hours=hours,
                hour_s=60 * minutes / 24,
                window_s=seconds_of(window, "--window"),
                port=port,
                ready=ready,
                tell=lambda line: print(line, flush=True),
                counting=advance,
            )
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted. What there is can be compared: louder ab {output / 'events'}") from None
    test = found.get("test")
    if test and test["lift"] is not None:
        print(f"\nThe streaming model earned {test['lift']:+.1%} clicks per list beside the frozen one.")
    print(f"Next: louder ab {output / 'events'} --reward click=1    louder serve {output / 'stream'}")
