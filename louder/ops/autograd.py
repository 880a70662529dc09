"""What torch.library gives to the backward pass of a registered op."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Context(Protocol):
    constants: tuple[Any, ...]  # what is needed and is no tensor
    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]: ...
    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


def is_recorded() -> bool:
    """Whether gradients, torch.compile or torch.export look on. If nobody does, a registered op is called as the plain
    function that it is: the first call by way of the dispatcher imports torch._dynamo, for seconds."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()
