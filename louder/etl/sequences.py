"""Numbered events -> sequences of users, as Parquet parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from louder.etl.clean import ACTIONS, MICROS_COLUMN, POSITION, REQUEST

EVENTS_PER_PART = 2_000_000
BUCKET, USER_ID, KIND, ID = "bucket", "user_id", "kind", "id"


@dataclass
class Counts:
    """What was seen while the sequences were written."""

    users: int = 0
    events: int = 0
    tokens: int = 0
    first_time: int | None = None
    last_time: int | None = None
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, count: int) -> None:
        self.notes[name] = self.notes.get(name, 0) + int(count)


def write_parts(
    numbered: ir.Table,
    parts: int,
    folder: Path,
    *,
    has_times: bool,
    values: list[str],
    report: Callable[[int], None] = lambda part: None,
) -> Counts:
    """Sort each bucket by user, time and position in the log, and write it as `part-NNNNN.parquet`.

    numbered   columns bucket, user_id, kind, id, micros, position; actions, value.X and request where the log has them
    """
    folder.mkdir()
    counts = Counts()
    for part in range(parts):
        events = numbered.filter(numbered[BUCKET] == part).drop(BUCKET)
        # at the same time the entry of a series comes before the engagement, so engagements (kind 0) sort last
        order = [events[USER_ID], events[MICROS_COLUMN], late_if_engaged(events[KIND]), events[POSITION]]
        if not has_times:
            order = [events[USER_ID], events[POSITION]]
        table = events.order_by(order).drop(POSITION).to_pyarrow()
        if len(table):
            sequences = group(table, has_times, values, counts)
            pq.write_table(
                sequences,
                folder / f"part-{part:05d}.parquet",
                compression="zstd",
                row_group_size=16_384,
                use_dictionary=["user", "kind.list.element", "actions.list.element"],
            )
        report(part)
    return counts


def late_if_engaged(kind: ir.IntegerColumn) -> ir.IntegerValue:
    """Series in their order, then engagements."""
    return ibis.ifelse(kind == 0, 256, kind.cast("int16"))


def group(table: pa.Table, has_times: bool, values: list[str], counts: Counts) -> pa.Table:
    """Sorted events -> one row per user with parallel lists."""
    columns = {name: flat(table.column(name)) for name in table.column_names}
    user = columns[USER_ID].to_numpy()
    starts = np.flatnonzero(np.diff(user, prepend=user[0] - 1))
    offsets = np.append(starts, len(user)).astype(np.int32)
    lengths = np.diff(offsets)
    kind = columns[KIND].to_numpy()
    micros = columns[MICROS_COLUMN].to_numpy()
    if has_times:
        time = micros // 1_000_000
        counts.first_time = min(int(time.min()), time.min() if counts.first_time is None else counts.first_time)
        counts.last_time = max(int(time.max()), time.max() if counts.last_time is None else counts.last_time)
    else:
        time = np.arange(len(user)) - np.repeat(starts, lengths)
        counts.first_time = 0
        counts.last_time = max(int(time.max()), counts.last_time or 0)

    lists: dict[str, pa.Array | np.ndarray] = {"kind": columns[KIND], "id": columns[ID], "time": time}
    if ACTIONS in columns:
        lists["actions"] = columns[ACTIONS]
    for name in values:
        column = columns[f"value.{name}"]
        lists[f"value.{name}"] = pc.fill_null(column, float("nan"))
    if REQUEST in columns:
        lists["request"] = columns[REQUEST]

    counts.users += len(starts)
    counts.tokens += len(user)
    engaged = kind == 0
    counts.events += int(engaged.sum())
    per_user = np.add.reduceat(engaged, starts, dtype=np.int64)
    counts.note("users with one event", (per_user == 1).sum())
    same = np.zeros(len(user), bool)
    same[1:] = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    if has_times:
        tied = same.copy()
        tied[:-1] |= same[1:]
        counts.note("events that share their time with another of the user", (tied & engaged).sum())
        counts.note("exact duplicates kept", duplicates(lists, same, tied))

    arrays = [pa.array(user[starts])]
    for name, values_of in lists.items():
        # an engine may widen what a literal made, and readers rely on these types
        kind_of = {"kind": pa.uint8()}.get(name, pa.float32() if name.startswith("value.") else pa.int64())
        arrays.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values_of).cast(kind_of)))
    return pa.Table.from_arrays(arrays, ["user", *lists])


def duplicates(lists: dict[str, pa.Array | np.ndarray], same: np.ndarray, tied: np.ndarray) -> int:
    """Events that repeat an earlier one of the same user in every column.

    same   [L]  has the user and time of the event before
    tied   [L]  shares its user and time with another event
    """
    where = np.flatnonzero(tied)
    hashed = np.cumsum(~same[where]).astype(np.uint64)  # one number for each time of each user
    for name, column in lists.items():
        if name != "time":
            hashed = mixed(hashed ^ as_bits(np.asarray(column)[where]))
    hashed.sort()
    return int((hashed[1:] == hashed[:-1]).sum())


def mixed(x: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit numbers that spreads every bit (splitmix64), so that equal means equal but once in 2**64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def as_bits(column: np.ndarray) -> np.ndarray:
    """Numbers as 64 bits; absent values (NaN) are all the same bits."""
    return (column.view(np.int32) if column.dtype == np.float32 else column).astype(np.int64).view(np.uint64)


def flat(column: pa.ChunkedArray) -> pa.Array:
    """One array without a copy where it is one chunk already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
