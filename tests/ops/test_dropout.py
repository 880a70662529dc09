import torch

from louder.ops.dropout import dropout


def test_drops_the_share_it_is_told_and_scales_the_rest():
    torch.manual_seed(0)
    x = torch.ones(1001, 999)
    y = dropout(x, 0.2, True)
    assert abs(float((y == 0).double().mean()) - 0.2) < 0.002
    kept = y[y != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1.25), rtol=1e-4)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    dropped = dropout(torch.ones(400_000), 0.5, True).view(-1, 4) == 0  # the four that share a draw
    counts = torch.bincount(dropped.sum(1), minlength=5) / 100_000
    expected = torch.tensor([1, 4, 6, 4, 1]) / 16
    assert torch.allclose(counts, expected, atol=0.006)


def test_the_gradient_passes_what_the_output_kept():
    torch.manual_seed(0)
    x = torch.randn(50, 7, requires_grad=True)
    y = dropout(x, 0.3, True)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)


def test_does_nothing_when_it_should_not():
    x = torch.randn(5)
    assert dropout(x, 0.2, False) is x
    assert dropout(x, 0.0, True) is x
