"""Histories -> what they call for next: the first of the two stages of a recommendation."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.inference.runner import Prefilled, Rows, Runner, since
from louder.models import SequentialModel
from louder.models.kv_cache import KVCache


class Retriever(Runner):
    """States of a sequential model; dropout is off. A model that keeps no keys and values reads every history anew."""

    def __init__(self, model: SequentialModel, *, cache_bytes: int = 1 << 30) -> None:
        super().__init__(model.eval(), cache_bytes)
        self.model = model

    @torch.no_grad()
    def next_item_states(self, prefilled: Sequence[Prefilled]) -> Tensor:
        """[B, D], to compare with `model.item_vectors()`, of histories [B], none of them empty.

        The query time of the last event is that of the request.
        """
        if not self.model.keeps_kv:
            return torch.stack([self.model(x.history)[-1] for x in prefilled])
        return self.model.normalise(torch.stack([own[-1] for own in self.pending_states(prefilled)]))

    def prefill(self, histories: Sequence[tuple[SequenceBatch, Hashable | None]]) -> list[Prefilled]:
        if self.model.keeps_kv:
            return super().prefill(histories)
        none = torch.zeros(0)
        return [Prefilled(history, KVCache(0), Rows(none, none, none, None), None) for history, _ in histories]

    def rows(self, history: SequenceBatch, known: int) -> tuple[Rows, int]:
        first = max(known - 1, 0)  # the last one known asks for what comes next, at a time that was not known then
        new = since(history, first)
        return Rows(self.model.events(new), new.timestamps, new.query_timestamps, None), first

    def pending(self, history: SequenceBatch) -> int:
        return min(1, len(history.ids))
