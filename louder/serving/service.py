"""What the routes use: the store, read and written in small pools of threads where it is no memory, and the engine in a thread
of its own.

A request reads its history from the store, then joins the queue of the one thread that computes, which answers all that
are waiting together. Nothing from a request is ever a path, or code.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from louder.data.histories import histories
from louder.data.table import open_table
from louder.errors import InputError
from louder.histories import Arrival, HistoryStore, Stored, StoreGone, open_store
from louder.histories.history import History, Names, empty_history
from louder.histories.identity import DataSet
from louder.histories.items import open_items
from louder.ids import RawId
from louder.inference.engine import Engine
from louder.inference.limits import MAX_CANDIDATES
from louder.inference.request import history_of
from louder.inference.run import Run
from louder.inference.scoring import not_chosen
from louder.publishing.chain import Version, inspect, is_chain
from louder.schema import Manifest
from louder.serving import messages as m
from louder.serving.batching import CLIENT, LONGEST_HOLD_S, VARIANT, Batcher, Overloaded
from louder.serving.canaries import first_look
from louder.serving.following import FollowedModels, VersionSource
from louder.serving.item_book import ItemBook
from louder.serving.jobs import MOST_ROWS, ROW_S, Job, is_long, joined, outcome, rows_of, sliced
from louder.serving.metrics import Metrics
from louder.serving.reload import LiveModels, Models, ModelSource
from louder.serving.tracing import batch_spans, span, tracer_from_environment, waiting
from louder.serving.variants import CONTROL, Variant, assigned, with_control
from louder.serving.views import request_of, result_view, shown, supposed
from louder.serving.wire import Json, Refused
from louder.streaming import FollowingStore

T = TypeVar("T")
ENVIRONMENT = "LOUDER_SERVE"
EXPLAINED = 10  # first items of an answer that are explained
SWITCH_S = 5e-5
CANARIES = 256  # known users whom a new model must answer
QUICK_S = 0.001  # reads of a history that take no longer than this, on average, are not handed to a thread
RETRY_S = 1.0  # for so long a store that could not be reached is not asked again


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `louder serve` was told."""

    run: Path
    store: str  # a folder, or redis://…
    ranker: Path | None = None
    table: Path | None = None  # in place of the run's: it fills an empty store
    keep: int = 1000  # events of a user that the store keeps
    token: str = ""  # what requests must bear: one token, or lines NAME RIGHTS TOKEN; "" for none
    hosts: Sequence[str] = ("*",)  # names that requests may be sent to; "*": any
    audit: Path | None = None  # a file for a line of each request that is about users
    events: str | None = None  # a log, a folder or kafka://…, of what is accepted and answered, which the store follows
    explore: int = 0  # a position in so many, of answers that are logged, is drawn; 0: none
    seen: bool | None = None  # whether seen items are recommended too, where a request does not say; None: as the run
    sources: tuple[str, ...] = ()  # of candidates besides the run's retrieval
    variants: tuple[str, ...] = ()  # what shares of the users are answered by; see variants.py
    salt: str = ""  # of the draw of who has which variant
    cache_bytes: int = 1 << 30  # the most that the KV caches of the live model take
    max_queue_delay_s: float = 0.2  # a request that would wait longer for its turn is answered 429
    grace_s: float = 0.0  # between SIGTERM, when /readyz turns to 503, and the end of listening
    adopt_store: bool = False  # also a store of another data set
    log: bool = True
    reload_every_s: float = 1.0


