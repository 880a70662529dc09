"""M-FALCON: score many candidates against one history ("Actions Speak Louder than Words", section 3.4, appendix H).

The keys and values of the history are computed once and remembered; candidates come in microbatches, see the history
and themselves, and never each other. All of them stand at the place after the history and at the time of the request,
so a score depends on neither the microbatch nor the order of the candidates.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.inference.remembering import Remembering, Rows, since
from louder.models import RankingModel


@dataclass(frozen=True)
class Asked:
    """One request.

    history     one user's events, oldest first: the window that the model is to see (data.window.window_start).
                The query time of an event is the time of the next one; of the last, that of the request
    candidates  [m, D] vectors of items (`model.items`, `model.new_items`)
    at          seconds; the time of the request
    key         what the history is remembered under; None: it is not
    """

    history: SequenceBatch
    candidates: Tensor
    at: int
    key: Hashable | None = None


class MFalcon(Remembering):
    """Scores candidates with a ranking model; dropout is off. See Remembering for the cache.

    microbatch   candidates of a request that go through the model together; more cost memory, fewer cost time
    """

    def __init__(self, model: RankingModel, *, microbatch: int = 512, cache_bytes: int = 1 << 30) -> None:
        if microbatch < 1:
            raise InputError(f"microbatch must be at least 1, but it is {microbatch}.")
        super().__init__(model.backbone, cache_bytes)
        self.model, self.microbatch = model.eval(), microbatch

    @torch.no_grad()
    def score(
        self, history: SequenceBatch, candidates: Tensor, at: int, key: Hashable | None = None
    ) -> tuple[Tensor, Tensor]:
        """logits [m, A] of each action and numbers [m, V], in the order of the candidates: [m] int64 item ids, below 0
        for items that the model does not know. The others as in Asked."""
        return self.score_vectors(history, self.model.items(candidates), at, key)

    def score_vectors(
        self, history: SequenceBatch, candidates: Tensor, at: int, key: Hashable | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same of candidates as vectors."""
        (answer,) = self.score_all([Asked(history, candidates, at, key)])
        return answer

    @torch.no_grad()
    def score_all(self, asked: Sequence[Asked]) -> list[tuple[Tensor, Tensor]]:
        """The same of several requests, which share their passes through the model."""
        opened = self.open([(x.history, x.key) for x in asked])
        settled = [x.memory.length for x in opened]
        waiting = [x.waiting for x in opened]
        parts = [self.parts(x) for x in asked]
        memories = [x.memory.lent(len(x.waiting.x) + max(map(len, own), default=0)) for x, own in zip(opened, parts)]
        states: list[list[Tensor]] = [[] for _ in asked]
        for turn in range(max(map(len, parts), default=0)):
            active = [number for number, own in enumerate(parts) if turn < len(own)]
            rows = [waiting[n].then(parts[n][turn], asked[n].at) for n in active]
            found = self.extend([(memories[n], r) for n, r in zip(active, rows)], [len(parts[n][turn]) for n in active])
            for number, own in zip(active, found):
                states[number].append(own)
                waiting[number] = waiting[number].part(0, 0)
        for x, used, length in zip(asked, opened, settled):
            used.memory.forget(length)
            self.close(used, x.history, x.key)
        logits, numbers = self.model.predict(torch.cat([state for own in states for state in own]))
        sizes = [len(x.candidates) for x in asked]
        return list(zip(logits.split(sizes), numbers.split(sizes)))

    @torch.no_grad()
    def next_item_states(self, asked: Sequence[tuple[SequenceBatch, Hashable | None]]) -> Tensor:
        """[B, D], to compare with `model.item_vectors()`: what histories [B], none of them empty, call for next. They end
        with an engagement, whose query time is that of the request. Only a joint model was trained for it."""
        opened = self.open(asked)
        states = self.peek(opened)
        for used, (history, key) in zip(opened, asked):
            self.close(used, history, key)
        return self.model.backbone.normalise(torch.stack([own[-1] for own in states]))

    def parts(self, x: Asked) -> list[Tensor]:
        if not self.model.config.acts_apart:
            return list((x.candidates + self.last_action(x.history)).split(self.microbatch))
        return list(x.candidates.split(self.microbatch))

    def waiting(self, history: SequenceBatch) -> int:
        """All is settled but the token of the last action, which asks for what comes next."""
        return int(len(history.ids) > 0 and self.model.config.acts_apart and self.model.engaged(history)[-1])

    def rows(self, history: SequenceBatch, known: int) -> tuple[Rows, int]:
        """The history's last tokens, and how many there are before them: at least those that are not settled when the
        first `known` events are in memory, and all where none are."""
        engaged, acts_apart = self.model.engaged(history), self.model.config.acts_apart
        first = max(known - 1, 0)  # its action asks for the next item at a time that was not known then
        if not acts_apart and engaged[:known].any():  # the next item's token has the action of the event before
            first = int(engaged[:known].nonzero().max())
        if history.prefix_lengths is not None and known:  # a place is among the tokens of its request
            first = int(history.prefix_lengths[first:].min())
        tokens = self.model.tokens(since(history, first))
        before = first + acts_apart * int(engaged[:first].sum())
        layout, prefix_lengths = tokens.layout, tokens.layout.prefix_lengths
        prefix_lengths = None if prefix_lengths is None else prefix_lengths + before
        return Rows(tokens.x, layout.timestamps, layout.query_timestamps, prefix_lengths), before

    def last_action(self, history: SequenceBatch) -> Tensor:
        """[1, D] or zeros: what a candidate's token holds of the event before it."""
        (events,) = torch.where(self.model.engaged(history))
        if not len(events):
            return torch.zeros(1, self.model.actions.embedding_dim, dtype=self.model.actions.weight.dtype)
        return self.model.action_vectors(history, events[-1:])
