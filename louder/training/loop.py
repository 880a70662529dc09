"""The one loop: step, log, evaluate, save.

What a step computes depends only on (config, table, step): the order of users, the negatives and the dropout are
seeded by the step's number. So a run that is killed and resumed ends with the same bits as one that was not.
"""

import json
import math
import shutil
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from louder import checkpoint
from louder.checkpoint import RUN_FOLDER
from louder.config import from_dict, to_dict
from louder.data.table import Table
from louder.errors import InputError
from louder.fingerprint import PARTS, Fingerprint, fingerprint_of, fingerprint_of_training, hashed_files, require_same
from louder.folders import new_folder, one_writer, require_replaceable, write_text
from louder.results import Row, append_row, provenance, read_rows
from louder.training import tasks
from louder.training.average import LATEST, Average
from louder.training.config import Config
from louder.training.memory import keep_freed_memory
from louder.training.optimizers import make_optimizers, moments, restore_moments, take_step
from louder.training.screen import Screen
from louder.training.two_stages import calibrate_run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass
class Progress:
    """Where a run is. Part of every checkpoint."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # the epoch that comes next, or is under way
    step_in_epoch: int = 0
    loss_sum: float = 0.0  # of this epoch's steps
    seconds: float = 0.0  # of training, evaluation included, over all resumed parts
    best: float | None = None  # of evaluation.select
    best_epoch: int = -1
    best_step: int = -1
    evaluations_without_gain: int = 0
    finished: bool = False


def train(config: Config, run: Path, *, resume: bool = False, overwrite: bool = False, quiet: bool = False) -> Row:
    """Train to the end, or until `patience` or the time runs out; returns the metrics of the best epoch on the test part.

        RUN/config.json  log.jsonl  metrics.json  best.json  tensorboard/  checkpoints/step-NNNNNNNN/

    Raises InputError if the folder exists and neither `resume` nor `overwrite` is given.
    """
    run = Path(run)
    resume = resume and run.exists()
    if resume:
        config = same_config(config, run)
    elif run.exists() and not overwrite:
        raise InputError(
            f"{run} exists already. Go on with it: --resume. Start anew: --overwrite. Or choose another: -o NAME."
        )
    else:
        require_replaceable(run, RUN_FOLDER, [config.data.table])
    task = tasks.open_task(config)
    if resume:
        require_same_table(task.table, run)
    trainer = Trainer(config, task, run)
    if not resume:
        with one_writer(run) if run.exists() else nullcontext():
            start_folder(run, config, task.table, overwrite=overwrite)
    with one_writer(run), Screen(config, quiet=quiet) as screen:
        trainer.restore()
        trainer.run_to_end(screen)
        if config.two_stages and config.held_out == 2:
            screen.status("choosing how the two stages become one score")
            with suppress(InputError):  # a log so small that nobody can be asked: see louder.inference.scoring
                calibrate_run(run)
        screen.status("measuring the best epoch on the test part")
        metrics = tasks.evaluate_run(run)
    progress = trainer.progress
    metrics |= {"train_seconds": round(progress.seconds, 1), "epochs_trained": progress.epoch}
    metrics |= {"stopped_by": trainer.stopped_by(), "threads": torch.get_num_threads()}
    on_gpu = trainer.device.type == "cuda"
    metrics["device"] = torch.cuda.get_device_name(trainer.device) if on_gpu else trainer.device.type
    write_text(run / "metrics.json", json.dumps(metrics | provenance(), indent=1) + "\n")
    return metrics


def same_config(config: Config, run: Path) -> Config:
    """The config a run was started with; only what ends it may differ when it goes on, and where its table is: what the
    table holds is checked when it is there."""
    now = json.loads(json.dumps(to_dict(config)))
    try:
        started = json.loads((run / "config.json").read_text(encoding="utf-8"))
        for name in "epochs", "patience", "minutes":
            started["training"][name] = now["training"][name]
        started["data"]["table"] = now["data"]["table"]
        started = json.loads(json.dumps(to_dict(from_dict(Config, started))))  # with the settings that came since
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise InputError(
            f"{run} is not a run that can go on: its config.json is missing or damaged. "
            "Start anew: --overwrite. Or choose another: -o NAME."
        ) from error
    differing = differences(started, now)
    if differing:
        name, was, is_now = differing[0]
        raise InputError(
            f"{run} was started with {name} = {was!r}, but now it is {is_now!r}. "
            "Resume with the same config, or start another run: -o NAME."
        )
    return from_dict(Config, now)


def differences(a: Any, b: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Name, value of `a` and value of `b` of each setting that differs."""
    if isinstance(a, dict) and isinstance(b, dict):
        names = sorted({*a, *b})
        return [x for n in names for x in differences(a.get(n), b.get(n), f"{path}.{n}" if path else n)]
    return [] if a == b else [(path, a, b)]


