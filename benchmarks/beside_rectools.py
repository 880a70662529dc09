"""RecTools beside Louder: an epoch of ML-1M, and lists of 100 films for all of its users, in turns.

    python -m venv rectools && rectools/bin/pip install torch==2.13.0 'rectools[torch]==0.19.0'
    python -m benchmarks.beside_rectools --rectools rectools/bin/python --table tables/ml-1m \\
        --json benchmarks/results/rectools.jsonl

Both have the same events in the same order, sizes, batches, negatives, threads and torch: those of the recipes, which are
also those of RecTools' tutorial on HSTU; each user's last event is held out of training, and the whole history is what
lists are asked for. A process each, which stays; work goes to one at a time, A B B A …, so that
whatever else the machine does befalls both. Timed are the steps of an epoch, after two batches to warm up, and the way
from a model in memory to a pandas frame. Rows say how many labels an epoch had, which must be as many in both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.two_commits import in_turns

MODELS = {"hstu": "HSTU", "hstu_large": "HSTU-large", "sasrec": "SASRec"}  # recipes of louder/recipes/ml1m.py
CASES = {"epoch": "an epoch", "recommend": "lists of 100 for all users"}
K, SEED = 100, 42
SIZES = {  # of both; the layers' and heads' are of a model
    "max_len": 200,
    "width": 50,
    "users_per_batch": 128,
    "negatives": 128,
    "dropout": 0.2,
}
LAYERS = {"hstu": (2, 1), "hstu_large": (8, 2), "sasrec": (2, 1)}
Told = dict[str, Any]


# --- Louder -----------------------------------------------------------------------------------------------------------


class Louder:
    """Measures what the worker is asked for; `folder` holds runs that a list can be asked of."""

    def __init__(self, table: str, folder: Path) -> None:
        import torch

        from louder.version import __version__

        self.table, self.folder = table, folder
        self.versions = {"version": __version__, "torch": torch.__version__}

    def config(self, model: str, *settings: str) -> Any:
        from louder import recipes
        from louder.config import override

        return override(recipes.load(f"ml1m:{model}"), [f"data.table={self.table}", "protocol=official", *settings])

    def epoch(self, model: str) -> Told:
        from itertools import islice

        import torch

        from louder.training.memory import keep_freed_memory
        from louder.training.optimizers import make_optimizers, update
        from louder.training.tasks import open_task

        config = self.config(model)
        keep_freed_memory()
        task: Any = open_task(config)
        torch.manual_seed(config.training.seed)
        network = task.build().train()
        optimizers, device = make_optimizers(network, config.training), torch.device("cpu")

        def step(batch: Any) -> int:
            loss = task.loss(network, batch, device)
            update(network, optimizers, loss, config.training.clip_norm)
            loss.item()
            return len(batch.sequences.ids)

        for batch in islice(task.loader.batches(), 2):
            step(batch)
        began = time.perf_counter()
        labels = sum(step(batch) for batch in task.loader.batches())
        return {"seconds": time.perf_counter() - began, "labels": labels}

    def recommend(self, model: str) -> Told:
        import pyarrow as pa

        from louder.inference.recommender import Recommender
        from louder.training.loop import train

        run = self.folder / model
        if not run.exists():
            train(self.config(model, "training.epochs=1"), run, quiet=True)
        recommender = Recommender(run)
        next(recommender.recommend_many(k=K))
        began = time.perf_counter()
        frame = pa.concat_tables(recommender.recommend_many(k=K)).to_pandas()
        return {"seconds": time.perf_counter() - began, "users": frame["user"].nunique(), "rows": len(frame)}


# --- RecTools, in a Python of its own, that has no Louder ----------------------------------------------------------------


class RecTools:
    """Likewise. `events` is a CSV of user, item and time, in the order that both take them in."""

    def __init__(self, events: str) -> None:
        import warnings
        from importlib.metadata import version

        import pandas as pd
        import torch
        from rectools import Columns
        from rectools.dataset import Dataset

        warnings.simplefilter("ignore")
        frame = pd.read_csv(events, names=[Columns.User, Columns.Item, Columns.Datetime])
        self.last = frame.groupby(Columns.User)[Columns.Datetime].max().reset_index()  # the time of asking
        frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
        self.last[Columns.Datetime] = pd.to_datetime(self.last[Columns.Datetime], unit="s")
        frame[Columns.Weight] = self.last[Columns.Weight] = 1.0
        held_out = frame.groupby(Columns.User).cumcount(ascending=False) == 0
        self.whole, self.train = Dataset.construct(frame), Dataset.construct(frame[~held_out])
        self.models: dict[str, Any] = {}
        self.versions = {"version": version("rectools"), "torch": torch.__version__}

    def fitted(self, model: str, dataset: Any, batches: float, clock: Any = None) -> Any:
        """A model after an epoch of so many batches, 1.0 for all."""
        from pytorch_lightning import Trainer, seed_everything
        from rectools.models import HSTUModel, SASRecModel
        from rectools.models.nn.item_net import IdEmbeddingsItemNet

        def trainer() -> Trainer:
            shown = dict.fromkeys(
                ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False
            )
            callbacks = [clock] if clock else []
            return Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=batches, callbacks=callbacks, **shown)

        seed_everything(SEED, verbose=False)
        layers, heads = LAYERS[model]
        made = (SASRecModel if model == "sasrec" else HSTUModel)(
            n_blocks=layers,
            n_heads=heads,
            n_factors=SIZES["width"],
            session_max_len=SIZES["max_len"],
            dropout_rate=SIZES["dropout"],
            batch_size=SIZES["users_per_batch"],
            loss="sampled_softmax",
            n_negatives=SIZES["negatives"],
            lr=1e-3,
            item_net_block_types=(IdEmbeddingsItemNet,),
            lightning_module_kwargs={"logits_t": 0.05},
            get_trainer_func=trainer,
        )
        made.fit(dataset)
        return made

    def epoch(self, model: str) -> Told:
        from pytorch_lightning import Callback

        class Clock(Callback):  # type: ignore[misc, unused-ignore]
            labels, began, seconds = 0, 0.0, 0.0

            def on_train_epoch_start(self, *_: Any) -> None:
                self.began = time.perf_counter()

            def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
                self.labels += int((batch["y"] != 0).sum())

            def on_train_epoch_end(self, *_: Any) -> None:
                self.seconds = time.perf_counter() - self.began

        self.fitted(model, self.train, 2)
        fitted = self.fitted(model, self.train, 1.0, Clock())
        clock = next(one for one in fitted.fit_trainer.callbacks if isinstance(one, Clock))  # it was copied
        return {"seconds": clock.seconds, "labels": clock.labels}

    def recommend(self, model: str) -> Told:
        from rectools import Columns

        if model not in self.models:
            self.models[model] = self.fitted(model, self.whole, 2)
        own = self.models[model]
        context = self.last if own.require_recommend_context else None

        def lists(users: Any) -> Any:
            asked = {"dataset": self.whole, "k": K, "filter_viewed": True}
            return own.recommend(users=users, context=None if context is None else context.copy(), **asked)

        everyone = self.last[Columns.User].to_numpy()
        lists(everyone[:256])
        began = time.perf_counter()
        frame = lists(everyone)
        return {"seconds": time.perf_counter() - began, "users": frame[Columns.User].nunique(), "rows": len(frame)}


# --- the two in turns ---------------------------------------------------------------------------------------------------


def worker(mine: Louder | RecTools) -> None:
    """Reads `epoch hstu` and the like, answers with a line of JSON; whatever else is said goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        case, model = line.split()
        print(json.dumps(getattr(mine, case)(model) | mine.versions), file=answers, flush=True)


