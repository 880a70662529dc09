"""louder demo"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.cli.etl import options_apart
from louder.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from louder.reports.samples import Sample
    from louder.schema import Manifest
    from louder.training.config import Config

NAME = "demo"
EVENTS_IN_ALL = 3_000_000  # what two cores train on in about two minutes; a larger log gets fewer epochs
WITHOUT_KERNELS = 150_000  # the same where the C++ kernels are neither in the package nor can be compiled


def demo(
    data: Annotated[
        str | None,
        typer.Option(help="A log of your own, as louder etl reads it, or a sequence table.", show_default="made up"),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder in which runs/demo and tables/demo are made.")
    ] = Path(),
    show: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """From a log to recommendations in two minutes: no network, no settings.

    Makes a table, trains a small HSTU on it, measures it beside popularity, recommends to a user, and writes a page
    about all of it. The log is a small made-up film service, unless --data names one. Examples:

        louder demo

        louder demo --data ratings.csv

        louder demo --data tables/ml-1m --open
    """
    # threads that wait for work give up their core, which is many times as fast on a busy machine. The variable is
    # read when torch is loaded, and nothing before this line has loaded it
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    page = run_demo(data, output)
    if show and page:
        typer.launch(page.resolve().as_uri())


def run_demo(
    data: str | None = None,
    output: Path = Path(),
    *,
    log: "tuple[pa.Table, pa.Table] | None" = None,
    settings: Sequence[str] = (),
) -> Path | None:
    """The whole demo -> its report, where Plotly is installed to draw it. `log` (events, items) stands in for the embedded one; `settings` change the recipe.

    Raises InputError if the data cannot be read, or if runs/demo or tables/demo is there and not a demo's.
    """
    from louder.cli.show import print_metrics
    from louder.config import override
    from louder.data.table import open_table
    from louder.reports import samples
    from louder.training.loop import train

    began = time.perf_counter()
    run, table = output / "runs" / NAME, output / "tables" / NAME
    require_own_run(run)
    if data and (Path(data) / "manifest.json").is_file():
        table = Path(data)
    else:
        make_table(data, table, log)
    manifest = open_table(table).manifest
    print(f"Table {table}: {manifest.users:,} users, {manifest.items:,} items, {manifest.events:,} events.", flush=True)

    config = override(fitted(manifest, table), list(settings))
    epochs = config.training.epochs
    print(f"Training a small HSTU in {run}; epochs: {epochs}, or fewer if validation stops gaining.\n", flush=True)
    result = train(config, run, overwrite=True)
    print()
    print_metrics(result)

    print_sample(samples.draw(run, config, open_table(table), users=1)[0])
    page = written_report(run)
    there = page or "pip install 'louder[report]', then louder report " + str(run)
    print(f"\nDone in {time.perf_counter() - began:.0f} s. Curves, more users and the data, on one page: {there}")
    print_next(data, run, table)
    return page


def written_report(run: Path) -> Path | None:
    if not find_spec("plotly"):
        return None
    from louder.reports.report import write_report

    return write_report(run)


def require_own_run(run: Path) -> None:
    """Only what a demo made may be replaced."""
    if not run.exists():
        return
    try:
        name = json.loads((run / "config.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if name != NAME:
        raise InputError(f"{run} is there and was not made by a demo. Move it, or choose another place: -o FOLDER.")


def require_own_table(table: Path) -> None:
    from louder.schema import Manifest

    if table.exists() and Manifest.read(table).name.partition(" of ")[0] != NAME:
        raise InputError(f"{table} is there and was not made by a demo. Move it, or choose another place: -o FOLDER.")


def make_table(source: str | None, table: Path, log: "tuple[pa.Table, pa.Table] | None") -> None:
    """A sequence table from a source, or from the embedded log."""
    from louder.etl import build_table
    from louder.progress import steps

    require_own_table(table)
    with steps(partial(print, file=sys.stderr)) as report:
        if source is None:
            make_synthetic_table(table, log, report)
            return
        name = Path(source.partition("::")[0]).name.partition(".")[0]
        with options_apart(source, "louder demo --data"):
            build_table(source, table, name=f"{NAME} of {name}", overwrite=True, report=report)


def make_synthetic_table(table: Path, log: "tuple[pa.Table, pa.Table] | None", report: Callable[[str], None]) -> None:
    from louder.data.synthetic import demo_log, write_log
    from louder.etl import LogSpec, SideFile, build_table

    events, items = log or demo_log(0)
    with tempfile.TemporaryDirectory(prefix="louder-demo-") as folder:
        file, films = Path(folder) / "demo.parquet", Path(folder) / "demo-items.parquet"
        write_log(events.to_batches(), file)
        write_log(items.to_batches(), films)
        spec = LogSpec(actions={"watched": "watched", "liked": "liked"}, items=SideFile(file=str(films)))
        manifest = build_table(file, table, spec=spec, name=NAME, overwrite=True, report=report)
    # the log is gone now, and where it was tells nothing
    named = [source | {"path": Path(source["path"]).name} for source in manifest.sources]
    replace(manifest, sources=named).write(table)


def fitted(manifest: "Manifest", table: Path) -> "Config":
    """The demo's recipe for a table: no bias by time where there is no clock, fewer epochs where there is more to read."""
    from louder.models import HSTUConfig
    from louder.recipes.demo import demo as recipe

    config = recipe()
    epoch = min(manifest.events, manifest.users * config.data.max_len)
    epochs = max(1, min(config.training.epochs, affordable_events() // epoch))
    model = config.model
    assert isinstance(model, HSTUConfig)
    return replace(
        config,
        data=replace(config.data, table=str(table)),
        model=replace(model, time_bias=manifest.has_times),
        training=replace(config.training, epochs=epochs),
    )


def affordable_events() -> int:
    """Events that training can go through in about two minutes, over all epochs."""
    import torch

    from louder.ops import build

    if torch.cuda.is_available() or build.load_all():
        return EVENTS_IN_ALL
    print("Without Louder's C++ kernels training is slower, so this one is cut short.")
    return WITHOUT_KERNELS


def print_sample(sample: "Sample") -> None:
    """One user, taken as the seed fell: what they did, what would have been recommended, what they did next."""
    from rich.console import Console
    from rich.markup import escape

    from louder.cli.show import print_columns
    from louder.reports.run_page import moment

    timed = sample.held_out.time is not None
    acted = any(line.actions for line in sample.history)
    past = [
        [*([moment(line)] if timed else []), line.name, line.genres, *[", ".join(line.actions)] * acted]
        for line in sample.history[-6:]
    ]
    columns = ["time"] * timed + ["item", "genres"] + ["actions"] * acted
    print_columns(f"User {sample.user}, latest of {sample.events:,} events", columns, past)
    offered = [(rank, line.name, line.genres, f"{line.score:.4f}") for rank, line in enumerate(sample.recommended, 1)]
    hit = next((at for at, line in enumerate(sample.recommended) if line.held_out), -1)
    columns = ["rank", "item", "genres", "score"]
    print_columns("Recommended then", columns, offered, right=["rank", "score"], marked=hit)
    rank_text = "had it before" if sample.rank is None else f"ranked {sample.rank:g} of {sample.items:,}"
    Console(highlight=False).print(f"What came next: [bold]{escape(sample.held_out.name)}[/bold], {rank_text}.")


def print_next(data: str | None, run: Path, table: Path) -> None:
    from louder.data.table import open_table

    user = open_table(table).user_ids.raws([0])[0]
    commands = {
        f"louder recommend {run} --user {user}": "what to show a user now",
        f"louder serve {run} --open": "a page, and HTTP: pick a user, click what they do, see the list change",
        f"louder data inspect {table}": "what the log holds",
    }
    if data is None:
        commands |= {
            "louder demo --data LOG.csv": "the same with a log of your own",
            "louder data fetch ml-1m": "a real one; then louder etl, and louder train ml1m:hstu",
        }
    width = max(map(len, commands))
    print("\nNext:\n" + "\n".join(f"  {command:<{width}}   {what}" for command, what in commands.items()))
