"""What becomes of the history of one user when events arrive. The same for every store.

Events are placed by their time, those of the same time by their arrival, and the latest `keep` stay. Dropping the
oldest after each arrival leaves the same events as dropping them once at the end, so the order of arrival matters only
between events of the same time.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from louder.histories.errors import REFILL, StoreDamaged
from louder.histories.history import COLUMNS, History

REMEMBERED = 2_000  # ids of events per user: twice what one request may bring, so that sending it again is noticed


@dataclass(frozen=True)
class Stored:
    stored: int
    duplicates: int


@dataclass(frozen=True)
class Record:
    """All that a store keeps of one user."""

    history: History
    appended: int = 0  # events ever; the others of history.total came when the store was filled
    # [at most REMEMBERED] int64, hashes of the ids of the latest appended events, in order of arrival
    seen: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def merged(old: History, new: History, keep: int) -> History:
    """The latest `keep` of both. Of the same time, old ones come first."""
    joined = replace(new, version=old.version + new.total, total=old.total + new.total)
    if len(old):
        both = (np.concatenate([getattr(old, name), getattr(new, name)]) for name in COLUMNS)
        items, times, actions, values, requests = both
        joined = History(items, times, actions, values, requests, new.names, joined.version, joined.total)
    return joined.select(np.argsort(joined.times, kind="stable")[-keep:])


def added(record: Record, arrived: History, ids: list[int], keep: int) -> tuple[Record, Stored]:
    """The record with the events whose ids it has not seen. An id that is there twice in `ids` counts once."""
    seen, fresh = set(record.seen.tolist()), []
    for row, id in enumerate(ids):
        if id not in seen:
            seen.add(id)
            fresh.append(row)
    count = Stored(len(fresh), len(ids) - len(fresh))
    if not fresh:
        return record, count
    history = merged(record.history, replace(arrived.select(np.array(fresh)), total=len(fresh)), keep)
    remembered = np.concatenate([record.seen, np.array(ids, np.int64)[fresh]])[-REMEMBERED:]
    return Record(history, record.appended + len(fresh), remembered), count


def filled(record: Record, first: History, keep: int) -> Record:
    """The record with a user's first contents under what was appended since.

    They are written once: when a fill that was interrupted starts over, a user that has them already and has got events
    since is left alone, and one that got none is written anew.
    """
    has_first = record.history.total > record.appended
    if has_first and record.appended:
        return record
    if has_first:
        return Record(replace(first.select(slice(-keep, None)), version=record.history.version + first.total))
    history = merged(replace(first, version=0), replace(record.history, total=record.appended), keep)
    return replace(record, history=replace(history, version=record.history.version + first.total))


def packed_seen(record: Record) -> bytes:
    return np.concatenate([[record.appended], record.seen]).astype("<i8").tobytes()


def unpacked_seen(data: bytes | memoryview) -> tuple[int, np.ndarray]:
    if not len(data) or len(data) % 8:
        raise StoreDamaged(f"The event ids of a user of the store are damaged: they have {len(data)} bytes. {REFILL}")
    numbers = np.frombuffer(data, "<i8").astype(np.int64)
    return int(numbers[0]), numbers[1:]
