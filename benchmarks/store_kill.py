"""Kill what writes a history store again and again, and count acknowledged events that are lost: none may be.

python -m benchmarks.store_kill --store files     # the process that writes to the folder is killed
python -m benchmarks.store_kill --store redis     # redis-server (appendonly yes, appendfsync always) is killed

What the writer said is stored is noted here, outside of the process that is killed. A kill leaves the system's memory
intact, so this tells what a crash of the service or of Redis does, not what a power cut does.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from louder.histories import Arrival, Names, open_store
from louder.results import append_row, provenance
from tests.histories import writer
from tests.histories.servers import Server

KEEP = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["files", "redis"], required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/serving.jsonl"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)) if options.store == "redis" else None
        try:
            found = rounds(server.url if server else f"{folder}/histories", server, options.kills, options.seed)
        finally:
            if server:
                server.stop()
    case = f"{'redis-server' if server else 'writer'} killed {options.kills} times"
    row = {"bench": "store_kill", "case": case, "implementation": options.store, "kills": options.kills}
    row |= {**found, "seed": options.seed, **provenance()}
    append_row(options.json, row)
    print(row)
    sys.exit(bool(found["lost"] or found["damaged"] or found["stored_twice"]))


def rounds(url: str, server: Server | None, kills: int, seed: int) -> dict[str, float]:
    """Each round writes to a user of its own and to one of all rounds, and ends with a kill at a random moment."""
    draw = random.Random(seed)
    open_store(url, names=Names(), keep=KEEP).close()
    acknowledged: dict[int, int] = {}
    seconds, stored_twice = 0.0, 0
    for number in range(1, kills + 1):
        words = [sys.executable, "-m", writer.__name__, url, str(number), "0", "1000000"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        started = time.perf_counter()
        time.sleep(draw.uniform(0, 1))
        (server or process).kill()
        seconds += time.perf_counter() - started
        rest = process.stdout.read()  # the writer ends when the store is gone
        if server:
            server.start()
        process.wait()
        process.stdout.close()
        acknowledged[number] = len((first + rest).split())
        last = acknowledged[number] - 1
        store = open_store(url, keep=KEEP)
        again = [Arrival(user=user, id=f"{number}-{last}", item=last, time=last) for user in (writer.SHARED, number)]
        stored_twice += store.append(again).stored
        store.close()

    store = open_store(url, keep=KEEP)
    histories = {number: store.history(number) for number in acknowledged}
    shared = store.history(writer.SHARED).total
    store.close()
    totals = {number: history.total for number, history in histories.items()}
    both = sum(acknowledged.values())
    return {
        "acknowledged": 2 * both,
        "lost": sum(max(0, acknowledged[number] - totals[number]) for number in totals) + max(0, both - shared),
        "stored_unacknowledged": sum(totals.values()) + shared - 2 * both,
        "damaged": sum(own.items.tolist() != list(range(own.total))[-KEEP:] for own in histories.values()),
        "stored_twice": stored_twice,
        "acknowledged_per_s": round(2 * both / seconds, 1),
    }


if __name__ == "__main__":
    main()
