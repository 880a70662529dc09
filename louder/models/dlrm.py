"""DLRM with DIN, DCN and MMoE: the impression-level ranker that the paper compares with (its section 4.3 and figure 9).

Target attention (Zhou et al., 2018) summarises the history, cross layers (DCN-v2, Wang et al., 2021) mix all features,
and a multi-gate mixture of experts (MMoE, Ma et al., 2018) has a tower for each task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.config import require_at_least, require_fraction
from louder.data.attributes import Column
from louder.errors import InputError
from louder.models.embeddings import Vocabulary
from louder.models.features import FeaturesConfig, ImpressionModel, mlp


@dataclass(frozen=True, kw_only=True)
class DLRMConfig(FeaturesConfig):
    """Shape of one DLRM."""

    kind: Literal["dlrm"] = "dlrm"
    cross_layers: int = 2
    experts: int = 4
    expert_hidden: tuple[int, ...] = (128, 64)  # sizes of each expert's layers; the last is its output
    tower_hidden: int = 32
    dropout: float = 0.1  # in experts and towers

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "cross_layers", "experts", "tower_hidden", "expert_hidden")
        require_fraction("model", self, "dropout")
        if not self.expert_hidden:
            raise InputError("model.expert_hidden must have at least one size, but it is empty.")


class DLRM(ImpressionModel):
    def __init__(self, config: DLRMConfig, vocabulary: Vocabulary, item_attributes: Sequence[Column] = ()) -> None:
        super().__init__(config, vocabulary, item_attributes)
        width, tasks = self.features.count * config.width, vocabulary.actions + vocabulary.values
        self.crosses = nn.ModuleList(CrossLayer(width) for _ in range(config.cross_layers))
        self.mixture = MMoE(config, width, tasks)

    def scores(self, x: Tensor) -> Tensor:
        x0 = x = x.flatten(1)
        for cross in self.crosses:
            x = cross(x0, x)
        return self.mixture(x)


class CrossLayer(nn.Module):
    """x0 * (W x + b) + x, equation 1 of DCN-v2, with a full matrix W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return torch.addcmul(x, x0, self.linear(x))


class MMoE(nn.Module):
    """y_t = tower_t(sum over experts e of softmax(G_t x)_e f_e(x)), equations 5 to 7 of Ma et al.: [M, D] -> [M, T]"""

    def __init__(self, config: DLRMConfig, width: int, tasks: int) -> None:
        super().__init__()
        expert, tower = (width, *config.expert_hidden), (config.expert_hidden[-1], config.tower_hidden, 1)
        self.experts = nn.ModuleList(mlp(expert, config.dropout) for _ in range(config.experts))
        self.gates = nn.ModuleList(nn.Linear(width, config.experts, bias=False) for _ in range(tasks))
        self.towers = nn.ModuleList(mlp(tower, config.dropout) for _ in range(tasks))

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stack([F.relu(expert(x)) for expert in self.experts], dim=1)  # [M, E, H]
        scores = [
            tower(torch.einsum("me,meh->mh", gate(x).softmax(1), found)) for gate, tower in zip(self.gates, self.towers)
        ]
        return torch.cat(scores, dim=1)
