"""louder.stream: learn from an event log."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from louder import recipes
from louder.api.run import TrainedRun
from louder.online.config import StreamConfig, seconds_of
from louder.online.publisher import Publisher
from louder.online.stream import stream as learn
from louder.results import Row
from louder.training.config import Config


def stream(
    begin: "TrainedRun | Config | Path | str",
    source: Path | str,
    output: Path | str,
    *,
    window: str = "15m",
    wait: str = "10m",
    lateness: str = "1m",
    table: Path | str | None = None,
    settings: Sequence[str] = (),
    config: StreamConfig = StreamConfig(),
    publish: Path | str | None = None,
    until_end: bool = False,
    windows: int | None = None,
    quiet: bool = False,
) -> Row:
    """Learn from an event log as it grows, window by window; the row of the last window, empty where nothing was new.

    begin      a run to go on from, or a recipe, by name or whole, to begin with random weights
    source     of events: a folder, or kafka://HOST:PORT/TOPIC
    output     the folder of the stream; one that is there goes on where it was
    window     of the events' time, such as "60s", "15m" or "1d"; `wait` and `lateness` likewise, see StreamConfig
    table      with the ids of a recipe, and the histories of known users
    settings   changes of the run's, NAME=VALUE
    config     the stream's other settings
    publish    a folder of versions for each window's model, if it passes the gate
    until_end  stop at the end of the log, rather than wait for more; `windows`: after so many

    Raises InputError for settings that are not those it was started with, and for a log that was cut or replaced.
    """
    changes = list(settings)
    if isinstance(begin, TrainedRun):
        begin = begin.path
    if isinstance(begin, str):
        begin = Path(begin) if Path(begin).is_dir() else recipes.load(begin)
    if isinstance(begin, Config) and table is not None:
        changes, table = [f"data.table={table}", *changes], None
    timed = replace(
        config,
        window_s=seconds_of(window, "window"),
        wait_s=seconds_of(wait, "wait"),
        lateness_s=seconds_of(lateness, "lateness"),
    )
    return learn(
        begin,
        str(source),
        Path(output),
        settings=timed,
        changes=changes,
        table=None if table is None else Path(table),
        until_end=until_end,
        windows=windows,
        publish=None if publish is None else Publisher(Path(publish)),
        quiet=quiet,
    )
