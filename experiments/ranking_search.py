"""Tune the rankers equally hard: so many random settings of each, chosen by NE on the validation part alone.

    python -m experiments.ranking_search kuairand --trials 12 --rows experiments/results/ranking_search.jsonl

A row holds the setting, the best validation NE and AUC, and the curve over the epochs. Trials that are in the file already
are left out, so a search that was stopped goes on. Then train the best setting with several seeds:

    python -m experiments.ranking_search kuairand --best hstu

search_page.py draws the trials and their curves.
"""

import argparse
import random
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from louder import recipes
from louder.config import override
from louder.results import Row, append_row, provenance, read_rows
from louder.training.loop import Trainer, start_folder
from louder.training.screen import Screen
from louder.training.tasks import open_task

# rankers are best after a pass or two over a log: so the rate falls to 0 within a few (EPOCHS)
Space = dict[str, Sequence[float | str | list[int]]]  # what a setting may be
COMMON: Space = {
    "training.schedule": ["cosine"],
    "training.learning_rate": [5e-4, 1e-3, 2e-3, 4e-3],
    "training.weight_decay": [0.0, 0.01, 0.1],
    "ranking.value_weight": [0.0, 0.1, 0.3],
}
EPOCHS = {"kuairand": [1, 2, 3], "ml1m": [1, 2, 4]}
SPACES: dict[str, Space] = {
    "hstu": {
        "model.layers": [1, 2, 3],
        "model.dropout": [0.0, 0.1, 0.2],
        "model.linear_dropout": [0.0, 0.1, 0.2],
        "ranking.attribute_dropout": [0.0, 0.1, 0.3],
        "ranking.next_item": [0.0, 0.1],
        "data.users_per_batch": [16, 32, 64],
    },
    "dlrm": {
        "model.width": [16, 32],
        "model.cross_layers": [1, 2, 3],
        "model.dropout": [0.0, 0.1, 0.2],
        "model.expert_hidden": [[64, 32], [128, 64], [256, 128]],
        "data.users_per_batch": [128, 256, 512],
    },
    "wukong": {
        "model.width": [16, 32],
        "model.layers": [1, 2, 3],
        "model.dropout": [0.0, 0.1, 0.2],
        "model.rank": [8, 24],
        "data.users_per_batch": [128, 256, 512],
    },
}


def settings_of(log: str, model: str, trial: int) -> list[str]:
    """Setting number `trial` of a model; 0 is the recipe as it is, so what it was is told by a row's commit."""
    if trial == 0:
        return []
    draw = random.Random(f"{model} {trial}")
    space = COMMON | {"training.epochs": EPOCHS[log]} | SPACES[model]
    return [f"{name}={draw.choice(values)}" for name, values in space.items()]


def attempt(log: str, model: str, trial: int, table: str, rows: Path) -> None:
    settings = settings_of(log, model, trial)
    config = override(recipes.load(f"{log}:rank_{model}"), [f"data.table={table}", *settings])
    with tempfile.TemporaryDirectory(prefix="louder-search-") as folder:
        run, task = Path(folder) / "run", open_task(config)
        trainer = Trainer(config, task, run)
        start_folder(run, config, task.table, overwrite=False)
        with Screen(config, quiet=True) as screen:
            trainer.run_to_end(screen)
        epochs = [row for row in read_rows(run / "log.jsonl") if row["kind"] == "epoch" and "part" in row]
    main = task.main  # type: ignore[union-attr]
    curve = [{"epoch": row["epoch"], "ne": row[f"{main}.ne"], "auc": row[f"{main}.auc"]} for row in epochs]
    best = min(curve, key=lambda row: row["ne"])
    row: Row = {"experiment": f"{log}-search", "model": model, "trial": trial, "settings": settings}
    row |= {"part": "validation", "main": main, **best, "curve": curve}
    row |= {"train_seconds": round(trainer.progress.seconds, 1), "seed": config.training.seed}
    row["parameters"] = sum(x.numel() for x in trainer.model.parameters())
    append_row(rows, row | provenance())
    scores = f"validation NE {best['ne']:.4f} AUC {best['auc']:.4f}"
    print(f"{log} {model} trial {trial}: {scores}  {shlex.join(settings)}", flush=True)


def best_of(rows: list[Row], log: str, model: str) -> Row:
    found = [row for row in rows if row["experiment"] == f"{log}-search" and row["model"] == model]
    return min(found, key=lambda row: row["ne"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", choices=["kuairand", "ml1m"])
    parser.add_argument("--models", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--table")
    parser.add_argument("--rows", type=Path, default=Path("experiments/results/ranking_search.jsonl"))
    parser.add_argument("--best", choices=list(SPACES), help="print the settings of the best trial, and stop")
    arguments = parser.parse_args()
    done = read_rows(arguments.rows) if arguments.rows.exists() else []
    if arguments.best:
        settings = best_of(done, arguments.log, arguments.best)["settings"]
        print(" ".join(f"--set {shlex.quote(setting)}" for setting in settings))
        return
    table = arguments.table or {"kuairand": "tables/kuairand-pure", "ml1m": "tables/ml-1m"}[arguments.log]
    known = {(row["experiment"], row["model"], row["trial"]) for row in done}
    for trial in range(arguments.trials):  # in turn, so that a search that is stopped has tried all equally often
        for model in arguments.models:
            if (f"{arguments.log}-search", model, trial) not in known:
                attempt(arguments.log, model, trial, table, arguments.rows)


if __name__ == "__main__":
    main()
