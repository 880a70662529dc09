"""The events of a user <-> bytes: a header, then one column after another, then a checksum.

    header    format, kind of the items, number of values, T, version, total
    integers  items (or lengths of their texts, in characters), times, actions, requests
    values    [T, V] float32
    older     number, then integers: keys of the items of older events; only if there are some (format 2)
    texts     of the items, end to end, as UTF-8; only if they are texts
    checksum  CRC-32 of all before

A column of integers is its least one, and what each is above it in as few bytes as hold all of them. A column that
is the same everywhere, such as the requests of a log without them, takes no bytes.
"""

import struct
import zlib
from itertools import pairwise

import numpy as np

from louder.histories.errors import REFILL, StoreDamaged
from louder.histories.history import History, Names

FORMAT, WITH_OLDER = 1, 2
HEADER = struct.Struct("<BBHIqq")
COLUMN = struct.Struct("<qB")
OLDER = struct.Struct("<I")
CHECKSUM = struct.Struct("<I")
HEAD = 16  # bytes from the start that differ between any two versions of one history
WIDTHS = {0: "", 1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}


def pack(history: History) -> bytes:
    texts, older = history.items.dtype == object, history.older
    count, values = history.values.shape
    form = WITH_OLDER if len(older) else FORMAT
    first = np.fromiter(map(len, history.items), np.int64, count) if texts else history.items
    body = b"".join(
        (
            HEADER.pack(form, texts, values, count, history.version, history.total),
            *map(packed_integers, (first, history.times, history.actions, history.requests)),
            history.values.astype("<f4", copy=False).tobytes(),
            OLDER.pack(len(older)) + packed_integers(older) if len(older) else b"",
            "".join(history.items).encode("utf-8", "surrogatepass") if texts else b"",
        )
    )
    return body + CHECKSUM.pack(zlib.crc32(body))


def mark(packed: bytes) -> bytes:
    """What differs between any two that are not the same."""
    return packed[:HEAD] + packed[-CHECKSUM.size :]


def packed_integers(column: np.ndarray) -> bytes:
    if not len(column):
        return COLUMN.pack(0, 0)
    least, span = int(column.min()), int(column.max()) - int(column.min())
    width = 0 if not span else next(width for width in (1, 2, 4, 8) if span < 1 << (8 * width))
    if not width:
        return COLUMN.pack(least, 0)
    # unsigned, so that a span of more than 63 bits wraps around here and back when it is read
    above = column.astype(np.int64).view(np.uint64) - np.int64(least).astype(np.uint64)
    return COLUMN.pack(least, width) + above.astype(WIDTHS[width]).tobytes()


def unpack(data: bytes | memoryview, names: Names = Names()) -> History:
    """Raises StoreDamaged if these are not the bytes that `pack` made."""
    view = memoryview(data)
    end = len(view) - CHECKSUM.size
    if end < HEADER.size or zlib.crc32(view[:end]) != CHECKSUM.unpack_from(view, end)[0]:
        raise StoreDamaged(
            f"A history of the store is damaged: the checksum of its {len(view)} bytes differs. {REFILL}"
        )
    form, texts, values, count, version, total = HEADER.unpack_from(view)
    if form not in (FORMAT, WITH_OLDER):
        raise StoreDamaged(
            f"A history of the store has format {form}, but this Louder reads formats {FORMAT} and {WITH_OLDER}. "
            "Use the Louder that wrote it, or fill a new store from the table."
        )
    at, columns = HEADER.size, []
    for _ in range(4):
        column, at = read_integers(view, at, count)
        columns.append(column)
    first, times, actions, requests = columns
    numbers = np.frombuffer(view, "<f4", count * values, at).reshape(count, values).astype(np.float32)
    at += count * values * 4
    older = np.empty(0, np.int64)
    if form == WITH_OLDER:
        older, at = read_integers(view, at + OLDER.size, OLDER.unpack_from(view, at)[0])
    items = split(bytes(view[at:end]).decode("utf-8", "surrogatepass"), first) if texts else first
    return History(items, times, actions, numbers, requests, names, version, total, older)


def read_integers(view: memoryview, at: int, count: int) -> tuple[np.ndarray, int]:
    """A column that `packed_integers` made, and where it ends."""
    least, width = COLUMN.unpack_from(view, at)
    at += COLUMN.size
    if not width:
        return np.full(count, least, np.int64), at
    above = np.frombuffer(view, WIDTHS[width], count, at).astype(np.uint64)
    return (above + np.int64(least).astype(np.uint64)).view(np.int64), at + count * width


def split(text: str, lengths: np.ndarray) -> np.ndarray:
    items = np.empty(len(lengths), object)
    items[:] = [text[start:end] for start, end in pairwise([0, *np.cumsum(lengths).tolist()])]
    return items
