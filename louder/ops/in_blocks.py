"""A sum over rows, whose gradient is computed block by block while the sum is."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from louder.ops.autograd import Context


def sum_in_blocks(
    function: Callable[..., Tensor], size: int, by_row: Sequence[Tensor], whole: Sequence[Tensor]
) -> Tensor:
    """The sum of function(*rows, *whole), a scalar, over blocks of `size` rows of the tensors `by_row` [N, ...].

    What a block keeps for its backward pass is gone before the next block begins: the largest of it is of `size` rows,
    not of N, and nothing is computed twice. Only the first derivative exists.
    """
    return SumInBlocks.apply(function, size, len(by_row), *by_row, *whole)


class SumInBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, function: Callable[..., Tensor], size: int, count: int, *tensors: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[3:]
        whole = [x.detach().requires_grad_(need) for x, need in zip(tensors[count:], needed[count:])]
        row_grads: list[list[Tensor]] = [[] for _ in range(count)]
        total = torch.zeros(())
        for parts in zip(*(x.split(size) for x in tensors[:count])):
            rows = [x.detach().requires_grad_(need) for x, need in zip(parts, needed)]
            with torch.enable_grad():
                value = function(*rows, *whole)
                if any(needed):
                    value.backward()
            total = total.to(value) + value.detach()
            for grads, x in zip(row_grads, rows):
                if x.requires_grad:
                    grads.append(x.grad if x.grad is not None else torch.zeros_like(x))
        ctx.constants = *(torch.cat(grads) if grads else None for grads in row_grads), *(x.grad for x in whole)
        return total

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(None if x is None else x * grad for x in ctx.constants)
