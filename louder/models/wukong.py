"""Wukong ("Wukong: Towards a Scaling Law for Large-Scale Recommendation", Zhang et al., 2024): stacked factorization
machines, of which layer i mixes features up to order 2^i."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from louder.config import require_at_least, require_fraction
from louder.data.attributes import Column
from louder.models.embeddings import Vocabulary
from louder.models.features import FeaturesConfig, ImpressionModel, mlp


@dataclass(frozen=True, kw_only=True)
class WukongConfig(FeaturesConfig):
    """Shape of one Wukong. The paper scales `layers` first, then `fmb`, `lcb`, `rank` and the MLPs together."""

    kind: Literal["wukong"] = "wukong"
    layers: int = 2
    fmb: int = 8  # vectors made by a layer's factorization machine block, n_F
    lcb: int = 8  # vectors made by its linear compression block, n_L
    rank: int = 8  # k, the columns of Y
    fmb_hidden: tuple[int, ...] = (256,)  # hidden sizes of a factorization machine block's MLP
    hidden: tuple[int, ...] = (256,)  # hidden sizes of the final MLP
    dropout: float = 0.1  # in the MLPs

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "layers", "fmb", "lcb", "rank", "fmb_hidden", "hidden")
        require_fraction("model", self, "dropout")


class Wukong(ImpressionModel):
    def __init__(self, config: WukongConfig, vocabulary: Vocabulary, item_attributes: Sequence[Column] = ()) -> None:
        super().__init__(config, vocabulary, item_attributes)
        counts = [self.features.count, *[config.fmb + config.lcb] * config.layers]
        self.layers = nn.Sequential(*(WukongLayer(config, count) for count in counts[:-1]))
        sizes = [counts[-1] * config.width, *config.hidden, vocabulary.actions + vocabulary.values]
        self.head = mlp(sizes, config.dropout)

    def scores(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).flatten(1))


class WukongLayer(nn.Module):
    """LN(concat(FMB(X), LCB(X)) + X): [M, n, D] -> [M, n_F + n_L, D]; the residual is compressed where n differs."""

    def __init__(self, config: WukongConfig, count: int) -> None:
        super().__init__()
        made = config.fmb + config.lcb
        self.fmb = FactorizationMachineBlock(config, count)
        self.lcb = Compression(count, config.lcb)
        self.residual = nn.Identity() if count == made else Compression(count, made)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.cat([self.fmb(x), self.lcb(x)], dim=1) + self.residual(x))


class FactorizationMachineBlock(nn.Module):
    """reshape(MLP(LN(flatten(FM(X))))), with the optimised FM(X) = X (X^T Y) of rank k: [M, n, D] -> [M, n_F, D]"""

    def __init__(self, config: WukongConfig, count: int) -> None:
        super().__init__()
        self.y = nn.Parameter(torch.empty(count, config.rank))
        nn.init.xavier_uniform_(self.y)
        products = count * config.rank
        self.norm = nn.LayerNorm(products)
        self.mlp = mlp([products, *config.fmb_hidden, config.fmb * config.width], config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        products = x @ (x.transpose(1, 2) @ self.y)  # [M, n, k]
        return self.mlp(self.norm(products.flatten(1))).unflatten(1, (-1, x.shape[2]))


class Compression(nn.Module):
    """W X: m vectors, each a weighted sum of the n given: [M, n, D] -> [M, m, D]"""

    def __init__(self, count: int, made: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(made, count))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x
