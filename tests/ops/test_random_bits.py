import pytest
import torch

from louder.ops.random_bits import keep_factors, kept_scale, mix, new_seed, random_bits, random_items


def test_bits_are_a_function_of_seed_and_counter():
    seed = torch.tensor([77])
    bits = random_bits(seed, 0, 1000)
    assert torch.equal(bits[300:400], random_bits(seed, 300, 100))
    assert not torch.equal(bits, random_bits(torch.tensor([78]), 0, 1000))
    assert not torch.equal(bits[1:], random_bits(torch.tensor([78]), 0, 999))  # seeds are not shifts of each other
    assert not torch.equal(bits, random_bits(torch.tensor([77 + (1 << 32)]), 0, 1000))
    assert bits.min() >= 0
    assert bits.max() < 1 << 32


def test_every_bit_is_set_half_of_the_time_and_alone():
    bits = random_bits(torch.tensor([3]), 0, 1 << 16)
    ones = (bits[:, None] >> torch.arange(32)) & 1
    assert (ones.double().mean(0) - 0.5).abs().max() < 0.01
    correlation = torch.corrcoef(ones.double().T)
    assert (correlation - torch.eye(32)).abs().max() < 0.02
    neighbours = (ones[1:] == ones[:-1]).double().mean(0)
    assert (neighbours - 0.5).abs().max() < 0.01


def test_mix_loses_nothing():
    x = torch.randint(0, 1 << 32, (100_000,)).unique()
    assert len(mix(x).unique()) == len(x)


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 0.9])
def test_keep_factors_keep_the_mean(probability):
    factors = keep_factors(new_seed(), probability, torch.Size([1000, 333]), torch.float64)
    assert set(factors.unique().tolist()) <= {0.0, kept_scale(probability)}
    assert abs((factors == 0).double().mean() - probability) < 0.005
    assert abs(factors.mean() - 1) < 0.02


def test_items_are_drawn_alike():
    drawn = random_items(new_seed(), 1000, 128, 37)
    counts = torch.bincount(drawn.flatten(), minlength=37)
    expected = 128_000 / 37
    assert ((counts - expected) ** 2 / expected).sum() < 80  # chi-square with 36 degrees of freedom: p < 1e-4
    assert drawn.min() == 0
    assert drawn.max() == 36


def test_a_part_has_the_factors_of_the_whole():
    seed, dtype = torch.tensor([5]), torch.float32
    whole = keep_factors(seed, 0.3, torch.Size([1000]), dtype)
    for first in 0, 2, 400:
        part = keep_factors(seed, 0.3, torch.Size([100]), dtype, first)
        assert torch.equal(part, whole[first : first + 100])


def test_what_is_kept_is_scaled_by_the_rounded_probability():
    for probability in 0.1, 0.3, 0.5:
        assert kept_scale(probability) * (65536 - round(probability * 65536)) == pytest.approx(65536, rel=1e-12)


def test_a_seed_comes_from_torchs_generator():
    torch.manual_seed(1)
    first = new_seed()
    assert not torch.equal(first, new_seed())
    torch.manual_seed(1)
    assert torch.equal(first, new_seed())
