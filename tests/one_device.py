"""A device that is none: tensors that say they are elsewhere, are computed on the CPU, and refuse to meet those of the CPU.

What runs on them without an error keeps to one device, as a GPU wants it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

ELSEWHERE = torch.device("meta")
COPIES = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default


class Elsewhere(torch.Tensor):
    held: torch.Tensor

    @staticmethod
    def __new__(cls, real):
        options = {
            "dtype": real.dtype,
            "device": ELSEWHERE,
            "strides": real.stride(),
            "storage_offset": real.storage_offset(),
        }
        made = torch.Tensor._make_wrapper_subclass(cls, real.shape, **options)
        made.held = real
        return made

    def tolist(self):
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatched(func, args, kwargs or {})


class Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatched(func, args, kwargs or {})


class WithData(TorchFunctionMode):
    """torch.tensor would make a tensor of this device without its data."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") is not None:
            return torch.tensor(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        if func is torch.Tensor.new_tensor and isinstance(args[0], Elsewhere):
            return torch.tensor(*args[1:], dtype=args[0].dtype).to(ELSEWHERE)
        return func(*args, **kwargs)


@contextlib.contextmanager
def one_device() -> Iterator[torch.device]:
    """In it, `torch.zeros(3, device=ELSEWHERE)` and `x.to(ELSEWHERE)` make tensors that are elsewhere."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Dispatched(), WithData():
            yield ELSEWHERE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def dispatched(func: Any, args: Any, kwargs: Any) -> Any:
    seen: list[torch.Tensor] = []
    tree_map(lambda x: seen.append(x) if isinstance(x, torch.Tensor) else None, (args, kwargs))
    elsewhere = [x for x in seen if isinstance(x, Elsewhere)]
    of_cpu = [x for x in seen if x.dim() and not isinstance(x, Elsewhere)]
    if func.namespace == "louder":  # a seed is of the CPU
        of_cpu = [x for x in of_cpu if x.shape != (1,) or x.dtype != torch.int64]
    if elsewhere and of_cpu and func not in COPIES:
        raise RuntimeError(
            f"{func} is given tensors of two devices: {[(type(x).__name__, list(x.shape)) for x in seen]}"
        )
    device = kwargs.get("device")
    to = ELSEWHERE if elsewhere and device is None else device
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda x: x.held if isinstance(x, Elsewhere) else x, (args, kwargs))
    out = func(*args, **kwargs)
    if to is None or torch.device(to) != ELSEWHERE:
        return out
    if func._schema.is_mutable and out is args[0]:
        return seen[0]
    return tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, out)
