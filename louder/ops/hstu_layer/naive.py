"""One HSTU layer, the slow way: equations 1 to 3 as they are written, one tensor after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops.hstu_attention import hstu_attention
from louder.ops.layout import Layout
from louder.ops.random_bits import keep_factors

NORM_EPS = 1e-6


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def hstu_layer(
    x: Tensor,
    uvqk_weight: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    layout: Layout,
    *,
    heads: int,
    qk_width: int,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """See louder.ops.hstu_layer. Differentiable by plain autograd."""
    v_width = out_weight.shape[1] // heads
    projected = F.silu(layer_norm(x) @ uvqk_weight.T)  # (1)
    u, v, q, k = projected.split([heads * v_width] * 2 + [heads * qk_width] * 2, dim=1)
    q, k, v = (y.unflatten(1, (heads, -1)) for y in (q, k, v))
    a = hstu_attention(q, k, v, layout, scale=scale, position_bias=position_bias, time_bias=time_bias)  # (2)
    y = layer_norm(a.flatten(1)) * u
    if seed is not None:
        y = y * keep_factors(seed.to(y.device), dropout, y.shape, torch.float32).to(y.dtype)
    return x + y @ out_weight.T + out_bias  # (3)
