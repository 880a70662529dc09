"""All layers of an HSTU for rows that each come right after a user's cached tokens, at once; see cpu.cpp.

It has no reference implementation of its own: SequentialModel.branch does the same by layers, for any model.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops import build

BLOCK = 32  # columns of a packed weight; also in cpu.cpp


def available(*weights: Tensor) -> bool:
    """Whether cpu.cpp can work with these: float32 on a CPU, where there is a compiler."""
    return build.kernel_for("hstu_branch", *weights)


def packed(weights: Sequence[Tensor]) -> Tensor:
    """The weights [N, D] of linear layers -> [layers, N / BLOCK, D, BLOCK]: columns of their products lie together."""
    wide = F.pad(torch.stack([x.detach() for x in weights]), (0, 0, 0, -len(weights[0]) % BLOCK))
    return wide.unflatten(1, (-1, BLOCK)).transpose(2, 3).contiguous()
