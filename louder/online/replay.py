"""A sequence table or an event log, played as a stream: each record at its own time, stamped with it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from louder.data.histories import raw_items_of
from louder.data.table import Table, open_table
from louder.errors import InputError
from louder.histories import Arrival
from louder.ids import RawId
from louder.schema import ENGAGEMENT, Manifest
from louder.streaming import LogReader, LogRecord, LogWriter
from louder.streaming.logs import in_kafka

if TYPE_CHECKING:
    from louder.streaming.kafka import KafkaWriter

AT_ONCE = 5_000
TICK_S = 0.2  # of the clock on the wall, when a replay is paced
FOR_GOOD = 1e15  # seconds that the log keeps: its times are long ago

Stamped = tuple[int, LogRecord]  # milliseconds since 1970


def replay(
    source: Path,
    output: str,
    *,
    speed: float | None = None,
    start: int | None = None,
    on_records: Callable[[int], None] = lambda count: None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Append all that a table or a log holds, in the order of its times; how many records there were.

    output  a folder, which must be new, or kafka://HOST:PORT/TOPIC
    speed   so many seconds of events pass in one of the clock; None: as fast as it goes
    start   seconds since 1970 at which the first record is now; None: at its own time

    Raises InputError for what is neither, and for a table without times.
    """
    records = read(source)
    shift = 0 if start is None or not records else 1000 * start - records[0][0]
    if not in_kafka(output) and (Path(output) / "log.json").exists():
        raise InputError(
            f"{output} is an event log already, and a replay would be mixed with it. Choose another: -o NAME."
        )
    with writer_of(output) as log:
        began = time.monotonic()
        for chunk in chunks(records, speed):
            if speed is not None:
                due = began + (chunk[0][0] - records[0][0]) / 1000 / speed
                sleep(max(0.0, due - time.monotonic()))
            moved = [(stamp + shift, shifted(record, shift // 1000)) for stamp, record in chunk]
            log.append([record for _, record in moved], [stamp for stamp, _ in moved])
            on_records(len(chunk))
    return len(records)


def writer_of(output: str) -> "LogWriter | KafkaWriter":
    if not in_kafka(output):
        return LogWriter(output, keep_s=FOR_GOOD, keep_bytes=1 << 62)
    from louder.streaming.kafka import KafkaWriter

    return KafkaWriter(output)


def chunks(records: Sequence[Stamped], speed: float | None) -> Iterator[list[Stamped]]:
    """What is appended together."""
    if speed is None:
        for first in range(0, len(records), AT_ONCE):
            yield list(records[first : first + AT_ONCE])
        return
    for _, own in groupby(records, lambda stamped: int(stamped[0] / (1000 * TICK_S * speed))):
        yield list(own)


def shifted(record: LogRecord, seconds: int) -> LogRecord:
    return replace(record, time=record.time + seconds) if seconds else record


def read(source: Path) -> list[Stamped]:
    if (source / "manifest.json").is_file():
        return list(of_table(source))
    if (source / "log.json").is_file():
        return of_log(source)
    raise InputError(
        f"{source} is neither a sequence table nor an event log. Make a table of a raw log: louder etl {source} -o TABLE."
    )


def of_log(folder: Path) -> list[Stamped]:
    """With the stamps that it has."""
    found: list[tuple[int, int, int, LogRecord]] = []
    with LogReader(folder) as log:
        while some := log.read(10_000):
            found += [(x.stamp, x.partition, x.offset, x.record) for x in some]
    found.sort(key=lambda x: x[:3])
    return [(stamp, record) for stamp, _, _, record in found]


def of_table(folder: Path) -> Iterator[Stamped]:
    """Engagements in the order of their times, those of a second as the users are numbered; a request of the table becomes
    that of its events. Entries of auxiliary series are left out, since a log has none."""
    manifest = Manifest.read(folder)
    if not manifest.has_times:
        raise InputError(f"{folder} has no times, so nothing says when its events come.")
    table = open_table(folder, values=manifest.values, requests=True)
    users, items = table.user_ids.raw.to_pylist(), raw_items_of(table).tolist()
    owner = np.repeat(np.arange(table.users), np.diff(table.offsets))
    rows = np.flatnonzero(table.kinds == ENGAGEMENT)
    for row in rows[np.argsort(table.times[rows], kind="stable")].tolist():
        yield 1000 * int(table.times[row]), arrival(table, row, users[owner[row]], items)


def arrival(table: Table, row: int, user: RawId, items: Sequence[RawId]) -> Arrival:
    bits = 0 if table.actions is None else int(table.actions[row])
    number = -1 if table.requests is None else int(table.requests[row])
    return Arrival(
        user=user,
        id=f"row-{row}",
        item=items[table.ids[row]],
        time=int(table.times[row]),
        actions=tuple(name for bit, name in enumerate(table.manifest.actions) if bits >> bit & 1),
        values={name: float(x[row]) for name, x in table.values.items() if not np.isnan(x[row])},
        request=None if number < 0 else f"request-{number}",
    )
