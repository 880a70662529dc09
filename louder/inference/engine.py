"""One checkpoint, ready for many requests at once: histories of raw events in, items with scores out.

Retrieval and ranking are two stages. A joint ranking run does both; a retrieval run can be given a ranking run beside it.
"""

import copy
import hashlib
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from louder import checkpoint
from louder.batch import SequenceBatch
from louder.data.attributes import encode
from louder.data.config import DataConfig
from louder.data.table import open_table, user_attributes
from louder.data.window import window_start
from louder.errors import InputError
from louder.histories.history import History
from louder.ids import IdMap, RawId
from louder.inference import stored_index
from louder.inference.explain import attention_shares, most, shares_of_the_last
from louder.inference.index import Exact, Index
from louder.inference.mfalcon import Asked, MFalcon
from louder.inference.ranker import Ranker
from louder.inference.recommender import Recommender
from louder.inference.request import Reason, Request, Result
from louder.inference.retriever import Retriever
from louder.models import RankingConfig
from louder.models.sequential import DotProduct
from louder.schema import ENGAGEMENT

MOST_VALUES = 500  # distinct values of an attribute that items can be filtered by
LEFT_OUT = 10  # events that retrieval is tried without, for its reasons
DIVERSE = 200  # best candidates among which diversity chooses


@dataclass
class Read:
    """A history as a model sees it."""

    sequence: SequenceBatch
    numbers: np.ndarray  # of all events of the history that the model knows
    skipped: int


