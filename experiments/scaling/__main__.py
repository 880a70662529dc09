"""A scaling law, measured: what training compute is worth where the truth is known.

    python -m experiments.scaling plan                 # the points, and the hours they take on this machine
    python -m experiments.scaling run --minutes 60     # go on; no point begins after so long
    python -m experiments.scaling fit                  # excess NE = a C^-b with intervals, and docs/scaling.md's figure
    python -m experiments.scaling fit --predict        # write down the best size at 3e14 before it is trained

Points with a row are left out, and one that was stopped goes on from its checkpoint. With a GPU, it is used.
"""

import argparse
import itertools
import shutil
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from experiments.scaling import fit, points
from experiments.scaling.figure import drawing
from experiments.scaling.points import BEYOND, COMPUTE, SEEDS, Point
from experiments.scaling.sizes import MODELS, training_flops, users_for
from experiments.scaling.stream import USERS, Scale
from experiments.scaling.train import Training
from louder.data.synthetic_tastes import LENGTH
from louder.results import Row, append_row, provenance, read_rows

ROWS = Path("experiments/results/scaling.jsonl")
FIGURE = Path("docs/images/scaling.svg")
RUNS = Path("runs/scaling")  # checkpoints of points under way
TRIED = 5e9  # FLOPs that tell how fast a size is


def rows_in(file: Path) -> list[Row]:
    return read_rows(file) if file.exists() else []


def run(todo: Sequence[Point], file: Path, minutes: float | None, runs: Path = RUNS, of: Scale | None = None) -> None:
    """Train what has no row in `file` yet, each point to its end."""
    began = time.monotonic()
    for point in points.left(todo, rows_in(file)):
        if minutes is not None and time.monotonic() - began >= 60 * minutes:
            print(f"{minutes:g} minutes are over. The same command goes on.")
            return
        rate = point.learning_rate or points.rate_of(point.model, point.size, rows_in(file))
        training = Training(point, rate, runs, of or Scale())
        training.run()
        row = training.row()
        append_row(file, row | provenance())
        shutil.rmtree(training.folder, ignore_errors=True)
        metric = next(law.metric for law in fit.LAWS if law.metric in row)
        print(f"{point.name}: {metric} {row[metric]:.4f} in {row['train_seconds']:,.0f} s", flush=True)


@cache
def speed(model: str, size: int) -> float:
    """FLOP/s that training comes to when nobody else computes, tried on a few users."""
    training = Training(Point("speed", model, size, BEYOND), 1e-3, RUNS, Scale())
    users = users_for(model, size, TRIED)
    for number in 0, 1:  # the first is a warm-up
        loader = training.task.loader(number, min(users, USERS))
        began, of_cpu = time.perf_counter(), time.process_time()
        training.train_on(loader.batches())
        of_cpu = (time.process_time() - of_cpu) / torch.get_num_threads()
    seconds = of_cpu if training.device.type == "cpu" else time.perf_counter() - began
    return training_flops(model, size, min(users, USERS)) / seconds


def print_plan(todo: Sequence[Point], rows: Sequence[Row]) -> None:
    waiting, total = set(points.left(todo, rows)), 0.0
    print(f"{'point':40}{'exposures':>14}{'FLOPs':>12}{'hours':>8}")
    for point in todo:
        users = users_for(point.model, point.size, point.compute)
        operations = training_flops(point.model, point.size, users)
        hours = operations / speed(point.model, point.size) / 3600
        total += hours if point in waiting else 0.0
        state = f"{hours:8.2f}" if point in waiting else "    done"
        print(f"{point.name:40}{users * LENGTH:14,}{operations:12.3g}{state}")
    print(f"{len(waiting)} of {len(todo)} points are left: about {total:.1f} hours, if nobody else computes.")


def print_fit(rows: Sequence[Row], models: Sequence[str], figure: Path) -> None:
    """What the laws say, and the figure of the first model."""
    for model, law in itertools.product(models, fit.LAWS):
        fitted = fit.fit(fit.cells_of(rows, model, law, upto=BEYOND / 2), law)
        if fitted is None:
            continue
        (low, high), (value, *values) = fitted.rate_interval, fitted.value(BEYOND)
        rate = f"{'b of a C^-b' if law.power else 'gain for each ln C'} {fitted.rate:.4f} [{low:.4f}, {high:.4f}]"
        there = f"at {BEYOND:g} {value:.4f} [{values[0]:.4f}, {values[1]:.4f}], size {fitted.size(BEYOND)[0]:.1f}"
        print(f"{model}, {law.metric}: {rate} over {fitted.decades:.1f} decades; {there}")
    below = fit.fit(fit.cells_of(rows, models[0], fit.EXCESS, upto=BEYOND / 2), fit.EXCESS)
    if below is None:
        print(f"A law needs points at two computes at least: {COMPUTE[0]:g}, {COMPUTE[1]:g} and on.")
    else:
        figure.write_text(drawing(fit.cells_of(rows, models[0], fit.EXCESS), below), encoding="utf-8")
        print(f"{figure} is drawn; the tables: python -m experiments.tables")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["plan", "run", "fit"])
    parser.add_argument("--models", nargs="+", default=["hstu"], choices=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--upto", type=float, default=COMPUTE[-1], help="no more compute than this")
    parser.add_argument("--minutes", type=float, help="no point begins after so many")
    parser.add_argument("--predict", action="store_true", help=f"write the best size at {BEYOND:g} as a row")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--rows", type=Path, default=ROWS)
    arguments = parser.parse_args()
    rows = rows_in(arguments.rows)
    compute = [budget for budget in COMPUTE if budget <= arguments.upto]
    todo = points.plan(rows, arguments.models, compute, arguments.seeds)
    if arguments.step == "plan":
        print_plan(todo, rows)
    elif arguments.step == "fit":
        print_fit(rows, arguments.models, arguments.figure)
        for model in arguments.models if arguments.predict else ():
            append_row(arguments.rows, fit.prediction(rows, model, fit.law_of(model)) | provenance())
    else:
        run(todo, arguments.rows, arguments.minutes)


if __name__ == "__main__":
    main()
