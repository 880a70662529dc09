"""Random numbers that are a function of a seed and a counter, so that nobody has to store them: a backward pass, another
kernel or another device draws the same ones again. simd.h has the same function in C++."""

import torch
from torch import Tensor

MASK = (1 << 32) - 1


def new_seed() -> Tensor:
    """[1] int64 on the CPU, from torch's generator"""
    return torch.randint(-(1 << 63), (1 << 63) - 1, (1,))


def random_bits(seed: Tensor, first: int, count: int) -> Tensor:
    """[count] int64, each 32 random bits, for the counters first, first + 1, ... (mod 2^32), on seed's device."""
    counter = torch.arange(first, first + count, device=seed.device) & MASK
    low, high = seed & MASK, (seed >> 32) & MASK
    return mix(mix(counter ^ high) ^ low)


def mix(x: Tensor) -> Tensor:
    """32 bits in, 32 bits out, each of which depends on all of them (the "lowbias32" constants of C. Wellons, public
    domain). One round of two multiplications maps neighbours far apart; two rounds keep seeds apart."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def keep_factors(seed: Tensor, probability: float, shape: torch.Size, dtype: torch.dtype, first: int = 0) -> Tensor:
    """[shape] of 0, with `probability` rounded to a multiple of 1 / 65536, and else 1 / (1 - probability).

    Two neighbours share 32 bits: the even one takes the low half. `first`, which is even, is the
    number of the first element, for a part of something larger.
    """
    count, dropped = shape.numel(), threshold(probability)
    bits = random_bits(seed, first // 2, (count + 1) // 2)
    halves = torch.stack([bits & 0xFFFF, bits >> 16], dim=1).flatten()[:count].view(shape)
    return (halves >= dropped).to(dtype) * kept_scale(probability)


def threshold(probability: float) -> int:
    return round(probability * 65536)


def kept_scale(probability: float) -> float:
    return 65536 / (65536 - threshold(probability))


def random_items(seed: Tensor, rows: int, count: int, items: int) -> Tensor:
    """[rows, count] int64, each of `items` equally likely (to 1 part in 2^32 / items), with replacement."""
    return (random_bits(seed, 0, rows * count) * items >> 32).view(rows, count)
