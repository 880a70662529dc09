"""What the numbers in a table stand for: its vocabularies, actions, values and series.

A run, a store and an index speak in the numbers of one table. They may meet another table only where the numbers stand
for the same things in both, which is told by their fingerprints: of equal size, and cheap to keep. pyarrow is imported
where a vocabulary is read, so that training can be imported where only torch and numpy are installed.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from louder.errors import InputError
from louder.schema import Manifest

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = ("items", "users", "actions", "values", "series")
WORDS = {"items": "item", "users": "user"}  # the vocabularies of these parts


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Of a table at one moment; what the table may become, this stays.

    vocabularies  "item", "user" and each series -> "SIZE:HASH" of its raw ids, in order; series in the order of `kind`
    actions       in the order of their bits
    values        in the order of their columns
    """

    vocabularies: Mapping[str, str]
    actions: Sequence[str]
    values: Sequence[str]

    def entries(self, part: str) -> list[tuple[str, str]]:
        """The names of one of PARTS, in the order of their numbers, each with the hash of its vocabulary if it has one."""
        if part in WORDS:
            return [(WORDS[part], self.vocabularies[WORDS[part]])]
        if part == "series":
            return [entry for entry in self.vocabularies.items() if entry[0] not in WORDS.values()]
        return [(name, "") for name in (self.actions if part == "actions" else self.values)]


def hash_of(raw: "pa.Array") -> str:
    """ "SIZE:HASH" of raw ids: equal where the ids, their kind (integers or texts) and their order are."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    digest, numbers = hashlib.blake2b(digest_size=16), len(raw)
    raw = raw.drop_null()  # of a stream some numbers are nobody's
    if pa.types.is_integer(raw.type):
        digest.update(b"integers")
        digest.update(np.ascontiguousarray(raw.cast(pa.int64()).to_numpy(zero_copy_only=False), "<i8").data)
    else:
        texts = raw.cast(pa.large_string())
        digest.update(b"texts")
        digest.update(np.ascontiguousarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), "<i8").data)
        if len(texts):
            _, offsets, data = texts.buffers()
            first, last = np.frombuffer(offsets, "<i8")[[texts.offset, texts.offset + len(texts)]].tolist()
            digest.update(memoryview(data)[first:last] if data is not None else b"")
    return f"{numbers}:{digest.hexdigest()}"


def size_of(hashed: str) -> int:
    return int(hashed.partition(":")[0])


def fingerprint_of(table: Path | str, manifest: Manifest | None = None) -> Fingerprint:
    """Of a sequence table as it is now, or as it was when its manifest was read: from the manifest, or from the
    vocabularies where that is of an older Louder.

    Raises InputError if the folder is no table, or one whose vocabularies cannot be read.
    """
    manifest = manifest or Manifest.read(table)
    names = ["item", "user", *manifest.series]
    known = manifest.vocabularies
    if set(known) != set(names):
        known = hashed_files(Path(table), names)
    vocabularies = {name: known[name] for name in names}
    return Fingerprint(vocabularies=vocabularies, actions=manifest.actions, values=manifest.values)


def fingerprint_of_training(folder: Path, state: Mapping[str, Any]) -> Fingerprint:
    """Of the table that a checkpoint was trained on: from its state, or from its vocabularies where that is of an older
    Louder. Raises InputError if these cannot be read."""
    if "table" in state:
        vocabularies = state["table"]["vocabularies"]
    else:
        vocabularies = hashed_files(folder, sorted(file.stem for file in (folder / "vocabulary").glob("*.parquet")))
        sizes = list(state["vocabulary"]["series"])  # in the order of `kind`
        vocabularies = dict(sorted(vocabularies.items(), key=lambda x: (*sizes, size_of(x[1])).index(size_of(x[1]))))
    return Fingerprint(vocabularies=vocabularies, actions=state["actions"], values=state["values"])


def hashed_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The vocabularies of a table, a run or a checkpoint, which are read for it."""
    return {name: hash_of(raw_ids(folder, name)) for name in names}


def raw_ids(folder: Path, name: str) -> "pa.Array":
    from louder.ids import IdMap

    return IdMap.read(folder / "vocabulary" / f"{name}.parquet").raw


def changed(before: Fingerprint, table: Path | str, parts: Collection[str] = PARTS) -> dict[str, bool]:
    """Which parts of a table are not as they were `before`, each with whether it has only grown: all that was there has
    its number still, and what is new comes after it."""
    now, found = fingerprint_of(table), {}
    for part in parts:
        was, is_now = before.entries(part), now.entries(part)
        if was != is_now:
            pairs = zip(was, is_now)
            kept = (a == b or (a[0] == b[0] and begins_with(Path(table), *a)) for a, b in pairs)
            found[part] = len(was) <= len(is_now) and all(kept)
    return found


def begins_with(table: Path, name: str, hashed: str) -> bool:
    """Whether a vocabulary of a table begins with the one of this hash."""
    raw, size = raw_ids(table, name), size_of(hashed)
    return size <= len(raw) and hash_of(raw[:size]) == hashed


def grown_from(before: Fingerprint, table: Path | str, parts: Collection[str] = PARTS) -> bool:
    """Whether all numbers of then stand for the same today; there may be more of them."""
    return all(changed(before, table, parts).values())


def require_same(
    before: Fingerprint, table: Path | str, whose: str, parts: Collection[str] = PARTS, hint: str | None = None
) -> None:
    """Raises InputError, naming the first part that differs, if a table is not the one that `whose`, such as "runs/a", was
    made with, as far as these parts go. `hint` is what to type."""
    for part, grown in changed(before, table, parts).items():
        then, now = described(before, part), described(fingerprint_of(table), part)
        hint = hint or f"Use the table it was made with, or train on this one: louder train RECIPE --table {table}."
        if grown:
            raise InputError(f"{table} has grown since {whose} was made: it has {now}, and had {then}. {hint}")
        raise InputError(f"{table} is not the table {whose} was made with: it has {now}, and not {then}. {hint}")


def described(found: Fingerprint, part: str) -> str:
    """Such as "40 items (b6d1f0)" or "the actions click, like"."""
    if part in WORDS:
        ((_, hashed),) = found.entries(part)
        return f"{size_of(hashed):,} {part} ({short(hashed)})"
    names = [f"{name} ({short(hashed)})" if hashed else name for name, hashed in found.entries(part)]
    return f"the {part} {', '.join(names)}" if names else f"no {part}"


def short(hashed: str) -> str:
    return hashed.partition(":")[2][:6]
