"""What everybody did with each item, as of any time: what rankers of both kinds count of an item.

A count is a function of event time alone: what is asked at a time counts the events before it and no others. So a log
that is read as a whole, an answer about the past and a loop that adds events as they come find the same numbers.
"""

from typing import NamedTuple

import numpy as np

from louder.data.table import Table
from louder.errors import InputError
from louder.schema import ENGAGEMENT

STRENGTH = np.float32(10)  # a smoothed rate counts the rate that is expected as if it were so many impressions


class Counted(NamedTuple):
    """shown [N] int64 impressions, and actions [N, A] int64 of them"""

    shown: np.ndarray
    actions: np.ndarray


class Kept(NamedTuple):
    """N events, ordered by item and, within one, by time.

    items, times [N] int64    happened [N, A] int8, 1 = done
    moments [K]               the different times
    keys [N]                  item * (K + 1) + number of its time among the moments
    totals [N + 1, A] int32   of what was done up to each event
    shown [K + 1], actions [K + 1, A] int64   of everybody and all items before each moment, folded events too
    """

    items: np.ndarray
    times: np.ndarray
    happened: np.ndarray
    moments: np.ndarray
    keys: np.ndarray
    totals: np.ndarray
    shown: np.ndarray
    actions: np.ndarray


class ItemCounts:
    """Counts of I items and A actions.

    Events are kept one by one, so that any time can be asked about. `fold` gives up times that nobody asks about any more;
    then memory is that of the items and of the later events. To add events sorts those that are kept, so a live loop adds
    them in batches, and folds. Whoever reads while another thread adds gets the counts of before or of after.
    """

    def __init__(self, items: int, actions: int) -> None:
        folded = Counted(np.zeros(items, np.int64), np.zeros((items, actions), np.int64))
        nothing = np.zeros(0, np.int64)
        self.state = folded, kept(nothing, nothing, np.zeros((0, actions), np.int8), folded)

    @classmethod
    def of_table(cls, table: Table, actions: np.ndarray | None = None) -> "ItemCounts":
        """Of all engagements of a table; `actions` [T] are bits in place of its own. Raises InputError for a log without
        times, where nobody knows what others did before."""
        if not table.manifest.has_times:
            raise InputError(f"{table.path} has no times, so what others did before an event cannot be counted.")
        counts = cls(table.items, len(table.manifest.actions))
        rows = np.flatnonzero(table.kinds == ENGAGEMENT)
        bits = table.actions if actions is None else actions
        counts.add(table.ids[rows], table.times[rows], np.zeros_like(rows) if bits is None else bits[rows])
        return counts

    @property
    def items(self) -> int:
        return len(self.state[0].shown)

    def add(self, items: np.ndarray, times: np.ndarray, actions: np.ndarray) -> None:
        """Events [N] in any order: int64 ids, seconds, and bits of what was done. Ids beyond those known are new items."""
        self.grow(int(items.max(initial=-1)) + 1 - self.items)
        folded, old = self.state
        happened = (actions[:, None] >> np.arange(folded.actions.shape[1]) & 1).astype(np.int8)
        items, times = np.append(old.items, items), np.append(old.times, times)
        self.state = folded, kept(items, times, np.concatenate([old.happened, happened]), folded)

    def grow(self, count: int) -> None:
        """`count` new items at the end, with which nobody has done anything."""
        folded, events = self.state
        if count > 0:
            new = Counted(*(np.concatenate([x, np.zeros((count, *x.shape[1:]), np.int64)]) for x in folded))
            self.state = new, events

    def fold(self, before: int) -> None:
        """Keep no single event from before a time (seconds): what is asked about an earlier one counts them all from now."""
        folded, events = self.state
        old = events.times < before
        shown, actions = folded.shown.copy(), folded.actions.copy()
        np.add.at(shown, events.items[old], 1)
        np.add.at(actions, events.items[old], events.happened[old])
        folded = Counted(shown, actions)
        self.state = folded, kept(events.items[~old], events.times[~old], events.happened[~old], folded)

    def at(self, items: np.ndarray, times: np.ndarray) -> tuple[Counted, np.ndarray]:
        """Of each of the items [N] before each of the times [N], seconds: what was counted, and the rates [N, A] float32 that
        are expected of any item then. Of an item that is not known, id -1, nothing is."""
        folded, events = self.state
        moment = np.searchsorted(events.moments, times)
        known = (items >= 0) & (items < len(folded.shown))
        item = np.where(known, items, 0)
        span = len(events.moments) + 1
        first, end = np.searchsorted(events.keys, item * span), np.searchsorted(events.keys, item * span + moment)
        shown = (folded.shown[item] + end - first) * known
        actions = (folded.actions[item] + events.totals[end] - events.totals[first]) * known[:, None]
        expected = ((events.actions[moment] + 1) / (events.shown[moment] + 2)[:, None]).astype(np.float32)
        return Counted(shown, actions), expected

    def features(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """[N, 1 + 2 A] float32 of each item before each time: log(1 + count) of impressions and actions, and smoothed
        rates."""
        found, expected = self.at(items, times)
        return np.concatenate([counts(*found), smoothed(*found, expected)], axis=1)


def kept(items: np.ndarray, times: np.ndarray, happened: np.ndarray, folded: Counted) -> Kept:
    """Events [N] in any order; happened [N, A]."""
    moments, moment = np.unique(times, return_inverse=True)
    keys = items * (len(moments) + 1) + moment
    order = np.argsort(keys, kind="stable")
    totals = summed(happened[order])
    at_moment = np.searchsorted(np.sort(moment), np.arange(len(moments) + 1))  # events before each moment
    actions = folded.actions.sum(0) + summed(happened[np.argsort(moment, kind="stable")])[at_moment]
    shown = folded.shown.sum() + at_moment
    return Kept(items[order], times[order], happened[order], moments, keys[order], totals, shown, actions)


def summed(happened: np.ndarray) -> np.ndarray:
    """[N + 1, A] int32, before each row and after the last"""
    totals = np.zeros((len(happened) + 1, happened.shape[1]), dtype=np.int32)
    np.cumsum(happened, axis=0, out=totals[1:])
    return totals


def counts(shown: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """[N, 1 + A] float32 log(1 + count), of shown [N] and actions [N, A]"""
    return np.log1p(np.column_stack([shown, actions]).astype(np.float32))


def smoothed(shown: np.ndarray, actions: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """[N, A] float32 rates, those of few impressions near what is `expected` [N, A]"""
    impressions = shown[:, None].astype(np.float32)
    rates: np.ndarray = (actions.astype(np.float32) + STRENGTH * expected) / (impressions + STRENGTH)
    return rates


def item_counters(table: Table) -> np.ndarray:
    """[T, 1 + 2 A] float32, the features of each engagement's item before its request, so that items of one request do not
    see each other; the rows of auxiliary series are zero."""
    item_counts = ItemCounts.of_table(table)
    rows = np.flatnonzero(table.kinds == ENGAGEMENT)
    out = np.zeros((len(table.ids), 1 + 2 * len(table.manifest.actions)), dtype=np.float32)
    out[rows] = item_counts.features(table.ids[rows], table.times[table.request_rows()[rows]])
    return out
