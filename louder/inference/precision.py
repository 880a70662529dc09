"""A ranker with smaller weights, for MFalcon."""

import copy

import torch
from torch import Tensor, nn

from louder.errors import InputError
from louder.models import RankingModel

PRECISIONS = "bfloat16", "int8"


def reduced(model: RankingModel, precision: str) -> RankingModel:
    """A copy of the model for MFalcon, with all weights and what is computed between them in bfloat16 (attention is summed
    in float32), or with the products of the layers and of the head in int8 and all else as it was."""
    if precision not in PRECISIONS:
        raise InputError(f"precision must be {' or '.join(PRECISIONS)}, but it is {precision!r}.")
    model = copy.deepcopy(model).eval()
    if precision == "int8":
        for part in model.backbone, model.head:
            for module in list(part.modules()):
                for name, child in module.named_children():
                    if isinstance(child, nn.Linear):
                        setattr(module, name, Int8Linear(child))
        return model
    scales, norm = (
        (model.value_mean, model.value_scale),
        None if model.cross is None else copy.deepcopy(model.cross.norm),
    )
    model.to(torch.bfloat16)
    model.value_mean, model.value_scale = scales
    if model.cross is not None and norm is not None:
        model.cross.norm = norm
    return model


class Int8Linear(nn.Module):
    """A linear layer in int8: a scale for each of its outputs, and for each row of its input, found when it comes.

    torch's quantize_dynamic, deprecated, has one scale for all rows: an item's score would depend on the others'.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = rounded(linear.weight.detach())
        self.weight: Tensor
        self.scale: Tensor
        self.register_buffer("weight", weight)  # [N, K]
        self.register_buffer("scale", scale[:, 0])
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        x, scale = rounded(x)
        out = torch._int_mm(x, self.weight.T).float().mul_(scale).mul_(self.scale)
        return out if self.bias is None else out.add_(self.bias)


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [R, K] and the scale [R, 1] of each row"""
    scale = x.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
    return (x / scale).round_().to(torch.int8), scale
