"""Where negatives come from."""

import numpy as np
import pytest
import torch

from louder.data import negatives


def generator():
    return torch.Generator().manual_seed(0)


def test_uniform_draws_cover_the_catalogue_evenly():
    drawn = negatives.uniform(100, 200, 20, generator=generator())
    assert drawn.shape == (100, 200)
    assert drawn.dtype == torch.int64
    share = np.bincount(drawn.flatten(), minlength=20) / drawn.numel()
    assert share == pytest.approx(np.full(20, 1 / 20), abs=0.01)
    assert not torch.equal(drawn[0], drawn[1])  # each row on its own


def test_popularity_draws_follow_the_frequencies():
    popularity = torch.tensor([1.0, 0, 2, 5, 0, 2], dtype=torch.float64) / 10
    drawn = negatives.popularity(100, 300, popularity.cumsum(0), generator=generator())
    share = np.bincount(drawn.flatten(), minlength=6) / drawn.numel()
    assert share == pytest.approx(popularity.numpy(), abs=0.01)
    assert share[1] == share[4] == 0


def test_a_total_just_under_one_still_gives_items_of_the_catalogue():
    drawn = negatives.popularity(10, 1000, torch.tensor([0.2, 0.4], dtype=torch.float64), generator=generator())
    assert set(drawn.flatten().tolist()) == {0, 1}


def test_in_batch_draws_can_be_fewer_rows_than_there_are_targets():
    assert negatives.in_batch(torch.tensor([7, 7, 3]), 50, rows=1, generator=generator()).shape == (1, 50)


def test_in_batch_draws_are_items_of_the_batch_by_how_often_they_are_there():
    drawn = negatives.in_batch(torch.tensor([7, 7, 7, 3]), 5000, generator=generator())
    assert drawn.shape == (4, 5000)
    assert set(drawn.flatten().tolist()) == {3, 7}
    assert (drawn == 7).double().mean().item() == pytest.approx(3 / 4, abs=0.02)


def test_the_same_generator_gives_the_same_draws():
    assert torch.equal(
        negatives.uniform(3, 4, 9, generator=generator()), negatives.uniform(3, 4, 9, generator=generator())
    )


def test_the_generator_alone_decides_every_draw():
    frequencies = torch.tensor([1.0, 0, 2, 5, 0, 2], dtype=torch.float64).cumsum(0) / 10
    for draw in (
        lambda: negatives.in_batch(torch.arange(50), 40, generator=generator()),
        lambda: negatives.popularity(5, 40, frequencies, generator=generator()),
    ):
        torch.manual_seed(1)
        first = draw()
        assert torch.equal(draw(), first)
