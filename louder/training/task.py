"""What the loop needs to know of a task."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from louder.data.table import Table
from louder.models import Vocabulary


class Batches(Protocol):
    """Batches of one part of a table; what an epoch holds is a function of its number alone."""

    def steps(self, epoch: int = 0) -> int: ...
    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[Any]: ...


@dataclass(frozen=True)
class Score:
    """A measured part: every metric by name, and the one that chooses the best epoch (the higher the better)."""

    metrics: dict[str, float]
    selected: float
    headline: str  # what a person reads of it, in a few words


class Task(Protocol):
    """Next item (retrieval.py) or what is done with an item (ranking.py), on one table.

    build()                          a model with random weights
    loss(model, batch, device)       the scalar to lower
    evaluate(model, part, device)    how good the model is on "validation" or "test", dropout off
    evaluate_run(run, ...)           the same of a run's best checkpoint, with all that a result's row holds
    """

    @property
    def table(self) -> Table: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def loader(self) -> Batches:
        """Of the training part."""

    def build(self) -> nn.Module: ...
    def loss(self, model: Any, batch: Any, device: torch.device) -> Tensor: ...
    def evaluate(
        self, model: Any, part: str, device: torch.device, on_batch: Callable[[int], None] | None = None
    ) -> Score: ...
