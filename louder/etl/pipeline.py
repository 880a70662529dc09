"""Raw log -> sequence table: read, transform, write."""

import shutil
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from louder.errors import InputError
from louder.etl.archives import MEMBER
from louder.etl.engines.sql import sentences
from louder.etl.event_filters import EventFilters
from louder.etl.files import bytes_of, describe, in_background, is_stream, open_input
from louder.etl.sources import open_source
from louder.etl.sources.arrow import FRAME, open_arrow
from louder.etl.spec import LogSpec
from louder.folders import new_folder
from louder.schema import TABLE_FOLDER, Manifest

if TYPE_CHECKING:
    from louder.etl.read import Report

EVENTS_PER_PART = 2_000_000
SMALL_BYTES = 32 << 20  # of sources, as they are: perhaps five million events


def build_table(
    source: str | Path | Sequence[str | Path] | pa.Table,
    out: str | Path,
    *,
    spec: LogSpec | None = None,
    min_user_events: int = 0,
    min_item_events: int = 0,
    k_core: int = 0,
    drop_duplicates: bool | None = None,
    name: str | None = None,
    overwrite: bool = False,
    memory_bytes: int | None = None,
    threads: int | None = None,
    events_per_part: int = EVENTS_PER_PART,
    report: "Report" = lambda text: None,
) -> Manifest:
    """Make a sequence table from a raw log, and return its manifest.

    source           a file, a folder, an archive, `archive.zip::member`, several files, or a table in memory
    out              the folder to make; it appears only when it is whole
    spec             what the columns mean; None: recognised, or columns user_id, item_id, timestamp
    min_user_events, min_item_events
                     one pass, as in the official Books preprocessing: both counted before anything is dropped;
                     when both are given, users left with fewer than min_user_events go too
    k_core           users and items with fewer events are dropped again and again until none is left
    drop_duplicates  rows that are equal in every column that is used are kept once; None: in KuaiRand, elsewhere they stay
    memory_bytes     for the engine; what does not fit is spilled beside the table
    report           called with a line of text when a step begins

    With a filter on items the catalogue is the items that pass it; without, also those that only the attributes name.
    Raises InputError for anything wrong with the source, the spec or the disk; then no folder is left.
    """
    frame = source if isinstance(source, pa.Table) else None
    sources = [] if isinstance(source, pa.Table) else [source] if isinstance(source, str | Path) else list(source)
    keep = EventFilters(
        min_user_events=min_user_events, min_item_events=min_item_events, k_core=k_core, drop_duplicates=drop_duplicates
    )
    if frame is None and not sources:
        raise InputError("There is no source. Give the log to read: louder etl SOURCE -o TABLE.")
    for entry in sources:
        if not is_stream(entry):
            open_input(entry, Path())  # a mistyped name fails before any folder is made
    read = [str(entry).partition(MEMBER)[0] for entry in sources] + (spec.files if spec else [])
    with new_folder(out, TABLE_FOLDER, overwrite=overwrite, keep=read) as folder:
        work = folder / ".work"
        work.mkdir()
        paths = [Path(str(path).partition(MEMBER)[0]) for path in sources if not is_stream(path)]
        in_background(partial(import_module, "louder.etl.steps"))
        files = in_background(lambda: [entry for path in paths for entry in describe(path)])
        known = frame is not None or len(paths) == len(sources)
        small = known and (frame.nbytes if frame is not None else sum(map(bytes_of, paths))) <= SMALL_BYTES
        named = FRAME if frame is not None else str(sources[0])
        report("reading")
        with sentences(named, work):
            meaning = spec or LogSpec()
            if frame is not None:
                opened = open_arrow(frame, meaning)
            else:
                opened = open_source([open_input(entry, work) for entry in sources], meaning, work)
            opened = opened.fetched()
        from louder.etl import steps

        with steps.open_duckdb(work, named, memory_bytes=memory_bytes, threads=threads, small=small) as engine:
            log = steps.read_log(engine, opened, report)
            numbered = steps.transform(engine, log, keep, events_per_part, work, report)
            counts = steps.write_table(engine, log, numbered, folder, report)
        manifest = steps.describe_table(log, numbered, counts, name or opened.name, files.result())
        shutil.rmtree(work)
        manifest.write(folder)
    return manifest
