"""Logs of events with times of their own, and streams that learn from them."""

import json
from pathlib import Path

from louder import checkpoint
from louder.histories import Arrival
from louder.online.config import StreamConfig
from louder.online.stream import stream
from louder.results import read_rows
from louder.streaming import LogWriter, Shown

START = 1_700_000_000 // 9_000 * 9_000
CLOCKS = "seconds", "events_per_s", "behind_s", "lag"
FAST = StreamConfig(window_s=9_000, wait_s=60, lateness_s=10, idle_s=10_000_000)


def write_log(folder: Path, records, *, partitions=2, stamps=None) -> Path:
    """Records as they came, stamped with their own times, or with `stamps`."""
    now = 0.0
    with LogWriter(folder, partitions=partitions, clock=lambda: now, keep_s=1e12) as log:
        for number, record in enumerate(records):
            now = float(record.time if stamps is None else stamps[number])
            log.append([record])
    return folder


def arrivals(users, *, start=START):
    """Of users of tests.tables: raw ids and times as in the table."""
    found = [
        Arrival(100 + user, f"{user}-{number}", 1000 + token.id, start + token.time, names_of(token.actions))
        for user, tokens in enumerate(users)
        for number, token in enumerate(tokens)
    ]
    return sorted(found, key=lambda event: event.time)


def names_of(bits, names=("like", "share")):
    return tuple(name for bit, name in enumerate(names) if bits >> bit & 1)


def shown(request, user, time, items, version="m"):
    return Shown(request, user, time, tuple(items), tuple(0.5 for _ in items), tuple(1.0 for _ in items), version)


def learnt(begin, log, output, settings=FAST, **options):
    return stream(begin, str(log), output, settings=settings, until_end=True, quiet=True, **options)


def rows(output):
    return read_rows(output / "stream.jsonl")


def contents(output):
    """What must be equal: weights, moments and all that a checkpoint says, and the rows but for clocks."""
    folder = checkpoint.latest(output)
    tensors = {
        (name, key): value
        for name in ("model", "optimizer")
        for key, value in checkpoint.load_tensors(folder, name).items()
    }
    state = json.loads((folder / "state.json").read_text())
    state["stream"].pop("row")  # with its clocks; it is compared below
    kept = [{k: v for k, v in row.items() if k not in (*CLOCKS, "read")} for row in rows(output)]
    return folder.name, tensors, state, kept


def require_equal(one, other):
    a, b = contents(one), contents(other)
    assert a[0] == b[0] and a[1].keys() == b[1].keys()
    for key, value in a[1].items():
        assert value.equal(b[1][key]), key
    assert a[2] == b[2]
    assert a[3] == b[3]
