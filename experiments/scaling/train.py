"""Train one point on data it sees once, and measure it against the truth."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from experiments.scaling.points import EXPERIMENT, Point
from experiments.scaling.sizes import config_of, flops_per_user, training_flops, users_for
from experiments.scaling.stream import TEST_USERS, Stream, held_out_lots, lots_of
from louder import checkpoint
from louder.data.synthetic_tastes import CATEGORIES, ITEMS, LENGTH
from louder.evaluation.ranking_metrics import cross_entropy
from louder.models import AnyRanker
from louder.results import Row
from louder.training.config import Config
from louder.training.loop import choose_device
from louder.training.memory import keep_freed_memory
from louder.training.optimizers import groups, learning_rate, make_optimizers, moments, restore_moments, update

GROUPS = 64  # of test users, whose means a row keeps for the bootstrap
SAVE_SECONDS = 300


@dataclass(frozen=True)
class World:
    """What there is to learn from: small in tests."""

    items: int = ITEMS
    categories: int = CATEGORIES
    length: int = LENGTH
    test_users: int = TEST_USERS


class Training:
    """A point under way. A checkpoint is written between two lots; the same seed then sees the same lots and batches."""

    def __init__(self, point: Point, rate: float, folder: Path, of: World) -> None:
        self.point, self.folder, self.of = point, folder / point.name, of
        self.users = users_for(point.model, point.size, point.compute, of.length)
        self.total = self.users * of.length
        self.config: Config = config_of(
            point.model, point.size, learning_rate=rate, seed=point.seed, exposures=self.total
        )
        keep_freed_memory()
        self.device = choose_device(self.config.training.device)
        self.stream = Stream(self.config, of.items, of.categories, of.length)
        torch.manual_seed(point.seed)
        self.model = self.stream.build().to(self.device)
        self.optimizers = make_optimizers(self.model, self.config.training)
        self.lots, self.step, self.exposures, self.seconds = 0, 0, 0, 0.0
        self.resume()

    def run(self) -> None:
        saved = began = time.perf_counter()
        before = self.seconds
        for number, users in lots_of(self.point.seed, self.users)[self.lots :]:
            self.train_lot(number, users)
            self.lots += 1
            now = time.perf_counter()
            self.seconds = before + now - began
            if now - saved > SAVE_SECONDS:
                self.save()
                saved = now

    def train_lot(self, number: int, users: int) -> None:
        training = self.config.training
        self.model.train()
        for batch in self.stream.loader(number, users).batches():
            batch = batch.to(self.device)
            for group in groups(self.optimizers):
                group["lr"] = learning_rate(training, self.exposures, self.total, group["initial_lr"])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                logits, _ = self.model(batch)
                loss = F.binary_cross_entropy_with_logits(logits.float(), batch.labels)
            update(self.model, self.optimizers, loss, training.clip_norm)
            self.step += 1
            self.exposures += len(batch.target_positions)

    def save(self) -> None:
        state = {name: getattr(self, name) for name in ("lots", "step", "exposures", "seconds")}
        kept = moments(self.optimizers, self.model)
        checkpoint.save(self.folder, model=self.model.state_dict(), optimizer=kept, state=state)

    def resume(self) -> None:
        if not self.folder.is_dir():
            return
        state = checkpoint.load_state(self.folder)
        checkpoint.load_model(self.model, self.folder)
        restore_moments(self.optimizers, self.model, checkpoint.load_tensors(self.folder, "optimizer"))
        self.lots, self.step = state["lots"], state["step"]
        self.exposures, self.seconds = state["exposures"], state["seconds"]

    def row(self) -> Row:
        """What was trained and how good it became."""
        point, config = self.point, self.config
        facts: Row = {"experiment": EXPERIMENT, "kind": point.kind, "model": point.model, "size": point.size}
        facts |= {"compute": point.compute, "seed": point.seed, "asked_rate": point.learning_rate}
        facts |= {"learning_rate": config.training.learning_rate, "users": self.users, "exposures": self.exposures}
        facts |= {"flops": training_flops(point.model, point.size, self.users, self.of.length), "steps": self.step}
        facts["flops_per_exposure"] = flops_per_user(point.model, point.size, self.of.length) / self.of.length
        facts["parameters"] = sum(x.numel() for x in self.model.parameters())
        facts |= {"train_seconds": round(self.seconds, 1), "threads": torch.get_num_threads()}
        on_gpu = self.device.type == "cuda"
        facts["device"] = torch.cuda.get_device_name(self.device) if on_gpu else self.device.type
        return facts | measured(self.model, self.stream, self.of.test_users, self.device)


@torch.no_grad()
def measured(model: AnyRanker, stream: Stream, users: int, device: torch.device) -> Row:
    """Against users nobody trained on. The expectation over labels is exact, since their probabilities are known:

    truth_ne   of the true probabilities: entropy over that of their mean
    excess_ne  what the model has more: mean divergence from the truth, over the same
    excess_by_group  [GROUPS] the same of as many groups of users, whose mean it is
    """
    model.eval()
    truth, predicted = [], []
    for number, size in held_out_lots(users):
        probability = stream.lot(number, size).probability.ravel()
        found = np.zeros(len(probability))
        for batch in stream.loader(number, size, shuffle=False).batches():
            found[batch.rows.numpy()] = torch.sigmoid(model(batch.to(device))[0])[:, 0].double().cpu().numpy()
        truth.append(probability)
        predicted.append(found)
    return against_truth(np.concatenate(truth), np.concatenate(predicted), users)


def against_truth(truth: np.ndarray, predicted: np.ndarray, users: int) -> Row:
    """truth, predicted [users * L], user after user"""
    share = np.array([truth.mean()])
    most = float(cross_entropy(share, share)[0])
    least = cross_entropy(truth, truth)
    excess = (cross_entropy(truth, predicted) - least) / most
    groups_of = np.array_split(excess.reshape(users, -1).mean(1), min(GROUPS, users))
    return {
        "test_users": users,
        "test_exposures": len(truth),
        "truth_ne": round(float(least.mean()) / most, 6),
        "ne": round(float(least.mean()) / most + float(excess.mean()), 6),
        "excess_ne": round(float(excess.mean()), 6),
        "excess_by_group": [round(float(group.mean()), 6) for group in groups_of],
    }
