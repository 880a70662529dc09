"""What the user named - a file, a folder, a zip or tar, a member of one - as files on disk."""

import gzip
import hashlib
import os
import re
import shutil
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from louder.errors import InputError
from louder.etl.archives import MEMBER, decompressed, is_tar, members, unpack
from louder.schema import SourceFile

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
STREAM = "-"  # standard input
T = TypeVar("T")


@dataclass
class Input:
    """One source. `names` are the files in it, relative; those of an archive are unpacked when asked for."""

    path: Path
    names: list[str]
    work: Path
    member: str = ""  # the one that was asked for, by `archive.zip::member`
    unpacked: dict[str, Path] = field(default_factory=dict)

    @property
    def is_archive(self) -> bool:
        return self.path.is_file() and (is_tar(self.path) or zipfile.is_zipfile(self.path))

    def find(self, base: str) -> str | None:
        """The shallowest name whose last part is `base`, or None."""
        found = [name for name in self.names if name.rsplit("/", 1)[-1] == base]
        return min(found, key=lambda name: name.count("/"), default=None)

    def file(self, name: str) -> Path:
        if self.path.is_dir():
            return decompressed(self.path / name, self.work)
        if not self.is_archive:
            return decompressed(self.path.parent / name, self.work)
        if name not in self.unpacked:
            self.unpacked[name] = unpack(self.path, name, self.work)
        return self.unpacked[name]

    def shown(self, name: str) -> str:
        """How messages call one file of this source."""
        if self.is_archive:
            return f"{self.path}{MEMBER}{name}"
        return str(self.path if self.path.is_file() else self.path / name)


def open_input(
    source: str | Path, work: Path, hint: str = "Give the log to read: louder etl SOURCE -o TABLE."
) -> Input:
    """Raises InputError if there is no such file (`hint` is what to type), or if it is empty or a damaged archive."""
    text, _, member = str(source).partition(MEMBER)
    path = copied(text, work) if is_stream(text) else Path(text)
    if not path.exists():
        raise InputError(f"There is no file or folder {text}. {hint}")
    if path.is_dir():
        files = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
        shown = (str(file) for file in files if not any(part.startswith((".", "_")) for part in file.parts))
        names = sorted(shown, key=by_number)
        if not names:
            raise InputError(f"The folder {path} is empty. Give a folder or file that holds a log.")
        return Input(path, names, work)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty. Give a file that holds at least one event.")
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] != b"PK" and path.suffix.lower() != ".zip" and not is_tar(path):
        if member:
            raise InputError(
                f"{path} is no zip or tar archive, so it has no member {member!r}. Leave out '{MEMBER}{member}'."
            )
        beside = sorted(other.name for other in path.parent.iterdir() if other.is_file())
        return Input(path, beside, work, member=path.name)
    names = members(path)
    if not names:
        raise InputError(f"{path} holds no files. Give an archive that holds a log.")
    for part, what in ("xl/workbook.xml", "an Excel workbook"), ("content.xml", "a spreadsheet of OpenDocument"):
        if part in names:
            raise InputError(
                f"{path} is {what}, which is not read. Save the sheet that is the log as CSV, and give that."
            )
    if member:
        exact = [name for name in names if member in (name, name.rsplit("/", 1)[-1])]
        if not exact:
            raise InputError(
                f"{path} has no member {member!r}; it has {some(names)}. Pass one of them: '{path}{MEMBER}MEMBER'."
            )
        member = exact[0]
    return Input(path, names, work, member=member)


def is_stream(source: str | Path) -> bool:
    """Standard input, or a pipe: it can be read once."""
    return str(source) == STREAM or Path(source).is_fifo()


def copied(stream: str, work: Path) -> Path:
    """What comes from a stream, as a file in `work`."""
    path = work / "stdin" if stream == STREAM else work / Path(stream).name
    if not path.exists():
        with path.open("wb") as file, sys.stdin.buffer if stream == STREAM else open(stream, "rb") as opened:
            shutil.copyfileobj(opened, file, 1 << 20)
    return path


def by_number(name: str) -> list[str | int]:
    """A key by which part-2 comes before part-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def partition_of(path: Path) -> dict[str, str]:
    """The columns that folders such as `dt=2024-05-01` stand for."""
    pairs = (part.partition("=") for part in path.parent.parts)
    return {column: unquote(value) for column, equals, value in pairs if equals and column.isidentifier()}


def head(path: Path, count: int = 1 << 16) -> bytes:
    """The first bytes, of the content where it is compressed by gzip. Raises InputError for a damaged gzip."""
    with path.open("rb") as file:
        start = file.read(count)
    if start[:2] != b"\x1f\x8b":
        return start
    try:
        with gzip.open(path) as unzipped:
            return unzipped.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file ({error}). Copy or download it again.") from error


def head_lines(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """The first lines that are whole (at least one, if there is any text)."""
    data = head(path)
    lines = data.decode(encoding, errors="replace").splitlines()
    return lines[:-1] if len(lines) > 1 and len(data) == 1 << 16 else lines


def text_lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines that are not blank, without their ends."""
    with path.open(encoding=encoding) as file:
        try:
            for line in file:
                if line.strip():
                    yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{path.name} is not text in UTF-8 ({error}). Save it so.") from error


def bytes_of(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def describe(path: Path) -> list[SourceFile]:
    """Path, bytes and sha256 of a source, for the manifest: one entry a file."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    entries: list[SourceFile] = []
    for file in files:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        entries.append({"path": os.fspath(file), "bytes": file.stat().st_size, "sha256": digest})
    return entries


def in_background(function: Callable[[], T]) -> "Future[T]":
    """Run a function beside the engine, in a thread that a run which fails does not wait for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def first_line(text: str) -> str:
    """What a library's many-lined message says first, as the end of a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0].removeprefix("Invalid Input Error:").removeprefix("IO Error:").removeprefix("Conversion Error:")
    return line.strip().rstrip(".:") + "."


def some(names: list[str], count: int = 8) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
