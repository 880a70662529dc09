"""Train one point on data it sees once, and measure it against the truth."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from experiments.scaling.points import EXPERIMENT, Point
from experiments.scaling.sizes import config_of, flops_per_user, training_flops, users_for
from experiments.scaling.stream import Scale, lots_of
from experiments.scaling.tasks import task_of
from louder import checkpoint
from louder.results import Row
from louder.training.config import Config
from louder.training.loop import choose_device
from louder.training.memory import keep_freed_memory
from louder.training.optimizers import groups, learning_rate, make_optimizers, moments, restore_moments, update

SAVE_SECONDS = 300
STATE = "lots", "step", "exposures", "seconds", "cpu_seconds"  # of a training, kept in its checkpoint


class Training:
    """A point under way. A checkpoint is written between two lots; the same seed then sees the same lots and batches."""

    def __init__(self, point: Point, rate: float, folder: Path, of: Scale) -> None:
        self.point, self.folder, self.of = point, folder / point.name, of
        self.users = users_for(point.model, point.size, point.compute, of.length)
        self.total = self.users * of.length  # about: nobody predicts a first next item
        self.config: Config = config_of(
            point.model, point.size, learning_rate=rate, seed=point.seed, exposures=self.total
        )
        keep_freed_memory()
        self.device = choose_device(self.config.training.device)
        self.task: Any = task_of(self.config, of)
        torch.manual_seed(point.seed)
        self.model = self.task.build().to(self.device)
        self.optimizers = make_optimizers(self.model, self.config.training)
        self.lots, self.step, self.exposures, self.seconds, self.cpu_seconds = 0, 0, 0, 0.0, 0.0
        self.resume()

    def run(self) -> None:
        saved = began = time.perf_counter()
        of_cpu, before = time.process_time(), (self.seconds, self.cpu_seconds)
        for number, users in lots_of(self.point.seed, self.users)[self.lots :]:
            self.train_lot(number, users)
            self.lots += 1
            now = time.perf_counter()
            self.seconds, self.cpu_seconds = before[0] + now - began, before[1] + time.process_time() - of_cpu
            if now - saved > SAVE_SECONDS:
                self.save()
                saved = now

    def train_lot(self, number: int, users: int) -> None:
        self.train_on(self.task.loader(number, users).batches())

    def train_on(self, batches: Iterable[Any]) -> None:
        training = self.config.training
        self.model.train()
        for batch in batches:
            torch.manual_seed(training.seed * 1_000_003 + self.step + 1)  # negatives of this step
            for group in groups(self.optimizers):
                group["lr"] = learning_rate(training, self.exposures, self.total, group["initial_lr"])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                loss, predictions = self.task.loss(self.model, batch, self.device)
            update(self.model, self.optimizers, loss, training.clip_norm)
            self.step += 1
            self.exposures += predictions

    def save(self) -> None:
        state = {name: getattr(self, name) for name in STATE}
        kept = moments(self.optimizers, self.model)
        checkpoint.save(self.folder, model=self.model.state_dict(), optimizer=kept, state=state)

    def resume(self) -> None:
        if not self.folder.is_dir():
            return
        state = checkpoint.load_state(self.folder)
        checkpoint.load_model(self.model, self.folder)
        restore_moments(self.optimizers, self.model, checkpoint.load_tensors(self.folder, "optimizer"))
        for name in STATE:
            setattr(self, name, state[name])

    def row(self) -> Row:
        """What was trained and how good it became."""
        point, config = self.point, self.config
        facts: Row = {"experiment": EXPERIMENT, "kind": point.kind, "model": point.model, "size": point.size}
        facts |= {"compute": point.compute, "seed": point.seed, "asked_rate": point.learning_rate}
        facts |= {"learning_rate": config.training.learning_rate, "users": self.users, "exposures": self.exposures}
        facts |= {"flops": training_flops(point.model, point.size, self.users, self.of.length), "steps": self.step}
        facts["flops_per_exposure"] = flops_per_user(point.model, point.size, self.of.length) / self.of.length
        facts["parameters"] = sum(x.numel() for x in self.model.parameters())
        facts |= {"train_seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu_seconds, 1)}
        facts["threads"] = torch.get_num_threads()
        on_gpu = self.device.type == "cuda"
        facts["device"] = torch.cuda.get_device_name(self.device) if on_gpu else self.device.type
        self.model.eval()
        return facts | self.task.measured(self.model, self.device)
