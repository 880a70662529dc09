"""A checkpoint is a folder: safetensors and JSON, written whole or not at all. Nothing in it is pickled.

model.safetensors      weights, or their average
optimizer.safetensors  moments of each weight, as NAME.exp_avg and so on; where the model is an average, NAME.latest
*.sqlite               of a stream: histories, and what waits to be joined
state.json             step, data position, best metric so far, config, vocabulary sizes, metrics
vocabulary/, items.parquet, users.parquet
                       copied (hard links where possible) from the table, so that it can recommend alone
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from louder.errors import InputError
from louder.folders import FolderKind, new_folder

FORMAT_VERSION = 1
BESIDE = "vocabulary/*.parquet", "items.parquet", "users.parquet"
CHECKPOINT_FOLDER = FolderKind("a checkpoint", "state.json", "format_version", ("*.safetensors", "*.sqlite", *BESIDE))
Tensors = dict[str, Tensor]


def save(
    folder: Path,
    *,
    model: Tensors,
    optimizer: Tensors,
    state: dict[str, Any],
    beside: Path | None = None,
    extra: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a checkpoint. `beside` is a folder whose vocabulary/ and attributes belong to it, `extra` writes further files."""
    with new_folder(folder, CHECKPOINT_FOLDER, overwrite=True) as temporary:
        for name, tensors in ("model", model), ("optimizer", optimizer):
            write_tensors(temporary / f"{name}.safetensors", tensors)
        if beside is not None:
            for file in attached(beside):
                link_or_copy(file, temporary / file.relative_to(beside))
        extra(temporary)
        text = json.dumps({"format_version": FORMAT_VERSION, **state}, indent=1)
        (temporary / "state.json").write_text(text + "\n", encoding="utf-8")
        for name in "model", "optimizer":  # safetensors lets the owner alone read, but a service may be somebody else
            shutil.copymode(temporary / "state.json", temporary / f"{name}.safetensors")


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises OSError when the disk is full, as other files do."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: x.detach().contiguous() for name, x in tensors.items()}, file)
    except SafetensorError as error:
        if "No space left" in str(error) or "quota" in str(error).lower():
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def attached(folder: Path) -> list[Path]:
    """The files of a table, a run or a checkpoint that turn ids back into raw ids, and into attributes."""
    # attributes of users are embedded by their place among the distinct values: these must stay those of the training
    attributes = [folder / "items.parquet", folder / "users.parquet"]
    files = [*sorted((folder / "vocabulary").glob("*.parquet")), *attributes]
    return [file for file in files if file.exists()]


def load_state(folder: Path) -> dict[str, Any]:
    """Raises InputError if there is no checkpoint, or it is damaged or of another version."""
    file = folder / "state.json"
    if not file.is_file():
        raise InputError(f"{folder} is not a checkpoint: it has no state.json.")
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        version = state["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(damaged(file)) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder} is a checkpoint of format {version}, but this Louder reads format {FORMAT_VERSION}. "
            "Use the Louder that wrote it, or train again: louder train RECIPE -o RUN."
        )
    return state


def load_tensors(folder: Path, name: str) -> Tensors:
    """`name` is "model" or "optimizer". Raises InputError if the file is missing or cut short."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / f"{name}.safetensors"
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(damaged(file)) from error


def load_model(model: nn.Module, folder: Path) -> None:
    """Raises InputError if the weights are missing, damaged, or not those of this model."""
    tensors = load_tensors(folder, "model")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"The weights in {folder} do not fit the model of its config ({' '.join(str(error).split())[:200]}). "
            "Train again: louder train RECIPE -o RUN."
        ) from error


def fingerprint(folder: Path) -> str:
    """Tells one checkpoint's model from another's: of its weights, and of the attributes that its items are made of."""
    digest = hashlib.sha256()
    for name in "model.safetensors", "items.parquet":
        if (folder / name).is_file():
            with open(folder / name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def damaged(file: Path) -> str:
    return (
        f"{file} is missing, cut short or damaged, so this checkpoint cannot be used. "
        f"Remove {file.parent} to fall back on an older one, or train again: louder train RECIPE -o RUN."
    )


def link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


# A run is a folder of checkpoints:  RUN/checkpoints/step-NNNNNNNN/  and  RUN/best.json, which names one of them.

RUN_FILES = "log.jsonl", "metrics.json", "best.json", "report.html", ".lock", ".*.tmp"
STREAM_FILES = "stream.json", "stream.jsonl", "cut.json", "dead.jsonl", ".histories", ".joiner"
RUN_PARTS = "checkpoints/step-*/", "checkpoints/.step-*/", "tensorboard/events.out.tfevents.*", "index/index.*"
VERSIONS = "current.json"  # the mark of a folder of published versions, see louder.publishing
RUN_FOLDER = FolderKind("a run", "config.json", "training", (*RUN_FILES, *STREAM_FILES, *RUN_PARTS, *BESIDE))


def step_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def latest(run: Path) -> Path | None:
    folders = sorted((run / "checkpoints").glob("step-????????"))
    return folders[-1] if folders else None


def best(run: Path) -> Path:
    """The checkpoint that evaluation chose. Raises InputError if the run has none yet."""
    if not run.is_dir():
        raise InputError(f"There is no run {run}. Make one: louder train RECIPE -o {run}.")
    if (run / "manifest.json").is_file():
        raise InputError(
            f"{run} is a sequence table, and no run. Train on it: louder train RECIPE --table {run} -o RUN."
        )
    if (run / VERSIONS).is_file():
        raise InputError(f"{run} is a folder of versions, and no run. Serve it: louder serve {run}.")
    pointer = run / "best.json"
    if not pointer.is_file() and not (run / "config.json").is_file():
        raise InputError(f"{run} is no run: it has no config.json. Make one: louder train RECIPE -o RUN.")
    if not pointer.is_file():
        raise InputError(
            f"{run} has no best checkpoint yet. Finish its training: louder train RECIPE -o {run} --resume."
        )
    try:
        name = json.loads(pointer.read_text(encoding="utf-8"))["checkpoint"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{pointer} is damaged. Finish the training again: louder train RECIPE -o {run} --resume."
        ) from error
    return run / "checkpoints" / name
