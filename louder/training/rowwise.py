"""Optimizers of embedding tables [I, D]: one second moment a row, and only the rows used are read or written.

An update is lazy. A row without a gradient does not move, is not decayed and keeps its moments; it counts its own steps
for the bias correction. So it ends where it would be if the steps that did not use it had never been.

The rows used are those of a sparse gradient (one that occurs twice is added up first), and all rows of a dense one.
The order of every sum is fixed: the same gradients give the same bits.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

Group = dict[str, Any]  # a group of an optimizer: its tables and settings
Rows = Tensor | slice


class Rowwise(torch.optim.Optimizer):
    """Base of the two. A child says what it keeps of a table and how its rows move."""

    def new_state(self, table: Tensor, group: Group) -> dict[str, Tensor]:
        raise NotImplementedError

    def moved(self, weight: Tensor, grad: Tensor, state: dict[str, Tensor], rows: Rows, group: Group) -> Tensor:
        """[U, D] the used rows after the step, `state` brought up to date at `rows`"""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                assert table.dim() == 2, f"a table is [I, D], but this one is {list(table.shape)}"
                state = self.state[table]
                if not state:
                    state.update(self.new_state(table, group))
                rows, grad = used_rows(table.grad)
                weight = table[rows].to(state["exp_avg_sq"].dtype) * (1 - group["lr"] * group["weight_decay"])
                table[rows] = self.moved(weight, grad.to(weight.dtype), state, rows, group).to(table.dtype)
        return loss


class RowwiseAdamW(Rowwise):
    """AdamW with decoupled weight decay and, as in section 3.3 of the HSTU paper, one second moment a row.

        m = β1 m + (1 - β1) g                       a number an element
        v = β2 v + (1 - β2) mean(g²)                a number a row
        w = (1 - lr · decay) w - lr · m / (1 - β1ⁿ) / (√(v / (1 - β2ⁿ)) + eps)      n = steps that used the row

    Memory beside the table, a row: 4 D + 8 bytes (m; v and n). With β1 = 0 there is no m: 8 bytes. AdamW: 8 D.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def new_state(self, table: Tensor, group: Group) -> dict[str, Tensor]:
        state = {
            "exp_avg_sq": second_moments(table),
            "step": torch.zeros(len(table), dtype=torch.int32, device=table.device),
        }
        if group["betas"][0]:
            state["exp_avg"] = torch.zeros_like(table, dtype=state["exp_avg_sq"].dtype)
        return state

    def moved(self, weight: Tensor, grad: Tensor, state: dict[str, Tensor], rows: Rows, group: Group) -> Tensor:
        beta1, beta2 = group["betas"]
        count = state["step"][rows] + 1
        second = state["exp_avg_sq"][rows].lerp(grad.square().mean(1), 1 - beta2)
        first = state["exp_avg"][rows].lerp(grad, 1 - beta1) if "exp_avg" in state else grad
        # in float64, since 1 - β2 of a row's first step would lose half of float32's digits
        corrected = (second / (1 - beta2 ** count.double())).sqrt() + group["eps"]
        size = group["lr"] / (1 - beta1 ** count.double()) / corrected
        state["step"][rows], state["exp_avg_sq"][rows] = count, second
        if "exp_avg" in state:
            state["exp_avg"][rows] = first
        return weight - size.to(weight.dtype)[:, None] * first


class RowwiseAdagrad(Rowwise):
    """Adagrad with one second moment a row, which industrial recommenders use for sparse tables.

        v = v + mean(g²)                                          a number a row
        w = (1 - lr · decay) w - lr · g / (√v + eps)

    Memory beside the table, a row: 4 bytes. AdamW: 8 D.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-2, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def new_state(self, table: Tensor, group: Group) -> dict[str, Tensor]:
        return {"exp_avg_sq": second_moments(table)}

    def moved(self, weight: Tensor, grad: Tensor, state: dict[str, Tensor], rows: Rows, group: Group) -> Tensor:
        total = state["exp_avg_sq"][rows] + grad.square().mean(1)
        state["exp_avg_sq"][rows] = total
        return weight - (group["lr"] / (total.sqrt() + group["eps"]))[:, None] * grad


def used_rows(grad: Tensor) -> tuple[Rows, Tensor]:
    """What to index a table with, and the gradient [U, D] of these rows."""
    if not grad.is_sparse:
        return slice(None), grad
    assert grad.sparse_dim() == 1, "a sparse gradient must hold whole rows"
    grad = grad.coalesce()
    return grad.indices()[0], grad.values()


def second_moments(table: Tensor) -> Tensor:
    """[I] zeros. Of a table in half precision they are float32, as the arithmetic is."""
    return torch.zeros(len(table), dtype=torch.promote_types(table.dtype, torch.float32), device=table.device)
