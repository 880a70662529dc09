"""What a generative ranker takes beside its states: crosses of a candidate with what a history does not tell.

"Actions Speak Louder than Words" drops counters and crosses, since a long history holds what they say of a user. What
everybody did with an item no history holds, and a short one holds little. So a head of cross layers (DCN-v2, Wang et al.,
2021) stands beside the ranker's own, and their outputs are added up.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from louder.models.dlrm import CrossLayer
from louder.models.features import RunningNorm, mlp
from louder.models.sequential import NORM_EPS

COUNTER_PARTS = 2  # vectors that all counters together become


class Beside(NamedTuple):
    """Of M exposures, besides their states.

    items     [M, D] vectors of the items' tokens
    users     [M, D] the vectors of the users' attributes, added up; None where there are none
    counters  [M, F] float32 of the items as of the request; None where the model reads none
    """

    items: Tensor
    users: Tensor | None
    counters: Tensor | None


class CrossHead(nn.Module):
    """Cross layers over [state, item, attributes of the user, counters], each a vector of one width, and an MLP.

        forward(states [M, D], beside) -> [M, T], zeros at first: a ranker begins as what it is without

    users, counters  whether there are attributes of users, and how many counters
    Each exposure is computed by itself, so candidates do not see each other here either.
    """

    def __init__(self, width: int, *, users: bool, counters: int, tasks: int, size: int, layers: int) -> None:
        super().__init__()
        self.state = nn.Sequential(nn.LayerNorm(width, eps=NORM_EPS), nn.Linear(width, size))
        self.item = nn.Sequential(nn.LayerNorm(width, eps=NORM_EPS), nn.Linear(width, size))
        self.user = nn.Sequential(nn.LayerNorm(width, eps=NORM_EPS), nn.Linear(width, size)) if users else None
        self.norm = RunningNorm(counters) if counters else None
        self.counters = mlp([counters, 4 * size, COUNTER_PARTS * size], 0.0) if counters else None
        crossed = size * (2 + users + COUNTER_PARTS * (counters > 0))
        self.crosses = nn.ModuleList(CrossLayer(crossed) for _ in range(layers))
        self.out = mlp([crossed, 2 * size, tasks], 0.0)
        nn.init.zeros_(self.out[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out[-1].bias)  # type: ignore[arg-type]

    def forward(self, states: Tensor, beside: Beside) -> Tensor:
        parts = [self.state(states), self.item(beside.items)]
        if self.user is not None:
            assert beside.users is not None, "the model has attributes of users, but there are none"
            parts.append(self.user(beside.users))
        if self.norm is not None and self.counters is not None:
            assert beside.counters is not None, "the model reads counters, but there are none"
            parts.append(self.counters(self.norm(beside.counters).to(states.dtype)))
        x0 = x = torch.cat(parts, dim=1)
        for cross in self.crosses:
            x = cross(x0, x)
        return self.out(x)
