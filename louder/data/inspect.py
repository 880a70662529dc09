"""What a sequence table holds, in numbers.

The table is read part by part, so memory is bounded by one batch of users and one count per user and item.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from louder.data.table import damaged, open_part, part_files
from louder.results import Row
from louder.schema import ENGAGEMENT, Manifest

USERS_AT_ONCE = 8192
TIME_BINS = 96
MOST_CATEGORIES = 1000  # of an attribute that a model is to read
GAP_EDGES = 10 ** np.arange(0, 9.01, 0.25)  # seconds; four bins a decade, so that none misses whole seconds
PAUSES = {  # seconds from which each begins
    "same second": 0,
    "under a minute": 1,
    "under an hour": 60,
    "under a day": 3600,
    "under a week": 86_400,
    "under 30 days": 604_800,
    "longer": 2_592_000,
}


@dataclass
class TableCounts:
    """What one reading of the table gives; events are engagements, entries of auxiliary series are not counted.

    gap_counts are pauses between a user's consecutive events, of a second and more, between GAP_EDGES; pauses the same
    in the bins of PAUSES; time_counts events in equal slices from first to last time, with bounds time_edges.
    """

    manifest: Manifest
    lengths: np.ndarray  # [users] events of each user
    popularity: np.ndarray  # [items] events of each item id
    gap_counts: np.ndarray
    pauses: np.ndarray
    time_counts: np.ndarray
    time_edges: np.ndarray
    tied: int = 0  # events at the same second as another of the same user
    repeated: int = 0  # events whose user had met the item before
    idle: int = 0  # events without any action, in a log that has some
    actions: dict[str, int] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)  # count, sum, least, greatest; NaN left out


def count(folder: Path | str) -> TableCounts:
    """Read a table once. Raises InputError if it is none, is empty or is damaged."""
    folder = Path(folder)
    manifest = Manifest.read(folder)
    # one second more, so that the last event is inside the last slice also where all are at one time
    counts = TableCounts(
        manifest=manifest,
        lengths=np.zeros(0, np.int64),
        popularity=np.zeros(manifest.items, np.int64),
        gap_counts=np.zeros(len(GAP_EDGES) - 1, np.int64),
        pauses=np.zeros(len(PAUSES), np.int64),
        time_counts=np.zeros(TIME_BINS, np.int64),
        time_edges=np.linspace(manifest.first_time, manifest.last_time + 1, TIME_BINS + 1),
        actions=dict.fromkeys(manifest.actions, 0),
        values={name: [0, 0.0, np.inf, -np.inf] for name in manifest.values},
    )
    counts.lengths = np.concatenate([counts.lengths, *(add(counts, batch) for batch in batches(folder, manifest))])
    if len(counts.lengths) != manifest.users or not manifest.users:
        found = f"{folder} has {len(counts.lengths)} users and its manifest says {manifest.users}"
        raise damaged(folder, f"{found}; both must be the same, and not zero")
    return counts


def batches(folder: Path, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    columns = ["kind", "id", "time"] + ["actions"] * bool(manifest.actions)
    columns += [f"value.{name}" for name in manifest.values]
    for file in part_files(folder):
        with open_part(file, columns) as part:
            yield from part.iter_batches(batch_size=USERS_AT_ONCE, columns=columns)


def add(counts: TableCounts, batch: pa.RecordBatch) -> np.ndarray:
    """Count one batch of users -> the number of events of each."""

    def flat(name: str) -> np.ndarray:
        return batch.column(name).flatten().to_numpy(zero_copy_only=False)

    engaged = flat("kind") == ENGAGEMENT
    tokens = batch.column("kind").value_lengths().to_numpy(zero_copy_only=False)
    user = np.repeat(np.arange(len(batch)), tokens)[engaged]
    item, time = flat("id")[engaged], flat("time")[engaged]

    counts.popularity += np.bincount(item, minlength=counts.manifest.items)
    counts.repeated += len(item) - len(np.unique(user * counts.manifest.items + item))
    if counts.manifest.has_times:
        same_user = user[1:] == user[:-1]
        tie = same_user & (time[1:] == time[:-1])
        tied = np.append(tie, False) | np.append(False, tie)
        counts.tied += int(tied.sum())
        gap = np.diff(time)[same_user]
        counts.gap_counts += np.histogram(gap, GAP_EDGES)[0]
        slot = np.searchsorted(list(PAUSES.values()), gap, side="right") - 1
        counts.pauses += np.bincount(slot, minlength=len(PAUSES))
        counts.time_counts += np.histogram(time, counts.time_edges)[0]
    if counts.actions:
        mask = flat("actions")[engaged]
        counts.idle += int((mask == 0).sum())
        for bit, name in enumerate(counts.actions):
            counts.actions[name] += int((mask >> bit & 1).sum())
    for name, entry in counts.values.items():
        value = flat(f"value.{name}")[engaged]
        value = value[~np.isnan(value)].astype(np.float64)
        if len(value):
            least, greatest = min(entry[2], value.min()), max(entry[3], value.max())
            counts.values[name] = [entry[0] + len(value), entry[1] + value.sum(), least, greatest]
    return np.bincount(user, minlength=len(batch))


def categories(attributes: pa.Table | None) -> tuple[str, ...]:
    """The columns of items.parquet or users.parquet that are categories: at most MOST_CATEGORIES different texts, booleans,
    whole numbers or lists of them, and fewer than a tenth of the rows, so that titles and the like are none."""
    if attributes is None:
        return ()
    import pyarrow.compute as pc

    found = []
    for name, column in zip(attributes.column_names, attributes.columns):
        values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        fits = pa.types.is_string(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)
        if fits and 1 < pc.count_distinct(values).as_py() <= min(MOST_CATEGORIES, len(attributes) / 10):
            found.append(name)
    return tuple(found)


def summary(counts: TableCounts) -> Row:
    """Statistics as plain numbers and texts that JSON can hold. Shares are of events unless named otherwise; `time` and
    `ties` are None where the log has no clock."""
    manifest, lengths = counts.manifest, counts.lengths
    events = int(lengths.sum())
    cold, one_event = int((counts.popularity == 0).sum()), int((lengths == 1).sum())
    busiest = np.sort(counts.popularity)[::-1]
    first, last = manifest.first_time, manifest.last_time
    least, median, p90, most = np.percentile(lengths, (0, 50, 90, 100)).tolist()

    def share(part: int) -> float:
        return part / events if events else 0.0

    values: dict[str, Row] = {}
    for name, (n, total, smallest, greatest) in counts.values.items():
        known = (total / n, float(smallest), float(greatest)) if n else (None, None, None)
        values[name] = dict(zip(("mean", "min", "max"), known)) | {"missing": events - int(n)}
    return {
        "table": manifest.name,
        "users": manifest.users,
        "items": manifest.items,
        "events": events,
        "tokens": manifest.tokens,
        "lengths": {"min": int(least), "median": median, "mean": float(lengths.mean()), "p90": p90, "max": int(most)},
        "time": {"first": iso(first), "last": iso(last), "days": (last - first) / 86_400}
        if manifest.has_times
        else None,
        "ties": {"events": counts.tied, "share": share(counts.tied)} if manifest.has_times else None,
        "repeats": {"events": counts.repeated, "share": share(counts.repeated)},
        "cold_items": {"items": cold, "share_of_items": cold / manifest.items if manifest.items else 0.0},
        "one_event_users": {"users": one_event, "share_of_users": one_event / manifest.users},
        "popularity": {
            f"top_{percent}_percent": share(int(busiest[: -(-manifest.items * percent // 100)].sum()))
            for percent in (1, 10, 50)
        },
        "actions": {name: {"events": n, "share": share(n)} for name, n in counts.actions.items()},
        "values": values,
        "series": dict(manifest.series),
        "dropped": dict(manifest.dropped),
        "left_out": list(manifest.left_out),
    }


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def length_bins(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users by number of events, in bins that double: starts [n] 0, 1, 2, 4 ... from the first with users, and users [n]."""
    edges = np.concatenate([[0], 2 ** np.arange(int(lengths.max()).bit_length() + 1)])
    users = np.histogram(lengths, edges)[0]
    first = int(np.flatnonzero(users)[0])
    return edges[first:-1], users[first:]


