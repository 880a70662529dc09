"""Histories from a sequence table: the first contents of a store."""

from collections.abc import Iterator

import numpy as np

from louder.data.table import Table
from louder.histories import KEEP, History, Names
from louder.histories.merging import met
from louder.ids import RawId, keys_of
from louder.schema import ENGAGEMENT


def names_of(table: Table) -> Names:
    """The actions of the log, and the values that the table was opened with."""
    return Names(tuple(table.manifest.actions), tuple(table.values))


def histories(table: Table, keep: int = KEEP) -> Iterator[tuple[RawId, History]]:
    """The latest `keep` engagements of each user who has some, with raw ids, and the items of the others.

    Entries of auxiliary series are not kept: of the table's tokens, manifest.tokens - manifest.events are left out.
    Requests keep the table's numbers, which are not those of Arrival.request: a request whose items are partly in the
    table and partly come later counts as two.
    """
    raw_users, raw_items = table.user_ids.raw, raw_items_of(table)
    for user in range(table.users):
        if (history := history_of_user(table, user, raw_items, keep)).total:
            yield raw_users[user].as_py(), history


def raw_items_of(table: Table) -> np.ndarray:
    """[I] the raw ids of items: int64, or an object array of texts"""
    raw: np.ndarray = table.item_ids.raw.to_numpy(zero_copy_only=False)
    return raw if raw.dtype == object else raw.astype(np.int64)


def history_of_user(table: Table, user: int, raw_items: np.ndarray, keep: int = KEEP) -> History:
    """Likewise of one user, by number, who may have none."""
    start, end = table.offsets[user : user + 2]
    rows = start + np.flatnonzero(table.kinds[start:end] == ENGAGEMENT)
    total, older, rows = len(rows), rows[:-keep], rows[-keep:]
    items, times = raw_items[table.ids[rows]], table.times[rows].astype(np.int64)
    actions = np.zeros(len(rows), np.int64) if table.actions is None else table.actions[rows]
    values = np.empty((len(rows), len(table.values)), np.float32)
    for column, numbers in enumerate(table.values.values()):
        values[:, column] = numbers[rows]
    requests = np.full(len(rows), -1, np.int64) if table.requests is None else table.requests[rows]
    met_before = met(np.empty(0, np.int64), keys_of(raw_items[table.ids[older]]))
    return History(items, times, actions, values, requests, names_of(table), total=total, older=met_before)
