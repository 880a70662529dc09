"""The engine: requests in, results out, many at once. Command line, Python and HTTP all answer by it.

    Request ── admit ──▶ Active ── retrieve ──▶ rank ──▶ rerank ──▶ Result

Retrieval and ranking are two stages. A joint ranking run does both with one reading of a history; a retrieval run can be
given a ranking run beside it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from louder.batch import SequenceBatch
from louder.data.item_counts import ItemCounts
from louder.data.table import Table
from louder.data.window import remapped
from louder.errors import InputError
from louder.ids import RawId
from louder.inference import explain, reranking
from louder.inference.catalogue import Catalogue
from louder.inference.kv_cache import HistoryCache
from louder.inference.mfalcon import MFalcon
from louder.inference.new_items import Candidates, candidates_of
from louder.inference.request import Attribution, Request, Result, TableUser
from louder.inference.retriever import Retriever
from louder.inference.run import Run, version_of
from louder.inference.runner import Prefilled, Runner
from louder.inference.scoring import Scoring, scoring_of
from louder.inference.search import DotProductSearch, MixtureSearch, search_of
from louder.inference.short import shortfall
from louder.inference.sources import KINDS, OtherRun, source_of, widen
from louder.models import RankingModel, SequentialModel


class Window(NamedTuple):
    """A history as a model reads it.

    sequence  the latest part of what the model knows, as a batch of one
    rows      [T] of the history that these tokens are
    items     ids of the items of the user's whole past that the model knows, also of what is later than the request
    skipped   events of items that it does not know
    at        the time of the request
    """

    sequence: SequenceBatch
    rows: np.ndarray
    items: np.ndarray
    skipped: int
    at: int


@dataclass(eq=False)
class Active:
    """A request on its way through the stages, with what each of them needs."""

    request: Request
    windows: dict[Runner, Window] = field(default_factory=dict)
    allowed: np.ndarray | None = None
    candidates: Candidates | None = None  # where they came with the request
    weights: Tensor = field(default_factory=lambda: torch.zeros(0))  # of the actions
    log_next: Tensor | None = None  # [n] log P(next) of what retrieval found
    prefilled: dict[Runner, Prefilled] = field(default_factory=dict)
    answer: Result | InputError = field(default_factory=lambda: Result(np.zeros(0, np.int64), np.zeros(0), 0, 0))

    @property
    def found(self) -> Result:
        """The answer so far; while the stages go on it is no error."""
        assert isinstance(self.answer, Result)
        return self.answer


class Engine:
    """The best checkpoints of a run, and of a ranking run beside it. Not for several threads at once.

    actions, values  names of what results have probabilities and values of; value_names tells which are logarithms
    main             the action that scores by default; "" where nothing is ranked
    context_labels   attributes of users that may come with a request, and their values

    table        the sequence table, in place of the run's: where known users and popularity are
    cache_bytes  the most that KV caches take; two runs have half of it each
    microbatch   candidates of a request that are ranked together
    exact        search all items, also where the run has an index
    sources      of candidates besides the run's own retrieval, such as popular:50; see sources.py. They need a ranker

    Raises InputError if a run is damaged, or if the two do not have the same items.
    """

    def __init__(
        self,
        run: Path | str | Run,
        ranker: Path | str | None = None,
        *,
        table: Path | str | None = None,
        cache_bytes: int = 1 << 30,
        microbatch: int = 512,
        exact: bool = False,
        sources: Sequence[str] = (),
    ) -> None:
        self.run = run if isinstance(run, Run) else Run.open(run)
        self.ranking_run = self.run if self.run.ranking else None if ranker is None else Run.open(ranker)
        if self.run.ranking and ranker is not None:
            raise InputError(
                f"{run} ranks already, so it needs no ranker beside it. Give a retrieval run and {ranker}, or {run} alone."
            )
        self.actions = (self.ranking_run or self.run).actions
        self.main = self.ranking_run.main if self.ranking_run else ""
        self.values = self.ranking_run.values if self.ranking_run else ()
        self.value_names = self.ranking_run.value_names if self.ranking_run else []
        self.context_labels = self.ranking_run.context_labels if self.ranking_run else {}
        self.sources = [source_of(text) for text in sources]
        if self.sources and not (self.ranking_run is not None and self.run.retrieves):
            raise InputError(
                "What several sources find is put in order by a ranker, so sources need one: a joint run, or --ranker RUN."
            )
        beside = [Path(source.name) for source in self.sources if source.name not in KINDS]
        own = None if isinstance(run, Run) else self.run.path  # who opened it says what it is called
        self.version = version_of(own, None if ranker is None else Path(ranker), *beside)
        self.table_path = Path(table or self.run.data.table)
        cache_bytes //= 1 + (ranker is not None) + len(beside)
        self.others = {str(path): OtherRun(path, self.run, cache_bytes) for path in beside}
        self.ranker: MFalcon | None = None
        self.scoring = Scoring()
        if self.ranking_run is not None:
            model = self.ranking_run.generative_ranker()
            self.ranker = MFalcon(model, microbatch=microbatch, cache_bytes=cache_bytes)
            if not self.ranking_run.item_ids.raw.equals(self.run.item_ids.raw):
                raise InputError(f"{ranker} was trained on other items than {run}. Train both on one table.")
            if self.run.retrieves:
                self.scoring = scoring_of(self.run, self.ranking_run)
        self.retriever: Retriever | MFalcon | None = self.ranker if self.run.retrieves else None
        found_by: SequentialModel | RankingModel
        if self.run.ranking is None:
            found_by = self.run.sequential()
            self.retriever = Retriever(found_by, cache_bytes=cache_bytes)
        else:
            found_by = model
        self.catalogue = Catalogue(self.run, self.table_path, self.run.went_on)
        with torch.no_grad():
            self.vectors = found_by.item_vectors().float()
        self.search = search_of(self.run, found_by, self.vectors, exact=exact)

    def twin(self) -> "Engine":
        """The same weights with caches of its own, for another thread."""
        twin = copy.copy(self)
        if self.ranker is not None:
            twin.ranker = MFalcon(self.ranker.model, microbatch=self.ranker.microbatch, cache_bytes=0)
        if isinstance(self.retriever, Retriever):
            twin.retriever = Retriever(self.retriever.backbone, cache_bytes=0)
        elif self.retriever is not None:
            twin.retriever = twin.ranker
        twin.others = {name: other.twin() for name, other in self.others.items()}
        return twin

    @property
    def window_events(self) -> int:
        """The latest events of a history that may be read."""
        return max(run.data.max_len for run in (self.run, self.ranking_run) if run is not None)

    @property
    def weight_bytes(self) -> int:
        """Of the parameters of all its models, and of the item vectors that are searched."""
        backbones = [x.model if isinstance(x, MFalcon) else x.backbone for x in self.runners]
        sizes = {x.data_ptr(): x.nbytes for model in backbones for x in model.parameters()}
        return sum(sizes.values()) + self.vectors.nbytes

    @property
    def runners(self) -> list[Runner]:
        beside = [other.runner for other in self.others.values()]
        return list(dict.fromkeys(x for x in (self.retriever, self.ranker, *beside) if x is not None))

    @property
    def caches(self) -> list[HistoryCache]:
        return [runner.cache for runner in self.runners]

    @cached_property
    def table(self) -> Table:
        """Where known users are. Raises InputError if it is not there, or if it does not fit the run."""
        return (self.ranking_run or self.run).open_table(self.table_path)

    @cached_property
    def item_counts(self) -> ItemCounts | None:
        """What a ranker with counters of items reads: counted in the table. Who keeps them while events happen puts theirs
        here. None where no model reads them. Raises InputError where the table is not there, or does not fit."""
        run = self.ranking_run
        if run is None or run.ranking is None or not run.ranking.item_counters:
            return None
        if not self.table_path.is_dir():
            raise InputError(
                f"{run.path} reads what everybody did with an item, which is counted in the table {self.table_path}, but "
                "that is not there. Pass where it is: --table FOLDER."
            )
        bits = self.table.actions
        bits = None if bits is None else remapped(bits, self.table.manifest.actions, run.actions)
        return ItemCounts.of_table(self.table, bits)

    def counters(self, items: Sequence[np.ndarray], at: Sequence[int]) -> list[Tensor] | None:
        """[m, F] of each request's items [m] as of its time; None where the ranker reads none."""
        if (counted := self.item_counts) is None:
            return None
        return [torch.from_numpy(counted.features(own, np.full(len(own), now))) for own, now in zip(items, at)]

    @cached_property
    def engagements(self) -> Table:
        """The table as the run that retrieves reads it: without the tokens of auxiliary series, where it knows none."""
        return self.table if self.run.reader.series else self.table.engagements()[0]

    def recommend(self, request: Request) -> Result:
        """Raises InputError for a request that cannot be answered."""
        (answer,) = self.recommend_batch([request])
        if isinstance(answer, InputError):
            raise answer
        return answer

    @torch.no_grad()
    def recommend_batch(self, requests: Sequence[Request]) -> list[Result | InputError]:
        """The answers, in order; of a request that cannot be answered the reason. All share their passes."""
        admitted: list[Active | InputError] = []
        for request in requests:
            try:  # what can be wrong with a request is found before it joins the others
                admitted.append(self.admit(request))
            except InputError as error:
                admitted.append(error)
        self.step([x for x in admitted if isinstance(x, Active)])
        return [x.answer if isinstance(x, Active) else x for x in admitted]

    def step(self, active: Sequence[Active]) -> None:
        """All stages. If they fail for one of several requests, each goes through them alone."""
        try:
            self.retrieve([x for x in active if x.request.candidates is None])
            self.rank([x for x in active if self.ranks(x.request)])
            for x in active:
                if isinstance(x.answer, Result):
                    x.answer = self.finish(x, x.answer)
            for runner in self.runners:
                runner.release([x.prefilled[runner] for x in active if runner in x.prefilled])
        except InputError as error:
            for x in active:
                x.prefilled.clear()
                if len(active) == 1:
                    x.answer = error
                else:
                    self.step([x])

    def admit(self, request: Request) -> Active:
        if self.ranker is None and request.candidates is not None:
            raise InputError(
                f"{self.run.path.name} only retrieves, so it cannot rank. Serve a joint run, or give a ranking run: --ranker RUN."
            )
        if self.ranker is None and request.weights:
            raise InputError(
                "weights are of actions, and this model only retrieves. Serve it with a ranker: --ranker RUN."
            )
        known = self.run.ranking.next_item_by if self.run.ranking is not None else ()
        if request.next_by and request.next_by not in known:
            raise InputError(
                f"next_by is {request.next_by!r}, but the actions of which {self.run.path.name} has learnt the next item are: "
                f"{', '.join(known) or 'none'}. Train with --set ranking.next_item_by=[ACTION], or leave it out."
            )
        active = Active(replace(request, seen=self.shows_seen(request.seen)))
        if request.candidates is None:
            reranking.check(request, self.catalogue)
            active.allowed = self.catalogue.allowed(request)
            window = active.windows[self.finder] = self.window(request, self.finder)
            if self.retriever is None or not len(window.sequence.ids):
                self.require_popularity(request)
        if self.ranker is not None and self.ranks(request):
            if self.ranker not in active.windows:
                active.windows[self.ranker] = self.window(request, self.ranker)
            active.weights = reranking.action_weights(request, self.actions, self.main)
            if request.candidates is not None:
                model, updates = self.ranker.model, self.catalogue.updates
                active.candidates = candidates_of(model, updates, request.candidates, request.new_items)
        return active

    @property
    def finder(self) -> Runner:
        """What reads a history to find items; of a run that has not learned the next item the ranker, which only tells
        what was seen."""
        runner = self.retriever or self.ranker
        assert runner is not None
        return runner

    def shows_seen(self, seen: bool | None) -> bool:
        """Of a request that does not say it, as the run that retrieves."""
        return self.run.shows_seen if seen is None else seen

    def ranks(self, request: Request) -> bool:
        return self.ranker is not None and (request.candidates is not None or request.retrieve > 0)

    def window(self, request: Request, runner: Runner) -> Window:
        """The history of a request, as a runner's model reads it."""
        return self.read(
            request, self.ranking_run if runner is self.ranker and self.ranking_run is not None else self.run
        )

    def read(self, request: Request, run: Run) -> Window:
        if isinstance(request.history, TableUser):
            past = request.history
            encoded = run.reader.of_user(past.table, past.user, request.at, past.tokens)
        else:
            encoded = run.reader.encode(request.history, request.at)
        sequence = run.reader.batch(encoded, request.at, run.context_of(request.user, request.context))
        at = request.at if request.at is not None else int(sequence.timestamps[-1]) if len(sequence.ids) else 0
        return Window(sequence, encoded.rows[encoded.first :], encoded.seen, encoded.skipped, at)

    def prefill(self, runner: Runner, active: Sequence[Active]) -> list[Prefilled]:
        """Once for all stages of a joint run."""
        new = [x for x in active if runner not in x.prefilled]
        for x, own in zip(new, runner.prefill([(x.windows[runner].sequence, x.request.user) for x in new])):
            x.prefilled[runner] = own
        return [x.prefilled[runner] for x in active]

    def retrieve(self, active: Sequence[Active]) -> None:
        """The items that each history calls for; of those of whom nothing is known the most popular ones."""
        known = [x for x in active if self.retriever is not None and len(x.windows[self.retriever].sequence.ids)]
        if known and self.retriever is not None:
            actions = [x.request.next_by for x in known]
            states = self.retriever.next_item_states(self.prefill(self.retriever, known), actions).float()
            self.find(known, self.search, states)
            if self.ranker is not None and self.sources:
                rows = [n for n, x in enumerate(known) if self.ranks(x.request)]
                widen(self, [known[n] for n in rows], states[rows])
            elif self.ranker is not None:
                for x in known:
                    if self.ranks(x.request):
                        x.log_next = self.scoring.next(torch.from_numpy(x.found.scores))
        unknown = [x for x in active if x not in known]
        if unknown and self.catalogue.popular is not None:
            self.find(unknown, self.catalogue.popular, torch.ones(len(unknown), 1))
            for x in unknown:
                if self.retriever is not None:
                    x.log_next = torch.log_softmax(torch.from_numpy(x.found.scores).double().log1p(), dim=0)

    def find(self, active: Sequence[Active], search: DotProductSearch | MixtureSearch, states: Tensor) -> None:
        """The answers of retrieval. Requests without filters share a search, the others have one each."""
        alike: dict[int, list[int]] = {}
        for n, x in enumerate(active):
            alike.setdefault(id(x.allowed), []).append(n)
        for rows in alike.values():
            some = [active[n] for n in rows]
            windows = [x.windows[self.finder] for x in some]
            allowed = some[0].allowed
            excluded = [torch.from_numpy(w.items[:0] if x.request.seen else w.items) for x, w in zip(some, windows)]
            ids, scores = search.search(
                states[torch.tensor(rows)],
                [x.request.user for x in some],
                min(max(self.wanted(x.request) for x in some), len(self.catalogue)),
                pad_sequence(excluded, batch_first=True, padding_value=-1),
                None if allowed is None else torch.from_numpy(allowed),
            )
            counts = (ids >= 0).sum(1).tolist()
            for n, window, own_ids, own_scores, count in zip(rows, windows, ids.numpy(), scores.numpy(), counts):
                x, kept = active[n], min(count, self.wanted(active[n].request))
                read, temperature = len(window.sequence.ids), self.run.temperature if search is self.search else None
                found = Result(own_ids[:kept], own_scores[:kept], read, window.skipped, temperature=temperature)
                x.answer = self.with_pinned(x.request, found, search, states[n]) if x.request.pin else found

    def wanted(self, request: Request) -> int:
        """How many items retrieval has to find."""
        least = reranking.pool(request)
        return max(least, request.retrieve) if self.ranks(request) or least > request.k else least

    def with_pinned(
        self, request: Request, found: Result, search: DotProductSearch | MixtureSearch, state: Tensor
    ) -> Result:
        """What was found, and the pinned items that were not."""
        pinned, available = self.catalogue.known([item for item, _ in request.pin]), self.catalogue.updates.available
        missing = np.setdiff1d(pinned, [*found.items, *self.catalogue.known(request.deny)])
        missing = missing if available is None else missing[available[missing]]
        if not len(missing):
            return found
        scores = search.scores(state[None], [request.user], torch.from_numpy(missing))[0].float().numpy()
        return replace(
            found, items=np.concatenate([found.items, missing]), scores=np.concatenate([found.scores, scores])
        )

    def finish(self, active: Active, found: Result) -> Result:
        """Re-rank, and say what is missing."""
        if (named := active.candidates) is not None:
            return replace(found, raws=named.raws, unknown=named.unknown, unavailable=named.unavailable)
        request = active.request
        answer = reranking.rerank(request, found, self.vectors, self.catalogue)
        if len(answer.items) < request.k:
            seen = active.windows[self.finder].items
            answer.short = shortfall(request, len(self.catalogue), active.allowed, seen, len(found.items))
        if request.pin:
            pinned, updates = [item for item, _ in request.pin], self.catalogue.updates
            pairs = list(zip(pinned, self.catalogue.item_ids.ids(pinned).tolist()))
            answer.unknown = [raw for raw, number in pairs if number < 0]
            answer.unavailable = [raw for raw, number in pairs if number >= 0 and not updates.is_available(raw, number)]
        return answer

    def require_popularity(self, request: Request) -> None:
        if not request.popular:
            raise InputError("The history is empty, so there is nothing to recommend from. Give at least one event.")
        if self.catalogue.popularity is None:
            lacking = "The history is empty" if self.retriever is not None else f"{self.run.path.name} only ranks"
            raise InputError(
                f"{lacking}, and without the table {self.table_path} nobody knows what is popular. "
                "Send candidates to /v1/rank, or serve with the table: --table TABLE."
            )

    def rank(self, active: Sequence[Active]) -> None:
        """What will be done with each candidate: those of the request, or those that retrieval found."""
        if self.ranker is None:
            return
        asked = []
        for x in active:
            if x.candidates is not None:
                items, vectors = x.candidates.ids, x.candidates.vectors
            elif isinstance(x.answer, Result):
                items, vectors = x.answer.items, self.ranker.items(torch.from_numpy(x.answer.items))
            else:
                continue
            if len(items):
                asked.append((x, items, vectors))
        if not asked:
            return
        windows = [x.windows[self.ranker] for x, _, _ in asked]
        prefilled = self.prefill(self.ranker, [x for x, _, _ in asked])
        at = [window.at for window in windows]
        counters = self.counters([ids for _, ids, _ in asked], at)
        scored = self.ranker.score_candidates(prefilled, [own for _, _, own in asked], at, counters)
        for (x, ids, _), window, (logits, values) in zip(asked, windows, scored):
            probabilities = torch.sigmoid(logits)
            worth, read = probabilities @ x.weights, len(window.sequence.ids)
            answer = Result(ids, worth.numpy(), read, window.skipped, probabilities.numpy(), values.float().numpy())
            if x.log_next is not None and x.request.candidates is None:
                answer.scores = self.scoring.score(x.log_next, worth).numpy()
                answer.next, answer.sources = x.log_next.exp().numpy(), x.found.sources
            x.answer = answer

    @torch.no_grad()
    def similar(self, request: Request, item: RawId) -> Result:
        """The items whose vectors point where this one's does; scores are cosines. Of the request, filters and k count.
        Raises InputError for an item that is not known."""
        number = self.catalogue.item_ids.id(item, "item")
        scores = self.directions @ self.directions[number]
        scores[number] = -torch.inf
        if (mask := self.catalogue.allowed(request)) is not None:
            scores[torch.from_numpy(~mask)] = -torch.inf
        top = scores.topk(min(request.k, len(scores)))
        kept = top.values > -torch.inf
        answer = Result(top.indices[kept].numpy(), top.values[kept].numpy(), 0, 0)
        if len(answer.items) < request.k:
            there = "There are" if mask is None else "The filters leave"
            answer.short = f"{there} {len(answer.items):,} other items."
        return answer

    @cached_property
    def directions(self) -> Tensor:
        """[I, D] the item vectors, of length 1"""
        return F.normalize(self.vectors, dim=1)

    @torch.no_grad()
    def reasons(
        self, request: Request, items: np.ndarray, count: int = 3, likely: np.ndarray | None = None
    ) -> list[list[Attribution]]:
        return explain.reasons(self, request, items, count, likely)
