"""The events of one part -> sequences of users, as Parquet. Runs wherever the engine has the rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from louder.etl.clean import ACTIONS, MICROS_COLUMN, POSITION, REQUEST
from louder.etl.files import in_background

BUCKET, USER_ID, KIND, ID = "bucket", "user_id", "kind", "id"


@dataclass
class PartCounts:
    """What was seen while sequences were made."""

    users: int = 0
    events: int = 0
    tokens: int = 0
    times: tuple[int, int] | None = None  # the first and the last, in seconds
    notes: dict[str, int] = field(default_factory=dict)
    positives: dict[int, int] = field(default_factory=dict)  # bit of an action -> events that have it


def total(counts: Iterable[PartCounts]) -> PartCounts:
    result = PartCounts()
    for part in counts:
        result.users += part.users
        result.events += part.events
        result.tokens += part.tokens
        times = [*(result.times or ()), *(part.times or ())]
        result.times = (min(times), max(times)) if times else None
        for name, count in part.notes.items():
            result.notes[name] = result.notes.get(name, 0) + count
        for bit, count in part.positives.items():
            result.positives[bit] = result.positives.get(bit, 0) + count
    return result


def order_of(events: ir.Table, has_times: bool) -> list[ir.Value]:
    """By user, time, kind and position in the log. Without times, by user and position."""
    if not has_times:
        return [events[USER_ID], events[POSITION]]
    # at the same time the entry of a series comes before the engagement, so engagements (kind 0) sort last
    kind = ibis.ifelse(events[KIND] == 0, 256, events[KIND].cast("int16"))
    return [events[USER_ID], events[MICROS_COLUMN], kind, events[POSITION]]


def write_part(part: int, events: pa.Table, *, folder: Path, has_times: bool, values: Sequence[str]) -> PartCounts:
    """Write sorted events as `part-NNNNN.parquet`; no file where there are none."""
    if not len(events):
        return PartCounts()
    sequences, counting = group(events, has_times, values)
    counts = in_background(counting)
    pq.write_table(
        sequences,
        folder / f"part-{part:05d}.parquet",
        compression="zstd",
        row_group_size=16_384,
        use_dictionary=["user", "kind.list.element", "actions.list.element"],
    )
    return counts.result()


def group(events: pa.Table, has_times: bool, values: Sequence[str]) -> tuple[pa.Table, Callable[[], PartCounts]]:
    """Sorted events, at least one -> one row per user with parallel lists, and what tells what was seen.

    events   columns user_id, kind, id, micros; actions, value.X and request where the log has them
    """
    columns = {name: flat(events.column(name)) for name in events.column_names}
    user = columns[USER_ID].to_numpy()
    starts = np.flatnonzero(np.diff(user, prepend=user[0] - 1))
    offsets = np.append(starts, len(user)).astype(np.int32)
    if has_times:
        time = columns[MICROS_COLUMN].to_numpy() // 1_000_000
    else:
        time = np.arange(len(user)) - np.repeat(starts, np.diff(offsets))

    lists: dict[str, pa.Array | np.ndarray] = {"kind": columns[KIND], "id": columns[ID], "time": time}
    if ACTIONS in columns:
        lists["actions"] = columns[ACTIONS]
    for name in values:
        lists[f"value.{name}"] = pc.fill_null(columns[f"value.{name}"], float("nan"))
    if REQUEST in columns:
        lists["request"] = columns[REQUEST]

    arrays = [pa.array(user[starts])]
    for name, values_of in lists.items():
        # an engine may widen what a literal made, and readers rely on these types
        kind_of = {"kind": pa.uint8()}.get(name, pa.float32() if name.startswith("value.") else pa.int64())
        arrays.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values_of).cast(kind_of)))
    return pa.Table.from_arrays(arrays, ["user", *lists]), partial(count, user, starts, time, lists, has_times)


def count(
    user: np.ndarray, starts: np.ndarray, time: np.ndarray, lists: dict[str, pa.Array | np.ndarray], has_times: bool
) -> PartCounts:
    """user, time [L], and starts [users], of events in order."""
    engaged = np.asarray(lists["kind"]) == 0
    per_user = np.add.reduceat(engaged, starts, dtype=np.int64)
    notes = {"users with one event": int((per_user == 1).sum())}
    if has_times:
        of, at, columns = user, time, lists
        if not engaged.all():  # ties are of events, whatever series do meanwhile
            of, at = user[engaged], time[engaged]
            columns = {name: np.asarray(column)[engaged] for name, column in lists.items()}
        same = np.zeros(len(of), bool)
        same[1:] = (of[1:] == of[:-1]) & (at[1:] == at[:-1])
        tied = same.copy()
        tied[:-1] |= same[1:]
        notes["events that share their time with another of the user"] = int(tied.sum())
        notes["exact duplicates kept"] = duplicates(columns, same, tied)
    times = int(time.min()), int(time.max())
    return PartCounts(len(starts), int(engaged.sum()), len(user), times, notes, positives(lists))


def positives(lists: dict[str, pa.Array | np.ndarray]) -> dict[int, int]:
    """Bit of an action -> events that have it."""
    bits = np.asarray(lists.get("actions", np.zeros(1, np.int64)))
    return {bit: int((bits >> bit & 1).sum()) for bit in range(int(bits.max()).bit_length())}


def duplicates(lists: dict[str, pa.Array | np.ndarray], same: np.ndarray, tied: np.ndarray) -> int:
    """Events that repeat an earlier one in every column. `same` [L] has the user and time of the event before, `tied`
    [L] those of another event."""
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
