"""Dropout whose random numbers cost little on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 1 << 16


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero each element with `probability`, scale the rest by 1 / (1 - probability); x as it is if not training.

    torch draws one 64-bit number per element on a CPU; 16 bits decide as well, so four elements share a draw here. The
    probability is rounded to a multiple of 1 / 65536.
    """
    if not training or probability == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability, training)
    return x * keep_mask(x.shape, probability, x.dtype)


def keep_mask(shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
    """[shape] of 0 and 1 / (1 - probability), from torch's generator"""
    dropped = round(probability * LEVELS)
    draws = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    bits = draws.view(torch.int16)[: shape.numel()].view(shape)
    return (bits >= dropped - LEVELS // 2).to(dtype).mul_(LEVELS / (LEVELS - dropped))
