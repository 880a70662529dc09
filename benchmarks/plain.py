"""HSTU and SASRec with torch ops alone, nothing fused, on the parameters of Louder's own: what is measured beside."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import padded
from louder.batch import SequenceBatch
from louder.models import HSTU, HSTUConfig, SASRec, SASRecConfig, Vocabulary
from louder.models.hstu import HSTULayer
from louder.models.sasrec import SASRecLayer
from louder.models.sequential import NORM_EPS, layout_of
from louder.ops.hstu_attention import naive
from louder.ops.jagged import to_jagged, to_padded
from louder.results import Row

Attention = Callable[..., Tensor]  # called as louder.ops.hstu_attention


# the reference implementation with the call of the op, differentiated by autograd
naive_attention: Attention = partial(naive.hstu_attention, position_bias=None, time_bias=None)


def one_user_at_a_time(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *, scale: float, dropout: float) -> Tensor:
    """Causal softmax attention."""
    out = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        rows = slice(start, end)
        own = torch.tensor([0, end - start], device=q.device)
        out.append(padded.softmax_attention(q[rows], k[rows], v[rows], own, scale=scale, dropout=dropout))
    return torch.cat(out)


def layer_config(width: int, heads: int, length: int, *, bias: bool, dropout: float) -> HSTUConfig:
    """Of layers whose heads share the width, as those of a Transformer do."""
    sizes: Row = {"width": width, "qk_width": width // heads, "v_width": width // heads, "max_len": length}
    return HSTUConfig(heads=heads, **sizes, position_bias=bias, time_bias=bias, linear_dropout=dropout)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def hstu_layer(layer: HSTULayer, x_LD: Tensor, batch: SequenceBatch, attention: Attention) -> Tensor:
    """Equations 1 to 3 of the paper."""
    config = layer.config
    projected = F.silu(layer.uvqk(layer_norm(x_LD, NORM_EPS)))
    sizes = [config.heads * size for size in (config.v_width, config.v_width, config.qk_width, config.qk_width)]
    u, v, q, k = projected.split(sizes, dim=-1)
    a = attention(
        *(x.unflatten(-1, (config.heads, -1)) for x in (q, k, v)),
        layout_of(batch, config),
        scale=1 / config.max_len,
        position_bias=layer.position_bias,
        time_bias=layer.time_bias,
    )
    y = u * layer_norm(a.flatten(1), NORM_EPS)
    return x_LD + layer.out(F.dropout(y, config.linear_dropout, layer.training))


class PlainHSTU(HSTU):
    def __init__(self, config: HSTUConfig, vocabulary: Vocabulary, attention: Attention) -> None:
        super().__init__(config, vocabulary)
        self.attention = attention

    def transduce(self, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
        x_LD = x_LD * self.config.width**0.5 + self.positions(batch.positions())
        x_LD = F.dropout(x_LD, self.dropout, self.training)
        for layer in self.layers:
            x_LD = hstu_layer(layer, x_LD, batch, self.attention)  # type: ignore[arg-type]
        return x_LD


def sasrec_layer(layer: SASRecLayer, x_LD: Tensor, batch: SequenceBatch, attention: Attention) -> Tensor:
    config = layer.config
    rate = config.dropout if layer.training else 0.0
    query = layer_norm(x_LD, 1e-8)
    linears = (layer.q, query), (layer.k, x_LD), (layer.v, x_LD)
    q, k, v = (linear(x).unflatten(-1, (config.heads, -1)) for linear, x in linears)
    a = attention(q, k, v, batch.offsets, scale=q.shape[-1] ** -0.5, dropout=rate)
    z_LD = layer_norm(query + layer.out(a.flatten(1)), 1e-8)
    return z_LD + F.dropout(layer.outer(F.dropout(F.relu(layer.inner(z_LD)), rate)), rate)


class PlainSASRec(SASRec):
    """`padded`: as the official code, every history has max_len rows in every op; else one user at a time."""

    def __init__(self, config: SASRecConfig, vocabulary: Vocabulary, *, padded: bool) -> None:
        super().__init__(config, vocabulary)
        self.padded = padded

    def transduce(self, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
        given, length = batch, self.config.max_len
        if self.padded:
            x_LD = to_padded(x_LD, batch.offsets, length).flatten(0, 1)
            batch = pad(batch, length)
        x_LD = x_LD * self.config.width**0.5 + self.positions(batch.positions())
        x_LD = F.dropout(x_LD, self.dropout, self.training)
        attention = padded.softmax_attention if self.padded else one_user_at_a_time
        for layer in self.layers:
            x_LD = sasrec_layer(layer, x_LD, batch, attention)  # type: ignore[arg-type]
        if self.padded:
            x_LD = to_jagged(x_LD.unflatten(0, (given.users, length)), given.offsets, len(given.ids))
        return x_LD


def pad(batch: SequenceBatch, length: int) -> SequenceBatch:
    """The batch with rows of item 0 after each history, so that all have `length`."""
    fields: Row = {
        name: to_padded(getattr(batch, name), batch.offsets, length).flatten()
        for name in ("ids", "timestamps", "query_timestamps")
    }
    offsets = torch.arange(batch.users + 1, device=batch.offsets.device) * length
    return SequenceBatch(**fields, offsets=offsets)
