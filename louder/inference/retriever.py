"""Histories -> what they call for next, with histories remembered: the first of the two stages of a recommendation."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.inference.remembering import Remembering, Rows, since
from louder.models import SequentialModel


class Retriever(Remembering):
    """States of a sequential model; dropout is off. See Remembering for the cache."""

    def __init__(self, model: SequentialModel, *, cache_bytes: int = 1 << 30) -> None:
        super().__init__(model.eval(), cache_bytes)
        self.model = model

    @torch.no_grad()
    def next_item_states(self, asked: Sequence[tuple[SequenceBatch, Hashable | None]]) -> Tensor:
        """[B, D], to compare with `model.item_vectors()`, of histories [B], none of them empty, and their keys.

        The query time of the last event is that of the request.
        """
        opened = self.open(asked)
        states = self.peek(opened)
        for used, (history, key) in zip(opened, asked):
            self.close(used, history, key)
        return self.model.normalise(torch.stack([own[-1] for own in states]))

    def rows(self, history: SequenceBatch, known: int) -> tuple[Rows, int]:
        first = max(known - 1, 0)  # the last one known asks for what comes next, at a time that was not known then
        new = since(history, first)
        return Rows(self.model.events(new), new.timestamps, new.query_timestamps, None), first

    def waiting(self, history: SequenceBatch) -> int:
        return min(1, len(history.ids))
