"""Histories -> what they call for next: the first of the two stages of a recommendation."""

from collections.abc import Hashable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.inference.runner import Prefilled, Runner, TokenRows, end_to_end, since
from louder.models import SequentialModel
from louder.models.kv_cache import KVCache


class Retriever(Runner):
    """States of a sequential model; dropout is off. A model that keeps no keys and values reads every history anew."""

    def __init__(self, model: SequentialModel, *, cache_bytes: int = 1 << 30) -> None:
        super().__init__(model.eval(), cache_bytes)

    @torch.no_grad()
    def next_item_states(self, prefilled: Sequence[Prefilled], actions: Sequence[str] = ()) -> Tensor:
        if self.backbone.keeps_kv:
            return super().next_item_states(prefilled, actions)
        return torch.stack([self.backbone(x.history)[-1] for x in prefilled])

    def prefill(self, histories: Sequence[tuple[SequenceBatch, Hashable | None]]) -> list[Prefilled]:
        if self.backbone.keeps_kv:
            return super().prefill(histories)
        return [Prefilled(history, KVCache(0), 0, None, None, None) for history, _ in histories]

    def rows(self, histories: Sequence[tuple[SequenceBatch, int]]) -> list[tuple[TokenRows, int]]:
        # the last one known asks for what comes next, at a time that was not known then
        firsts = [max(known - 1, 0) for _, known in histories]
        new = end_to_end([since(x, first) for (x, _), first in zip(histories, firsts)])
        x, found = self.backbone.events(new), []
        for (start, end), first in zip(pairwise(new.offsets.tolist()), firsts):
            times, query_times = new.timestamps[start:end], new.query_timestamps[start:end]
            found.append((TokenRows(x[start:end], times, query_times, None), first))
        return found

    def pending(self, history: SequenceBatch) -> int:
        return min(1, len(history.ids))
