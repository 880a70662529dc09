"""The Transformer that one would write today, on scaled_dot_product_attention: what HSTU is measured beside."""

import torch.nn.functional as F
from torch import Tensor, nn


class SDPALayer(nn.Module):
    """Pre-norm, one product for q, k and v, GELU between width and 4 widths; on padded [B, N, D].

    No dropout of the attention weights: with it scaled_dot_product_attention keeps an [N, N] tensor on a CPU.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.hidden_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        qkv = self.qkv(self.attention_norm(x_BND)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))  # [B, H, N, K]
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x_BND = x_BND + F.dropout(self.out(a), self.dropout, self.training)
        hidden = F.dropout(F.gelu(self.inner(self.hidden_norm(x_BND))), self.dropout, self.training)
        return x_BND + F.dropout(self.outer(hidden), self.dropout, self.training)
