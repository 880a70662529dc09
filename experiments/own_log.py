"""Are the rules of `louder train --table` good? Beside what they choose, trials of random settings on the same table.

    python -m experiments.own_log tables/grocery tables/yoochoose tables/foursquare --trials 8
    python -m experiments.own_log --summary

Each trial trains until patience runs out, and its epoch is chosen on the validation part; the best trial is that with the
best NDCG@10 on validation. Trial 0 is what the rules choose. The filter of seen items is the table's in all of them. Rows
hold the processor's seconds, too, which do not depend on what else the machine does. Trials that are in the file are left
out, so a search that was stopped goes on.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from louder.recipes import own_log
from louder.results import Row, append_row, provenance, read_rows
from louder.training.loop import train

ROWS = Path("experiments/results/own_log.jsonl")
SPACE: dict[str, Sequence[float | str]] = {
    "model.kind": ["hstu", "sasrec"],
    "model.width": [32, 64, 128],
    "model.layers": [1, 2, 4],
    "model.dropout": [0.1, 0.2, 0.3, 0.5],
    "data.max_len": [20, 50, 200],
    "data.users_per_batch": [16, 32, 64, 128, 256],
    "loss.num_negatives": [64, 128, 512],
    "training.learning_rate": [5e-4, 1e-3, 2e-3],
}


def settings_of(table: str, trial: int) -> list[str]:
    """Setting number `trial` for a table; 0 is what the rules choose."""
    if trial == 0:
        return []
    draw = random.Random(f"{table} {trial}")
    return [f"{name}={draw.choice(values)}" for name, values in SPACE.items()]


def attempt(table: Path, trial: int, rows: Path, size: str) -> None:
    settings = settings_of(table.name, trial)
    config, _ = own_log.config_for(own_log.facts_of(table), table, size=size, settings=settings)
    with tempfile.TemporaryDirectory(prefix="louder-search-") as folder:
        run, began = Path(folder) / "run", time.process_time()
        result = train(config, run, quiet=True)
        seconds = time.process_time() - began
        chosen = next(
            row for row in read_rows(run / "log.jsonl") if row.get("part") and row["epoch"] == result["epoch"]
        )
    row: Row = {"experiment": f"own-log-{table.name}", "trial": trial, "size": size, "settings": settings}
    row |= {"validation_ndcg@10": chosen["ndcg@10"], "cpu_seconds": round(seconds, 1)}
    row |= {
        name: result[name] for name in ("metrics", "popularity", "epoch", "epochs_trained", "train_seconds", "threads")
    }
    append_row(rows, row | provenance())
    scores = f"NDCG@10 {chosen['ndcg@10']:.4f} on validation, {result['metrics']['ndcg@10']:.4f} on the test"
    print(f"{table.name} {trial}: {scores}, {seconds:.0f} s  {' '.join(settings)}", flush=True)


def summary(rows: Sequence[Row]) -> list[Row]:
    """For each table what the rules chose beside the best of the random trials: ratios of metrics and of seconds."""
    found = []
    for name in dict.fromkeys(row["experiment"] for row in rows):
        own = [row for row in rows if row["experiment"] == name]
        rules, others = next(row for row in own if row["trial"] == 0), [row for row in own if row["trial"]]
        if not others:
            continue
        best = max(others, key=lambda row: row["validation_ndcg@10"])
        found.append(
            {
                "table": name.removeprefix("own-log-"),
                "trials": len(others),
                "validation": rules["validation_ndcg@10"] / best["validation_ndcg@10"],
                "test": rules["metrics"]["ndcg@10"] / best["metrics"]["ndcg@10"],
                "seconds": rules["cpu_seconds"] / best["cpu_seconds"],
                "best": best["settings"],
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--size", default="medium", choices=list(own_log.SIZES))
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--summary", action="store_true", help="print what the rows say, and stop")
    arguments = parser.parse_args()
    done = read_rows(arguments.rows) if arguments.rows.exists() else []
    if arguments.summary:
        for row in summary(done):
            shares = f"{row['validation']:.3f} of the best on validation, {row['test']:.3f} on the test"
            print(
                f"{row['table']}: {shares}, in {row['seconds']:.2f} of its time; best of {row['trials']}: {row['best']}"
            )
        return
    known = {(row["experiment"], row["trial"]) for row in done}
    for trial in range(arguments.trials + 1):  # in turn, so that a search that is stopped has tried all equally often
        for table in arguments.tables:
            if (f"own-log-{table.name}", trial) not in known:
                attempt(table, trial, arguments.rows, arguments.size)


if __name__ == "__main__":
    main()
