"""HSTU ("Actions Speak Louder than Words", section 2.2), with the details of the official research code."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.batch import SequenceBatch
from louder.config import require_at_least, require_fraction, require_one_of
from louder.models.embeddings import Vocabulary
from louder.models.kv_cache import AnyKVCache, Branch, NewTokens
from louder.models.sequential import BranchFunction, SequentialModel, WindowedConfig, layout_of, seen_by
from louder.ops import hstu_branch
from louder.ops.dropout import dropout
from louder.ops.hstu_attention import bucket_starts_on, compute, hstu_attention
from louder.ops.hstu_attention.naive import distances, time_buckets
from louder.ops.hstu_layer import hstu_layer, split
from louder.ops.hstu_layer.rows import implementation, layer_norm
from louder.ops.layout import Layout
from louder.ops.random_bits import new_seed
from louder.ops.softmax_attention import softmax_attention


@dataclass(frozen=True, kw_only=True)
class HSTUConfig(WindowedConfig):
    """Shape of one HSTU. Attention is scaled by 1 / max_len, whatever the batch."""

    kind: Literal["hstu"] = "hstu"
    qk_width: int = 50  # per head
    v_width: int = 50  # per head
    position_bias: bool = True  # rab by distance
    time_bias: bool = True  # rab by time
    time_buckets: int = 129
    attention: str = "silu"  # or "softmax", the paper's ablation
    gating: bool = True  # Norm(AV) * U; False leaves U out, an ablation
    linear_dropout: float = 0.2  # before each output projection

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "model", self, "qk_width", "v_width", "time_buckets")
        require_fraction("model", self, "linear_dropout")
        require_one_of("model", self, attention=("silu", "softmax"))


# weights and tables of all layers, as hstu_branch takes them
PackedLayers = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor]


class HSTU(SequentialModel):
    def __init__(self, config: HSTUConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.dropout = config.dropout
        self.keeps_kv = config.attention == "silu"  # with softmax it is an ablation
        self.positions = nn.Embedding(config.max_len, config.width)
        nn.init.xavier_normal_(self.positions.weight)
        self.layers = nn.ModuleList(HSTULayer(config) for _ in range(config.layers))

    def enter(self, x_LD: Tensor, batch: SequenceBatch) -> tuple[Tensor, ...]:
        x_LD = x_LD * self.config.width**0.5 + self.at(batch.positions())
        return (dropout(x_LD, self.dropout, self.training),)

    def at(self, positions: Tensor) -> Tensor:
        """[L, D] the vectors of positions. Those beyond the table share its last row, as distances do in the bias: a
        request can reach over the end of a window."""
        return self.positions(positions.clamp(max=self.config.max_len - 1))

    def extend(self, x_MD: Tensor, new: NewTokens, cache: AnyKVCache) -> Tensor:
        x_MD = x_MD * self.config.width**0.5 + self.at(new.positions)
        for number, layer in enumerate(self.layers):
            x_MD = layer.extend(x_MD, number, new, cache)  # type: ignore[operator]
        return x_MD

    def ready(self) -> BranchFunction:
        layers = [layer for layer in self.layers if isinstance(layer, HSTULayer)]
        linear = all(isinstance(x, nn.Linear) for layer in layers for x in (layer.uvqk, layer.out))
        if not layers[0].config.gating or not linear or not hstu_branch.available(*self.layers.parameters()):
            return self.branch
        return partial(self.branch_at_once, layers[0].config, packed(layers))

    def branch_at_once(
        self,
        config: HSTUConfig,
        layers: PackedLayers,
        x_MD: Tensor,
        branches: Sequence[Branch],
        *,
        keep: bool = False,
    ) -> Tensor:
        """`branch`, by one op for all layers."""
        keys = x_MD.new_empty(0, config.heads, config.qk_width), x_MD.new_empty(0, config.heads, config.v_width)
        held = [cache.reserve(seen + keep, *keys) for cache, seen, *_ in branches]
        if keep:
            for cache, seen, _, time, _ in branches:
                cache.note(seen, seen + 1, time, seen)
        positions = self.at(torch.tensor([x.seen for x in branches]))
        if not keep:
            positions = positions.repeat_interleave(torch.tensor([x.rows for x in branches]), dim=0)
        x_MD = torch.add(positions, x_MD, alpha=config.width**0.5)
        return torch.ops.louder_cpu.hstu_branch(
            x_MD, *layers, config.heads, config.qk_width, 1 / config.max_len, config.window, config.global_prefix,
            [k for k, _ in held], [v for _, v in held], [x.cache.times for x in branches],
            [x.cache.prefix_lengths for x in branches], [x.seen for x in branches], [x.rows for x in branches],
            [x.time for x in branches], [x.query_time for x in branches], keep,
        )  # fmt: skip


def packed(layers: "Sequence[HSTULayer]") -> PackedLayers:
    uvqk, out = (hstu_branch.packed([x.weight for x in some]) for some in zip(*((x.uvqk, x.out) for x in layers)))
    position, time = (
        None if rows[0] is None else torch.stack([x.detach() for x in rows if x is not None])
        for rows in ([x.position_bias for x in layers], [x.time_bias for x in layers])
    )
    starts = bucket_starts_on(torch.device("cpu"), layers[0].time_bias)
    return uvqk, out, torch.stack([x.out.bias.detach() for x in layers]), position, time, starts


class HSTULayer(nn.Module):
    """X + f2(Norm(A(X) V(X)) * U(X)), equations 1 to 3 of the paper; pre-norm, without affine parameters."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.config = config
        self.uvqk = nn.Linear(config.width, 2 * config.heads * (config.v_width + config.qk_width), bias=False)
        self.out = nn.Linear(config.heads * config.v_width, config.width)
        nn.init.normal_(self.uvqk.weight, std=0.02)
        nn.init.xavier_uniform_(self.out.weight)
        self.position_bias = bias_table(config.max_len) if config.position_bias else None
        self.time_bias = bias_table(config.time_buckets) if config.time_bias else None

    def forward(self, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
        config, layout = self.config, layout_of(batch, self.config)
        if config.attention == "softmax" or not config.gating:
            return self.ablated(x_LD, layout)
        uvqk, out = self.uvqk.weight, self.out.weight
        if torch.is_autocast_enabled(x_LD.device.type):
            dtype = torch.get_autocast_dtype(x_LD.device.type)
            uvqk, out = uvqk.to(dtype), out.to(dtype)
        return hstu_layer(
            x_LD,
            uvqk,
            out,
            self.out.bias,
            layout,
            heads=config.heads,
            qk_width=config.qk_width,
            scale=1 / config.max_len,
            dropout=config.linear_dropout,
            seed=new_seed() if self.training and config.linear_dropout > 0 else None,
            position_bias=self.position_bias,
            time_bias=self.time_bias,
        )

    def extend(self, x_MD: Tensor, number: int, new: NewTokens, cache: AnyKVCache) -> Tensor:
        """The layer for new tokens; `number` is its own, in the cache."""
        config = self.config
        layout = new.layout._replace(window=config.window, global_prefix=config.global_prefix)
        if config.gating and isinstance(self.uvqk, nn.Linear) and isinstance(self.out, nn.Linear):
            rows = implementation(x_MD, self.uvqk.weight, self.out.weight)
            u, v, q, k = split(rows.project(x_MD, self.uvqk.weight)[1], config.heads, config.qk_width)
            keys, values = cache.append(number, k, v)
            a = compute(q, keys, values, layout, 1 / config.max_len, self.position_bias, self.time_bias).flatten(1)
            return rows.output(x_MD, a, u, self.out.weight, self.out.bias, 0.0, None)
        u, v, q, k = split(F.silu(self.uvqk(layer_norm(x_MD)), inplace=True), config.heads, config.qk_width)
        keys, values = cache.append(number, k, v)
        a = compute(q, keys, values, layout, 1 / config.max_len, self.position_bias, self.time_bias).flatten(1)
        y = layer_norm(a)
        return x_MD + self.out(y * u if config.gating else y)

    def attention_weights(self, x_LD: Tensor, batch: SequenceBatch, row: int) -> Tensor:
        """[H, row + 1] of one user's token, over those up to itself; of SiLU without the constant scale"""
        config, positions = self.config, batch.positions()[: row + 1]
        _, _, q, k = split(F.silu(self.uvqk(layer_norm(x_LD[: row + 1]))), config.heads, config.qk_width)
        scores = torch.einsum("hk,nhk->hn", q[row], k)
        if config.attention == "softmax":
            scores = scores * config.qk_width**-0.5
        if self.position_bias is not None:
            scores = scores + self.position_bias[distances(positions[row:], positions, self.position_bias)[0]]
        if self.time_bias is not None:
            since = batch.query_timestamps[row] - batch.timestamps[: row + 1]
            scores = scores + self.time_bias[time_buckets(since, len(self.time_bias))]
        seen = seen_by(batch, row, config)
        if config.attention == "softmax":
            return scores.masked_fill(~seen, -torch.inf).softmax(1)
        return F.silu(scores) * seen

    def ablated(self, x_LD: Tensor, layout: Layout) -> Tensor:
        """With softmax, or without the gate."""
        config = self.config
        u, v, q, k = split(F.silu(self.uvqk(layer_norm(x_LD))), config.heads, config.qk_width)  # (1)
        silu = config.attention == "silu"
        attention = hstu_attention if silu else softmax_attention
        scale = 1 / config.max_len if silu else config.qk_width**-0.5
        a = attention(q, k, v, layout, scale=scale, position_bias=self.position_bias, time_bias=self.time_bias)  # (2)
        y = layer_norm(a.flatten(1)) * (u if config.gating else 1)
        return x_LD + self.out(dropout(y, config.linear_dropout, self.training))  # (3)


def bias_table(rows: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows).normal_(std=0.02))
