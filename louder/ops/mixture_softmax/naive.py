"""A mixture of logits, and a sampled softmax over it, as the equations say it. L = P_q * P_x logits of a pair, item
components outside: l = j * P_q + i."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.ops.in_blocks import sum_in_blocks
from louder.ops.random_bits import keep_factors

EPS = 1e-6
BLOCK_PAIRS = 1 << 14  # of a row and a negative


def pair_logits(queries: Tensor, candidates: Tensor, components: tuple[int, int], temperature: float) -> Tensor:
    """queries [N, P_q * K + L], candidates [N, C, P_x * K + L] or [1, C, ...]  ->  [N, C, L]"""
    of_query, of_item = components
    gates = of_query * of_item
    f = queries[:, :-gates].unflatten(-1, (of_query, -1))
    g = candidates[..., :-gates].unflatten(-1, (of_item, -1))
    products = g.flatten(1, 2) @ f.mT  # [N, C * P_x, P_q]
    return products.view(len(queries), candidates.shape[1], gates) / temperature


def mixture(logits: Tensor, gates: Tensor, cross: Sequence[Tensor], keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """phi [...] and pi [..., L] of logits [..., L].

    gates  [..., L]  the query's gate inputs times the item's
    cross  the weights [H, L], [H], [L, H], [L] of the gate that sees the logits
    keep   [..., L]  factors of a dropout of pi, what is left of which is scaled to the sum 1; None = no dropout

    phi = sum of pi * logits,    pi = softmax(silu(gates + cross(logits)))
    """
    w1, b1, w2, b2 = cross
    inputs = gates + F.linear(F.silu(F.linear(logits, w1, b1)), w2, b2)
    probabilities = F.silu(inputs).softmax(dim=-1)
    if keep is not None:
        probabilities = probabilities * keep
        probabilities = probabilities / probabilities.sum(-1, keepdim=True).clamp(min=EPS)
    return (probabilities * logits).sum(-1), probabilities


def mixture_softmax(
    positive: Tensor,
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    negatives: Tensor,
    cross: Sequence[Tensor],
    components: tuple[int, int],
    temperature: float,
    dropout: float,
    seed: Tensor | None,
    log_weights: Tensor | None,
) -> Tensor:
    """See louder.ops.mixture_softmax. [L, R, ...] exists for a block of rows at a time."""
    gates = components[0] * components[1]

    def block(
        positive: Tensor, queries: Tensor, numbers: Tensor, targets: Tensor, negatives: Tensor, *others: Tensor
    ) -> Tensor:
        items, *cross = others
        candidates = items[negatives]
        keep = None
        if dropout and seed is not None:
            first = int(numbers[0]) * negatives.shape[1] * gates
            shape = torch.Size([*negatives.shape, gates])
            keep = keep_factors(seed.to(items.device), dropout, shape, items.dtype, first)
        logits = pair_logits(queries, candidates, components, temperature)
        negative, _ = mixture(logits, queries[:, None, -gates:] * candidates[..., -gates:], cross, keep)
        negative = negative.masked_fill(negatives == targets[:, None], -torch.inf)
        if log_weights is not None:
            positive, negative = positive - log_weights[targets], negative - log_weights[negatives]
        scores = torch.cat([positive[:, None], negative], dim=1)
        return (scores.logsumexp(dim=1) - scores[:, 0]).sum()

    numbers = torch.arange(len(targets))
    size = max(1, BLOCK_PAIRS // negatives.shape[1])
    return sum_in_blocks(block, size, (positive, queries, numbers, targets, negatives), (items, *cross))
