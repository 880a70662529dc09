"""What the loop needs to know of a task, and what the two tasks share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from louder.data.ranking import RankingBatch
from louder.data.retrieval import RetrievalBatch
from louder.data.table import Table
from louder.errors import InputError
from louder.inference.run import Run
from louder.models import HSTUConfig, Vocabulary
from louder.results import Row
from louder.training.config import Config

Batch = TypeVar("Batch")
Model = TypeVar("Model", bound=nn.Module)
Made = TypeVar("Made", covariant=True)
AnyBatch = RetrievalBatch | RankingBatch
OnBatch = Callable[[int], None]  # told how many were measured, after each batch


class Batches(Protocol[Made]):
    """Batches of one part of a table; what an epoch holds is a function of its number alone."""

    def steps(self, epoch: int = 0) -> int: ...
    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[Made]: ...


@dataclass(frozen=True)
class Score:
    """A measured part: every metric by name, and the one that chooses the best epoch (the higher the better)."""

    metrics: dict[str, float]
    selected: float
    headline: str  # what a person reads of it, in a few words


class Task(Protocol[Model, Batch]):
    """Next item (retrieval.py) or what is done with an item (ranking.py), on one table.

    build()                          a model with random weights
    load(run)                        the model of a run's best checkpoint; InputError if it is of another table
    loss(model, batch, device)       the scalar to lower
    evaluate(model, part, device)    how good the model is on "validation" or "test", dropout off
    report(model, part, device)      the same with all that a result's row holds
    """

    @property
    def table(self) -> Table: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def loader(self) -> Batches[Batch]:
        """Of the training part."""

    def build(self) -> Model: ...
    def load(self, run: Run) -> Model: ...
    def loss(self, model: Model, batch: Batch, device: torch.device) -> Tensor: ...
    def evaluate(self, model: Model, part: str, device: torch.device) -> Score: ...
    def report(self, model: Model, part: str, device: torch.device, on_batch: OnBatch | None = None) -> Row: ...


def table_folder(config: Config) -> Path:
    """Raises InputError if the config names no table."""
    if not config.data.table:
        raise InputError("The config names no table. Pass --table FOLDER. Make one: louder etl SOURCE -o FOLDER.")
    return Path(config.data.table)


def require_times(table: Table, config: Config) -> None:
    """Raises InputError if the config needs times that the table lacks."""
    if table.manifest.has_times:
        return
    if isinstance(config.model, HSTUConfig) and config.model.time_bias:
        raise InputError(
            f"{table.path} has no times, so a bias by time has nothing to learn: --set model.time_bias=false."
        )
    if config.data.split.kind == "time":
        raise InputError(f"{table.path} has no times to split by: --set data.split.kind=leave_last_out.")


@contextmanager
def dropout_off(model: nn.Module) -> Iterator[None]:
    """The model as it is measured; then in the mode it was in."""
    training = model.training
    model.eval()
    yield
    model.train(training)
