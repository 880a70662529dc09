import pytest
import torch

from louder.ops.in_blocks import sum_in_blocks


def function(x, numbers, table, unused):
    return ((x @ table.T).tanh() * numbers[:, None]).sum()


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_value_and_gradients_are_those_of_one_block(size):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, generator=random, requires_grad=True)
    table = torch.randn(4, 3, generator=random, requires_grad=True)
    numbers, unused = torch.arange(7), torch.ones(2, requires_grad=True)
    found = sum_in_blocks(function, size, (x, numbers), (table, unused)) * 3
    expected = function(x, numbers, table, unused) * 3
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad(found, (x, table, unused), allow_unused=True)
    theirs = torch.autograd.grad(expected, (x, table, unused), allow_unused=True)
    torch.testing.assert_close(ours[:2], theirs[:2])
    assert ours[2] is theirs[2] is None


def test_without_gradients_it_is_a_sum():
    x, numbers, table = torch.ones(5, 3), torch.ones(5), torch.ones(4, 3)
    torch.testing.assert_close(sum_in_blocks(function, 2, (x, numbers), (table, x)), 20 * torch.tensor(3.0).tanh())
