"""Dropout on a GPU: one pass, which computes what is dropped."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from louder.ops.random_bits import kept_scale, threshold
from louder.ops.random_bits_triton import halves, keep_factors

BLOCK = 2048


@triton.jit(do_not_specialize=["dropped", "low", "high"])
def dropout_kernel(out, x, count, dropped, scale, low, high, BLOCK: tl.constexpr):
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + element, mask=element < count, other=0.0).to(tl.float32)
    value *= keep_factors(element, dropped, scale, low, high)
    tl.store(out + element, value.to(out.dtype.element_ty), mask=element < count)


def dropout(x: Tensor, probability: float, seed: int) -> Tensor:
    """See seeded_dropout; x of any shape, float32 or shorter."""
    x = x.contiguous()
    out = torch.empty_like(x)
    if x.numel():
        with torch.cuda.device_of(x):
            dropout_kernel[(triton.cdiv(x.numel(), BLOCK),)](
                out, x, x.numel(), threshold(probability), kept_scale(probability), *halves(seed), BLOCK=BLOCK
            )
    return out
