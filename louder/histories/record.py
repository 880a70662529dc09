"""All that a store keeps of one user: the history, and by what ids its events came.

The ids of the latest events stay when their events do not, so that one that is sent again is known: it was stored before,
or deleted. They are packed apart from the history, which is all that an answer reads:

    header    a marker that no older store has, appended, number of ids, events and deleted ids
    ids       [R] int64
    integers  places, deleted ones
    checksum  CRC-32 of all before
"""

import struct
import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from louder.histories.errors import REFILL, StoreDamaged
from louder.histories.history import History
from louder.histories.packing import CHECKSUM, packed_integers, read_integers

REMEMBERED = 2_000  # ids of events per user: twice what one request may bring, so that sending it again is noticed
MARKER = -2
IDS_HEADER = struct.Struct("<qqIII")


def no_numbers() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Record:
    """
    history   the events that are kept
    appended  events ever, but for deleted ones; the others of history.total came when the store was filled
    ids       [R, at most REMEMBERED] int64, hashes of the ids of the latest events, in order of arrival
    deleted   [R] bool, those that were deleted
    places    [T] where the id of each event of the history is among them, or -1
    since     seconds; the user was deleted, and events up to then are not taken. None: never
    """

    history: History
    appended: int = 0
    ids: np.ndarray = field(default_factory=no_numbers)
    deleted: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    places: np.ndarray = field(default_factory=no_numbers)
    since: int | None = None

    def __post_init__(self) -> None:
        if len(self.places) != len(self.history):  # of a table, or of an older Louder
            object.__setattr__(self, "places", np.full(len(self.history), -1))

    def remembering(self, ids: np.ndarray) -> "Record":
        """With more ids; where they become too many, the first ones are forgotten."""
        every, new = np.concatenate([self.ids, ids]), np.zeros(len(ids), bool)
        beyond = max(len(every) - REMEMBERED, 0)
        deleted, places = np.concatenate([self.deleted, new]), np.maximum(self.places - beyond, -1)
        return replace(self, ids=every[beyond:], deleted=deleted[beyond:], places=places)


def packed_ids(record: Record) -> bytes:
    deleted = np.flatnonzero(record.deleted)
    counts = len(record.ids), len(record.places), len(deleted)
    body = b"".join(
        (
            IDS_HEADER.pack(MARKER, record.appended, *counts),
            record.ids.astype("<i8", copy=False).tobytes(),
            packed_integers(record.places),
            packed_integers(deleted),
        )
    )
    return body + CHECKSUM.pack(zlib.crc32(body))


def record_of(history: History, ids: bytes | memoryview | None, since: int | None = None) -> Record:
    """The record of a history, whose ids are there if some were appended. Raises StoreDamaged if they are not what
    `packed_ids` made, or an older Louder, which packed appended and ids as they are."""
    if ids is None:
        return Record(history, since=since)
    view = memoryview(ids)
    if len(view) < 8 or int.from_bytes(view[:8], "little", signed=True) != MARKER:
        numbers = np.frombuffer(view[: len(view) // 8 * 8], "<i8").astype(np.int64)
        if len(view) % 8 or not len(numbers) or numbers[0] < 0:
            raise damaged(view)
        return Record(history, int(numbers[0]), numbers[1:], np.zeros(len(numbers) - 1, bool), since=since)
    end = len(view) - CHECKSUM.size
    if end < IDS_HEADER.size or zlib.crc32(view[:end]) != CHECKSUM.unpack_from(view, end)[0]:
        raise damaged(view)
    _, appended, count, events, gone = IDS_HEADER.unpack_from(view)
    own = np.frombuffer(view, "<i8", count, IDS_HEADER.size).astype(np.int64)
    places, at = read_integers(view, IDS_HEADER.size + 8 * count, events)
    which, _ = read_integers(view, at, gone)
    deleted = np.zeros(count, bool)
    deleted[which] = True
    return Record(history, appended, own, deleted, places, since)


def damaged(view: memoryview) -> StoreDamaged:
    return StoreDamaged(f"The event ids of a user of the store are damaged: they have {len(view)} bytes. {REFILL}")
