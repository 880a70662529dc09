"""What becomes of the history of one user when events arrive. The same for every store.

Events are placed by their time, those of the same time by their arrival, and the latest `keep` stay. Dropping the
oldest after each arrival leaves the same events as dropping them once at the end, so the order of arrival matters only
between events of the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from louder.histories.history import COLUMNS, MOST_OLDER, History, empty_history
from louder.histories.record import Record
from louder.histories.times import request_time
from louder.ids import keys_of


@dataclass(frozen=True)
class Stored:
    """What became of events that were sent: stored, not stored since their id was stored before, or since they, or their
    user, were deleted."""

    stored: int
    duplicates: int
    deleted: int = 0


def total(counts: Sequence[Stored]) -> Stored:
    columns = zip((0, 0, 0), *((count.stored, count.duplicates, count.deleted) for count in counts))
    return Stored(*map(sum, columns))


def merged(old: History, new: History, keep: int) -> History:
    """The latest `keep` of both. Of the same time, old ones come first."""
    history, order = joined(old, new)
    return latest(history, order, keep)


def joined(old: History, new: History) -> tuple[History, np.ndarray]:
    """The events of both, and their rows in the order of time."""
    older = met(old.older, new.older)
    both = replace(new, version=old.version + new.total, total=old.total + new.total, older=older)
    if len(old):
        columns = (np.concatenate([getattr(old, name), getattr(new, name)]) for name in COLUMNS)
        items, times, actions, values, requests = columns
        both = History(items, times, actions, values, requests, new.names, both.version, both.total, older)
    return both, np.argsort(both.times, kind="stable")


def latest(history: History, order: np.ndarray, keep: int) -> History:
    """The last `keep` of the rows in `order`; of the others the items are kept."""
    kept = history.select(order[-keep:])
    return replace(kept, older=met(history.older, keys_of(history.items[order[:-keep]])))


def met(older: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Different keys of items in the order of their latest event, when events of some `items` [n] come after `older`."""
    if not len(items):
        return older
    if len(items) > 1:
        _, first = np.unique(items[::-1], return_index=True)
        items = items[np.sort(len(items) - 1 - first)]
    old = older[~np.isin(older, items)] if len(items) > 1 else older[older != items[0]]
    return np.concatenate([old, items])[-MOST_OLDER:]


def added(record: Record, arrived: History, ids: list[int], keep: int) -> tuple[Record, Stored]:
    """The record with the events whose ids it has not met. An id that is there twice in `ids` counts once."""
    known, gone = set(record.ids.tolist()), set(record.ids[record.deleted].tolist())
    fresh, duplicates, deleted = [], 0, 0
    for row, id in enumerate(ids):
        if id in known:
            duplicates, deleted = duplicates + (id not in gone), deleted + (id in gone)
        elif record.since is not None and arrived.times[row] <= record.since:
            deleted += 1
        else:
            known.add(id)
            fresh.append(row)
    count = Stored(len(fresh), duplicates, deleted)
    if not fresh:
        return record, count
    history, order = joined(record.history, replace(arrived.select(np.array(fresh)), total=len(fresh)))
    own = record.remembering(np.array(ids, np.int64)[fresh])
    places = np.concatenate([own.places, np.arange(len(own.ids) - len(fresh), len(own.ids))])[order[-keep:]]
    appended = record.appended + len(fresh)
    return replace(own, history=latest(history, order, keep), places=np.maximum(places, -1), appended=appended), count


def filled(record: Record, first: History, keep: int) -> Record:
    """The record with a user's first contents under what was appended since.

    They are written once: when a fill that was interrupted starts over, a user that has them already and has got events
    since is left alone, and one that got none is written anew. A user that was deleted gets none.
    """
    has_first = record.history.total > record.appended
    if record.since is not None or (has_first and len(record.ids)):
        return record
    version = record.history.version + first.total
    if has_first:
        return Record(replace(latest(first, np.arange(len(first)), keep), version=version))
    history, order = joined(replace(first, version=0), replace(record.history, total=record.appended))
    places = np.concatenate([np.full(len(first), -1), record.places])[order[-keep:]]
    return replace(record, history=replace(latest(history, order, keep), version=version), places=places)


@dataclass(frozen=True)
class Deleted:
    """What became of an event that was to be deleted.

    deleted  whether it was there, and is gone now
    known    whether its id was among those remembered: it was there, or was deleted before, or is not kept any more
    """

    deleted: bool
    known: bool


def without(record: Record, id: int) -> tuple[Record, Deleted]:
    """The record without the event of an id, which is remembered: when the event comes, or comes again, it is not taken.

    So a deletion and the event that it is for may come in any order.
    """
    if id not in record.ids:
        record = record.remembering(np.array([id]))
        known = False
    else:
        known = True
    (place,) = np.flatnonzero(record.ids == id)
    if record.deleted[place]:
        return record, Deleted(False, True)
    deleted = record.deleted.copy()
    deleted[place] = True
    stay = record.places != place
    gone = len(stay) - int(stay.sum())
    history = record.history.select(stay)
    history = replace(history, version=history.version + 1, total=history.total - gone)
    own = replace(record, history=history, places=record.places[stay], deleted=deleted, appended=record.appended - gone)
    return own, Deleted(gone > 0, known)


def forgotten(record: Record, now: int) -> Record:
    """What is left of a user: when it was deleted, so that what was sent before and comes late is not taken.

    A client's clock may be ahead of ours, so that is no earlier than the latest event, within reason.
    """
    nothing = empty_history(record.history.names, texts=record.history.items.dtype == object)
    return Record(nothing, since=request_time(record.history.times, now))
