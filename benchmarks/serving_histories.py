"""A service that keeps keys and values of histories, beside the same one with --no-cache, for histories of some lengths.

    python -m benchmarks.serving_histories --json benchmarks/results/serving.jsonl

The model is a joint ranker of the size of ml1m:rank_hstu with random weights; users ask again and again for the best 10 of
500 candidates. The two are asked in turns, so a row holds the median time of an answer of both, and the quartiles of how
many times faster the cache makes it.
"""

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.two_commits import AT, asked, in_turns, service
from louder import checkpoint, recipes
from louder.config import override, to_dict
from louder.etl.pipeline import build_table
from louder.etl.spec import LogSpec
from louder.results import Row, append_row, provenance
from louder.training.tasks import open_task

ITEMS = 4_000
GAP_S = 3_600  # between the events of a user


def log_of(users: int, events: int, file: Path) -> None:
    """So many events of each user, up to an hour before AT; every item is met."""
    draw, total = np.random.default_rng(0), users * events
    columns = {
        "user_id": np.repeat(np.arange(1, users + 1), events),
        "item_id": np.concatenate([np.arange(ITEMS), draw.integers(ITEMS, size=max(total - ITEMS, 0))])[:total] + 1,
        "timestamp": np.tile(AT - GAP_S * np.arange(events, 0, -1), users),
        "like": draw.random(total) < 0.5,
    }
    pq.write_table(pa.table(columns), file)


def untrained_run(table: Path, events: int, run: Path) -> None:
    """A run whose best checkpoint has random weights and a window for that many events."""
    sizes = [f"data.max_len={events + 1}", f"model.max_len={2 * events + 8}", "ranking.context=[]"]
    settings = [f"data.table={table}", *sizes, "data.split.kind=leave_last_out", "ranking.item_attributes=[]"]
    config = override(recipes.load("ml1m:rank_hstu"), settings)
    task = open_task(config)
    torch.manual_seed(0)
    weights = {name: x.clone() for name, x in task.build().state_dict().items()}
    manifest = task.table.manifest
    state: Row = {"progress": {"best_epoch": 0}, "config": to_dict(config), "vocabulary": asdict(task.vocabulary)}
    state |= {"actions": manifest.actions, "values": manifest.values}
    folder = checkpoint.step_folder(run, 1)
    checkpoint.save(folder, model=weights, optimizer={}, state=state, beside=task.table.path)
    (run / "best.json").write_text(json.dumps({"checkpoint": folder.name}))


def measured(events: int, users: int, pairs: int, seconds: float, threads: int) -> Row:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log_of(users, events, folder / "log.parquet")
        build_table(folder / "log.parquet", folder / "table", spec=LogSpec(actions={"like": "like"}))
        untrained_run(folder / "table", events, folder / "run")
        services = []
        for name, option in ("kept", ["--cache", "8GB"]), ("anew", ["--no-cache"]):
            words = [str(folder / "run"), "--keep", str(events), *option]
            file = stack.enter_context(open(folder / f"{name}.log", "w", encoding="utf-8"))
            services.append(stack.enter_context(service(Path.cwd(), words, folder / "table", threads, file)))
        ask = [partial(asked, own, "recommend", clients=1, users=users) for own in services]
        ask[0](seconds=4 * seconds)  # until every history is cached
        kept, anew = in_turns(pairs, *(partial(one, seconds=seconds) for one in ask))
    ratios = [slow / fast for (fast, _), (slow, _) in zip(kept, anew)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    found: Row = {"events": events, "candidates": 500, "users": users, "pairs": pairs, "threads": threads}
    for name, own in ("kept", kept), ("anew", anew):
        found |= {f"{name}_ms": round(statistics.median(x for x, _ in own), 2)}
        found |= {f"{name}_cpu_ms": round(statistics.median(x for _, x in own), 2)}
    return found | {"times_faster": round(middle, 2), "quartiles": [round(low, 2), round(high, 2)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[200, 2_000, 8_000])
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="that a service is asked at a time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a JSON-lines file to add the rows to")
    given = parser.parse_args()
    for events in given.events:
        row: Row = {"bench": "serving", "case": "long histories", "implementation": "louder"}
        row |= measured(events, given.users, given.pairs, given.seconds, given.threads) | provenance()
        print(json.dumps(row), flush=True)
        if given.json:
            append_row(given.json, row)


if __name__ == "__main__":
    main()