def require_same_table(table: Table, run: Path) -> None:
    """Raises InputError where a run would go on with another table than it was started with, be it one that has grown:
    what is held out of the training would be another part of it."""
    hint = "Go on with the one it was started with (--table FOLDER), or start another run: -o NAME."
    folder = checkpoint.latest(run)
    if folder is None:  # it was stopped before it had saved anything but the vocabularies
        before = Fingerprint(vocabularies=hashed_files(run, ["item", "user"]), actions=(), values=())
        return require_same(before, table.path, str(run), ["items", "users"], hint)
    state, now = checkpoint.load_state(folder), table_state(table)
    parts = PARTS if "table" in state else ["items", "users", "actions", "values"]
    require_same(fingerprint_of_training(folder, state), table.path, str(run), parts, hint)
    for what in "events", "tokens":
        was, is_now = state.get("table", now["table"])[what], now["table"][what]
        if was != is_now:
            raise InputError(f"{table.path} has {is_now:,} {what}, but {run} was started with {was:,}. {hint}")


def table_state(table: Table) -> dict[str, Any]:
    """What a checkpoint says of the table of its training."""
    manifest = table.manifest
    vocabularies = fingerprint_of(table.path, manifest).vocabularies
    about = {"vocabularies": dict(vocabularies), "events": manifest.events, "tokens": manifest.tokens}
    return {"actions": manifest.actions, "values": manifest.values, "table": about}


def start_folder(run: Path, config: Config, table: Table, *, overwrite: bool) -> None:
    with new_folder(run, RUN_FOLDER, overwrite=overwrite, keep=[table.path]) as temporary:
        for file in checkpoint.attached(table.path):
            target = temporary / file.relative_to(table.path)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)  # not a link: the table may be made again while the run goes on
        write_text(temporary / "config.json", json.dumps(to_dict(config), indent=1) + "\n")


