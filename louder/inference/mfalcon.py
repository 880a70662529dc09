"""M-FALCON: score many candidates against one history ("Actions Speak Louder than Words", section 3.4, appendix H).

The keys and values of the history are computed once and cached; candidates come in microbatches, see the history and
themselves, and never each other. All of them follow the history at the time of the request, so a score depends on
neither the microbatch nor the order of the candidates.
"""

from collections.abc import Hashable, Sequence
from functools import cached_property
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.inference.runner import Prefilled, Runner, TokenRows, end_to_end, since
from louder.models import RankingModel
from louder.models.cross import Beside
from louder.models.kv_cache import Branch


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
        self.model, self.microbatch = model.eval(), microbatch
        super().__init__(model.backbone, cache_bytes)

    @torch.no_grad()
    def score(
        self,
        history: SequenceBatch,
        candidates: Tensor,
        at: int,
        key: Hashable | None = None,
        counters: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """logits [m, A] of each action and values [m, V], in the order of the candidates: [m] int64 item ids, below 0
        for items that the model does not know.

        history  one user's events, oldest first: the window that the model is to see (data.window.Reader). The query
                 time of an event is the time of the next one; of the last, that of the request
        at       seconds; the time of the request
        key      what the history is cached under; None: it is not
        counters [m, F] of the candidates as of the request, where the model reads some
        """
        prefilled = self.prefill([(history, key)])
        (scores,) = self.score_candidates(
            prefilled, [self.model.items(candidates)], [at], None if counters is None else [counters]
        )
        self.release(prefilled)
        return scores

    @torch.no_grad()
    def score_candidates(
        self,
        prefilled: Sequence[Prefilled],
        candidates: Sequence[Tensor],
        at: Sequence[int],
        counters: Sequence[Tensor] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Likewise of several requests, which share their passes through the model; candidates are vectors [m, D] of
        `model.items` or `model.new_items`."""
        if not self.model.config.acts_apart:
            candidates = [own + self.last_action(x.history) for x, own in zip(prefilled, candidates)]
        parts = [own.split(self.microbatch) for own in candidates]
        states: list[list[Tensor]] = [[] for _ in prefilled]
        for turn in range(max(map(len, parts), default=0)):
            active = [n for n, own in enumerate(parts) if turn < len(own)]
            rows = [parts[n][turn] for n in active]
            branches = [
                Branch(prefilled[n].kv, prefilled[n].seen, own.shape[0], at[n], at[n]) for n, own in zip(active, rows)
            ]
            found = self.branch(torch.cat(rows), branches).split([own.shape[0] for own in rows])
            for n, own in zip(active, found):
                states[n].append(own)
        if not any(states):
            return []
        sizes = [own.shape[0] for own in candidates]
        together = torch.cat([state for own in states for state in own])
        logits, values = self.model.predict(together, self.beside(prefilled, candidates, sizes, counters))
        return list(zip(logits.split(sizes), values.split(sizes)))

    def beside(
        self,
        prefilled: Sequence[Prefilled],
        candidates: Sequence[Tensor],
        sizes: Sequence[int],
        counters: Sequence[Tensor] | None,
    ) -> Beside | None:
        """What a cross head reads of all candidates, request after request; None where there is no such head."""
        if self.model.cross is None:
            return None
        users = [self.model.user_vectors(x.history) for x in prefilled]
        own = [user.expand(size, -1) for user, size in zip(users, sizes) if user is not None]
        return Beside(
            torch.cat(list(candidates)),
            torch.cat(own) if own else None,
            None if counters is None else torch.cat(list(counters)),
        )

    def asked_for(self, states: Tensor, actions: Sequence[str]) -> Tensor:
        if not any(actions):
            return states
        return torch.cat([self.model.asked_for(state[None], action) for state, action in zip(states, actions)])

    def items(self, ids: Tensor) -> Tensor:
        """[m, D] `model.items` of known items, to be scored."""
        return F.embedding(ids, self.all_items)

    @cached_property
    def all_items(self) -> Tensor:
        """[I, D]: the attributes of an item are looked up and added once, not with each request."""
        with torch.no_grad():
            items = self.model.backbone.events.items
            if not self.model.item_attributes.columns:
                return items.vectors()
            return self.model.items(torch.arange(items.size, device=self.model.actions.weight.device))

    @torch.no_grad()
    def renew(self, ids: Tensor | None) -> None:
        """The vectors of the items [R] are others now, None: of all."""
        held = self.__dict__.get("all_items")
        if held is None:
            return
        attributes = len(self.model.item_attributes.columns)
        if ids is None or not attributes or len(held) != self.model.backbone.events.items.size:
            del self.__dict__["all_items"]
            _ = self.all_items  # no request is to wait for it
        else:
            held[ids] = self.model.items(ids)

    def pending(self, history: SequenceBatch) -> int:
        """All is settled but the last token, of an action, which asks for what comes next at the time of the request."""
        return int(len(history.ids) > 0 and self.model.config.acts_apart)

    def rows(self, histories: Sequence[tuple[SequenceBatch, int]]) -> list[tuple[TokenRows, int]]:
        firsts = [self.first_new(history, known) for history, known in histories]
        tokens = self.model.tokens(end_to_end([since(x, first) for (x, _), first in zip(histories, firsts)]))
        layout, prefix_lengths = tokens.layout, tokens.layout.prefix_lengths
        found = []
        for (start, end), first, (history, _) in zip(pairwise(layout.offsets.tolist()), firsts, histories):
            before = first
            if first and self.model.config.acts_apart:
                before += int(self.model.engaged(history)[:first].sum())
            own = None if prefix_lengths is None else prefix_lengths[start:end] + before
            times, query_times = layout.timestamps[start:end], layout.query_timestamps[start:end]
            found.append((TokenRows(tokens.x[start:end], times, query_times, own), before))
        return found

    def first_new(self, history: SequenceBatch, known: int) -> int:
        """The first event whose tokens are not all settled when so many are cached."""
        if not known:
            return 0
        first = known - 1  # its action asks for the next item at a time that was not known then
        if not self.model.config.acts_apart and (engaged := self.model.engaged(history)[:known]).any():
            first = int(engaged.nonzero().max())  # the next item's token has the action of the event before
        if history.prefix_lengths is not None:  # a prefix length counts the tokens before a request
            first = int(history.prefix_lengths[first:].min())
        return first

    def last_action(self, history: SequenceBatch) -> Tensor:
        """[1, D] or zeros: what a candidate's token holds of the event before it."""
        (events,) = torch.where(self.model.engaged(history))
        if not len(events):
            return self.model.actions.weight.new_zeros(1, self.model.actions.embedding_dim)
        return self.model.action_vectors(history, events[-1:])
