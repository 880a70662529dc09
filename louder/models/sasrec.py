"""SASRec (Kang and McAuley, 2018), with the details of the official generative-recommenders baseline."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import SequenceBatch
from louder.config import require_at_least
from louder.errors import InputError
from louder.models.embeddings import Vocabulary
from louder.models.sequential import SequentialConfig, SequentialModel
from louder.ops.dropout import dropout
from louder.ops.layout import Layout
from louder.ops.softmax_attention import softmax_attention

NORM_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(SequentialConfig):
    """Shape of one SASRec. Dropout is everywhere: of the input, the attention weights and the feed-forward part."""

    kind: Literal["sasrec"] = "sasrec"
    hidden: int = 50  # of the feed-forward part

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "hidden")
        if self.width % self.heads:
            raise InputError(f"model.width is {self.width}, but it must be a multiple of model.heads, {self.heads}.")


class SASRec(SequentialModel):
    def __init__(self, config: SASRecConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.dropout = config.dropout
        self.positions = nn.Embedding(config.max_len, config.width)
        deviation = config.width**-0.5
        nn.init.trunc_normal_(self.positions.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        self.layers = nn.ModuleList(SASRecLayer(config) for _ in range(config.layers))

    def enter(self, x_LD: Tensor, batch: SequenceBatch) -> tuple[Tensor, ...]:
        x_LD = x_LD * self.config.width**0.5 + self.positions(batch.positions())
        return (dropout(x_LD, self.dropout, self.training),)


class SASRecLayer(nn.Module):
    """z = LN(q + attention(q, x, x)) with q = LN(x); then z + FFN(z). Keys and values are not normalised."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.inner, self.outer = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        for linear in self.q, self.k, self.v, self.out, self.inner, self.outer:
            nn.init.xavier_normal_(linear.weight)

    def forward(self, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
        config = self.config
        query = layer_norm(x_LD)
        q, k, v = self.heads(self.q, query), self.heads(self.k, x_LD), self.heads(self.v, x_LD)
        rate = config.dropout if self.training else 0.0
        a = softmax_attention(q, k, v, Layout(batch.offsets), scale=q.shape[-1] ** -0.5, dropout=rate)
        z_LD = layer_norm(query + self.out(a.flatten(1)))
        hidden = dropout(F.relu(self.inner(z_LD)), config.dropout, self.training)
        return z_LD + dropout(self.outer(hidden), config.dropout, self.training)

    def heads(self, linear: nn.Linear, x_LD: Tensor) -> Tensor:
        """[L, H, K]"""
        return linear(x_LD).unflatten(-1, (self.config.heads, -1))

    def attention_weights(self, x_LD: Tensor, batch: SequenceBatch, row: int) -> Tensor:
        """[H, row + 1] of one user's token, over those up to itself"""
        q, k = self.heads(self.q, layer_norm(x_LD[row])), self.heads(self.k, x_LD[: row + 1])
        return (torch.einsum("hk,nhk->hn", q, k) * q.shape[-1] ** -0.5).softmax(1)


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
