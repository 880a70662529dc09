"""Cross-entropy of the next item against sampled negatives, scored by a mixture of logits (MoL)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from louder.ops import build
from louder.ops.autograd import Context
from louder.ops.mixture_softmax import naive
from louder.ops.mixture_softmax.naive import mixture, pair_logits
from louder.ops.random_bits import kept_scale, threshold

__all__ = ["mixture", "mixture_softmax", "pair_logits"]


def mixture_softmax(
    positive: Tensor,
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    negatives: Tensor,
    cross: Sequence[Tensor],
    *,
    components: tuple[int, int],
    temperature: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    """The sum over rows of logsumexp(positive, phi of the negatives) - positive. See naive.mixture for phi.

        positive     [N]       phi of each row's target
        queries      [N, P_q * K + L]  components, then gate inputs
        items        [I, P_x * K + L]  the same of each item
        targets      [N]       int64; a negative that is its row's target is left out
        negatives    [N, R]    int64
        cross        weights of the gate that sees the logits
        components   P_q, P_x
        dropout      of pi, drawn from `seed` [1]; 0 or no seed = none
        log_weights  [I]       log of how often each item is drawn; None if all alike. No gradient

    The gradient is computed beside the value, in blocks of rows, so no tensor of all pairs is made. Only the first
    derivative exists.
    """
    sizes = queries.shape[1] - components[0] * components[1], *cross[0].shape
    tensors = positive, queries, items, *cross, log_weights
    if all(size % 16 == 0 for size in sizes) and build.kernel_for("mixture_softmax", *tensors):
        drawn = (0 if seed is None else threshold(dropout)), kept_scale(dropout), 0 if seed is None else int(seed)
        constants = targets, negatives, *components, temperature, *drawn, log_weights
        return MixtureSoftmax.apply(positive, queries, items, *cross, constants)
    return naive.mixture_softmax(
        positive, queries, items, targets, negatives, cross, components, temperature, dropout, seed, log_weights
    )


class MixtureSoftmax(torch.autograd.Function):
    """cpu.cpp, for rows of whole vectors"""

    @staticmethod
    def forward(ctx: Context, *inputs: Any) -> Tensor:
        """The tensors that get a gradient, then a tuple of the kernel's other arguments."""
        *tensors, constants = inputs
        loss, *gradients = torch.ops.louder_cpu.mixture_softmax(*tensors, *constants)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(x * grad for x in ctx.saved_tensors), None
