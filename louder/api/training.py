"""Train on a log, or open a run that is there."""

import atexit
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from louder.api.choice import config_of, said
from louder.api.log import Log
from louder.api.run import TrainedRun
from louder.api.settings import assignments
from louder.api.words import in_python, speaking_python
from louder.errors import InputError, Interrupted
from louder.training.config import Config
from louder.training.loop import train as train_run


@speaking_python
def open_run(path: str | os.PathLike[str], table: str | os.PathLike[str] | None = None) -> TrainedRun:
    """A run that is on disk already: `louder.open("runs/shop").recommend(users=[42])`.

    table  where the histories of users are, in place of the table it was trained on
    Raises InputError if there is no run, or if it is damaged.
    """
    return TrainedRun(Path(path), None if table is None else Path(table))


@speaking_python
def train(
    log: Log | str | os.PathLike[str],
    recipe: str | Config | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    size: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    **changes: Any,
) -> TrainedRun:
    """Train a model on a log, and measure its best epoch.

        run = louder.train(log)
        run = louder.train(log, "ml1m:sasrec", folder="runs/sasrec", epochs=20, settings={"model.max_len": 211})

    log       what louder.log returned, or the folder of a table
    recipe    a name (see `louder train --help`), a YAML file, or a Config; None: chosen by the log, and printed why
    folder    of the run; None: a temporary one, which goes when Python ends. A temporary table is kept beside a run that stays
    settings  that change: {"training.epochs": 5} or {"training": {"epochs": 5}}; keywords are the same by the last part of
              their names: epochs=5
    size      "small", "medium" or "large": one dial of what the log decides
    resume    go on where the run in `folder` was stopped

    Raises InputError, one sentence, for settings that are misspelt or do not fit the log, and for a folder that is taken;
    Interrupted, which says how to go on, where the kernel or the program is interrupted.
    """
    if not isinstance(log, Log | str | os.PathLike):
        raise InputError(
            f"train takes what louder.log returns, or the folder of a table, but this is {type(log).__name__}. Make a log "
            "of it first: louder.log(…)."
        )
    log = log if isinstance(log, Log) else Log(Path(log))
    goes_on = Path(folder) if resume and folder is not None else None
    given = assignments(settings, changes)
    config, choices = config_of(recipe, str(log.path), size=size, settings=given, goes_on=goes_on)
    if choices and not quiet:
        print(in_python(said(choices)), file=sys.stderr)
    path = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="louder-")) / config.name
    if folder is not None and log.temporary:
        log = log.keep(path.with_name(f"{path.name}-table"), overwrite=overwrite)
        print(f"The table is kept beside the run: {log.path}", file=sys.stderr)
        config = replace(config, data=replace(config.data, table=str(log.path)))
    try:
        train_run(config, path, resume=resume, overwrite=overwrite, quiet=quiet)
    except KeyboardInterrupt:
        if folder is None:
            atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
        if not (path / "config.json").exists():
            raise
        raise Interrupted(how_to_go_on(path)) from None
    except BaseException:
        if folder is None:
            shutil.rmtree(path.parent, ignore_errors=True)
        raise
    run = TrainedRun(path, log.path, frame=log.frame, log=log, temporary=folder is None)
    if run.temporary:
        weakref.finalize(run, shutil.rmtree, path.parent, ignore_errors=True)
    return run


def how_to_go_on(path: Path) -> str:
    best = f" The best epoch so far: louder.open({str(path)!r})." if (path / "best.json").is_file() else ""
    return f"interrupted. Go on: louder.train(log, folder={str(path)!r}, resume=True), with the same settings.{best}"
