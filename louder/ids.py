"""Raw ids of the log <-> 0 .. n-1. The only place where they are converted."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from louder.errors import InputError

RawId = int | str
CLOSE = 8  # times as many raw ids as there are, within which a table of all is worth it
FEW = 50  # a lookup of so many times fewer ids than there are is worth an order that is kept


class IdMap:
    """A vocabulary: a raw id keeps its number for good.

    raw   pyarrow array of n distinct integers or strings; position = id. Null where an id has left: its number is nobody's
          until another raw id gets it
    """

    def __init__(self, raw: pa.Array) -> None:
        self.raw = raw

    def __len__(self) -> int:
        return len(self.raw)

    @cached_property
    def there(self) -> np.ndarray:
        """[n] bool: which numbers are somebody's"""
        return self.raw.is_valid().to_numpy(zero_copy_only=False)

    def ids(self, raw: Sequence[RawId] | np.ndarray | pa.Array) -> np.ndarray:
        """Raw ids -> int64 [n]; -1 for those that are unknown."""
        if self.by_raw is not None and (integers := int64s(raw)) is not None:
            least, numbers = self.by_raw
            # below the least it wraps around to the largest numbers; beyond either end is the last entry, nobody
            return numbers[np.minimum((integers - least).view(np.uint64), np.uint64(len(numbers) - 1))]
        try:
            values = pa.array(raw).cast(self.raw.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            # typed on a command line, ids may come as strings; what does not convert is unknown
            values = pa.array([cast_or_none(value, self.raw.type) for value in raw], self.raw.type)
        if len(values) * FEW < len(self.raw):
            return self.few(values)
        found = pc.index_in(values, value_set=self.raw, skip_nulls=True)
        return pc.fill_null(found.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)

    def few(self, values: pa.Array) -> np.ndarray:
        """`ids` of few values: in an order that is made once, where Arrow would hash the whole vocabulary each time."""
        if not pa.types.is_integer(self.raw.type):
            return np.array([self.numbers.get(value, -1) for value in values.to_pylist()], dtype=np.int64)
        found = looked_up(values.fill_null(0).to_numpy(zero_copy_only=False), *self.ordered)
        return np.where(values.is_valid().to_numpy(zero_copy_only=False), found, -1)

    def ids_of_keys(self, keys: np.ndarray) -> np.ndarray:
        """Likewise of `keys_of` raw ids [n], so of texts without the texts."""
        return self.ids(keys) if self.by_raw is not None else looked_up(keys, *self.keyed)

    @cached_property
    def keyed(self) -> tuple[np.ndarray, np.ndarray]:
        """The keys of all raw ids in order, and the id of each."""
        if pa.types.is_integer(self.raw.type):
            return self.ordered
        return in_order(np.fromiter(map(key_of_text, self.raw.drop_null().to_pylist()), np.int64), self.there)

    @cached_property
    def ordered(self) -> tuple[np.ndarray, np.ndarray]:
        """Of integers: the raw ids in order, and the id of each."""
        return in_order(self.raw.drop_null().to_numpy(zero_copy_only=False), self.there)

    @cached_property
    def by_raw(self) -> tuple[np.int64, np.ndarray] | None:
        """Of integers that lie close together: the least raw id, and the id of each from there on, then -1."""
        if not pa.types.is_integer(self.raw.type) or not self.there.any():
            return None
        ordered, numbers = self.ordered
        if int(ordered[-1]) - int(ordered[0]) >= CLOSE * len(ordered):
            return None
        by_raw = np.full(int(ordered[-1]) - int(ordered[0]) + 2, -1, dtype=np.int64)
        by_raw[ordered - ordered[0]] = numbers
        return np.int64(ordered[0]), by_raw

    @cached_property
    def numbers(self) -> dict[RawId, int]:
        return {raw: number for number, raw in enumerate(self.raw.to_pylist()) if raw is not None}

    def id(self, raw: RawId, what: str = "id") -> int:
        """One raw id -> its number. Raises InputError if it is unknown."""
        (number,) = self.ids([raw])
        if number < 0:
            examples = ", ".join(str(value) for value in self.raw[:3].to_pylist())
            raise InputError(f"There is no {what} {raw!r} among the {len(self)} known ones (such as {examples}).")
        return int(number)

    def raws(self, ids: Iterable[int] | np.ndarray) -> list[RawId]:
        return self.raw.take(pa.array(np.asarray(list(ids), dtype=np.int64))).to_pylist()

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"raw": self.raw}), path, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> "IdMap":
        try:
            with pq.ParquetFile(path) as file:  # read_table imports pandas where there is one
                raw = file.read(["raw"]).column("raw").combine_chunks()
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise InputError(
                f"The vocabulary {path} cannot be read ({error}). Make the table or the run again."
            ) from error
        return cls(raw)


def in_order(keys: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys of the numbers that are `there` [n] bool, in order, and the number of each."""
    order = np.argsort(keys, kind="stable")
    return keys[order], np.flatnonzero(there)[order]


def looked_up(values: np.ndarray, ordered: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """[n] where `values` [n] stand among the `ordered` ones, as the `numbers` of these; -1 where they do not."""
    if not len(ordered):
        return np.full(len(values), -1)
    at = np.searchsorted(ordered, values).clip(max=len(ordered) - 1)
    return np.where(ordered[at] == values, numbers[at], -1)


def keys_of(raw: np.ndarray) -> np.ndarray:
    """[n] int64 that stand for raw ids: integers themselves, and of texts 64-bit hashes."""
    return np.fromiter(map(key_of_text, raw), np.int64, len(raw)) if raw.dtype == object else raw


def key_of_text(text: str) -> int:
    return int.from_bytes(digest(text), "little", signed=True)


def digest(text: str) -> bytes:
    """8 bytes, the same for good: stores hold them."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def int64s(raw: Sequence[RawId] | np.ndarray | pa.Array) -> np.ndarray | None:
    """[n] if all of them are integers of 64 bits, and not in an Arrow array"""
    if isinstance(raw, np.ndarray):
        return raw if raw.dtype == np.int64 else None
    if not isinstance(raw, list) or not all(type(x) is int and -(1 << 63) <= x < 1 << 63 for x in raw):
        return None
    return np.array(raw, dtype=np.int64)


def cast_or_none(value: RawId, kind: pa.DataType) -> RawId | None:
    if pa.types.is_integer(kind):
        try:
            number = int(value)
        except ValueError:
            return None
        return number if -(1 << 63) <= number < 1 << 63 else None
    return str(value)
