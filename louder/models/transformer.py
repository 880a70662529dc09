"""The paper's Transformer++, as LLaMA (Touvron et al., 2023): RMSNorm, rotary positions, SwiGLU."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import SequenceBatch
from louder.config import require_at_least
from louder.errors import InputError
from louder.models.embeddings import Vocabulary
from louder.models.kv_cache import AnyKVCache, NewTokens
from louder.models.sequential import SequentialModel, WindowedConfig, layout_of, seen_by
from louder.ops.dropout import dropout
from louder.ops.softmax_attention import softmax_attention


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(WindowedConfig):
    """Shape of one Transformer. Dropout is of the input and of both residual branches; max_len is a limit only."""

    kind: Literal["transformer"] = "transformer"
    hidden: int = 136  # of SwiGLU; 8/3 of the width has as many parameters as 4 times the width without a gate
    rope_base: float = 10000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "hidden")
        if self.width % (2 * self.heads):
            raise InputError(
                f"model.width is {self.width}, but rotary positions need a multiple of twice model.heads, {2 * self.heads}."
            )


class Transformer(SequentialModel):
    keeps_kv = True

    def __init__(self, config: TransformerConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.dropout, self.rope_base = config.dropout, config.rope_base
        self.head_width = config.width // config.heads
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)

    def enter(self, x_LD: Tensor, batch: SequenceBatch) -> tuple[Tensor, ...]:
        x_LD = dropout(x_LD * self.config.width**0.5, self.dropout, self.training)
        return x_LD, rotation(batch.positions(), self.head_width, self.rope_base)

    def leave(self, x_LD: Tensor) -> Tensor:
        return self.norm(x_LD)

    def extend(self, x_MD: Tensor, new: NewTokens, cache: AnyKVCache) -> Tensor:
        x_MD = x_MD * self.config.width**0.5
        turn = rotation(new.positions, self.head_width, self.rope_base)
        for number, layer in enumerate(self.layers):
            x_MD = layer.extend(x_MD, number, new, cache, turn)  # type: ignore[operator]
        return self.norm(x_MD)


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = nn.RMSNorm(config.width, eps=1e-6)
        self.hidden_norm = nn.RMSNorm(config.width, eps=1e-6)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.gate_and_up = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)
        for linear in self.qkv, self.out, self.gate_and_up, self.down:
            nn.init.normal_(linear.weight, std=0.02)

    def forward(self, x_LD: Tensor, batch: SequenceBatch, turn: Tensor) -> Tensor:
        q, k, v = self.projected(x_LD, turn)
        a = softmax_attention(q, k, v, layout_of(batch, self.config), scale=q.shape[-1] ** -0.5)
        return self.finish(x_LD, a)

    def extend(self, x_MD: Tensor, number: int, new: NewTokens, cache: AnyKVCache, turn: Tensor) -> Tensor:
        """The layer for new tokens; `number` is its own, in the cache."""
        q, k, v = self.projected(x_MD, turn)
        keys, values = cache.append(number, k, v)
        layout = new.layout._replace(window=self.config.window, global_prefix=self.config.global_prefix)
        a = softmax_attention(q, keys, values, layout, scale=q.shape[-1] ** -0.5)
        return self.finish(x_MD, a)

    def projected(self, x_LD: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v [L, H, K] of the attention, turned by their positions"""
        q, k, v = self.qkv(self.attention_norm(x_LD)).unflatten(-1, (3, self.config.heads, -1)).unbind(1)
        return rotate(q, turn), rotate(k, turn), v

    def attention_weights(self, x_LD: Tensor, batch: SequenceBatch, row: int, turn: Tensor) -> Tensor:
        """[H, row + 1] of one user's token, over those up to itself"""
        q, k, _ = self.projected(x_LD, turn)
        scores = torch.einsum("hk,nhk->hn", q[row], k[: row + 1]) * q.shape[-1] ** -0.5
        return scores.masked_fill(~seen_by(batch, row, self.config), -torch.inf).softmax(1)

    def finish(self, x_LD: Tensor, a: Tensor) -> Tensor:
        """What comes after attention, a [L, H, K]."""
        config = self.config
        x_LD = x_LD + dropout(self.out(a.flatten(1)), config.dropout, self.training)
        gate, up = self.gate_and_up(self.hidden_norm(x_LD)).chunk(2, dim=-1)
        return x_LD + dropout(self.down(F.silu(gate) * up), config.dropout, self.training)


def rotation(positions: Tensor, width: int, base: float) -> Tensor:
    """[2, L, 1, width / 2] cosine and sine of each position's angles (Su et al., 2021)"""
    frequency = base ** (-torch.arange(0, width, 2, device=positions.device) / width)
    angle = positions[:, None, None] * frequency
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """x [L, H, K] with each pair (x[i], x[i + K/2]) turned by its angle"""
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
