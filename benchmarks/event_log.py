"""What a log of events takes to append to and to read.

python -m benchmarks.event_log
python -m benchmarks.event_log --json benchmarks/results/event_log.jsonl

Threads append events one call after another, of one event or of many, and each waits until its own are on the disk; then all
is read from the beginning. Then answers of ten items and three events of each are joined.
"""

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles

from louder.histories import Arrival
from louder.results import Row, append_row, provenance
from louder.streaming import Joiner, LogReader, LogRecord, LogWriter, Shown

CASES = ((1, 1), (16, 1), (1, 100), (4, 100), (1, 1_000))  # threads, and events of a call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of appending, in each case")
    parser.add_argument("--answers", type=int, default=100_000, help="that are joined")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for threads, events in CASES:
        with tempfile.TemporaryDirectory() as folder:
            case = f"{threads} threads, {events} events a call"
            row: Row = {"bench": "event_log", "case": case, "implementation": "folder"}
            row |= measured(Path(folder) / "events", threads, events, options.seconds)
        add(row, options.json)
    for cache in (1 << 20, 64 << 20):
        with tempfile.TemporaryDirectory() as folder:
            case = f"answers of 10 items with 3 events each, {cache >> 20} MiB of memory"
            row = {"bench": "event_log", "case": case, "implementation": "joiner"}
            add(row | joined(Path(folder), options.answers, cache), options.json)


def add(row: Row, json: Path | None) -> None:
    print(row)
    if json:
        append_row(json, row | provenance())


def measured(folder: Path, threads: int, events: int, seconds: float) -> Row:
    """Events a second, and milliseconds of a call until it is acknowledged; then those of reading, of which none is missing."""
    times: list[float] = []
    with LogWriter(folder) as log:
        until = time.perf_counter() + seconds

        def append(thread: int) -> None:
            call = 0
            while (began := time.perf_counter()) < until:
                log.append([arrival(thread, call * events + n) for n in range(events)])
                times.append(time.perf_counter() - began)
                call += 1

        workers = [threading.Thread(target=append, args=(number,)) for number in range(threads)]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        took = time.perf_counter() - began
        counts = log.counts
    with LogReader(folder) as reader:
        began, found = time.perf_counter(), 0
        while got := reader.read(10_000):
            found += len(got)
        read = time.perf_counter() - began
    assert found == counts["records"] == len(times) * events
    size = sum(file.stat().st_size for file in folder.rglob("*.log"))
    return {
        "appended_per_s": round(found / took),
        "append_ms": round(1000 * median(times), 3),
        "append_p99_ms": round(1000 * quantiles(times, n=100)[-1], 3),
        "syncs": counts["syncs"],
        "read_per_s": round(found / read),
        "bytes_an_event": round(size / found, 1),
        "events": found,
    }


def joined(folder: Path, answers: int, cache_bytes: int) -> Row:
    """Records a second, and the bytes that are held while nothing is old enough to be forgotten."""
    with Joiner(folder / "joiner", wait_s=60, cache_bytes=cache_bytes) as joiner:
        began, told = time.process_time(), 0
        for first in range(0, answers, 1_000):
            joiner.add(record for number in range(first, first + 1_000) for record in records(number))
            told += sum(1 for _ in joiner.advance(1_700_000_000 + (first + 1_000) // 50 - 10))
        held = joiner.state.bytes()
        told += sum(1 for _ in joiner.advance())
        took = time.process_time() - began
        assert told == 10 * answers
        return {
            "joined_per_cpu_s": round(4 * answers / took),
            "held_bytes": held,
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
            "records": 4 * answers,
        }


def records(number: int) -> list[LogRecord]:
    """An answer, and what is done with three of its items in the seconds after it."""
    user, at, request = number * 7919 % 5_000, 1_700_000_000 + number // 50, f"r-{number}"
    items = tuple((number * 31 + place) % 5_000 for place in range(10))
    events = [Arrival(user, f"{number}-{n}", items[n], at + 5 + n, ("like",), {}, request) for n in range(3)]
    return [Shown(request, user, at, items, (0.5,) * 10, (1.0,) * 10, "m"), *events]


def arrival(thread: int, number: int) -> Arrival:
    user, item, at = (number * 7919 + thread) % 10_000, number * 104_729 % 100_000, 1_700_000_000 + number
    return Arrival(user, f"{thread}-{number}", item, at, ("like",), {"seconds": 12.5}, f"r-{number // 10}")


if __name__ == "__main__":
    main()
