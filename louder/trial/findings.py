"""What is odd about a log: what was found, what it does to the numbers, and what to type or to ask."""

from typing import NamedTuple

import numpy as np

from louder.data.inspect import TableCounts, percent
from louder.data.table import Table
from louder.schema import ENGAGEMENT

DAY = 86_400
MANY = 0.01  # of the rows that were read: so many dropped ones are a fault and not an accident
BURST = 8  # times as many events as usual in a slice of the log's time
BUSY = 100  # times as many events as nine in ten users have at most


class Finding(NamedTuple):
    """serious: whether the numbers of the trial, or the models, suffer from it."""

    serious: bool
    what: str
    todo: str


def findings(counts: TableCounts, table: Table) -> list[Finding]:
    """Serious ones first. An empty list: nothing was found."""
    found = [*rows_lost(counts), *of_times(counts, table), *of_users_and_items(counts)]
    return sorted(found, key=lambda finding: not finding.serious)


def rows_lost(counts: TableCounts) -> list[Finding]:
    manifest = counts.manifest
    read = max(1, manifest.counts.get("rows read", manifest.events + sum(manifest.dropped.values())))
    found = [
        Finding(
            n > MANY * read,
            f"Dropped rows: {n:,} ({percent(n / read)}), {reason}.",
            "Look at them in the source of the log.",
        )
        for reason, n in manifest.dropped.items()
        if n
    ]
    if n := manifest.counts.get("exact duplicates kept", 0):
        what = f"Rows that are equal to another in every column: {n:,} ({percent(n / read)})."
        found.append(
            Finding(n > MANY * read, what, "If they are one event written twice: louder etl LOG --drop-duplicates.")
        )
    return found + [Finding(True, warning, "") for warning in manifest.warnings]


def of_times(counts: TableCounts, table: Table) -> list[Finding]:
    manifest, events = counts.manifest, int(counts.lengths.sum())
    if not manifest.has_times:
        return [Finding(True, "There are no times, so nothing could be split by time.", "Log a time with each event.")]
    found = []
    times = table.times[table.kinds == ENGAGEMENT]
    if (times % DAY == times[0] % DAY).mean() > 0.99:
        what = "Times are whole days: what came first within a day is a guess."
        found.append(Finding(True, what, "Log the time of day, at least to the minute."))
    elif counts.tied > 0.2 * events:
        what = f"{percent(counts.tied / events)} of the events share their second with another of the user: which came first is the order of the log."
        found.append(
            Finding(False, what, "Log milliseconds, or what one request showed together: --column request_id=NAME.")
        )
    usual = float(np.median(counts.time_counts[counts.time_counts > 0]))
    if usual and counts.time_counts.max() > BURST * usual:
        at = int(counts.time_counts.argmax())
        first, last = (np.datetime64(int(edge), "s").astype("datetime64[D]") for edge in counts.time_edges[at : at + 2])
        what = f"Between {first} and {last} there are {counts.time_counts.max() / usual:.0f} times as many events as usual."
        found.append(Finding(False, what, "A campaign, an import or robots? Leave out what is not people."))
    empty = (counts.time_counts == 0).mean()
    if empty > 0.1:
        what = f"In {percent(empty)} of the time from the first to the last event nothing was logged."
        found.append(Finding(False, what, "Are files missing? Leave out stray early rows."))
    return found


def of_users_and_items(counts: TableCounts) -> list[Finding]:
    lengths, manifest = counts.lengths, counts.manifest
    found = []
    single = float((lengths == 1).mean())
    if single > 0.2:
        what = f"{percent(single)} of the users have one event: nothing can be learnt from them or measured on them."
        found.append(
            Finding(False, what, "Is one person several users, such as a cookie a visit? Join them by a login.")
        )
    most, usual = int(lengths.max()), float(np.percentile(lengths, 90))
    if most > BUSY * usual:
        busy = int((lengths > BUSY * usual).sum())
        what = f"Users with more than {BUSY * usual:,.0f} events: {busy:,}, up to {most:,}; nine in ten have at most {usual:,.0f}."
        found.append(Finding(False, what, "Robots, or a counter at a till? Leave them out."))
    cold = float((counts.popularity == 0).mean())
    if cold > 0.1:
        what = f"{percent(cold)} of the {manifest.items:,} items were never touched."
        found.append(Finding(False, what, "Leave out what is no longer to be had."))
    return found