class Engine:
    """The best checkpoints of a run, and of a ranking run beside it, as one model. Not for several threads at once.

    cache_bytes  the most that remembered histories take; two runs have half of it each

    Raises InputError if a run is damaged, or if the two do not have the same items.
    """

    def __init__(
        self,
        run: Path | str,
        ranker: Path | str | None = None,
        *,
        table: Path | str | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.run = Path(run)
        state = checkpoint.load_state(checkpoint.best(self.run))
        joint = bool(state["config"].get("ranking"))
        if joint and ranker is not None:
            raise InputError(
                f"{run} ranks already, so it needs no ranker beside it. Give a retrieval run and {ranker}, or {run} alone."
            )
        self.version = version_of(self.run, None if ranker is None else Path(ranker))
        self.state, self.table_path = state, Path(table or state["config"]["data"]["table"])
        ranks = run if joint else ranker
        cache_bytes //= 1 if ranker is None else 2
        self.ranker = None if ranks is None else Ranker(ranks, table, cache_bytes=cache_bytes)
        retrieves: Ranker | Recommender
        self.retriever: Retriever | MFalcon | None
        if joint:
            assert self.ranker is not None
            retrieves = self.ranker
            trained = self.ranker.ranking.next_item > 0
            self.retriever = self.ranker.mfalcon if trained else None
        else:
            retrieves = Recommender(run, table)
            self.retriever = Retriever(retrieves.model, cache_bytes=cache_bytes)
        self.joint, self.retrieval_data = joint, retrieves.data
        self.item_ids: IdMap = retrieves.item_ids
        with torch.no_grad():
            self.item_vectors: Tensor = retrieves.model.item_vectors().float()
        if self.ranker is not None and not self.ranker.item_ids.raw.equals(self.item_ids.raw):
            raise InputError(f"{ranker} was trained on other items than {run}. Train both on one table.")
        self.mixture: Mixture | None = None
        if isinstance(retrieves, Recommender) and not isinstance(retrieves.model.similarity, DotProduct):
            self.mixture = Mixture(retrieves)
        self.index = index_of(self.run, self.item_vectors)
        self.attributes, self.title = retrieves.attributes, retrieves.title
        self.describe = lru_cache(maxsize=100_000)(self.describe_anew)
        self.matching = lru_cache(maxsize=200)(self.matching_anew)
        self.context_of = lru_cache(maxsize=100_000)(self.context_of_anew)

    def twin(self) -> "Engine":
        """The same weights with caches of its own, for another thread."""
        twin = copy.copy(self)
        if self.ranker is not None:
            twin.ranker = copy.copy(self.ranker)
            twin.ranker.mfalcon = MFalcon(self.ranker.model, cache_bytes=0)
        if self.joint:
            assert twin.ranker is not None
            twin.retriever = twin.ranker.mfalcon if self.retriever is not None else None
        elif isinstance(self.retriever, Retriever):
            twin.retriever = Retriever(self.retriever.model, cache_bytes=0)
        return twin

    # --- what there is ------------------------------------------------------------------------------------------------

    @property
    def actions(self) -> list[str]:
        return self.ranker.state["actions"] if self.ranker else self.state["actions"]

    @property
    def values(self) -> list[str]:
        return self.ranker.state["values"] if self.ranker else []

    @property
    def ranking(self) -> RankingConfig | None:
        return self.ranker.ranking if self.ranker else None

    @property
    def main(self) -> str:
        """The action that scores by default; "" where nothing is ranked."""
        return (self.ranking.main or self.actions[0]) if self.ranking else ""

    @property
    def window(self) -> int:
        return int(self.retrieval_data.max_len)

    @cached_property
    def popularity(self) -> np.ndarray | None:
        """[I] events of each item in the table; None where that is not there."""
        if not self.table_path.is_dir():
            return None
        table = open_table(self.table_path)
        if not table.item_ids.raw.equals(self.item_ids.raw):
            return None
        return np.bincount(table.ids[table.kinds == ENGAGEMENT], minlength=len(self.item_ids)).astype(np.float32)

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """Attributes of items with few enough values to filter by, and these values."""
        if self.attributes is None:
            return {}
        found = {}
        for name in self.attributes.column_names:
            if name == "title" or name.startswith("_"):
                continue
            try:
                (attribute,) = encode(self.attributes, (name,))
            except InputError:
                continue  # a vector, or numbers
            if attribute.size <= MOST_VALUES:
                found[name] = [label for label in attribute.labels if label]
        return found

    @property
    def context_labels(self) -> dict[str, list[str]]:
        if not self.ranker:
            return {}
        return {x.name: [label for label in x.labels if label][:MOST_VALUES] for x in self.ranker.context}

    def describe_anew(self, item: int) -> tuple[RawId, str]:
        (raw,) = self.item_ids.raws([item])
        return raw, self.title(item)

    def attributes_of(self, item: int) -> dict[str, list[str]]:
        found = {}
        for name in self.labels:
            assert self.attributes is not None
            value: Any = self.attributes.column(name)[item].as_py()
            if value is not None:
                found[name] = [str(one) for one in value] if isinstance(value, list) else [str(value)]
        return found

    def matching_anew(self, name: str, value: str) -> np.ndarray:
        """[I] bool: the items of which attribute `name` is, or holds, `value`"""
        if name not in self.labels:
            have = ", ".join(self.labels) or "none"
            raise InputError(f"The filter names the attribute {name!r}, but items have these: {have}.")
        (attribute,) = encode(self.attributes, (name,))
        code = attribute.code_of_label.get(value, -1)
        owner = np.repeat(np.arange(len(self.item_ids)), np.diff(np.asarray(attribute.offsets)))
        mask = np.zeros(len(self.item_ids), dtype=bool)
        mask[owner[np.asarray(attribute.codes) == code]] = True
        return mask

    # --- answers ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def answer(self, questions: Sequence[Request]) -> list[Result | InputError]:
        """The answers, in order; of a question that cannot be answered the reason. All share their passes."""
        out: list[Result | InputError | None] = [None] * len(questions)
        keyed = [q if q.key is not None else replace(q, key=object()) for q in questions]
        found: dict[int, Result] = {}
        self.stage(keyed, out, found, self.retrieve_all, [n for n, q in enumerate(keyed) if q.candidates is None])
        ranked = [n for n, q in enumerate(keyed) if out[n] is None and (q.candidates is not None or self.second(q))]
        self.stage(keyed, out, found, self.rank_all, ranked)
        for given, used in zip(questions, keyed):
            if given.key is None:
                if self.retriever is not None:
                    self.retriever.forget(used.key)
                if self.ranker is not None:
                    self.ranker.mfalcon.forget(used.key)
        for number, q in enumerate(keyed):
            if out[number] is None:
                out[number] = self.finish(q, found[number])
        return out  # type: ignore[return-value]

    def second(self, q: Request) -> bool:
        return self.ranker is not None and q.retrieve > 0

    def stage(self, questions: Any, out: Any, found: Any, work: Any, numbers: list[int]) -> None:
        """One stage for these questions; of those with a mistake of their own the others do not know."""
        if not numbers:
            return
        try:
            answers = work([questions[n] for n in numbers], [found.get(n) for n in numbers])
            found.update(zip(numbers, answers))
        except InputError as error:
            if len(numbers) == 1:
                out[numbers[0]] = error
                return
            for n in numbers:
                self.stage(questions, out, found, work, [n])

    def retrieve_all(self, questions: Sequence[Request], _: Any) -> list[Result]:
        if self.ranker is None and any(q.weights for q in questions):
            raise InputError(
                "weights are of actions, and this model only retrieves. Serve it with a ranker: --ranker RUN."
            )
        histories = [self.read(q, for_ranking=self.joint) for q in questions]
        allowed = [self.allowed(q) for q in questions]
        some = [n for n, h in enumerate(histories) if len(h.sequence.ids) and self.retriever is not None]
        states = torch.zeros(len(questions), self.item_vectors.shape[1])
        if some:
            assert self.retriever is not None
            asked = [(histories[n].sequence, questions[n].key) for n in some]
            states[torch.tensor(some)] = self.retriever.next_item_states(asked).float()
        # questions without a filter share their search, the others have one each
        alike: dict[object, list[int]] = {}
        for n, mask in enumerate(allowed):
            alike.setdefault((n in some, n if mask is not None else -1), []).append(n)
        found: dict[int, Result] = {}
        for numbers in alike.values():
            known = numbers[0] in some
            k = min(max(self.wanted(questions[n]) for n in numbers), len(self.item_ids))
            seen = [histories[n].numbers if not questions[n].seen else histories[n].numbers[:0] for n in numbers]
            mask = allowed[numbers[0]]
            index: Index = self.index if known else self.popular
            if known and self.mixture is not None:
                index = self.mixture.of([questions[n].key for n in numbers])
            ids, scores = index.search(
                states[torch.tensor(numbers)] if known else torch.ones(len(numbers), 1),
                k,
                ends_padded(seen),
                None if mask is None else torch.from_numpy(mask),
            )
            for row, n in enumerate(numbers):
                kept = min(int((ids[row] >= 0).sum()), self.wanted(questions[n]))
                read, skipped = len(histories[n].sequence.ids), histories[n].skipped
                found[n] = Result(ids[row, :kept].numpy(), scores[row, :kept].numpy(), read, skipped)
        return [found[n] for n in range(len(questions))]

    def wanted(self, q: Request) -> int:
        """How many items retrieval has to find."""
        return max(q.k, q.retrieve) if self.second(q) else q.k

    @cached_property
    def popular(self) -> Index:
        """Finds what is most popular, whatever is asked: for those of whom nothing is known."""
        if self.popularity is None:
            lacking = "The history is empty" if self.retriever is not None else f"{self.run} only ranks"
            raise InputError(
                f"{lacking}, and without the table {self.table_path} nobody knows what is popular. "
                "Send candidates to /v1/rank, or serve with the table: --table TABLE."
            )
        return Exact(torch.from_numpy(self.popularity)[:, None])

    def rank_all(self, questions: Sequence[Request], retrieved: Sequence[Result | None]) -> list[Result]:
        if self.ranker is None:
            raise InputError(
                f"{self.run} only retrieves, so it cannot rank. Serve a joint run, or give a ranking run: --ranker RUN."
            )
        asked, histories, items = [], [], []
        for q, before in zip(questions, retrieved):
            numbers = self.known(q.candidates) if before is None else before.items
            own = self.read(q, for_ranking=True)
            vectors = self.ranker.model.items(torch.from_numpy(np.array(numbers)))
            asked.append(Asked(own.sequence, vectors, q.at, q.key))
            histories.append(own)
            items.append(numbers)
        found = []
        full = [n for n, numbers in enumerate(items) if len(numbers)]
        scored = dict(zip(full, self.ranker.mfalcon.score_all([asked[n] for n in full]))) if full else {}
        for n, (q, own, numbers) in enumerate(zip(questions, histories, items)):
            if n not in scored:
                found.append(Result(numbers, np.zeros(0, np.float32), len(own.sequence.ids), own.skipped))
                continue
            logits, values = scored[n]
            shares = torch.sigmoid(logits)
            scores = shares @ self.weights(q)
            read = len(own.sequence.ids)
            found.append(Result(numbers, scores.numpy(), read, own.skipped, shares.numpy(), values.float().numpy()))
        return found

    def finish(self, q: Request, found: Result) -> Result:
        """The k best, best first; a given list of candidates keeps its order."""
        if q.candidates is not None:
            return found
        order = np.argsort(-found.scores, kind="stable")
        if q.diversity:
            order = diverse(self.item_vectors, found, order[:DIVERSE], q.k, q.diversity)
        order = order[: q.k]
        return replace(
            found,
            items=found.items[order],
            scores=found.scores[order],
            probabilities=None if found.probabilities is None else found.probabilities[order],
            values=None if found.values is None else found.values[order],
        )

    @torch.no_grad()
    def similar(self, q: Request, item: RawId) -> Result:
        """The items whose vectors point where this one's does; scores are cosines."""
        number = self.item_ids.id(item, "item")
        scores = self.directions @ self.directions[number]
        scores[number] = -torch.inf
        if (mask := self.allowed(q)) is not None:
            scores[torch.from_numpy(~mask)] = -torch.inf
        top = scores.topk(min(q.k, len(scores)))
        kept = top.values > -torch.inf
        return Result(top.indices[kept].numpy(), top.values[kept].numpy(), 0, 0)

    @cached_property
    def directions(self) -> Tensor:
        """[I, D] the item vectors, of length 1"""
        return F.normalize(self.item_vectors, dim=1)

    @torch.no_grad()
    def reasons(self, q: Request, items: np.ndarray, count: int = 3) -> list[list[Reason]]:
        """For each of these items, the events that it leans on most. In ranking these are what its own token attends to
        most. In retrieval attention is the same for all items, so of the events with most of it those are taken without
        which the item's score would fall most."""
        ranks = self.ranker is not None
        sequence = self.read(q, for_ranking=ranks).sequence
        if not len(sequence.ids) or not len(items):
            return [[] for _ in items]
        if self.ranker is not None:
            shares = attention_shares(self.ranker.model, sequence, torch.from_numpy(np.array(items)), q.at).tolist()
            left_out = [most(own, count) for own in shares]
        else:
            assert self.retriever is not None
            shares = [shares_of_the_last(self.retriever.backbone, sequence).tolist()] * len(items)
            left_out = [most(shares[0], max(count, LEFT_OUT))]
        rows = sorted({row for own in left_out for row in own})
        # the window is the latest part of what the model knows of the history; nothing older takes an event's place
        numbers = self.item_ids.ids(list(q.history.items))
        known = np.flatnonzero((numbers >= 0) & (q.history.times <= q.at))[-len(sequence.ids) :]
        lacking_one = [replace(q, history=q.history.select(np.delete(known, row))) for row in rows]
        histories = [sequence, *(self.read(other, for_ranking=ranks).sequence for other in lacking_one)]
        whole, *lacking = self.scores_after(q, histories, items)
        change = {row: (own - whole).tolist() for row, own in zip(rows, lacking)}
        if not ranks:
            left_out = [sorted(rows, key=lambda row: change[row][n])[:count] for n in range(len(items))]
        return [
            [Reason(int(known[row]), shares[n][row], change[row][n]) for row in own] for n, own in enumerate(left_out)
        ]

    def scores_after(self, q: Request, histories: Sequence[SequenceBatch], items: np.ndarray) -> list[Tensor]:
        """[I] the scores of these items after each history; NaN where retrieval has no history to go by"""
        chosen = torch.from_numpy(np.array(items))
        if self.ranker is not None:
            weights, vectors = self.weights(q), self.ranker.model.items(chosen)
            asked = [Asked(history, vectors, q.at) for history in histories]
            return [torch.sigmoid(logits) @ weights for logits, _ in self.ranker.mfalcon.score_all(asked)]
        assert isinstance(self.retriever, Retriever)
        some = [history for history in histories if len(history.ids)]
        states = self.retriever.next_item_states([(history, None) for history in some]).float()
        if self.mixture is not None:
            scores = self.mixture.of([q.key] * len(some)).scores(states, chosen)
        else:
            scores = states @ self.item_vectors[chosen].T
        rows = iter(scores)
        return [next(rows) if len(history.ids) else torch.full((len(items),), torch.nan) for history in histories]

    # --- questions, as tensors ----------------------------------------------------------------------------------------

    def known(self, candidates: Sequence[RawId] | None) -> np.ndarray:
        numbers = self.item_ids.ids(list(candidates or []))
        unknown = [str(raw) for raw, number in zip(candidates or [], numbers) if number < 0]
        if unknown:
            raise InputError(
                f"{len(unknown)} of the candidates are items that the model does not know: {', '.join(unknown[:5])}. "
                "Leave them out."
            )
        return numbers

    def weights(self, q: Request) -> Tensor:
        weights = torch.zeros(len(self.actions))
        for name, weight in (q.weights or {self.main: 1.0}).items():
            if name not in self.actions:
                raise InputError(f"weights names {name!r}, but the actions are {', '.join(self.actions)}.")
            weights[self.actions.index(name)] = weight
        return weights

    def allowed(self, q: Request) -> np.ndarray | None:
        """[I] bool, or None where everything is"""
        if q.allow is None and not q.deny and not q.where:
            return None
        mask = np.ones(len(self.item_ids), dtype=bool)
        if q.allow is not None:
            mask[:] = False
            mask[self.those_known(q.allow)] = True
        mask[self.those_known(q.deny)] = False
        for name, values in q.where.items():
            fits = np.zeros(len(mask), dtype=bool)
            for value in values:
                fits |= self.matching(name, str(value))
            mask &= fits
        return mask

    def those_known(self, items: Sequence[RawId]) -> np.ndarray:
        numbers = self.item_ids.ids(list(items)) if items else np.empty(0, np.int64)
        return numbers[numbers >= 0]

    def read(self, q: Request, *, for_ranking: bool) -> Read:
        """The window of a history that a model reads, up to the time of the request. Items that it does not know are
        left out and counted: a store may hold newer ones."""
        past = q.history
        upto = int(np.searchsorted(past.times, q.at, side="right"))
        items = past.items[:upto]
        numbers = self.item_ids.ids(items if items.dtype != object else items.tolist()) if upto else np.empty(0, int)
        (known,) = np.nonzero(numbers >= 0)
        skipped = upto - len(known)
        data: DataConfig = self.ranker.data if for_ranking and self.ranker else self.retrieval_data
        first = int(window_start(np.array(len(known)), data.max_len)) if for_ranking else len(known) - data.max_len
        rows = known[max(first, 0) :]
        times = past.times[rows]
        actions = self.ranker.state["actions"] if for_ranking and self.ranker else self.state["actions"]
        vocabulary = self.ranker.model.vocabulary if for_ranking and self.ranker else self.retriever.backbone.vocabulary  # type: ignore[union-attr]
        bits = remapped(past.actions[rows], past.names.actions, actions)
        prefix_lengths = values = context = None
        stands = times
        if for_ranking:
            assert self.ranker is not None
            heads = request_heads(past.requests[rows])
            stands = times[heads]
            prefix_lengths = None if (heads == np.arange(len(rows))).all() else torch.from_numpy(heads)
            if vocabulary.values:
                values = self.read_values(past, rows)
            if self.ranker.ranking.context:
                context = self.ranker.codes(q.context or self.context_of(q.user))
        asked = times if data.query_time == "withheld" or not len(times) else np.append(times[1:], q.at)
        sequence = SequenceBatch(
            ids=torch.from_numpy(numbers[rows]),
            timestamps=torch.from_numpy(stands),
            query_timestamps=torch.from_numpy(asked),
            offsets=torch.tensor([0, len(rows)]),
            actions=torch.from_numpy(bits) if vocabulary.actions else None,
            kinds=torch.zeros(len(rows), dtype=torch.uint8) if vocabulary.series else None,
            values=values,
            prefix_lengths=prefix_lengths,
            context=context,
        )
        return Read(sequence, numbers[known], skipped)

    def read_values(self, past: History, rows: np.ndarray) -> Tensor:
        assert self.ranker is not None
        columns = []
        for name in self.ranker.state["values"]:
            column = np.full(len(rows), np.nan, dtype=np.float32)
            if name in past.names.values:
                column = past.values[rows, past.names.values.index(name)]
            columns.append(np.log1p(column.clip(min=0)) if name in self.ranker.ranking.log_values else column)
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    def context_of_anew(self, user: RawId | None) -> dict[str, object]:
        """What the training knew of a user."""
        if user is None or self.ranker is None or not self.ranker.context:
            return {}
        (number,) = self.ranker.user_ids.ids([user])
        people = self.people
        if number < 0 or people is None:
            return {}
        return {x.name: people.column(x.name)[int(number)].as_py() for x in self.ranker.context}

    @cached_property
    def people(self) -> Any:
        return user_attributes(self.ranker.folder) if self.ranker else None


class Mixture:
    """A catalogue that is compared by a mixture of logits: every item is scored, as mol_topk.brute_force does."""

    def __init__(self, recommender: Recommender, users: Tensor | None = None) -> None:
        self.recommender, self.users = recommender, users

    def of(self, keys: Sequence[Hashable]) -> "Mixture":
        """For these askers: a mixture may have vectors of users; -1 for those who were not in the training."""
        raws = [key[1] if isinstance(key, tuple) else None for key in keys]
        some = [raw for raw in raws if raw is not None]
        known = self.recommender.user_ids.ids(some).tolist() if some else []
        numbers = iter(known)
        return Mixture(self.recommender, torch.tensor([-1 if raw is None else next(numbers) for raw in raws]))

    def scores(self, states: Tensor, items: Tensor | None = None) -> Tensor:
        """states [B, D] and I items, all by default -> [B, I]"""
        similarity, catalogue = self.recommender.model.similarity, self.recommender.catalogue
        rows = catalogue if items is None else catalogue[items]
        return similarity.scores(similarity.queries(states, self.users), rows)

    def search(
        self, queries: Tensor, k: int, excluded: Tensor | None = None, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See Index."""
        scores = self.scores(queries)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        if excluded is not None:
            spare = torch.cat([scores, scores.new_zeros(len(scores), 1)], dim=1)  # the last column is nobody
            where = torch.where(excluded < 0, scores.shape[1], excluded)
            scores = spare.scatter(1, where, -torch.inf)[:, :-1]
        top = scores.topk(min(k, scores.shape[1]))
        return torch.where(top.values > -torch.inf, top.indices, -1), top.values


def index_of(run: Path, vectors: Tensor) -> Index:
    """The index that louder index made of this checkpoint; without one, or with one of another checkpoint, the exact one:
    a run that is published anew is right at once, and fast again when its index is made."""
    if (run / "index").is_dir():
        try:
            return stored_index.load(run, checkpoint.best(run), vectors)
        except InputError as error:
            print(f"louder: {error} Until then, items are found exactly.", file=sys.stderr)
    return Exact(vectors)


def ends_padded(rows: Sequence[np.ndarray]) -> Tensor:
    """[B, longest], -1 where a row has ended"""
    out = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for row, own in zip(out, rows):
        row[: len(own)] = own
    return torch.from_numpy(out)


def request_heads(requests: np.ndarray) -> np.ndarray:
    """[T] the row at which the run of equal requests around each row begins; -1 stands alone"""
    own = np.arange(len(requests))
    starts = np.ones(len(requests), dtype=bool)
    starts[1:] = (requests[1:] != requests[:-1]) | (requests[1:] < 0)
    return np.maximum.accumulate(np.where(starts, own, 0)) if len(own) else own


def remapped(bits: np.ndarray, have: Sequence[str], want: Sequence[str]) -> np.ndarray:
    """Action bits numbered by `have`, as bits numbered by `want`; what only one of them knows is left out."""
    if tuple(have) == tuple(want):
        return bits.copy()
    out = np.zeros_like(bits)
    for place, name in enumerate(want):
        if name in have:
            out |= (bits >> have.index(name) & 1) << place
    return out


def diverse(vectors: Tensor, found: Result, order: np.ndarray, k: int, diversity: float) -> np.ndarray:
    """Maximal marginal relevance: each place goes to what scores well and points elsewhere than what is above it."""
    v = F.normalize(vectors[torch.from_numpy(found.items[order])], dim=1).numpy()
    score = found.scores[order].astype(np.float64)
    spread = score.max(initial=0) - score.min(initial=0)
    relevance = (score - score.min(initial=0)) / spread if spread else np.zeros_like(score)
    nearest = np.full(len(order), 0.0)
    taken: list[int] = []
    left = np.ones(len(order), dtype=bool)
    for _ in range(min(k, len(order))):
        worth = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(worth.argmax())
        taken.append(best)
        left[best] = False
        nearest = np.maximum(nearest, v @ v[best])
    return order[taken]


def version_of(run: Path, ranker: Path | None = None) -> str:
    """Names one state of the weights: RUN@EPOCH-HASH. It changes when a new best checkpoint is published."""
    parts = []
    for path in (run, ranker):
        if path is not None:
            folder = checkpoint.best(path)
            weights = folder / "model.safetensors"
            try:
                stat = weights.stat()
                text = f"{folder.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
            except OSError as error:
                raise InputError(checkpoint.damaged(weights)) from error
            parts.append(f"{path.resolve().name}@{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}")
    return "+".join(parts)