def ask(process: subprocess.Popen[str], case: str, model: str) -> Told:
    assert process.stdin and process.stdout
    print(case, model, file=process.stdin, flush=True)
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"A process ended at {case} {model}; what it said is above.")
    told: Told = json.loads(line)
    return told


def rows_of(case: str, model: str, found: dict[str, list[Told]]) -> list[Told]:
    """A row for each library, in the form of the other benchmarks."""
    layers, heads = LAYERS[model]
    rows = []
    for name, answers in found.items():
        seconds = [answer["seconds"] for answer in answers]
        row: Told = {"bench": "rectools", "case": f"{CASES[case]}, {MODELS[model]}", "implementation": name}
        row |= {"reference": "louder", "median_s": round(statistics.median(seconds), 3)}
        row |= {"min_s": round(min(seconds), 3), "max_s": round(max(seconds), 3), "runs": len(seconds)}
        row |= {key: value for key, value in answers[0].items() if key != "seconds"}
        rows.append(row | SIZES | {"layers": layers, "heads": heads, "k": K, "seed": SEED})
    return rows


def events_of(table: Path, file: Path) -> None:
    """user, item and time of every event, user by user in the order of the table."""
    import numpy as np

    from louder.data.table import open_table

    opened = open_table(table)
    users = np.repeat(np.arange(opened.users), np.diff(opened.offsets))
    columns = np.stack([users, opened.ids, opened.times], axis=1)
    np.savetxt(file, columns, fmt="%d", delimiter=",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rectools", type=Path, required=True, help="a Python that has RecTools")
    parser.add_argument("--table", type=Path, required=True, help="the sequence table of ML-1M")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a JSON-lines file to add the rows to")
    given = parser.parse_args()
    from louder.results import append_row, provenance

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        events_of(given.table, events := folder / "events.csv")
        whose = {"louder": (Path(sys.executable), [given.table, folder]), "rectools": (given.rectools, [events])}
        processes = {name: start(name, *own, given.threads) for name, own in whose.items()}
        for process in processes.values():
            stack.callback(process.kill)
        for model in given.models:
            for case in CASES:
                turns: list[Callable[[], Told]] = [partial(ask, one, case, model) for one in processes.values()]
                found = dict(zip(processes, in_turns(given.repeats, *turns)))
                for row in rows_of(case, model, found):
                    print(f"{row['case']:40} {row['implementation']:10} {row['median_s']:9.2f} s")
                    if given.json:
                        append_row(given.json, row | {"device": "cpu", "threads": given.threads} | provenance())


def start(name: str, python: Path, given: list[Path], threads: int) -> subprocess.Popen[str]:
    """A worker. It runs in the checkout, so that a Python without Louder finds this file."""
    # not resolved: a link to Python is what a virtual environment is known by
    command = [str(python.absolute()), "-m", "benchmarks.beside_rectools", "--worker", name]
    command += [str(one.absolute()) for one in given]
    pipe, own = subprocess.PIPE, os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], env=own, stdin=pipe, stdout=pipe, text=True)


if __name__ == "__main__":
    if sys.argv[1:3] == ["--worker", "louder"]:
        worker(Louder(sys.argv[3], Path(sys.argv[4])))
    elif sys.argv[1:3] == ["--worker", "rectools"]:
        worker(RecTools(sys.argv[3]))
    else:
        main()
