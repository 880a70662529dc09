"""Next items on other logs: SASRec, Transformer and HSTU as `louder train --table` sets them up, nothing searched.

    louder etl amazon-sequences-2014.zip::amazon-sequences/Beauty.txt -o tables/beauty     # and so on
    python -m experiments.other_logs tables/beauty tables/sports tables/toys tables/grocery tables/books \\
        tables/games tables/food tables/yoochoose tables/foursquare

Width, length, batch and filter follow from the table (louder/recipes/own_log.py) and are the same for the three; the epoch is
chosen on the event before each user's last, the last is the test. Runs that are in the file are left out, so that what was
stopped goes on: every log with one seed first.
"""

import argparse
import tempfile
from pathlib import Path

from louder.recipes import own_log
from louder.results import append_row, provenance, read_rows
from louder.training.loop import train

ROWS = Path("experiments/results/other_logs.jsonl")
MODELS = "sasrec", "transformer", "hstu"
KEPT = (
    *(
        "seed",
        "epoch",
        "items",
        "users",
        "seen_items_left_out",
        "targets_left_out",
        "metrics",
        "by_filter",
        "popularity",
    ),
    *("train_seconds", "epochs_trained", "stopped_by", "threads", "device"),
)


def measure(table: Path, model: str, seed: int, rows: Path) -> None:
    settings = [f"model.kind={model}", f"training.seed={seed}"]
    config, _ = own_log.config_for(own_log.facts_of(table), table, settings=settings)
    with tempfile.TemporaryDirectory(prefix="louder-log-") as folder:
        result = train(config, Path(folder) / "run", quiet=True)
    row = {"experiment": "other-logs", "table": table.name, "model": model, "settings": settings}
    row |= {name: result[name] for name in KEPT if name in result}
    append_row(rows, row | provenance())
    scores = f"HR@10 {result['metrics']['hr@10']:.4f}, NDCG@10 {result['metrics']['ndcg@10']:.4f}"
    print(f"{table.name:12} {model:12} {seed}: {scores}, {result['train_seconds']:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[42, 43, 44])
    parser.add_argument("--rows", type=Path, default=ROWS)
    given = parser.parse_args()
    done = read_rows(given.rows) if given.rows.exists() else []
    known = {(row["table"], row["model"], row["seed"]) for row in done}
    for seed in given.seeds:
        for table in given.tables:
            for model in MODELS:
                if (table.name, model, seed) not in known:
                    measure(table, model, seed, given.rows)


if __name__ == "__main__":
    main()
