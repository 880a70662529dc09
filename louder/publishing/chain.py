"""A folder of versions. Each is written whole under another name and then renamed; `current.json` names the one to serve.

v00000001/     the whole model: files of a checkpoint, without an optimizer's
v00000002/     a delta: rows that changed, and what else did
current.json   number and hash of the served version
refused.json   what the gate refused and what was rolled back, with the reasons; the latest of them

version.json in each has the checksums of its files and the hash of the version before. A version's hash is that of its
version.json, so it stands for all that led there.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from louder.checkpoint import VERSIONS
from louder.errors import InputError
from louder.folders import FolderKind, is_running, read_json, sync_folder, write_text
from louder.publishing.changes import Changes, applied, merged, read_changes
from louder.publishing.state import ModelState, read_state

FORMAT_VERSION = 1
MANIFEST, REFUSED = "version.json", "refused.json"
BASE, DELTA = "base", "delta"
MOST_REFUSED = 200
FILES = "*.safetensors", "state.json", "vocabulary/*.parquet", "items.parquet", "users.parquet"
VERSION_FOLDER = FolderKind("a version", MANIFEST, "parent", FILES)


@dataclass(frozen=True)
class Version:
    """One of a folder, as its version.json has it.

    hash    of version.json
    parent  number and hash of the version that it came after; None for the first
    kind    "base": the whole model, or "delta": what changed from its parent on
    facts   what else is said: bytes, rows, entered, left, metrics, at
    """

    folder: Path
    number: int
    hash: str
    kind: str
    parent: tuple[int, str] | None
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}@{self.number}-{self.hash[:8]}"

    @property
    def bytes(self) -> int:
        return sum(int(file["bytes"]) for file in self.files.values())


def version_folder(folder: Path, number: int) -> Path:
    return folder / f"v{number:08d}"


def is_chain(folder: Path) -> bool:
    return (folder / VERSIONS).is_file()


def numbers(folder: Path) -> list[int]:
    """Of all versions that are there, in order."""
    return sorted(int(path.name[1:]) for path in folder.glob("v????????") if (path / MANIFEST).is_file())


def read_version(folder: Path, number: int) -> Version:
    """Raises InputError if it is not there, or its version.json is damaged."""
    file = version_folder(folder, number) / MANIFEST
    try:
        data = file.read_bytes()
        written = json.loads(data)
        if written["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{file.parent} is of format {written['format_version']}, but this Louder reads {FORMAT_VERSION}. Read it "
                "with the Louder that wrote it."
            )
        parent = written["parent"] and (int(written["parent"]["number"]), str(written["parent"]["hash"]))
        kind, files, facts = written["kind"], written["files"], written["facts"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no version {number}. Look what there is: {inspect(folder)}.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged. Publish a whole model: {again(folder)}.") from error
    return Version(file.parent, number, hashlib.sha256(data).hexdigest(), kind, parent, files, facts)


def current_version(folder: Path) -> Version:
    """The one to serve. Raises InputError if the folder has none, or where it is damaged."""
    if not is_chain(folder):
        raise InputError(f"{folder} has no version yet. Publish one: {again(folder)}.")
    pointer = read_json(folder / VERSIONS, "pointer", dict, "what louder publish writes")
    try:
        number, hashed = int(pointer["number"]), str(pointer["hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / VERSIONS} is damaged. Choose a version: louder rollback {folder} N.") from error
    version = read_version(folder, number)
    if version.hash != hashed:
        raise InputError(
            f"{version.folder / MANIFEST} is not what was published ({version.hash[:8]}, not {hashed[:8]}). Publish a "
            f"whole model: {again(folder)}."
        )
    return version


def point_to(version: Version) -> None:
    """In one step; the version is on the disk before."""
    place = version.folder.parent
    sync_folder(place)
    write_text(place / VERSIONS, json.dumps({"number": version.number, "hash": version.hash}) + "\n")
    sync_folder(place)


def parent_of(version: Version) -> Version:
    """Raises InputError if it is not there, or is another one than it was."""
    assert version.parent is not None
    number, hashed = version.parent
    found = read_version(version.folder.parent, number)
    if found.hash != hashed:
        raise InputError(
            f"Version {version.number} goes on from {number} ({hashed[:8]}), but the version {number} that is there is "
            f"another ({found.hash[:8]}). Publish a whole model: {again(version.folder.parent)}."
        )
    return found


def chain_of(version: Version) -> list[Version]:
    """From the whole model that it is made from to itself. Raises InputError where one is missing."""
    chain = [version]
    while chain[-1].kind != BASE:
        chain.append(parent_of(chain[-1]))
    return chain[::-1]


def deltas_from(hashed: str, version: Version) -> list[Version] | None:
    """What leads from the version of a hash to this one; None where deltas alone do not. Empty: it is that version."""
    deltas: list[Version] = []
    while version.hash != hashed:
        if version.kind == BASE:
            return None
        deltas.append(version)
        version = parent_of(version)
    return deltas[::-1]


def require_intact(version: Version) -> None:
    """Raises InputError unless its files are, by their checksums, those that were published."""
    for name, file in version.files.items():
        try:
            with open(version.folder / name, "rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{version.folder / name} cannot be read ({error.strerror}).") from error
        if found != file["sha256"]:
            raise InputError(
                f"{version.folder / name} is damaged: its checksum is another than when it was published. Publish a whole "
                f"model: {again(version.folder.parent)}."
            )


def changes_of(deltas: list[Version]) -> Changes:
    """Of all of them together. Raises InputError for one that is damaged."""
    for version in deltas:
        require_intact(version)
    return reduce(merged, (read_changes(version.folder) for version in deltas))


def state_of(version: Version) -> ModelState:
    """The model of a version, from the whole one before it. Raises InputError where something is damaged or missing."""
    base, *deltas = chain_of(version)
    require_intact(base)
    model = read_state(base.folder)
    return applied(model, changes_of(deltas)) if deltas else model


def keep_latest(folder: Path, count: int) -> None:
    """Remove all but the served version, the latest ones, what these are made from, and what killed processes left."""
    there, kept = numbers(folder), set[int]()
    for number in {current_version(folder).number, *there[-count:]}:
        try:
            kept |= {version.number for version in chain_of(read_version(folder, number))}
        except InputError:
            kept.add(number)  # damaged; whoever looks at it should find it
    for number in set(there) - kept:
        shutil.rmtree(version_folder(folder, number), ignore_errors=True)
    for leftover in [*folder.glob(".v????????.*.tmp"), *folder.glob(".*.json.*.tmp")]:
        process = leftover.name.split(".")[-2]
        if process.isdigit() and not is_running(int(process)):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def refusals(folder: Path) -> list[dict[str, Any]]:
    """What was refused or rolled back, oldest first: number (of the version that stayed, or was left), at, why, metrics."""
    if not (folder / REFUSED).is_file():
        return []
    return list(read_json(folder / REFUSED, "list of refusals", list, "what louder publish writes"))


def note_refusal(folder: Path, refusal: Mapping[str, Any]) -> None:
    total = (before[-1]["count"] if (before := refusals(folder)) else 0) + 1
    write_text(folder / REFUSED, json.dumps([*before, {"count": total, **refusal}][-MOST_REFUSED:], indent=1) + "\n")


def inspect(folder: Path) -> str:
    return f"louder publish --inspect {folder}"


def again(folder: Path) -> str:
    return f"louder publish RUN --to {folder}"
