"""Archives and compressed files -> plain files in a folder of work."""

import bz2
import gzip
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from louder.errors import InputError

MEMBER = "::"  # archive.zip::member
TAR = (".tar", ".tar.gz", ".tgz")


def decompressed(path: Path, work: Path) -> Path:
    """A file as it is, or unpacked where it is compressed by bzip2, xz or Zstandard; gzip is read as it is."""
    with path.open("rb") as file:
        start = file.read(6)
    kinds = {b"BZh": "bz2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    kind = next((kind for magic, kind in kinds.items() if start.startswith(magic)), None)
    if kind is None:
        return path
    # its folder stays, since it may stand for columns
    target = work / "unpacked" / "/".join(path.parts[1:] if path.is_absolute() else path.parts).replace("..", "_")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with opened_plain(path, kind) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
        except (OSError, EOFError, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"{path} is not a whole {kind} file ({error}). Copy or download it again.") from error
    return target


def opened_plain(path: Path, kind: str) -> IO[bytes]:
    if kind == "zstd":
        import pyarrow as pa

        return pa.input_stream(path, compression="zstd")
    return bz2.open(path) if kind == "bz2" else lzma.open(path)


def is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR)


def members(archive: Path) -> list[str]:
    """The files in a zip or tar, without those that a Mac adds."""
    with archive_errors(archive):
        if is_tar(archive):
            with tarfile.open(archive) as tar:
                names = [entry.name for entry in tar if entry.isfile()]
        else:
            with zipfile.ZipFile(archive) as opened:
                names = [entry.filename for entry in opened.infolist() if not entry.is_dir()]
    return [name for name in names if "__MACOSX" not in name and not name.rsplit("/", 1)[-1].startswith("._")]


def unpack(archive: Path, name: str, work: Path) -> Path:
    """One member of a zip or tar, checked against its checksum, as a file in `work`."""
    target = work / "unpacked" / re.sub(r"[^A-Za-z0-9._-]", "_", name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive_errors(archive), target.open("wb") as out:
        if is_tar(archive):
            with tarfile.open(archive) as tar:
                member = tar.extractfile(name)
                assert member is not None, "members() names files only"
                shutil.copyfileobj(member, out, 1 << 20)
        else:
            with zipfile.ZipFile(archive) as opened, opened.open(name) as source:
                shutil.copyfileobj(source, out, 1 << 20)
    if target.stat().st_size == 0:
        raise InputError(f"{archive}{MEMBER}{name} is empty. Give an archive whose files hold events.")
    return target


@contextmanager
def archive_errors(path: Path) -> Iterator[None]:
    kind = "tar" if is_tar(path) else "zip"
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        why = str(error).split("\n")[0].rstrip(": ")  # tar names every way of reading that it tried
        raise InputError(f"{path} is not a whole {kind} archive ({why}). Copy or download it again.") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, or a method this Python does not know
        raise InputError(f"{path} cannot be unpacked ({error}). Unpack it yourself and give the folder.") from error