class Service:
    """All that the routes use."""

    def __init__(
        self,
        settings: Settings,
        store: HistoryStore,
        models: LiveModels,
        items: ItemBook,
        log: FollowingStore | None = None,
        others: Mapping[str, LiveModels] = MappingProxyType({}),
    ) -> None:
        """`models` answer the control, and `others` the variants, by their names."""
        self.variants, self.tested = with_control(settings.variants), bool(settings.variants)
        self.models_of: dict[str, LiveModels] = {CONTROL: models, **others}
        self.settings, self.store, self.models, self.items, self.log = settings, store, models, items, log
        self.changes = store if log is None else log  # where events are added and deleted
        self.metrics, self.tracer = Metrics(), tracer_from_environment()
        self.readers, self.writers = ThreadPoolExecutor(8, "readers"), ThreadPoolExecutor(4, "writers")
        self.gone_until, self.gone = 0.0, ""
        self.reading_s = 0.0  # of a history, averaged over the latest reads
        self.batcher = Batcher(
            self.compute, max_rows=MOST_ROWS, max_queue_delay_s=settings.max_queue_delay_s, row_s=ROW_S
        )

    # --- in the event loop --------------------------------------------------------------------------------------------

    async def answer(self, message: m.UserRequest | m.SimilarRequest) -> dict[str, Json]:
        """messages.Answer; to what is similar nobody asks, so `seen` changes nothing."""
        within_s = None if message.deadline is None else message.deadline / 1000
        try:
            async with asyncio.timeout(within_s):  # at its end the job is cancelled, and not computed if it still waits
                return await self.computed(message, within_s)
        except TimeoutError as error:
            if message.deadline is None:
                raise
            late = f"The answer was not there within the deadline of {message.deadline} ms."
            raise Refused(504, late) from error
        except Overloaded as error:
            # to read a long list took more than to refuse it: who sends such does not send the next one at once
            long = len(message.items) / MAX_CANDIDATES if isinstance(message, m.RankRequest) else 0.0
            await asyncio.sleep(max(error.hold_s, LONGEST_HOLD_S * long))
            raise

    def variant_for(self, message: m.UserRequest | m.SimilarRequest) -> Variant:
        """A history that comes with a request is nobody's, so the control answers it."""
        if not self.tested or not isinstance(message, m.UserRequest) or message.user is None:
            return self.variants[0]
        return assigned(message.user, self.variants, self.settings.salt)

    async def computed(self, message: m.UserRequest | m.SimilarRequest, within_s: float | None) -> dict[str, Json]:
        variant = self.variant_for(message)
        began, client, rows = time.perf_counter(), CLIENT.get(), rows_of(message)
        yields = is_long(message)  # nobody is shown thousands of items at once
        self.batcher.admit(client, rows, within_s, yields=yields)
        with nullcontext() if self.reads_at_once else self.batcher.arriving():
            if isinstance(message, m.SimilarRequest):
                request = request_of(message, empty_history())
                job = Job(request, similar_to=message.item, attributes=True, waiting=waiting(self.tracer))
            else:
                past = await self.history_for(message)
                request = request_of(message, past, self.settings.explore, self.settings.seen)
                recommends = isinstance(message, m.RecommendRequest)
                explain = isinstance(message, m.RecommendRequest) and message.explain
                previous, since = message.model == "previous", waiting(self.tracer)
                job = Job(
                    request,
                    explain=explain,
                    attributes=recommends,
                    variant=variant.name,
                    previous=previous,
                    waiting=since,
                )
            first, *others = sliced(job)
            left_s = None if within_s is None else within_s - (time.perf_counter() - began)
            answer = self.batcher.submit(first, client=client, rows=rows, within_s=left_s, yields=yields)
        parts = [(first, await outcome(answer))]
        for job in others:
            answer = self.batcher.submit(job, client=client, rows=rows, yields=yields, admitted=True)
            parts.append((job, await outcome(answer)))
        found = joined(parts)
        if found is None:  # another model went live meanwhile
            return await self.computed(message, within_s)
        if self.tested:
            found = {**found, "variant": variant.name}
            VARIANT.set(variant.name)
            self.metrics.variants.labels(variant.name).inc()
        if self.log is not None and (record := shown(message, found, variant.share)) is not None:
            self.log.show(record)
            found = {**found, "request": record.request}
        return {**found, "milliseconds": round(1000 * (time.perf_counter() - began), 3)}

    async def history_for(self, message: m.UserRequest) -> History:
        if (message.user is None) == (message.history is None):
            raise Refused(422, "A request needs a user or a history, one of the two.")
        if message.user is not None:
            with span(self.tracer, "read history"):
                return supposed(await self.stored(message.user), message.what_if)
        if message.what_if:
            raise Refused(422, "what_if is added to the history of a user; without one, put the events into history.")
        model = self.models.live
        return history_of(message.history or [], Names(model.actions, model.values))

    @property
    def reads_at_once(self) -> bool:
        return self.store.at_hand and self.reading_s < QUICK_S

    async def stored(self, user: RawId) -> History:
        """A history of the store. Where that is memory, reading takes a fifth of what it costs to hand it to a thread, so it
        is handed only while reads turn out to be slow, as from a disk."""
        if self.reads_at_once:
            return self.reached(self.timed, user)
        return await self.read(self.timed, user)

    def timed(self, user: RawId) -> History:
        began = time.perf_counter()
        history = self.store.history(user)
        self.reading_s += (time.perf_counter() - began - self.reading_s) / 20
        return history

    async def read(self, function: Callable[..., T], *arguments: RawId) -> T:
        """Ask the store, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, self.reached, function, *arguments)

    def reached(self, function: Callable[..., T], *arguments: RawId) -> T:
        """While the store is gone one request a second finds out, and the others are told at once."""
        if time.monotonic() < self.gone_until:
            raise StoreGone(self.gone)
        try:
            return function(*arguments)
        except StoreGone as error:
            self.gone, self.gone_until = str(error), time.monotonic() + RETRY_S
            raise

    async def append(self, events: Sequence[Arrival]) -> Stored:
        done = await self.write(lambda: self.changes.append(events))
        self.metrics.events.inc(done.stored)
        return done

    async def write(self, function: Callable[[], T]) -> T:
        """Change the store, in a thread of others than those that read: reading does not wait for a disk that is slow to
        write, nor fail with one that is full."""
        return await asyncio.get_running_loop().run_in_executor(self.writers, function)

    # --- in the thread that computes ----------------------------------------------------------------------------------

    def compute(self, jobs: Sequence[Job]) -> list[dict[str, Json] | Exception]:
        """One model answers the whole batch; those that ask for the previous one, or for a variant's, are a batch of their
        own."""
        self.metrics.batch.observe(len(jobs))
        found: dict[int, dict[str, Json] | Exception] = {}
        with batch_spans(self.tracer, [job.waiting for job in jobs]):
            for name, models in self.models_of.items():
                asked = [n for n, job in enumerate(jobs) if job.variant == name]
                if not asked:
                    continue
                with models.turns.one():
                    live, before = models.both
                    for previous, model in (False, live), (True, before):
                        own = [n for n in asked if jobs[n].previous == previous]
                        if own:
                            found |= zip(own, answers(model, [jobs[n] for n in own]))
        self.measure()
        return [found[n] for n in range(len(jobs))]

    def measure(self) -> None:
        every = self.models_of.values()
        caches = [cache for models in every for cache in models.live.caches]
        self.metrics.cached.set(sum(map(len, caches)))
        self.metrics.cached_bytes.set(sum(x.bytes for x in caches))
        self.metrics.hits.set(sum(x.hits for x in caches))
        self.metrics.misses.set(sum(x.misses for x in caches))
        self.metrics.abandoned.set(self.batcher.abandoned)
        self.metrics.reloads.set(sum(x.swaps for x in every))
        self.metrics.refused.set(sum(x.refusals for x in every))
        self.metrics.version.set(max(x.number for x in every))
        self.metrics.gate_refused.set(sum(x.gate_refusals for x in every))
        if self.log is not None:
            counts = self.log.writer.counts
            self.metrics.logged.set(counts["records"])
            self.metrics.log_refused.set(counts["refused"])
            self.metrics.answers_lost.set(self.log.answers_lost)
            self.metrics.store_lag.set(self.log.lag())

    def close(self) -> None:
        for models in self.models_of.values():
            models.close()
        self.batcher.close()
        self.readers.shutdown()
        self.writers.shutdown()
        self.items.close()
        if self.log is not None:
            self.log.close()
        self.store.close()


def answers(model: Engine | None, jobs: Sequence[Job]) -> Sequence[dict[str, Json] | Exception]:
    """The answers as they go over the wire, or what was wrong with the request."""
    if model is None:
        return [InputError("There is no previous model: nothing was published since the service began.")] * len(jobs)
    results = iter(model.recommend_batch([job.request for job in jobs if job.similar_to is None]))
    found: list[dict[str, Json] | Exception] = []
    for job in jobs:
        try:
            result = next(results) if job.similar_to is None else model.similar(job.request, job.similar_to)
            if isinstance(result, InputError):
                raise result
            first = result.items[:EXPLAINED]
            likely = None if result.next is None else result.next[:EXPLAINED]
            reasons = model.reasons(job.request, first, likely=likely) if job.explain else []
            found.append(result_view(model, job.request, result, reasons, job.attributes))
        except InputError as error:
            found.append(error)
    return found


def open_service(settings: Settings, clock: Callable[[], float] = time.time) -> Service:
    """Load the model, open the store, and fill it from the table if it is new. By `clock` the event log is stamped."""
    control, *variants = with_control(settings.variants)
    source = source_for(control, settings)
    model, version = loaded(source)
    if version is None and (line := not_chosen(model.run, model.ranking_run, model.scoring)):
        print(line, file=sys.stderr)
    sources = {x.name: source_for(x, settings) for x in variants}
    others_loaded = {name: loaded(other) for name, other in sources.items()}
    beside = {name: other for name, (other, _) in others_loaded.items()}
    for variant in variants:
        require_alike(model, beside[variant.name], variant)
    keep = max(settings.keep, *(x.window_events for x in (model, *beside.values())))
    if keep > settings.keep:
        print(f"The model reads the latest {keep:,} events of a user, so the store keeps so many.", file=sys.stderr)
    try:
        store = open_store(settings.store, names=names_for(model), keep=keep)
    except StoreGone as error:
        raise InputError(f"{error} Start it, or keep histories in a folder: --store histories.") from error
    claim(store, model, settings)
    if not store.filled():
        fill(store, model, keep)
    for variant in (control, *variants):
        if variant is control or variant.run is not None:
            look_at(beside.get(variant.name, model), store, variant.run or settings.run)
    items = ItemBook(open_items(store))

    def kept_new(source: ModelSource | VersionSource, model: Engine, version: Version | None) -> LiveModels:
        items.attach(model)
        rest = model, lambda: canaries(store), settings.reload_every_s, items.attach
        if isinstance(source, VersionSource):
            assert version is not None
            return FollowedModels(source, version, *rest)
        return Models(source, *rest)

    models = kept_new(source, model, version)
    others = {name: kept_new(sources[name], *found) for name, found in others_loaded.items()}
    log = None if settings.events is None else followed(store, settings.events, clock)
    service = Service(settings, store, models, items, log, others)
    for variant in (control, *variants) if variants else ():
        print(told(variant, beside.get(variant.name, model)), file=sys.stderr)
    print(
        (log or store).durability(), file=sys.stderr
    )  # also where requests are not logged: who stores events must know it
    for one in service.models_of.values():
        one.watch()
    return service


def loaded(source: ModelSource | VersionSource) -> tuple[Engine, Version | None]:
    if isinstance(source, ModelSource):
        return source.load(), None
    version = source.current()
    return source.load(version), version


def source_for(variant: Variant, settings: Settings) -> ModelSource | VersionSource:
    """Where a variant's models come from. A run that ranks by itself needs no ranker beside it. Each variant has a part of the
    bytes of the KV caches. Raises InputError for a folder of versions with something beside it."""
    run, ranker = variant.run or settings.run, settings.ranker
    cache_bytes = settings.cache_bytes // (1 + len(settings.variants))
    if is_chain(run):
        if (ranker is not None and variant.run is None) or settings.sources or variant.sources:
            raise InputError(
                f"{run} is a folder of versions, whose items come and go, so no other run and no source goes with it. Publish "
                f"a joint run, and serve it alone: louder serve {run}."
            )
        return VersionSource(run, settings.table, cache_bytes)
    if variant.run is not None and ranker is not None and Run.open(run).ranking is not None:
        ranker = None
    return ModelSource(run, ranker, settings.table, cache_bytes, (*settings.sources, *variant.sources))


def require_alike(control: Engine, model: Engine, variant: Variant) -> None:
    """Raises InputError for a variant that cannot answer what the control answers, for the same histories."""
    if (control.ranker is None) != (model.ranker is None):
        does, other = ("ranks", "only retrieves") if model.ranker else ("only retrieves", "ranks")
        raise InputError(
            f"The variant {variant.name} {does}, but {control.run.path} {other}, so they cannot be asked the same. Give both a "
            "ranker: --ranker RUN."
        )
    theirs, ours = (set(x.catalogue.item_ids.raw.drop_null().to_pylist()) for x in (model, control))
    if not theirs & ours:
        raise InputError(
            f"The variant {variant.name} has no item in common with {control.run.path}. Train both on one data set."
        )


def told(variant: Variant, model: Engine) -> str:
    size = model.weight_bytes / 2**20
    return f"Variant {variant.name}: {variant.share:.4g} of the users, {model.run.path}, {size:,.1f} MiB of weights."


def followed(store: HistoryStore, events: str, clock: Callable[[], float]) -> FollowingStore:
    """The store, brought up to the end of a log."""
    try:
        log = FollowingStore(store, events, clock=clock)
    except InputError:
        store.close()
        raise
    except StoreGone as error:
        store.close()
        raise InputError(f"{error} Start it, or keep the log in a folder: --events events.") from error
    if log.caught_up:
        print(f"The store has read the event log {events}: {log.caught_up:,} records were new to it.", file=sys.stderr)
    return log


def look_at(model: Engine, store: HistoryStore, run: Path) -> None:
    """Says what is odd about the model that a service begins with. Raises InputError for one that tells nothing apart."""
    measure = inspect(run) if is_chain(run) else f"louder evaluate {run}"
    try:
        odd = first_look(model, canaries(store))
    except InputError as error:
        store.close()
        raise InputError(
            f"{run} cannot be served: {error}. Look at its metrics, and train it anew: {measure}."
        ) from error
    if odd:
        print(f"Is this the right model? {odd[0].upper()}{odd[1:]}. Look at its metrics: {measure}", file=sys.stderr)


def claim(store: HistoryStore, model: Engine, settings: Settings) -> None:
    """Raises InputError for a store of another data set."""
    run = model.run
    data = DataSet(str(settings.run), run.fingerprint.vocabularies, lambda part: run.vocabulary_of(part).raw)
    try:
        if store.claim(data, settings.adopt_store):
            print(
                f"The store {store.place} did not say which data set it is of: from now on it is that of {run.path}.",
                file=sys.stderr,
            )
    except InputError:
        store.close()
        raise


def canaries(store: HistoryStore) -> list[History]:
    """Histories of some known users."""
    try:
        return [store.history(user) for user in store.users("", CANARIES)]
    except StoreGone:
        return []


def names_for(model: Engine) -> Names:
    """All that the table names, so that a ranker which comes later finds its values; else what the model knows."""
    if model.table_path.is_dir():
        manifest = Manifest.read(model.table_path)
        return Names(tuple(manifest.actions), tuple(manifest.values))
    return Names(model.actions, model.values)


def fill(store: HistoryStore, model: Engine, keep: int) -> None:
    """The first contents of a store: what the table knows."""
    if not model.table_path.is_dir():
        print(f"The table {model.table_path} is not there, so the store begins empty.", file=sys.stderr)
        return
    table = open_table(model.table_path, values=Manifest.read(model.table_path).values, requests=True)
    users = store.fill(histories(table, keep))
    print(f"The store was empty: histories of {users:,} users were copied from {model.table_path}.", file=sys.stderr)


def service_from_environment() -> Service:
    import torch

    given = json.loads(os.environ[ENVIRONMENT])
    paths = {name: Path(given[name]) for name in ("run", "ranker", "table", "audit") if given.get(name)}
    torch.set_num_threads(given.pop("threads"))
    # every op of the model gives the interpreter away, and would wait 5 ms for it where the event loop is busy
    sys.setswitchinterval(SWITCH_S)
    service = open_service(Settings(**(given | paths)))
    # a full collection goes through all that importing made, 0.1 to 0.3 s in which nobody is answered
    gc.collect()
    gc.freeze()
    return service
