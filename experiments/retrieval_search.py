"""Search for the best HSTU-large on MovieLens-1M: random settings at equal training tokens, chosen by the validation part alone.

    python -m experiments.retrieval_search --trials 30 --at-once 15        # on a GPU: so many trainings share it
    python -m experiments.retrieval_search --best                          # the settings, to train with several seeds

Trial 0 is the recipe. A row holds the setting, the curve over the epochs and the best NDCG@10 under the filter `history`; the
test part is not looked at. What ends early for its time (--minutes) is taken up by the next call. Trials that are in the file
are left out.
"""

import argparse
import random
import shlex
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from louder import recipes
from louder.config import override
from louder.results import Row, append_row, provenance, read_rows
from louder.training.loop import Trainer, start_folder
from louder.training.screen import Screen
from louder.training.tasks import open_task

ROWS = Path("experiments/results/retrieval_search.jsonl")
TOKENS = 29_000_000  # of a trial: 30 epochs of the recipe
SPACE: dict[str, Sequence[float | str | None]] = {
    "training.ema_decay": [None, 0.99, 0.998, 0.999],
    "training.schedule": ["constant", "cosine"],
    "training.warmup_steps": [0, 200],
    "training.learning_rate": [5e-4, 1e-3, 2e-3],
    "training.weight_decay": [0.0, 1e-3, 1e-2, 1e-1],
    "data.windows": ["latest", "all"],
    "data.actions": ["false", "true"],
    "data.users_per_batch": [64, 128, 256],
    "model.layers": [4, 8, 12],
    "model.dropout": [0.1, 0.2, 0.3],
    "model.linear_dropout": [0.1, 0.2, 0.3],
    "loss.num_negatives": [128, 512],
    "loss.temperature": [0.04, 0.05, 0.07],
}


def settings_of(trial: int) -> list[str]:
    """Setting number `trial`; 0 is the recipe as it is, but for the tokens."""
    if trial == 0:
        return []
    draw = random.Random(f"retrieval {trial}")
    chosen = {name: draw.choice(values) for name, values in SPACE.items()}
    return [f"{name}={value}" for name, value in chosen.items() if value is not None]


def attempt(trial: int, *, table: str, runs: Path, rows: Path, minutes: float | None, tokens: int) -> None:
    fixed = [f"data.table={table}", "evaluation.seen=history"]
    base = override(recipes.load("ml1m:hstu_large"), [*fixed, *settings_of(trial)])
    an_epoch = int(open_task(base).loader.lengths.sum())
    epochs = max(1, round(tokens / an_epoch))
    config = override(base, [f"training.epochs={epochs}", f"evaluation.every_epochs={max(1, epochs // 10)}"])
    task, run = open_task(config), runs / f"trial-{trial}"
    trainer = Trainer(config, task, run)
    if not run.exists():
        start_folder(run, config, task.table, overwrite=False)
    with Screen(config, quiet=True) as screen:
        trainer.restore()
        before = trainer.progress.seconds
        while not trainer.progress.finished and (minutes is None or trainer.progress.seconds - before < 60 * minutes):
            trainer.train_epoch(screen)
    if not trainer.progress.finished:
        return
    measured = [row for row in read_rows(run / "log.jsonl") if row["kind"] == "epoch" and "part" in row]
    curve = [{name: row[name] for name in ("epoch", "hr@10", "ndcg@10")} for row in measured]
    best = max(curve, key=lambda row: row["ndcg@10"])
    row: Row = {"experiment": "ml1m-retrieval-search", "trial": trial, "settings": settings_of(trial)}
    row |= {
        "part": "validation",
        "filter": "history",
        **best,
        "curve": curve,
        "epochs": epochs,
        "tokens": epochs * an_epoch,
    }
    row |= {"train_seconds": round(trainer.progress.seconds, 1), "seed": config.training.seed}
    append_row(rows, row | {"device": trainer.device.type} | provenance())
    print(
        f"trial {trial}: HR@10 {best['hr@10']:.4f}  NDCG@10 {best['ndcg@10']:.4f}  {shlex.join(row['settings'])}",
        flush=True,
    )


def best_of(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row["ndcg@10"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--at-once", type=int, default=1, help="so many trainings at the same time")
    parser.add_argument("--minutes", type=float, help="stop each at the end of an epoch after so many")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="that a trial trains on")
    parser.add_argument("--table", default="tables/ml-1m")
    parser.add_argument("--runs", type=Path, default=Path("runs/retrieval-search"), help="where trainings can go on")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--best", action="store_true", help="print the settings of the best trial, and stop")
    given = parser.parse_args()
    done = read_rows(given.rows) if given.rows.exists() else []
    if given.best:
        print(" ".join(f"--set {shlex.quote(setting)}" for setting in best_of(done)["settings"]))
        return
    known = {row["trial"] for row in done}
    wanted = [trial for trial in range(given.trials) if trial not in known]
    own = {name: getattr(given, name) for name in ("table", "runs", "rows", "minutes", "tokens")}
    if given.at_once == 1:
        for trial in wanted:
            attempt(trial, **own)
        return
    with ProcessPoolExecutor(given.at_once, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(attempt, **own), wanted))


if __name__ == "__main__":
    main()
