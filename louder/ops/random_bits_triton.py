"""random_bits in Triton: the same 32 bits for a seed and a counter. A seed goes to a kernel in two halves, `low` and `high`."""

import triton
import triton.language as tl


def halves(seed: int) -> tuple[int, int]:
    """The low and the high 32 bits, as signed integers: so that a kernel is compiled for one type of them."""
    low, high = (half - (half >> 31 << 32) for half in (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
    return low, high


@triton.jit
def mix(x):
    """random_bits.mix, of uint32"""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def random_bits(counter, low, high):
    """random_bits.random_bits of any integers (mod 2^32): uint32"""
    return mix(mix(counter.to(tl.uint32) ^ high.to(tl.uint32, bitcast=True)) ^ low.to(tl.uint32, bitcast=True))


@triton.jit
def keep_factors(element, dropped, scale, low, high):
    """random_bits.keep_factors of these elements (int64): 0 or `scale`, with `dropped` of 65536 zeros."""
    bits = random_bits(element // 2, low, high)
    half = tl.where(element % 2 == 0, bits & 0xFFFF, bits >> 16).to(tl.int32)
    return tl.where(half >= dropped, scale, 0.0)