class Trainer:
    """A model, its optimizers and how far they are."""

    def __init__(self, config: Config, task: tasks.Task, run: Path) -> None:
        self.config, self.task, self.run = config, task, run
        keep_freed_memory()
        self.device = choose_device(config.training.device)
        self.loader = task.loader
        torch.manual_seed(config.training.seed)
        self.model: Any = task.build().to(self.device)
        self.optimizers = make_optimizers(self.model, config.training)
        decay = config.training.ema_decay
        self.average = None if decay is None else Average(self.model, decay)
        self.progress = Progress()
        self.measuring = 0.0  # seconds that the latest evaluation took
        self.table_state = table_state(task.table)  # the folder may hold another table by the time of a checkpoint
        self.steps_in_all = sum(self.loader.steps(epoch) for epoch in range(config.training.epochs))

    def run_to_end(self, screen: Screen) -> None:
        self.progress.finished = self.nothing_left()  # a run that goes on may have been given more epochs
        while not self.progress.finished:
            self.train_epoch(screen)

    def nothing_left(self) -> bool:
        """Whether every epoch is done, or patience or the time ran out."""
        return self.stopped_by() != ""

    def stopped_by(self) -> str:
        """What ends the run: "epochs", "patience" or "minutes"; "" if it goes on."""
        progress, training = self.progress, self.config.training
        if training.patience is not None and progress.evaluations_without_gain >= training.patience:
            return "patience"
        if progress.epoch >= training.epochs:
            return "epochs"
        return "minutes" if self.out_of_time(0.0) else ""

    def out_of_time(self, since: float) -> bool:
        """Whether training has to stop now, `since` so many seconds that are not in the progress yet, for the evaluation to
        end in time. How long that takes is not known before the first."""
        minutes = self.config.training.minutes
        return minutes is not None and self.progress.seconds + since + self.measuring >= 60 * minutes

    def train_epoch(self, screen: Screen) -> None:
        progress, training = self.progress, self.config.training
        epoch, steps = progress.epoch, self.loader.steps(progress.epoch)
        self.model.train()
        began, tokens = time.perf_counter(), 0
        screen.start_epoch(epoch, steps, progress.step_in_epoch)
        for batch in self.loader.batches(epoch, progress.step_in_epoch):
            loss = self.step(batch)
            progress.step += 1
            progress.step_in_epoch += 1
            progress.loss_sum += loss
            tokens += len(batch.sequences.ids)
            events_per_s = tokens / (time.perf_counter() - began)
            screen.step(loss, events_per_s)
            if progress.step % training.log_steps == 0:
                row = {"kind": "step", "loss": loss, "learning_rate": self.rate()}
                self.log(row | {"events_per_s": round(events_per_s)})
            if progress.step % training.checkpoint_steps == 0 and progress.step_in_epoch < steps:
                progress.seconds += time.perf_counter() - began
                self.save()
                began, tokens = time.perf_counter(), 0
            if self.out_of_time(time.perf_counter() - began):
                break
        self.end_epoch(began, tokens, screen)

    def end_epoch(self, began: float, tokens: int, screen: Screen) -> None:
        """Evaluate, log and save; `tokens` were trained on since `began`."""
        progress, training, epoch = self.progress, self.config.training, self.progress.epoch
        row: Row = {"kind": "epoch", "loss": progress.loss_sum / max(1, progress.step_in_epoch)}
        row["events_per_s"] = round(tokens / max(1e-9, time.perf_counter() - began))
        last, headline = epoch + 1 == training.epochs or self.out_of_time(time.perf_counter() - began), ""
        if (epoch + 1) % self.config.evaluation.every_epochs == 0 or last:
            screen.status("evaluating")
            started = time.perf_counter()
            measured, headline = self.evaluate_epoch(epoch)
            self.measuring = time.perf_counter() - started
            row |= measured
        progress.epoch, progress.step_in_epoch, progress.loss_sum = epoch + 1, 0, 0.0
        progress.seconds += time.perf_counter() - began
        progress.finished = self.nothing_left()
        self.log(row | {"epoch": epoch, "seconds": round(progress.seconds, 2)})
        screen.end_epoch(epoch, row, headline, progress.best_epoch)
        self.save()

    def step(self, batch: Any) -> float:
        """One optimizer step; returns the loss."""
        training, number = self.config.training, self.progress.step
        loss_of = partial(self.task.loss, self.model, batch, self.device)
        value = take_step(self.model, self.optimizers, loss_of, training, number, self.steps_in_all, self.average)
        if not math.isfinite(value):
            raise InputError(
                f"The loss became {value} at step {number}. Lower the rate (--set training.learning_rate=1e-4), "
                "warm up (--set training.warmup_steps=1000) or clip (--set training.clip_norm=1)."
            )
        return value

    def rate(self) -> float:
        return float(self.optimizers[0].param_groups[0]["lr"])

    def evaluate_epoch(self, epoch: int) -> tuple[Row, str]:
        """Measure the part that selects, and note whether this epoch is the best. A row for the log, and a line."""
        part, progress = self.config.selection_part, self.progress
        with self.kept_weights():
            score = self.task.evaluate(self.model, part, self.device)
        if progress.best is None or score.selected > progress.best:
            progress.best, progress.best_epoch, progress.best_step = score.selected, epoch, progress.step
            progress.evaluations_without_gain = 0
        else:
            progress.evaluations_without_gain += 1
        return {"part": part, **{name: round(value, 6) for name, value in score.metrics.items()}}, score.headline

    def log(self, row: Row) -> None:
        row = {"step": self.progress.step, "epoch": self.progress.epoch} | row
        append_row(self.run / "log.jsonl", row)
        for name, value in row.items():
            if isinstance(value, float) and self.board:
                self.board.add_scalar(f"{row['kind']}/{name}", value, self.progress.step)

    @cached_property
    def board(self) -> "SummaryWriter | None":
        """The log for TensorBoard, where that is installed."""
        if not find_spec("tensorboard"):
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.run / "tensorboard", purge_step=self.progress.step)

    def kept_weights(self) -> AbstractContextManager[dict[str, Tensor]]:
        """The model is what is measured and saved meanwhile. Gives what training goes on with, if that is another."""
        return nullcontext({}) if self.average is None else self.average.in_place()

    def save(self) -> None:
        with self.kept_weights() as latest:
            checkpoint.save(
                checkpoint.step_folder(self.run, self.progress.step),
                model=self.model.state_dict(),
                optimizer=moments(self.optimizers, self.model) | latest,
                state={
                    "progress": asdict(self.progress),
                    "config": to_dict(self.config),
                    "vocabulary": asdict(self.task.vocabulary),
                    **self.table_state,
                },
                beside=self.run,
            )
        self.point_to_best()
        keep = {self.progress.step, self.progress.best_step}
        for folder in (self.run / "checkpoints").glob("step-????????"):
            if int(folder.name.removeprefix("step-")) not in keep:
                shutil.rmtree(folder)

    def point_to_best(self) -> None:
        if self.progress.best_step >= 0:
            name = checkpoint.step_folder(self.run, self.progress.best_step).name
            best = {"checkpoint": name, "epoch": self.progress.best_epoch}
            write_text(self.run / "best.json", json.dumps(best) + "\n")

    def restore(self) -> None:
        """Take up the latest checkpoint, if there is one, and forget what was logged after it."""
        for unfinished in (self.run / "checkpoints").glob(".step-*"):  # a run was killed while it saved
            shutil.rmtree(unfinished)
        folder = checkpoint.latest(self.run)
        log = self.run / "log.jsonl"
        if folder is not None:
            state = checkpoint.load_state(folder)
            checkpoint.load_model(self.model, folder)
            tensors = checkpoint.load_tensors(folder, "optimizer")
            if self.average is not None:
                self.average.restore(tensors)
            own = {key: value for key, value in tensors.items() if not key.endswith(LATEST)}
            restore_moments(self.optimizers, self.model, own)
            self.progress = Progress(**state["progress"])
            self.point_to_best()
        if log.exists():
            rows = [row for row in read_rows(log) if row["step"] <= self.progress.step]
            write_text(log, "".join(json.dumps(row) + "\n" for row in rows))


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"training.device is {name!r}, but it must be auto, cpu or cuda.") from error
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"training.device is {name!r}, but PyTorch finds no such device here: --set training.device=cpu."
        ) from error
    return device
