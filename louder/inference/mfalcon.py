"""M-FALCON: score many candidates against one history ("Actions Speak Louder than Words", section 3.4, appendix H).

The keys and values of the history are computed once and cached; candidates come in microbatches, see the history and
themselves, and never each other. All of them follow the history at the time of the request, so a score depends on
neither the microbatch nor the order of the candidates.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.inference.runner import Prefilled, Runner, TokenRows, since
from louder.models import RankingModel


class MFalcon(Runner):
    """Scores candidates with a ranking model; dropout is off.

    microbatch   candidates of a request that go through the model together; more cost memory, fewer cost time
    cache_bytes  the most that cached histories take
    """

    def __init__(self, model: RankingModel, *, microbatch: int = 512, cache_bytes: int = 1 << 30) -> None:
        if microbatch < 1:
            raise InputError(f"microbatch must be at least 1, but it is {microbatch}.")
        if not model.backbone.keeps_kv:
            raise InputError(
                "model.attention=softmax is an ablation of HSTU, for which no keys and values are kept, so no candidates can "
                "be ranked with it. Measure it: louder evaluate RUN."
            )
        super().__init__(model.backbone, cache_bytes)
        self.model, self.microbatch = model.eval(), microbatch

    @torch.no_grad()
    def score(
        self, history: SequenceBatch, candidates: Tensor, at: int, key: Hashable | None = None
    ) -> tuple[Tensor, Tensor]:
        """logits [m, A] of each action and values [m, V], in the order of the candidates: [m] int64 item ids, below 0
        for items that the model does not know.

        history  one user's events, oldest first: the window that the model is to see (data.window.Reader). The query
                 time of an event is the time of the next one; of the last, that of the request
        at       seconds; the time of the request
        key      what the history is cached under; None: it is not
        """
        prefilled = self.prefill([(history, key)])
        (scores,) = self.score_candidates(prefilled, [self.model.items(candidates)], [at])
        self.release(prefilled)
        return scores

    @torch.no_grad()
    def score_candidates(
        self, prefilled: Sequence[Prefilled], candidates: Sequence[Tensor], at: Sequence[int]
    ) -> list[tuple[Tensor, Tensor]]:
        """Likewise of several requests, which share their passes through the model; candidates are vectors [m, D] of
        `model.items` or `model.new_items`."""
        settled = [x.kv.length for x in prefilled]
        pending = [x.pending for x in prefilled]
        if not self.model.config.acts_apart:
            candidates = [own + self.last_action(x.history) for x, own in zip(prefilled, candidates)]
        parts = [own.split(self.microbatch) for own in candidates]
        caches = [x.kv.scratch(len(x.pending.x) + max(map(len, own), default=0)) for x, own in zip(prefilled, parts)]
        states: list[list[Tensor]] = [[] for _ in prefilled]
        for turn in range(max(map(len, parts), default=0)):
            active = [n for n, own in enumerate(parts) if turn < len(own)]
            rows = [pending[n].then(parts[n][turn], at[n]) for n in active]
            for n, own in zip(active, self.extend([(caches[n], r) for n, r in zip(active, rows)])):
                states[n].append(own)
                pending[n] = pending[n].part(0, 0)  # they are in the cache now, for the next microbatch
        for x, length in zip(prefilled, settled):
            x.kv.length = length
        if not any(states):
            return []
        logits, values = self.model.predict(torch.cat([state for own in states for state in own]))
        sizes = [len(own) for own in candidates]
        return list(zip(logits.split(sizes), values.split(sizes)))

    def pending(self, history: SequenceBatch) -> int:
        """All is settled but the last token, of an action, which asks for what comes next at the time of the request."""
        return int(len(history.ids) > 0 and self.model.config.acts_apart)

    def rows(self, history: SequenceBatch, known: int) -> tuple[TokenRows, int]:
        engaged, acts_apart = self.model.engaged(history), self.model.config.acts_apart
        first = max(known - 1, 0)  # its action asks for the next item at a time that was not known then
        if not acts_apart and engaged[:known].any():  # the next item's token has the action of the event before
            first = int(engaged[:known].nonzero().max())
        if history.prefix_lengths is not None and known:  # a prefix length counts the tokens before a request
            first = int(history.prefix_lengths[first:].min())
        tokens = self.model.tokens(since(history, first))
        before = first + acts_apart * int(engaged[:first].sum())
        layout, prefix_lengths = tokens.layout, tokens.layout.prefix_lengths
        prefix_lengths = None if prefix_lengths is None else prefix_lengths + before
        return TokenRows(tokens.x, layout.timestamps, layout.query_timestamps, prefix_lengths), before

    def last_action(self, history: SequenceBatch) -> Tensor:
        """[1, D] or zeros: what a candidate's token holds of the event before it."""
        (events,) = torch.where(self.model.engaged(history))
        if not len(events):
            return self.model.actions.weight.new_zeros(1, self.model.actions.embedding_dim)
        return self.model.action_vectors(history, events[-1:])
