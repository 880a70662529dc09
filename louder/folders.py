"""Folders that are either whole or not there: written under a temporary name, then renamed."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from louder.errors import InputError


def full_disk(place: Path) -> InputError:
    return InputError(
        f"The disk that holds {place.resolve()} is full. Free some space, or choose another place with -o."
    )


def is_full_disk(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def require_free(path: Path, overwrite: bool) -> Path:
    """Raises InputError if the path exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already. Choose another name, or add --overwrite to replace it.")
    return path


@contextmanager
def told_when_full(place: Path) -> Iterator[None]:
    """Turn the system's error about a full disk into an InputError."""
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(place) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a crash, meets the old text or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with told_when_full(path.parent):
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, what: str, kind: type, form: str) -> Any:
    """The content of a JSON file of one kind (list or dict). Raises InputError if it is not; `what` names the file in
    the sentence, and `form` says what it must be."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The {what} {path} cannot be read: {error.strerror}. It must be {form}.") from error
    except ValueError as error:
        raise InputError(f"The {what} {path} is not JSON ({error}). It must be {form}.") from error
    if not isinstance(values, kind):
        raise InputError(f"The {what} {path} holds {type(values).__name__}. It must be {form}.")
    return values


@contextmanager
def new_folder(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an exception; else `path` is as before.
    Raises InputError if `path` exists and `overwrite` is false, or when the disk is full."""
    path = Path(path)
    require_free(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with told_when_full(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path)
            temporary.mkdir()
            yield temporary
            sync(temporary)
            replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
            if path.exists():
                os.replace(path, replaced)
            os.replace(temporary, path)
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(path: Path) -> None:
    """Remove what processes that were killed left beside `path`."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        process = leftover.name.split(".")[-2]
        if process == str(os.getpid()) or (process.isdigit() and not is_running(int(process))):
            shutil.rmtree(leftover, ignore_errors=True)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sync(folder: Path) -> None:
    """Make every file in a folder survive a power cut, so that the rename after it never points at empty files."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
