"""What torch.library gives to the backward pass of a registered op."""

from typing import Any, Protocol

from torch import Tensor


class Context(Protocol):
    constants: tuple[Any, ...]  # what is needed and is no tensor
    needs_input_grad: tuple[bool, ...]

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]: ...
    def save_for_backward(self, *tensors: Tensor | None) -> None: ...
