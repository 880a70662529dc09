"""How large a delta is, how long a service pauses to take it, and whether a request fails while versions are taken.

python -m benchmarks.publish runs/ml1m-hstu-official-42 --table tables/ml-1m --items 200000

The catalogue of the run is made larger with random vectors, since of a small one the dense weights are the larger part.
Then versions are published one after another: of each, some of the item rows and all of the dense weights are others. An
engine takes them in place; and a service takes fifty more while clients ask it without a pause, each answer being compared
with the others of its version.
"""

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import torch

from benchmarks.services import serving
from louder.data.table import open_table
from louder.publishing import Keeping, ModelState, Version, current_version, publish, state_of_run
from louder.publishing.chain import require_intact
from louder.publishing.live import open_version, prepare, take
from louder.results import Row, append_row, provenance

NEW_IDS = 1_000_000_000  # raw ids that no table has
AT = 1_100_000_000
KEPT = Keeping(longest=1000, share=1000.0, versions=1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--items", type=int, help="as many as the run has")
    parser.add_argument("--touched", type=float, default=0.01, help="share of the item rows")
    parser.add_argument("--versions", type=int, default=20, help="that an engine takes")
    parser.add_argument("--publishes", type=int, default=50, help="that a service takes; 0: none")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    draw, state = np.random.default_rng(options.seed), state_of_run(options.run)
    state = enlarged(state, options.items or len(state.raws["item"]), draw)
    items = len(state.raws["item"])
    row = {"bench": "publish", "implementation": options.run.name, "items": items, "touched": options.touched}
    row |= {"weights_bytes": sum(x.numel() * x.element_size() for x in state.weights.values()), "seed": options.seed}
    with tempfile.TemporaryDirectory() as place:
        found = taken(Path(place) / "versions", state, options.touched, options.versions, options.table, draw)
        write(options.json, {**row, "case": "delta", **found})
    if options.publishes:
        with tempfile.TemporaryDirectory() as place:
            load = Load(options.table, options.clients, options.seed)
            found = load.run(Path(place), state, options.touched, options.publishes, draw)
            write(options.json, {**row, "case": f"{options.publishes} publishes under load", **found})


def write(file: Path | None, row: Row) -> None:
    print(row, flush=True)
    if file is not None:
        append_row(file, row | provenance())


def table_name(state: ModelState) -> str:
    return next(name for name in state.weights if name.endswith("events.items.weight"))


def enlarged(state: ModelState, items: int, draw: np.random.Generator) -> ModelState:
    """With so many items: those of the run, and random ones."""
    name, weights = table_name(state), dict(state.weights)
    own, more = weights[name], items - len(weights[name])
    new = draw.standard_normal((more, own.shape[1]), dtype=np.float32) * float(own.std())
    weights[name] = torch.cat([own, torch.from_numpy(new)])
    raw = state.raws["item"]
    raws = {**state.raws, "item": pa.concat_arrays([raw, pa.array(np.arange(more) + NEW_IDS).cast(raw.type)])}
    attributes = dict(state.attributes)
    if "items" in attributes:
        attributes["items"] = attributes["items"].take(np.arange(items) % len(raw))
    vocabulary = {**state.state["vocabulary"], "items": items}
    return replace(
        state, weights=weights, raws=raws, attributes=attributes, state={**state.state, "vocabulary": vocabulary}
    )


def trained(state: ModelState, touched: float, draw: np.random.Generator) -> ModelState:
    """As after a window: some rows and all dense weights a little elsewhere."""
    name, weights = table_name(state), dict(state.weights)
    for key, x in weights.items():
        if key != name and x.is_floating_point():
            weights[key] = x + torch.from_numpy(draw.standard_normal(x.shape, dtype=np.float32)) * 1e-3
    rows = torch.from_numpy(draw.choice(len(weights[name]), max(1, int(touched * len(weights[name]))), replace=False))
    weights[name] = weights[name].clone()
    weights[name][rows] += (
        torch.from_numpy(draw.standard_normal((len(rows), weights[name].shape[1]), dtype=np.float32)) * 1e-2
    )
    return replace(state, weights=weights)


def published(folder: Path, state: ModelState) -> Version:
    version = publish(folder, state, keeping=KEPT).version
    assert version is not None
    return version


def taken(
    folder: Path, state: ModelState, touched: float, versions: int, table: Path, draw: np.random.Generator
) -> Row:
    """Bytes of deltas, and seconds: of a publish, of reading and checking, and of the pause in which nothing is answered."""
    base = live = published(folder, state)
    engine = open_version(live, table=table)
    took: dict[str, list[float]] = {"publish_s": [], "prepare_s": [], "take_s": []}
    sizes = []
    for _ in range(versions):
        state = trained(state, touched, draw)
        moments = [time.perf_counter()]
        version = published(folder, state)
        moments.append(time.perf_counter())
        step = prepare(engine, live, version)
        moments.append(time.perf_counter())
        before = take(engine, step)
        moments.append(time.perf_counter())
        del before
        for name, before, after in zip(took, moments, moments[1:]):
            took[name].append(after - before)
        sizes.append(version.bytes)
        live = version
    require_intact(live)
    found: Row = {"base_bytes": base.bytes, "delta_bytes": max(sizes), "share": round(max(sizes) / base.bytes, 4)}
    for name, seconds in took.items():
        found |= {name: round(statistics.median(seconds), 4), f"{name[:-2]}_max_s": round(max(seconds), 4)}
    return found | {"versions": versions, "threads": torch.get_num_threads()}


@dataclass
class Load:
    """Clients that ask for recommendations, and what they were told."""

    table: Path
    clients: int
    seed: int
    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    told: dict[tuple[int, str], object] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, place: Path, state: ModelState, touched: float, publishes: int, draw: np.random.Generator) -> Row:
        folder = place / "versions"
        published(folder, state)
        users = open_table(self.table).user_ids.raw.to_pylist()[:200]
        lags = []
        words = [str(folder), "--table", str(self.table), "--store", str(place / "store"), "--port", "0", "--quiet"]
        with serving(words) as url:
            asking = [threading.Thread(target=self.ask, args=(url, users, n)) for n in range(self.clients)]
            for client in asking:
                client.start()
            began = time.perf_counter()
            for _ in range(publishes):
                state = trained(state, touched, draw)
                published(folder, state)
                since = time.perf_counter()
                while httpx.get(f"{url}/v1/model").json()["version"] != current_version(folder).name:
                    time.sleep(0.02)
                lags.append(time.perf_counter() - since)
            took = time.perf_counter() - began
            self.done.set()
            for client in asking:
                client.join()
        ordered = sorted(self.seconds)
        return {
            "publishes": publishes,
            "requests": self.answers.total(),
            "failed": self.answers.total() - self.answers["200"],
            "mixed": self.answers["mixed"],
            "versions_seen": len({version for _, version in self.told}),
            "p50_s": round(ordered[len(ordered) // 2], 4),
            "p99_s": round(ordered[int(0.99 * len(ordered))], 4),
            "max_s": round(ordered[-1], 4),
            "seen_after_s": round(statistics.median(lags), 3),
            "seconds": round(took, 1),
            "clients": self.clients,
        }

    def ask(self, url: str, users: list[int], number: int) -> None:
        draw = random.Random(f"{self.seed}-{number}")
        with httpx.Client(base_url=url, timeout=30) as client:
            while not self.done.is_set():
                user, began = draw.choice(users), time.perf_counter()
                try:
                    answer = client.post("/v1/recommend", json={"user": user, "k": 20, "at": AT})
                    status, found = str(answer.status_code), answer.json()
                except httpx.HTTPError as error:
                    status, found = type(error).__name__, {}
                with self.lock:
                    self.seconds.append(time.perf_counter() - began)
                    if status == "200":
                        listed = [(x["item"], x["score"]) for x in found["items"]]
                        same = self.told.setdefault((user, found["model"]), listed) == listed
                        status = "200" if same else "mixed"
                    self.answers[status] += 1


if __name__ == "__main__":
    main()
