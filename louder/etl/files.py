"""What the user named - a file, a folder, a zip, a member of a zip - as files on disk."""

import gzip
import hashlib
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from louder.errors import InputError

MEMBER = "::"  # archive.zip::member


@dataclass
class Input:
    """One source. `names` are the files in it, relative; those of a zip are unpacked when asked for."""

    path: Path
    names: list[str]
    work: Path
    member: str = ""  # the one that was asked for, by `archive.zip::member`
    unpacked: dict[str, Path] = field(default_factory=dict)

    @property
    def is_zip(self) -> bool:
        return self.path.is_file() and zipfile.is_zipfile(self.path)

    def find(self, base: str) -> str | None:
        """The shallowest name whose last part is `base`, or None."""
        found = sorted(
            (name for name in self.names if name.rsplit("/", 1)[-1] == base), key=lambda name: name.count("/")
        )
        return found[0] if found else None

    def file(self, name: str) -> Path:
        if self.path.is_dir():
            return self.path / name
        if not self.is_zip:
            return self.path.parent / name
        if name not in self.unpacked:
            self.unpacked[name] = unpack(self.path, name, self.work)
        return self.unpacked[name]

    def shown(self, name: str) -> str:
        """How messages call one file of this source."""
        return (
            f"{self.path}{MEMBER}{name}" if self.is_zip else str(self.path if self.path.is_file() else self.path / name)
        )


def open_input(source: str | Path, work: Path) -> Input:
    """Raises InputError if there is no such file, or if it is empty or a damaged zip."""
    text, _, member = str(source).partition(MEMBER)
    path = Path(text)
    if not path.exists():
        raise InputError(f"There is no file or folder {text}. Give the log to read: louder etl SOURCE -o TABLE.")
    if path.is_dir():
        names = sorted(
            str(file.relative_to(path))
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        )
        if not names:
            raise InputError(f"The folder {path} is empty. Give a folder or file that holds a log.")
        return Input(path, names, work)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty. Give a file that holds at least one event.")
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] != b"PK" and path.suffix.lower() != ".zip":
        if member:
            raise InputError(f"{path} is no zip archive, so it has no member {member!r}. Leave out '{MEMBER}{member}'.")
        beside = sorted(other.name for other in path.parent.iterdir() if other.is_file())
        return Input(path, beside, work, member=path.name)
    with zip_errors(path), zipfile.ZipFile(path) as archive:
        names = [
            entry.filename for entry in archive.infolist() if not entry.is_dir() and "__MACOSX" not in entry.filename
        ]
    if member:
        exact = [name for name in names if name == member or name.rsplit("/", 1)[-1] == member]
        if not exact:
            raise InputError(f"{path} has no member {member!r}; it has {some(names)}. Say: '{path}{MEMBER}MEMBER'.")
        member = exact[0]
    return Input(path, names, work, member=member)


def unpack(archive: Path, name: str, work: Path) -> Path:
    """One member of a zip, checked against its checksum, as a file in `work`."""
    target = work / "unpacked" / re.sub(r"[^A-Za-z0-9._-]", "_", name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zip_errors(archive), zipfile.ZipFile(archive) as opened, opened.open(name) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    if target.stat().st_size == 0:
        raise InputError(f"{archive}{MEMBER}{name} is empty. Give an archive whose files hold events.")
    return target


@contextmanager
def zip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} is not a whole zip archive ({error}). Copy or download it again.") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, or a method this Python does not know
        raise InputError(f"{path} cannot be unpacked ({error}). Unpack it yourself and give the folder.") from error


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


def describe(path: Path) -> list[dict[str, Any]]:
    """Path, bytes and sha256 of a source, for the manifest: one entry a file."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    entries = []
    for file in files:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        entries.append({"path": os.fspath(file), "bytes": file.stat().st_size, "sha256": digest})
    return entries


def some(names: list[str], count: int = 8) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
