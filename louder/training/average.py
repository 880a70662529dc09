"""The average of a model's weights over the latest steps, which is often better than the weights of any one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LATEST = ".latest"  # of a weight's name: what training goes on with, where a checkpoint's model is the average


class Average:
    """Exponential moving average of the parameters of a model (Polyak and Juditsky, 1992), as long as that model.

    After step t (from 1): average = d · average + (1 - d) · weights with d = min(decay, (1 + t) / (10 + t)), so that the
    random weights of the beginning are soon forgotten. A step costs a read and a write of all weights, also of the rows
    of a table that the step did not touch.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.parameters = dict(model.named_parameters())
        self.decay = decay
        self.weights = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        new = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.parameters.items():
            self.weights[name].lerp_(parameter, new)

    @contextmanager
    def in_place(self) -> Iterator[dict[str, Tensor]]:
        """The model holds the average meanwhile. Gives the latest weights, by NAME.latest."""
        self.swap()
        try:
            yield {name + LATEST: weight for name, weight in self.weights.items()}
        finally:
            self.swap()

    def swap(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.weights[name] = self.weights[name], parameter.data

    @torch.no_grad()
    def restore(self, latest: dict[str, Tensor]) -> None:
        """Go on from a checkpoint, whose average the model holds already, and the latest weights of which are given."""
        for name, parameter in self.parameters.items():
            self.weights[name].copy_(parameter)
            parameter.copy_(latest[name + LATEST])
