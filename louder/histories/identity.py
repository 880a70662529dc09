"""Which data set a store is of, so that the run of another one does not take its histories for its own.

It is known by the vocabularies of a run: a hash of all raw ids in order, and the smallest hashes of single ids (a bottom-k
sketch), which tell how much two vocabularies have in common. A data set stays the same when ids are added at the end, and
when it is made anew from most of the same items and users, whose numbers may be others then: a store has raw ids.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa

from louder.errors import InputError
from louder.fingerprint import hash_of, size_of

SKETCH = 256  # hashes of single ids; their share in common is then right to within .06
SAME = 0.5  # of all ids of both, so many in common
PARTS = ("item", "user")


@dataclass(frozen=True)
class Known:
    """What a vocabulary is known by: "SIZE:HASH", see louder.fingerprint, and its sketch."""

    hash: str
    sketch: tuple[int, ...]


@dataclass(frozen=True)
class DataSet:
    """Of a run: the hashes of its vocabularies, and the raw ids themselves, which are needed only where hashes differ.

    name  such as the run's path
    """

    name: str
    hashes: Mapping[str, str]
    raw: Callable[[str], pa.Array]

    @cached_property
    def known(self) -> dict[str, Known]:
        return {part: Known(self.hashes[part], sketch(self.raw(part))) for part in PARTS}


def sketch(raw: pa.Array) -> tuple[int, ...]:
    """The SKETCH smallest hashes of n raw ids, of 32 bits each."""
    raw = raw.drop_null()
    if pa.types.is_integer(raw.type):
        x = raw.cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.uint64)
        for shift, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB):  # splitmix64
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        hashes = x >> np.uint64(32)
    else:
        hashes = np.fromiter((zlib.crc32(text.encode()) for text in raw.to_pylist()), np.uint64, len(raw))
    return tuple(np.unique(hashes)[:SKETCH].tolist())


def in_common(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Of all ids of two vocabularies the share that both have, by their sketches: exact for small ones."""
    both = sorted({*a, *b})[:SKETCH]
    return sum(x in a and x in b for x in both) / len(both) if both else 1.0


def same(known: Known, hashed: str, raw: Callable[[], pa.Array]) -> bool:
    """Whether a vocabulary, or one that grew or was made anew from it, is that of the hash."""
    if known.hash == hashed:
        return True
    ids, size = raw(), size_of(known.hash)
    if size <= len(ids) and hash_of(ids[:size]) == known.hash:
        return True
    return in_common(known.sketch, sketch(ids)) >= SAME


def claimed(known: Mapping[str, Known] | None, data: DataSet, place: str, adopt: bool) -> Mapping[str, Known]:
    """What a store is known by after the run of a data set was served from it. Raises InputError if it is of another one,
    unless the store is to be adopted."""
    if known is not None:
        if all(known[part].hash == data.hashes[part] for part in PARTS):
            return known
        if not adopt and not all(same(known[part], data.hashes[part], partial(data.raw, part)) for part in PARTS):
            had = sizes({part: known[part].hash for part in PARTS})
            raise InputError(
                f"The store {place} has the histories of another data set, of {had}, but {data.name} is of {sizes(data.hashes)}. "
                "Give it a store of its own: --store OTHER. If it is the same data under new ids: --adopt-store."
            )
    return data.known


def sizes(hashes: Mapping[str, str]) -> str:
    """Such as "40 items and 7 users" """
    return " and ".join(f"{size_of(hashes[part]):,} {part}s" for part in PARTS)
