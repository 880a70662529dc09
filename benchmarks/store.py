"""What a history store takes to read a user and to append an event.

python -m benchmarks.store --store files
python -m benchmarks.store --store redis     # redis-server (appendonly yes, appendfsync no), on a socket

Users with few events, with as many as are kept, and with 12 times as many, of whose older events the items are kept. The
last two have 2,000 ids of events.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from louder.histories import Arrival, History, HistoryStore, Names, open_store
from louder.results import Row, append_row, provenance
from tests.histories.servers import Server

KEEP, FIRST = 1_000, 1_600_000_000
NAMES = Names(("click", "like"), ("seconds",))
USERS = {"100 events": 100, "1,000 events": KEEP, "12,000 events": 12 * KEEP}  # filled from a table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["files", "redis"], required=True)
    parser.add_argument("--texts", action="store_true", help="ids of items are texts of 12 characters")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/serving.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), fsync="no") if options.store == "redis" else None
        try:
            store = open_store(server.url if server else f"{folder}/histories", names=NAMES, keep=KEEP)
            for case, row in measured(store, options.calls, options.texts).items():
                kind = "texts" if options.texts else "integers"
                found: Row = {"bench": "store", "case": case, "implementation": options.store, "items": kind, **row}
                append_row(options.json, found | provenance())
                print(found)
            store.close()
        finally:
            if server:
                server.stop()


def measured(store: HistoryStore, calls: int, texts: bool) -> dict[str, Row]:
    """Of each kind of user the median milliseconds of a call; the kinds take turns."""
    store.fill((user, history_of(count, texts)) for user, count in enumerate(USERS.values()))
    for user in 1, 2:
        for first in 0, 1_000:
            store.append([arrival(user, n, texts) for n in range(first, first + 1_000)])
    reads: list[list[tuple[float, float]]] = [[] for _ in USERS]
    appends: list[list[tuple[float, float]]] = [[] for _ in USERS]
    for n in range(2_000, 2_000 + calls):
        for user in range(len(USERS)):
            reads[user].append(milliseconds(partial(store.history, user)))
            appends[user].append(milliseconds(partial(store.append, [arrival(user, n, texts)])))
    found: dict[str, Row] = {}
    for user, case in enumerate(USERS):
        (read_ms, _), (append_ms, append_cpu_ms) = (map(median, zip(*times)) for times in (reads[user], appends[user]))
        times = {"read_ms": read_ms, "append_ms": append_ms, "append_cpu_ms": append_cpu_ms}
        found[case] = {**{name: round(value, 4) for name, value in times.items()}, "calls": calls}
    return found


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Of a call, and of the processor in it: the disk and Redis are not in the second."""
    began, began_cpu = time.perf_counter(), time.thread_time()
    call()
    return 1_000 * (time.perf_counter() - began), 1_000 * (time.thread_time() - began_cpu)


def item(number: int, texts: bool) -> int | str:
    return f"item-{number:07d}" if texts else number


def history_of(count: int, texts: bool) -> History:
    """Random items of 100,000."""
    drawn = np.random.default_rng(1).integers(0, 100_000, count)
    items = np.array([item(int(number), texts) for number in drawn], object if texts else np.int64)
    times, none = FIRST + 60 * np.arange(count), np.full(count, -1)
    return History(items, times, none + 2, np.ones((count, 1), np.float32), none, NAMES, total=count)


def arrival(user: int, number: int, texts: bool) -> Arrival:
    time = FIRST + 1_000_000 + 60 * number
    return Arrival(user, f"event-{number}", item(number * 7919 % 100_000, texts), time, ("like",), {"seconds": 12.5})


if __name__ == "__main__":
    main()
