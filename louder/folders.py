"""Folders that are either whole or not there: written under a temporary name, then renamed."""

import errno
import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from louder.errors import InputError


@dataclass(frozen=True)
class FolderKind:
    """What Louder makes folders of. Nothing but a folder of the same kind is ever replaced by one.

    name   in a sentence, such as "a sequence table"
    mark   the file that each of them has
    key    a word in that file
    holds  the other files that Louder writes there, as patterns of their paths: see fits
    """

    name: str
    mark: str
    key: str
    holds: tuple[str, ...]


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


def require_replaceable(path: Path, kind: FolderKind, keep: Iterable[Path | str] = ()) -> None:
    """Raises InputError unless all that is at `path`, if anything, was made by Louder and is of this kind, so that nothing
    else is lost. `keep` are files and folders that are still needed: none of them may be there or inside."""
    other = "Choose another name: -o NAME."
    if path.is_symlink():
        raise InputError(f"{path} is a link to {os.readlink(path)}, which is left alone. {other}")
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path} is a file, and not {kind.name}, so it is left alone. {other}")
    for needed in (Path.cwd(), *map(Path, keep)):
        if needed.resolve().is_relative_to(path.resolve()):
            what = "where this command runs" if needed == Path.cwd() else "which this command reads"
            raise InputError(f"{path} holds {needed}, {what}, so it cannot be replaced. {other}")
    inside = [entry for entry in path.rglob("*") if entry.is_symlink() or not entry.is_dir()]
    if not inside:
        return
    names = [entry.relative_to(path).as_posix() for entry in inside]
    if kind.mark not in names or not (len(names) > 1 or kind.key in (path / kind.mark).read_text(errors="replace")):
        raise InputError(f"{path} is not {kind.name}, and --overwrite replaces nothing else. {other}")
    foreign = [name for name in names if not any(fits(name, pattern) for pattern in (kind.mark, *kind.holds))]
    if foreign:
        raise InputError(
            f"{path} holds {foreign[0]}, which Louder did not write, so it is left alone. Move that, or choose another "
            "name: -o NAME."
        )


def fits(name: str, pattern: str) -> bool:
    """Whether the path of a file is that of a pattern, part by part, or inside a folder whose pattern ends in a slash."""
    parts, patterns = name.split("/"), pattern.rstrip("/").split("/")
    inside = len(parts) > len(patterns) if pattern.endswith("/") else len(parts) == len(patterns)
    return inside and all(map(fnmatch, parts, patterns))


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


def sync_folder(folder: Path) -> None:
    """So that a file that was made there is found after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
def new_folder(
    path: Path | str, kind: FolderKind, *, overwrite: bool = False, keep: Iterable[Path | str] = ()
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an exception; else `path` is as before.

    Raises InputError if `path` exists and `overwrite` is false, or if what is there may not be replaced (see
    require_replaceable), when the disk is full, and where no folder can be made.
    """
    shown, path, keep = Path(path), Path(os.path.abspath(path)), list(keep)
    require_free(shown, overwrite)
    require_replaceable(shown, kind, keep)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with told_when_full(path.parent):
            with told_where(shown):
                path.parent.mkdir(parents=True, exist_ok=True)
                sweep(path)
                temporary.mkdir()
            yield temporary
            sync(temporary)
            replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
            require_free(shown, overwrite)  # somebody else may have written there meanwhile
            require_replaceable(shown, kind, keep)
            if path.exists():
                os.replace(path, replaced)
            try:
                os.replace(temporary, path)
            except OSError:
                if replaced.exists():
                    os.replace(replaced, path)
                raise
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def told_where(path: Path) -> Iterator[None]:
    """Turn the system's error about a place where nothing can be written into an InputError."""
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            raise
        raise InputError(f"{path} cannot be made ({error.strerror or error}). Choose another place with -o.") from error


def sweep(path: Path) -> None:
    """Remove what processes that were killed left beside `path`, and put back what one had just moved away."""
    name = glob.escape(path.name)
    for leftover in [*path.parent.glob(f".{name}.*.tmp"), *path.parent.glob(f".{name}.*.old")]:
        process = leftover.name.split(".")[-2]
        if process == str(os.getpid()) or (process.isdigit() and not is_running(int(process))):
            if leftover.suffix == ".old" and not path.exists():
                os.replace(leftover, path)
            else:
                shutil.rmtree(leftover, ignore_errors=True)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def one_writer(folder: Path, option: str = "-o NAME") -> Iterator[None]:
    """For a folder that is written bit by bit: one process at a time. Raises InputError while there is another, with the
    option that chooses another folder.

    The lock is the system's, so that it goes with the process that holds it, however that ends.
    """
    place = folder / ".lock"
    while True:
        with told_where(folder):
            file = open(place, "a+", encoding="ascii")  # noqa: SIM115 (closed below)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                by = file.read().strip()
                raise InputError(
                    f"{folder} is being written by process {by or 'of another user'}. Wait until that has ended, or "
                    f"choose another: {option}."
                ) from None
            if not place.exists() or os.fstat(file.fileno()).st_ino != place.stat().st_ino:
                continue  # the one before removed it between our opening and locking it
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                place.unlink(missing_ok=True)
            return


def sync(folder: Path) -> None:
    """Make every file in a folder survive a power cut, so that the rename after it never points at empty files."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
