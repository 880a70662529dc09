"""Numerical features of an exposure, counted over what happened before its request.

Impression-level rankers (DLRMs) live on such counters; generative recommenders drop them ("Actions Speak Louder than
Words", section 2.1). Of the user's own events those before the request count, of everybody's those at an earlier time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from louder.data.attributes import Attribute
from louder.data.item_counts import ItemCounts, counts, smoothed
from louder.data.table import Table, ranges
from louder.schema import ENGAGEMENT

NEVER_S = 10 * 365 * 86400  # what has not happened yet counts as ten years ago


class Counters(NamedTuple):
    """values [T, F] float32, one row for each of the table; names [F]"""

    values: np.ndarray
    names: list[str]


def count(table: Table, attributes: Sequence[Attribute]) -> Counters:
    """The counters of every engagement; the rows of auxiliary series are zero.

    `attributes` are those of the items. Counts are log(1 + count), rates are (count + s p) / (impressions + s), where s
    is STRENGTH of item_counts and p the rate of a larger group: for a user and an item everybody's, for a user and a
    value the user's. With A actions there are, for

        user        impressions, A counts, A rates; log(1 + seconds) since the user's last event
        item        impressions, A counts, A rates, of everybody
        user.item   impressions and A counts: the item was shown to the user before
        user.X      impressions, A counts, A rates of the user on items with the same value of attribute X (the mean
                    over the item's values); log(1 + seconds) since an item with the first of them was shown

    Raises InputError for a log without times, where nobody knows what others did before.
    """
    of_items = ItemCounts.of_table(table)
    names = table.manifest.actions
    rows = np.flatnonzero(table.kinds == ENGAGEMENT)
    begins = table.request_rows()[rows]
    users = np.searchsorted(table.offsets, rows, side="right") - 1
    items, now = table.ids[rows], table.times[begins]
    bits = np.zeros(len(table.ids), dtype=np.int64) if table.actions is None else table.actions
    happened = (bits[rows, None] >> np.arange(len(names)) & 1).astype(np.int32)  # [E, A]

    item, expected = of_items.at(items, now)
    user = earlier(users, rows, happened, begins)
    rate = smoothed(user.shown, user.actions, expected)
    again = earlier(dense(users * table.items + items), rows, happened, begins)

    columns = [counts(user.shown, user.actions), rate, log_since(table.times[rows], user.last, now)]
    columns += [counts(*item), smoothed(*item, expected), counts(again.shown, again.actions)]
    named = named_counters("user", names) + named_counters("item", names)[:-1]
    named += named_counters("user.item", names)[: 1 + len(names)]
    for attribute in attributes:
        columns.append(of_values(attribute, users, items, rows, begins, table.times[rows], now, happened, rate))
        named += named_counters(f"user.{attribute.name}", names)
    out = np.zeros((len(table.ids), len(named)), dtype=np.float32)
    out[rows] = np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind")
    return Counters(out, named)


class Earlier(NamedTuple):
    """What came earlier in the same group: impressions [E] and actions [E, A] int32, the last event [E] (-1 = none)."""

    shown: np.ndarray
    actions: np.ndarray
    last: np.ndarray


def earlier(group: np.ndarray, order: np.ndarray, happened: np.ndarray, before: np.ndarray) -> Earlier:
    """For each of E events, those of its group whose `order` is under its `before`; all [E], happened [E, A]."""
    span = max(order.max(initial=0), before.max(initial=0)) + 1
    key = group * span + order
    by_key = np.argsort(key, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(group))])[group]
    end = np.searchsorted(key[by_key], group * span + before)
    totals = np.zeros((len(group) + 1, happened.shape[1]), dtype=np.int32)
    np.cumsum(happened[by_key], axis=0, out=totals[1:])
    last = np.where(end > first, by_key[end - 1], -1) if len(group) else end
    return Earlier((end - first).astype(np.int32), totals[end] - totals[first], last)


def of_values(
    attribute: Attribute,
    users: np.ndarray,
    items: np.ndarray,
    rows: np.ndarray,
    begins: np.ndarray,
    times: np.ndarray,
    now: np.ndarray,
    happened: np.ndarray,
    rate: np.ndarray,
) -> np.ndarray:
    """[E, 2 + 2 A] counters of user and attribute; an unknown value is none."""
    codes, offsets = known_values(attribute)
    lengths = np.diff(offsets)[items]
    entries = np.repeat(np.arange(len(items)), lengths)  # one for each event and value
    value = codes[ranges(offsets[items], lengths)]
    same = earlier(dense(users[entries] * attribute.size + value), rows[entries], happened[entries], begins[entries])
    found = np.concatenate(
        [counts(same.shown, same.actions), smoothed(same.shown, same.actions, rate[entries])], axis=1
    )
    some = lengths > 0
    firsts = (np.cumsum(lengths) - lengths)[some]
    mean = np.zeros((len(items), found.shape[1]), dtype=np.float32)
    if len(firsts):
        mean[some] = np.add.reduceat(found, firsts, axis=0) / lengths[some, None]
    mean[~some, 1 + happened.shape[1] :] = rate[~some]
    last = np.full(len(items), -1)
    last[some] = same.last[firsts]
    return np.concatenate([mean, log_since(times[entries], last, now)], axis=1)


def known_values(attribute: Attribute) -> tuple[np.ndarray, np.ndarray]:
    """codes and offsets of an attribute without code 0 and without repeats"""
    codes, offsets = np.asarray(attribute.codes), np.asarray(attribute.offsets)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    known = np.flatnonzero(codes > 0)
    _, first = np.unique(owner[known] * attribute.size + codes[known], return_index=True)
    kept = np.sort(known[first])
    return codes[kept], np.searchsorted(kept, offsets)


def dense(group: np.ndarray) -> np.ndarray:
    """Each number's rank among the different ones."""
    return np.unique(group, return_inverse=True)[1]


def log_since(times: np.ndarray, last: np.ndarray, now: np.ndarray) -> np.ndarray:
    """[E, 1] log(1 + seconds) from the event `last` [E] (-1 = none) to `now` [E]"""
    padded = np.append(times, 0)
    return np.log1p(np.where(last >= 0, now - padded[last], NEVER_S).astype(np.float32))[:, None]


def named_counters(group: str, actions: list[str]) -> list[str]:
    """Impressions, counts, rates, and the time since the last."""
    columns = ["shown", *actions, *(f"{action}_rate" for action in actions), "seconds_since"]
    return [f"{group}.{column}" for column in columns]
