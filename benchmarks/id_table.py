"""What ids that come and go cost, and what half of the rows are worth.

python -m benchmarks.id_table                    all of it; or some of: finds step budget
python -m benchmarks.id_table finds --json benchmarks/results/id_table.jsonl

finds   look-ups a second on one thread, beside a dict, a sorted array, pandas and Arrow, in turns
step    a training step whose ids are looked up, counted and partly new, beside one of static tables, in turns
budget  HR@10 of a stream of Zipf's law, tested before it is trained on: half of the rows beside all of them, and
        beside ids that share rows by their hash in as many bytes
"""

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks import step
from benchmarks.zipf_stream import HALF, HASHED, WHOLE, hit_rates
from louder import recipes
from louder.batch import RetrievalBatch
from louder.models import SequentialModel, Vocabulary, build
from louder.ops.id_table import IdSettings, IdTable
from louder.results import Row, append_row, provenance
from louder.training import retrieval
from louder.training.config import Config
from louder.training.losses import RetrievalLoss
from louder.training.optimizers import Optimizers, make_optimizers, update

PARTS = "finds", "step", "budget"
ASKED = 1 << 20  # ids a call of `finds`
NEW_SHARE = 0.05  # of the ids of a step that have no slot
TAKEN = 0.8  # of the slots
Run = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3, help="of budget")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for part in options.parts or PARTS:
        if part == "finds":
            rows = [row for size in (100_000, 1_000_000) for row in finds(size, options.repeats)]
        elif part == "step":
            rows = steps(options.repeats)
        else:
            rows = budget(options.seeds)
        for row in rows:
            row = {"bench": "id_table", "part": part, **row}
            print(row)
            if options.json:
                append_row(options.json, row | provenance())


def finds(size: int, repeats: int) -> list[Row]:
    """Of `size` random ids, asked for in random order. CPU seconds: another process may have the core in between."""
    random = np.random.default_rng(0)
    ids = np.unique(random.integers(-(1 << 62), 1 << 62, size + size // 8))[:size]
    ids = ids[random.permutation(len(ids))]
    asked = ids[random.integers(0, size, ASKED)]
    table = IdTable(IdSettings(budget=size, segment=size))
    table.admit(torch.from_numpy(ids), 0)
    plain = IdTable(IdSettings(budget=size, segment=size), compiled=False)
    plain = IdTable.from_state(plain.settings, table.state(), compiled=False) if size <= 100_000 else plain
    places = {key: place for place, key in enumerate(ids.tolist())}
    order = np.argsort(ids)
    ordered, tensor, keys, arrow = ids[order], torch.from_numpy(asked), asked.tolist(), pa.array(ids)
    ways: dict[str, Run] = {
        "louder": lambda: table.find(tensor).numpy(),
        "dict": lambda: np.fromiter(map(places.__getitem__, keys), np.int64, len(keys)),
        "numpy.searchsorted": lambda: order[np.searchsorted(ordered, asked)],
        "pyarrow.index_in": lambda: pc.index_in(asked, value_set=arrow).to_numpy(),
    }
    if size <= 100_000:
        ways["louder, NumPy"] = lambda: plain.find(tensor).numpy()
    try:
        import pandas

        index = pandas.Index(ids)
        ways["pandas.Index"] = lambda: index.get_indexer(asked)
    except ImportError:
        pass
    expected = np.asarray(ways["dict"]())
    seconds = in_turns(ways, repeats, lambda found: np.array_equal(np.asarray(found), expected))
    bytes_each = (table.slots.bytes() + 4 * table.capacity) / size
    return [
        {"case": f"{size:,} ids", "implementation": name, "reference": "louder", "ids": size, "asked": ASKED}
        | {"finds_per_cpu_s": round(ASKED / min(times)), "median_finds_per_cpu_s": round(ASKED / median(times))}
        | ({"bytes_per_id": round(bytes_each, 2)} if name == "louder" else {})
        for name, times in seconds.items()
    ]


def steps(repeats: int) -> list[Row]:
    """Of ml1m:hstu, with AdamW and with a row-wise optimizer of the tables."""
    rows = []
    for optimizer in "adamw", "rowwise_adagrad":
        config = recipes.load("ml1m:hstu")
        config = replace(config, training=replace(config.training, embedding_optimizer=optimizer))
        batches, vocabulary = step.synthetic(config, 32)
        ways = {"static": static_step(config, batches, vocabulary.items)}
        ways["dynamic"] = dynamic_step(config, batches, vocabulary.items)
        seconds = in_turns(ways, repeats, lambda loss: bool(np.isfinite(np.asarray(loss))))
        for name, times in seconds.items():
            row: Row = {"case": f"ml1m:hstu, {optimizer}", "implementation": name, "reference": "static"}
            row |= {"cpu_s": round(median(times), 5), "tokens": len(batches[0].targets), "items": vocabulary.items}
            pairs = zip(seconds[name], seconds["static"])
            rows.append(row | {"ratio": round(median(a / b for a, b in pairs), 3), "new_share": NEW_SHARE})
    return rows


def static_step(config: Config, batches: list[RetrievalBatch], items: int) -> Run:
    model = build(config.model, Vocabulary(items=items))
    loss = RetrievalLoss(config.loss, torch.zeros(items, dtype=torch.float64))
    optimizers, turns = make_optimizers(model, config.training), itertools.cycle(batches)
    return lambda: trained(model, loss, next(turns), optimizers)


def dynamic_step(config: Config, batches: list[RetrievalBatch], items: int) -> Run:
    """The raw ids of each batch are counted and looked up; some have no slot, and some slots are free."""
    ids = IdTable(IdSettings(budget=round(items / TAKEN), segment=64, admit_at=1e9))
    raws = torch.from_numpy(np.random.default_rng(0).permutation(items)) * 1_048_573 + 1
    ids.admit(raws, 0)
    model = build(config.model, Vocabulary(items=ids.capacity, dynamic=True))
    loss = RetrievalLoss(config.loss, torch.zeros(items, dtype=torch.float64), ids.catalogue())
    optimizers, turns = make_optimizers(model, config.training), itertools.cycle(enumerate(batches))

    def run() -> float:
        now, batch = next(turns)
        raw = raws[batch.sequences.ids]
        raw = torch.where(torch.arange(len(raw)) % round(1 / NEW_SHARE) == 0, -raw, raw)
        sequences = replace(batch.sequences, ids=ids.observe(raw, torch.full_like(raw, now)))
        known = replace(batch, sequences=sequences, targets=ids.find(raws[batch.targets]))
        return trained(model, loss, known, optimizers)

    return run


def trained(model: SequentialModel, loss: RetrievalLoss, batch: RetrievalBatch, optimizers: Optimizers) -> float:
    value = retrieval.batch_loss(model, loss, batch, torch.device("cpu"))
    update(model, optimizers, value, None)
    return value.item()


def in_turns(ways: dict[str, Run], repeats: int, right: Callable[[object], bool]) -> dict[str, list[float]]:
    """CPU seconds of each run, A B C A B C ..., after one to warm up."""
    for name, run in ways.items():
        assert right(run()), name
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    return seconds


def budget(seeds: int) -> list[Row]:
    rows = []
    for seed in range(seeds):
        found = hit_rates(seed)
        for name in WHOLE, HALF, HASHED:
            row: Row = {
                "case": "Zipf's law, half of the rows",
                "implementation": name,
                "reference": WHOLE,
                "seed": seed,
            }
            ratio = found[name]["hr@10"] / found[WHOLE]["hr@10"]
            rows.append(row | found[name] | {"ratio": round(ratio, 4)})
    return rows


if __name__ == "__main__":
    main()
