"""The folder of a stream. It is a run as well, whose best checkpoint is the latest: it can be served while it learns.

STREAM/config.json   as of a run
       stream.json   from what it started, and the settings of the stream
       checkpoints/step-NNNNNNNN/   after window N: the run's files, histories.sqlite, joiner.sqlite, and in state.json the
                     offsets, counts and what else it takes to go on; written whole or not at all
       cut.json      the window that is being trained on
       stream.jsonl  a row for each window
       dead.jsonl    records that could not be used
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from louder import checkpoint
from louder.checkpoint import RUN_FOLDER, Tensors
from louder.config import from_dict, override, to_dict
from louder.data.histories import histories
from louder.data.table import open_table
from louder.errors import InputError
from louder.folders import new_folder, read_json, write_text
from louder.histories import Names
from louder.inference.run import Run
from louder.models import Vocabulary
from louder.online.config import StreamConfig
from louder.online.histories import WorkingStore
from louder.online.items import require_items
from louder.online.learner import TARGETS, require_streamable
from louder.results import read_rows
from louder.schema import Manifest
from louder.training.config import Config
from louder.training.loop import differences, table_state
from louder.training.tasks import open_task

ROWS, SETTINGS = "stream.jsonl", "stream.json"
HISTORIES, JOINER = "histories.sqlite", "joiner.sqlite"
KEPT = 2  # checkpoints: a service may be reading the one before


def start(begin: Path | Config, folder: Path, settings: StreamConfig, changes: list[str], table: Path | None) -> None:
    """A new stream, from a run (warm) or from a config (cold).

    table  with the histories of known users; of a run by default its own, where that is still there
    """
    if isinstance(begin, Path):
        state, tensors, beside = of_run(begin)
        config = override(from_dict(Config, state["config"]), changes)
        own = Path(config.data.table)
        table = table or (own if (own / "manifest.json").is_file() else None)
    else:
        config = override(begin, changes)
        state, tensors, beside = of_config(config)
    require_streamable(config)
    require_items(settings, config, from_dict(Vocabulary, state["vocabulary"]))
    config = replace(config, training=replace(config.training, schedule="constant"))
    state |= {
        "config": to_dict(config),
        "progress": {"step": 0, "epoch": 0, "best_epoch": 0},
        "stream": {"window": 0, "upto": None, "position": None, "seen": {}, "counts": {}},
    }
    with new_folder(folder, RUN_FOLDER) as temporary:
        names = Names(tuple(state["actions"]), tuple(state["values"]))
        store = WorkingStore(temporary / ".histories", None, names=names, keep=settings.keep)
        try:
            if table is not None:
                fill(store, table, folder if not isinstance(begin, Path) else begin, begin)
            save(temporary, 0, tensors, state, beside, {HISTORIES: store.save})
        finally:
            store.close()
        for file in checkpoint.attached(beside):
            checkpoint.link_or_copy(file, temporary / file.relative_to(beside))
        write_text(temporary / "config.json", json.dumps(to_dict(config), indent=1) + "\n")
        about = {
            "from": str(begin) if isinstance(begin, Path) else config.name,
            "settings": asdict(settings),
            "known_until": None if table is None else Manifest.read(table).last_time,
        }
        write_text(temporary / SETTINGS, json.dumps(about, indent=1) + "\n")


def of_run(path: Path) -> tuple[dict[str, Any], dict[str, Tensors], Path]:
    """The state, the tensors and the folder of vocabularies of a run's best checkpoint."""
    run = Run.open(path)
    state = checkpoint.load_state(run.folder)
    tensors = {name: checkpoint.load_tensors(run.folder, name) for name in ("model", "optimizer")}
    for gone in "format_version", "progress", "stream":
        state.pop(gone, None)
    return state, tensors, run.folder


def of_config(config: Config) -> tuple[dict[str, Any], dict[str, Tensors], Path]:
    """Likewise with random weights; the table that the config names says which ids there are."""
    task = open_task(config)
    torch.manual_seed(config.training.seed)
    model = task.build()
    state = {"vocabulary": asdict(task.vocabulary), **table_state(task.table)}
    nothing = torch.zeros(task.vocabulary.items, dtype=torch.float64)
    return state, {"model": model.state_dict(), "optimizer": {TARGETS: nothing}}, task.table.path


def fill(store: WorkingStore, table: Path, run: Path, begin: Path | Config) -> None:
    """The histories that known users have before the stream begins."""
    if isinstance(begin, Path):
        opened = Run.open(run)
        opened.require_table(table)
    read = open_table(table, values=store.names.values, requests=True)
    if tuple(read.manifest.actions) != store.names.actions:
        raise InputError(
            f"{table} has the actions {', '.join(read.manifest.actions) or 'none'}, but the model knows "
            f"{', '.join(store.names.actions) or 'none'}. Pass the table of its training: --table FOLDER."
        )
    store.fill(histories(read, store.keep))


def save(
    folder: Path,
    window: int,
    tensors: dict[str, Tensors],
    state: dict[str, Any],
    beside: Path,
    files: Mapping[str, Callable[[Path], None]],
) -> None:
    """A checkpoint after a window, then the pointer to it; older ones go."""

    def extra(temporary: Path) -> None:
        for name, write in files.items():
            write(temporary / name)

    place = checkpoint.step_folder(folder, window)
    checkpoint.save(
        place, model=tensors["model"], optimizer=tensors["optimizer"], state=state, beside=beside, extra=extra
    )
    point(folder)
    for old in sorted((folder / "checkpoints").glob("step-????????"))[:-KEPT]:
        shutil.rmtree(old)


def point(folder: Path) -> None:
    """The best checkpoint of a stream is its latest."""
    latest = checkpoint.latest(folder)
    assert latest is not None
    window = int(latest.name.removeprefix("step-"))
    write_text(folder / "best.json", json.dumps({"checkpoint": latest.name, "epoch": window}) + "\n")


def is_stream(folder: Path) -> bool:
    return (folder / SETTINGS).is_file()


def require_same(folder: Path, begin: str, settings: StreamConfig, changes: list[str]) -> None:
    """Raises InputError where a stream would go on with other settings than it was started with."""
    about = read_json(folder / SETTINGS, "settings of a stream", dict, "what louder stream wrote")
    config = from_dict(Config, read_json(folder / "config.json", "config", dict, "that of a run"))
    was = asdict(from_dict(StreamConfig, about["settings"])) | {"from": about["from"], "config": to_dict(config)}
    now = asdict(settings) | {"from": begin, "config": to_dict(override(config, changes))}
    for name, before, after in differences(was, now):
        raise InputError(
            f"{folder} was started with {name} = {before!r}, but now it is {after!r}. Go on with the same, or start another "
            "stream: -o NAME."
        )


def restore(folder: Path) -> dict[str, Any]:
    """The state of the latest checkpoint. What was written after it is forgotten."""
    for unfinished in (folder / "checkpoints").glob(".step-*"):  # it was killed while it saved
        shutil.rmtree(unfinished)
    point(folder)
    latest = checkpoint.latest(folder)
    assert latest is not None
    state = checkpoint.load_state(latest)
    rows, own = folder / ROWS, state["stream"]
    kept = [row for row in read_rows(rows) if row["window"] <= own["window"]] if rows.exists() else []
    if own["window"] and (not kept or kept[-1]["window"] < own["window"]):
        kept.append(own["row"])  # it was killed after it had saved
    write_text(rows, "".join(json.dumps(row) + "\n" for row in kept))
    return state