def rows(found: Row) -> list[tuple[str, str, str]]:
    """A summary as lines to show: what, its number, a remark."""
    lengths, time, ties, repeats = found["lengths"], found["time"], found["ties"], found["repeats"]
    cold, single, top = found["cold_items"], found["one_event_users"], found["popularity"]
    spread = f"least {lengths['min']:,}, mean {lengths['mean']:,.1f}, 90 % up to {lengths['p90']:,.0f}, most {lengths['max']:,}"
    others = found["tokens"] - found["events"]
    singles, colds = percent(single["share_of_users"]), percent(cold["share_of_items"])
    out = [
        ("users", f"{found['users']:,}", f"{single['users']:,} of them ({singles}) with one event"),
        ("items", f"{found['items']:,}", f"{cold['items']:,} of them ({colds}) cold: never touched"),
        ("events", f"{found['events']:,}", f"and {others:,} entries of series" if others else ""),
        ("events a user", f"{lengths['median']:,g}", f"median; {spread}"),
        ("top 1 % of items", percent(top["top_1_percent"]), f"of events; top 10 %: {percent(top['top_10_percent'])}"),
        ("repeats", percent(repeats["share"]), f"{repeats['events']:,} events on an item the user had met before"),
    ]
    if time:
        tied = f"{ties['events']:,} events at the same second as another of the user"
        out.append(("ties", percent(ties["share"]), tied))
        out.append(("time", f"{time['days']:,.1f} days", f"{time['first'][:10]} to {time['last'][:10]} (UTC)"))
    else:
        out.append(("time", "none", "there is no clock, only the order of events"))
    actions = found["actions"].items()
    out += [(f"action {name}", percent(action["share"]), f"{action['events']:,} events") for name, action in actions]
    for name, value in found["values"].items():
        mean, bounds = "none", ""
        if value["mean"] is not None:
            mean, bounds = f"{value['mean']:,.4g}", f"mean; {value['min']:,.6g} to {value['max']:,.6g}; "
        out.append((f"value {name}", mean, f"{bounds}{value['missing']:,} missing"))
    out += [(f"series {name}", f"{size:,}", "different values") for name, size in found["series"].items()]
    out += [(f"dropped: {reason}", f"{n:,}", "rows of the log") for reason, n in found["dropped"].items() if n]
    return out


def percent(share: float) -> str:
    """0.0004 -> 0.04 %"""
    return f"{100 * share:.3g} %"
