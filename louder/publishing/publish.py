"""Publish a model that passes the gate, and go back along the chain."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from louder.config import require_at_least
from louder.errors import InputError
from louder.folders import new_folder, one_writer, told_where
from louder.publishing.chain import (
    BASE,
    DELTA,
    FORMAT_VERSION,
    MANIFEST,
    VERSION_FOLDER,
    Version,
    chain_of,
    current_version,
    inspect,
    is_chain,
    keep_latest,
    note_refusal,
    numbers,
    parent_of,
    point_to,
    read_version,
    state_of,
    version_folder,
)
from louder.publishing.changes import Changes, changes_between, len_of, same_architecture, write_changes
from louder.publishing.gate import Bounds, WindowMetrics, not_finite, objections, worse_metrics
from louder.publishing.state import ModelState, write_json, write_state

OTHER_FOLDER = "--to FOLDER"


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """When a whole model is written rather than a delta, and what stays in the folder.

    longest   deltas that follow one whole model
    share     and the bytes of these, of the whole model's
    versions  the latest that are kept, with what they are made from
    """

    longest: int = 50
    share: float = 0.5
    versions: int = 20

    def __post_init__(self) -> None:
        require_at_least(0, "keeping", self, "longest", "share")
        require_at_least(1, "keeping", self, "versions")


@dataclass(frozen=True)
class Published:
    """`version` is served now; None where the first one was refused. `refused`: why it is not the new one, if it is not."""

    version: Version | None
    refused: Sequence[str] = ()


def publish(
    folder: Path,
    state: ModelState,
    *,
    measured: WindowMetrics | None = None,
    served: WindowMetrics | None = None,
    bounds: Bounds = Bounds(),
    keeping: Keeping = Keeping(),
    touched: Mapping[str, Tensor] | None = None,
    since: str = "",
    force: bool = False,
) -> Published:
    """Make a model the served version of a folder, if it passes the gate; it is on the disk when this returns.

    measured  of this model, in the latest window
    served    of the served version in the same window; that of its own publication unless it is given
    touched   rows of weights outside of which these weights are as in the version of the hash `since`; they count only
              while that is the served one, and all rows are compared otherwise
    force     past the gate, but for numbers that are not finite

    What is refused is noted in the folder. Raises InputError if somebody else publishes there, or if the disk is full;
    then the chain is as it was.
    """
    require_own(folder)
    with one_writer(folder, OTHER_FOLDER):
        before = current_version(folder) if is_chain(folder) else None
        if served is None and before is not None and before.facts["window"] is not None:
            served = WindowMetrics.of_facts(before.facts["window"])
        refused = not_finite(state.weights)
        if measured is not None and not force:
            refused += objections(measured, served, bounds)
        if refused:
            why = {"why": refused, "window": None if measured is None else measured.facts()}
            note_refusal(folder, {"number": before and before.number, "at": int(time.time()), **why})
            return Published(before, refused)
        changes, notes = delta_to(before, state, touched if before and before.hash == since else None)
        version = None
        if before is not None and changes is not None:
            version = write_delta(folder, before, changes, measured, keeping)
        if version is None:
            version = write_base(folder, before, state, measured, notes)
        point_to(version)
        keep_latest(folder, keeping.versions)
        return Published(version)


def require_own(folder: Path) -> None:
    """There, and with versions or nothing in it."""
    with told_where(folder):
        folder.mkdir(parents=True, exist_ok=True)
    foreign = [x.name for x in folder.iterdir() if not x.name.startswith(".") and not (x / MANIFEST).is_file()]
    if not is_chain(folder) and foreign:
        raise InputError(
            f"{folder} holds {min(foreign)}, which is no version, so it is left alone. Choose another: {OTHER_FOLDER}."
        )


def delta_to(
    before: Version | None, state: ModelState, touched: Mapping[str, Tensor] | None
) -> tuple[Changes | None, str]:
    """What leads from a version to a state; None where a whole model has to be written, and why."""
    if before is None:
        return None, ""
    try:
        old = state_of(before)
    except InputError as error:  # a damaged chain begins anew
        return None, str(error)
    if not same_architecture(old, state):
        return None, "the model is another"
    return changes_between(old, state, touched), ""


def write_delta(
    folder: Path, before: Version, changes: Changes, measured: WindowMetrics | None, keeping: Keeping
) -> Version | None:
    """None where a whole model is due."""
    base, *deltas = chain_of(before)
    new = sum(x.numel() * x.element_size() for x in changes.whole.values())
    new += sum(x.values.numel() * x.values.element_size() + 4 * len(x.rows) for x in changes.rows.values())
    if len(deltas) >= keeping.longest or sum(x.bytes for x in deltas) + new > keeping.share * base.bytes:
        return None
    rows = {name: [len(x.rows), x.size] for name, x in changes.rows.items()}
    rows |= {name: [len_of(x)] * 2 for name, x in changes.whole.items()}
    entered = {name: len(x.raws) - x.raws.null_count for name, x in changes.raws.items()}
    left = {name: x.raws.null_count for name, x in changes.raws.items()}
    facts = {"rows": rows, "entered": entered, "left": left, "note": ""}
    number = numbers(folder)[-1] + 1
    with new_folder(version_folder(folder, number), VERSION_FOLDER) as temporary:
        write_changes(changes, temporary)
        write_manifest(temporary, DELTA, before, measured, facts)
    return read_version(folder, number)


def write_base(
    folder: Path, before: Version | None, state: ModelState, measured: WindowMetrics | None, note: str
) -> Version:
    rows = {name: [len_of(x)] * 2 for name, x in state.weights.items()}
    facts = {"rows": rows, "entered": {}, "left": {}, "note": note}
    number = (numbers(folder) or [0])[-1] + 1
    with new_folder(version_folder(folder, number), VERSION_FOLDER) as temporary:
        write_state(state, temporary)
        write_manifest(temporary, BASE, before, measured, facts)
    return read_version(folder, number)


def write_manifest(
    folder: Path, kind: str, before: Version | None, measured: WindowMetrics | None, facts: Mapping[str, Any]
) -> None:
    """The last of a version's files: what the others are."""
    files = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        file.chmod(0o644)  # safetensors lets the owner alone read, but a service may be somebody else
        with open(file, "rb") as opened:
            checksum = hashlib.file_digest(opened, "sha256").hexdigest()
        files[file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": checksum}
    parent = None if before is None else {"number": before.number, "hash": before.hash}
    window = None if measured is None else measured.facts()
    written = {"format_version": FORMAT_VERSION, "kind": kind, "parent": parent, "files": files}
    write_json(folder / MANIFEST, {**written, "facts": {**facts, "window": window, "at": int(time.time())}})


def roll_back(folder: Path, number: int | None = None, why: Sequence[str] = ()) -> Version:
    """Serve another version of the folder: the parent of the served one unless a number is given. What is published next
    goes on from it. Raises InputError if there is none, or if it is damaged."""
    with one_writer(folder, "another folder"):
        served = current_version(folder)
        if number is None and served.parent is None:
            raise InputError(
                f"Nothing was served before version {served.number}. Look what there is: {inspect(folder)}."
            )
        version = parent_of(served) if number is None else read_version(folder, number)
        state_of(version)  # all that it is made from is there, and whole
        if version.hash != served.hash:
            point_to(version)
            reasons = list(why) or ["rolled back by hand"]
            rolled = {"number": served.number, "at": int(time.time()), "why": reasons, "window": None}
            note_refusal(folder, {**rolled, "served": version.number})
        return version


def roll_back_if_worse(
    folder: Path,
    measured: WindowMetrics,
    *,
    before: WindowMetrics | None = None,
    bounds: Bounds = Bounds(),
) -> Version | None:
    """Go back from the served version when it has fallen beyond a bound; the version that is served then, None if it may stay.

    measured  of the served version, in the latest window
    before    of its parent in the same window; where nobody measured that, `measured` is held to the window in which the served
              version was published
    """
    served = current_version(folder)
    published = None if served.facts["window"] is None else WindowMetrics.of_facts(served.facts["window"])
    beside, whose = (
        (before, "the version before") if before is not None else (published, "the window of its publication")
    )
    if served.parent is None or beside is None or measured.events < bounds.fewest_events:
        return None
    why = worse_metrics(measured, beside, bounds.fallen, whose)
    return roll_back(folder, why=why) if why else None


def as_rows(folder: Path) -> list[dict[str, Any]]:
    """All versions of a folder, in order, as `louder publish --inspect --json` prints them."""
    served = current_version(folder)
    live = {version.number for version in chain_of(served)}
    found = []
    for number in numbers(folder):
        try:
            x = read_version(folder, number)
        except InputError as error:
            found.append({"version": number, "damaged": str(error)})
            continue
        row = {"version": number, "hash": x.hash, "kind": x.kind, "parent": x.parent and x.parent[0]}
        row |= {"bytes": x.bytes, **x.facts, "served": number == served.number, "in_chain": number in live}
        found.append(row)
    return found
