"""Tokens -> vectors: items, what was done with them, and the values of auxiliary series."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from louder.batch import SequenceBatch


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """How many of everything there is. It comes from the table, not from the config."""

    items: int
    actions: int = 0  # action types, bits of SequenceBatch.actions; 0 where tokens carry none
    series: tuple[int, ...] = ()  # number of values of each auxiliary series
    # what only ranking uses
    users: int = 0
    values: int = 0  # numbers of an event, such as watch time
    context: tuple[int, ...] = ()  # number of codes of each attribute of users
    counters: int = 0


class EventEmbedding(nn.Module):
    """Vector of a token: its item plus its actions (the retrieval token (Phi_i, a_i) of the paper's Table 1), or the
    value of an auxiliary series.

        forward(batch) -> [L, D]
    """

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.items = nn.Embedding(vocabulary.items, width)
        self.actions = nn.Embedding(vocabulary.actions, width) if vocabulary.actions else None
        self.series = nn.ModuleList(nn.Embedding(values, width) for values in vocabulary.series)
        for table in self.modules():
            if isinstance(table, nn.Embedding):
                nn.init.trunc_normal_(table.weight, std=0.02, a=-0.04, b=0.04)

    def tables(self) -> list[nn.Embedding]:
        """The tables of which a token uses one row. With `table.sparse` the gradient holds the rows used alone."""
        return [self.items, *(table for table in self.series if isinstance(table, nn.Embedding))]

    def forward(self, batch: SequenceBatch) -> Tensor:
        if batch.kinds is None or not self.series:
            x_LD = self.items(batch.ids)
        else:
            x_LD = self.items.weight.new_zeros(len(batch.ids), self.items.embedding_dim)
            for kind, table in enumerate(self.tables()):
                (rows,) = torch.where(batch.kinds == kind)  # asked for anything else, a table would count it as used
                x_LD = x_LD.index_copy(0, rows, table(batch.ids[rows]))
        if self.actions is not None and batch.actions is not None:
            bits = torch.arange(self.actions.num_embeddings, device=batch.actions.device)
            happened = (batch.actions[:, None] >> bits & 1).to(self.actions.weight.dtype)  # [L, A] multi-hot
            x_LD = x_LD + happened @ self.actions.weight
        return x_LD
