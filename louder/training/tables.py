"""Tables that grow, and rows that somebody else had: what optimizers keep of a row changes with it.

A row is new when its moments, and the steps that a row-wise optimizer counts for it, are 0, as of one never used.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from louder.models.embeddings import EmbeddingTable
from louder.ops.id_table import Changes


def grow(
    table: EmbeddingTable, count: int, optimizers: Sequence[Optimizer], generator: torch.Generator | None = None
) -> None:
    """`count` new ids at the end. The others keep their vectors and moments to the bit."""
    before = table.weights_by_row()
    table.grow(count, generator)
    for old, new in zip(before, table.weights_by_row(), strict=True):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [new if weight is old else weight for weight in group["params"]]
            if old in optimizer.state:
                state = optimizer.state.pop(old)
                for name, moments in by_row(state, len(old)):
                    state[name] = torch.cat([moments, moments.new_zeros(len(new) - len(old), *moments.shape[1:])])
                optimizer.state[new] = state


def reset(
    table: EmbeddingTable, rows: Tensor, optimizers: Sequence[Optimizer], generator: torch.Generator | None = None
) -> None:
    """New vectors in these rows [N] of the weights (of ids: `table.rows(ids)`), as if nobody had ever had them."""
    table.reset(rows, generator)
    for weight in table.weights_by_row():
        for optimizer in optimizers:
            for _, moments in by_row(optimizer.state.get(weight, {}), len(weight)):
                moments[rows] = 0


def follow(
    table: EmbeddingTable, changes: Changes, optimizers: Sequence[Optimizer], generator: torch.Generator | None = None
) -> None:
    """As the ids of a table came: it gets as many slots as there are now, and whoever came begins in a row of their own."""
    if changes.capacity > table.size:
        grow(table, changes.capacity - table.size, optimizers, generator)
    if len(came := changes.admitted.slots):
        reset(table, table.rows(came.to(next(table.parameters()).device)), optimizers, generator)


def by_row(state: dict[str, Tensor], rows: int) -> Iterator[tuple[str, Tensor]]:
    """What of a weight's state is kept for each row; AdamW counts the steps of the whole weight."""
    return ((name, value) for name, value in [*state.items()] if value.dim() and len(value) == rows)
