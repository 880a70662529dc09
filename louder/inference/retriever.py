"""Histories -> what they call for next: the first of the two stages of a recommendation."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.inference.runner import Prefilled, Runner, TokenRows, since
from louder.models import SequentialModel
from louder.models.kv_cache import KVCache


class Retriever(Runner):
    """States of a sequential model; dropout is off. A model that keeps no keys and values reads every history anew."""

    def __init__(self, model: SequentialModel, *, cache_bytes: int = 1 << 30) -> None:
        super().__init__(model.eval(), cache_bytes)

    @torch.no_grad()
    def next_item_states(self, prefilled: Sequence[Prefilled]) -> Tensor:
        if self.backbone.keeps_kv:
            return super().next_item_states(prefilled)
        return torch.stack([self.backbone(x.history)[-1] for x in prefilled])

    def prefill(self, histories: Sequence[tuple[SequenceBatch, Hashable | None]]) -> list[Prefilled]:
        if self.backbone.keeps_kv:
            return super().prefill(histories)
        none = torch.zeros(0)
        return [Prefilled(history, KVCache(0), TokenRows(none, none, none, None), None) for history, _ in histories]

    def rows(self, history: SequenceBatch, known: int) -> tuple[TokenRows, int]:
        first = max(known - 1, 0)  # the last one known asks for what comes next, at a time that was not known then
        new = since(history, first)
        return TokenRows(self.backbone.events(new), new.timestamps, new.query_timestamps, None), first

    def pending(self, history: SequenceBatch) -> int:
        return min(1, len(history.ids))
