"""Kill a service that has a log again and again, and count acknowledged events that are lost, and those in the store alone.

python -m benchmarks.event_log_kill --run runs/demo --table tables/demo

Clients send events without a pause. After each kill the store and the log are opened and compared with what was
acknowledged, which is noted here, outside of the process that is killed; then the service starts again on both. At the end a
new store is made from the log. A kill leaves the system's memory intact, so this does not tell what a power cut does.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from louder.histories import Arrival, open_store
from louder.results import append_row, provenance
from louder.serving.client import Client, NewEvent
from louder.streaming import LogReader, LogWriter

FIRST_USER, CLIENTS = 1_000_000_000, 4  # users that no table has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = rounds(options.run, options.table, Path(folder), options.kills, random.Random(options.seed))
    case = f"louder serve killed {options.kills} times"
    row = {"bench": "event_log_kill", "case": case, "implementation": "folder", **found, "seed": options.seed}
    print(row)
    if options.json:
        append_row(options.json, row | provenance())
    sys.exit(bool(found["lost"] or found["store_alone"] or found["not_in_new_store"]))


def rounds(run: Path, table: Path, folder: Path, kills: int, draw: random.Random) -> dict[str, int]:
    acknowledged: set[str] = set()
    store_alone = 0
    for number in range(kills):
        with service(run, table, folder, "store") as (process, url):
            clients = [
                threading.Thread(target=send, args=(url, FIRST_USER + client, f"{number}-{client}", acknowledged))
                for client in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            time.sleep(draw.uniform(0.5, 2))
            process.kill()
            for client in clients:
                client.join()
        stored = items_of(folder / "store")
        store_alone += len(stored - logged(folder / "log"))
    with service(run, table, folder, "new store"):
        pass
    kept = logged(folder / "log")
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - kept),
        "unacknowledged_in_log": len(kept - acknowledged),
        "store_alone": store_alone,
        "not_in_new_store": len(kept - items_of(folder / "new store")),
    }


def send(url: str, user: int, name: str, acknowledged: set[str]) -> None:
    """Until the service has gone. Items are numbers of our own, by which histories are compared with the log."""
    with Client(url) as client:
        number = 0
        while True:
            item = hash_of(f"{name}-{number}")
            try:
                event = NewEvent(user=user, id=f"{name}-{number}", item=item, time=int(time.time()))
                client.add_events([event])
            except httpx.HTTPError:
                return
            acknowledged.add(f"{user} {item}")
            number += 1


def hash_of(text: str) -> int:
    return random.Random(text).randrange(1 << 40, 1 << 50)


def items_of(folder: Path) -> set[str]:
    store = open_store(str(folder), keep=100_000)
    users = range(FIRST_USER, FIRST_USER + CLIENTS)
    found = {f"{user} {item}" for user in users for item in store.history(user).items.tolist()}
    store.close()
    return found


def logged(folder: Path) -> set[str]:
    with LogWriter(folder):  # finishes what a crash left
        pass
    found: set[str] = set()
    with LogReader(folder) as reader:
        while got := reader.read(10_000):
            found |= {f"{x.record.user} {x.record.item}" for x in got if isinstance(x.record, Arrival)}
    return found


@contextmanager
def service(run: Path, table: Path, folder: Path, store: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    words = [sys.executable, "-m", "louder", "serve", str(run), "--table", str(table), "--port", "0", "--quiet"]
    words += ["--store", str(folder / store), "--events", str(folder / "log"), "--keep", "100000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert " at http" in line, "the service did not start"
        yield process, line.rpartition(" at ")[2].strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    main()
