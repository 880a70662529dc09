"""The command line. One file per command; each imports what it needs when it runs, so that --help is quick."""

import signal
import sys
from threading import Event
from types import FrameType
from typing import Annotated, NoReturn

import typer

from louder.cli import (
    ab,
    calibrate,
    data,
    demo,
    etl,
    evaluate,
    index,
    live,
    publish,
    rank,
    recommend,
    report,
    serve,
    shelf,
    stream,
    train,
    try_log,
)
from louder.errors import InputError, Interrupted
from louder.version import __version__

app = typer.Typer(
    name="louder",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command()(etl.etl)
app.command()(train.train)
app.command()(stream.stream)
app.command()(evaluate.evaluate)
app.command()(calibrate.calibrate)
app.command()(recommend.recommend)
app.command()(rank.rank)
app.command()(index.index)
app.command()(serve.serve)
app.command()(publish.publish)
app.command()(publish.rollback)
app.command()(ab.ab)
app.command()(report.report)
app.command()(shelf.runs)
app.command()(shelf.tables)
app.command("try")(try_log.try_log)
app.command()(demo.demo)
app.command()(live.live)


def tell_version(asked: bool) -> None:
    if asked:
        print(f"louder {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Generative recommenders: from raw interaction logs to recommendations."""


@app.command(
    "bench",
    hidden=True,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def bench() -> None:
    """Gone from the package."""
    raise InputError("The benchmarks are no longer in the package: run python -m benchmarks in a checkout of Louder.")


def main() -> None:
    """Run a command. A mistake of the user's, or of the machine with a file, is one sentence on standard error, with exit
    code 2; an interrupt is one line, with 130."""
    stopped = Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopped.set()  # a library may make of the exception what it likes
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        app()
    except BaseException as error:
        if stopped.is_set():
            leave(str(error) if isinstance(error, Interrupted) else "interrupted", 130)
        if isinstance(error, InputError):
            leave(str(error), 2)
        if isinstance(error, OSError) and error.filename:
            leave(f"{error.filename} cannot be used ({error.strerror}). Check its path, and what you may do there.", 2)
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def leave(sentence: str, code: int) -> NoReturn:
    print(f"louder: {sentence}", file=sys.stderr)
    sys.exit(code)
