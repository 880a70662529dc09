"""The service: routes, and what each asks of the store and of the model.

A request reads its history from the store in a thread of a small pool, then its question goes to the one thread that
computes, together with all that are waiting. Nothing from a request is ever a path, or code.
"""

import asyncio
import gc
import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Query
from fastapi import Path as InPath
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from louder.data.histories import histories
from louder.data.table import open_table
from louder.errors import InputError
from louder.histories import HistoryStore, NewEvent, Stored, StoreDamaged, StoreGone, open_store
from louder.histories.history import History, Names, empty_history
from louder.ids import RawId
from louder.inference.engine import Engine
from louder.inference.request import Reason, Request, Result
from louder.schema import Manifest
from louder.serving import messages as m
from louder.serving.batching import Batcher, Overloaded
from louder.serving.gate import Gate, Numbers
from louder.serving.models import Models, Source, trial
from louder.serving.openapi import BODY, answers, body, describe
from louder.serving.wire import Refused, answer, read, sentence
from louder.version import __version__

T = TypeVar("T")
ENVIRONMENT = "LOUDER_SERVE"
EXPLAINED = 10  # first items of an answer that are explained
CANARIES = 8  # known users whom a new model must answer
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `louder serve` was told.

    run, ranker  the runs; see Engine
    table        the sequence table, in place of the run's: it fills an empty store
    store        a folder, or redis://…
    keep         events of a user that the store keeps
    token        what requests must bear; "" for none
    cache_bytes  the most that remembered histories of the live model take; see Engine
    patience_s   a request that would wait longer for its turn is answered 429
    """

    run: Path
    store: str
    ranker: Path | None = None
    table: Path | None = None
    keep: int = 1000
    token: str = ""
    cache_bytes: int = 1 << 30
    patience_s: float = 0.2
    log: bool = True
    reload_every_s: float = 1.0


@dataclass(frozen=True)
class Job:
    """What the thread that computes is asked."""

    kind: str  # answer, similar
    question: Request
    message: Any
    previous: bool = False


@dataclass
class Service:
    """All that the routes use."""

    settings: Settings
    store: HistoryStore
    models: Models
    numbers: Numbers = field(default_factory=Numbers)
    readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8, "readers"))
    writers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "writers"))

    def __post_init__(self) -> None:
        self.away_until, self.away = 0.0, ""
        self.batcher: Batcher[Job] = Batcher(self.work, patience_s=self.settings.patience_s)

    # --- in the thread that computes ----------------------------------------------------------------------------------

    def work(self, jobs: Sequence[Job]) -> list[Any]:
        """One model answers the whole batch; those that ask for the previous one are a batch of their own."""
        self.numbers.batch.observe(len(jobs))
        live, before = self.models.both
        out: dict[int, Any] = {}
        for previous, model in (False, live), (True, before):
            own = [n for n, job in enumerate(jobs) if job.previous == previous]
            if not own:
                continue
            if model is None:
                error = InputError("There is no previous model: nothing was published since the service began.")
                out |= dict.fromkeys(own, error)
                continue
            questions = [n for n in own if jobs[n].kind == "answer"]
            out |= zip(questions, model.answer([jobs[n].question for n in questions]))
            for n in own:
                out[n] = self.told(model, jobs[n], out.get(n))
        self.measure()
        return [out[n] for n in range(len(jobs))]

    def told(self, model: Engine, job: Job, found: Any) -> Any:
        """The answer as it goes over the wire, or the error."""
        try:
            if job.kind == "similar":
                found = model.similar(job.question, job.message.item)
            if isinstance(found, Exception):
                return found
            reasons: list[list[Reason]] = []
            if getattr(job.message, "explain", False):
                reasons = model.reasons(job.question, found.items[:EXPLAINED])
            rich = job.kind == "similar" or isinstance(job.message, m.RecommendRequest)
            return shown(model, job.question, found, reasons, rich)
        except InputError as error:
            return error

    def measure(self) -> None:
        model = self.models.live
        held = {id(x): x for x in (model.retriever, model.ranker.mfalcon if model.ranker else None) if x is not None}
        self.numbers.cached.set(sum(len(x.cache) for x in held.values()))
        self.numbers.cached_bytes.set(sum(x.bytes for x in held.values()))
        self.numbers.hits.set(sum(x.hits for x in held.values()))
        self.numbers.misses.set(sum(x.misses for x in held.values()))
        self.numbers.reloads.set(self.models.swaps)
        self.numbers.refused.set(self.models.refusals)

    # --- in the event loop --------------------------------------------------------------------------------------------

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Ask the store, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, self.reached, function, *arguments)

    def reached(self, function: Callable[..., T], *arguments: Any) -> T:
        """While the store is away one request a second finds out, and the others are told at once."""
        if time.monotonic() < self.away_until:
            raise StoreGone(self.away)
        try:
            return function(*arguments)
        except StoreGone as error:
            self.away, self.away_until = str(error), time.monotonic() + 1
            raise

    async def append(self, events: Sequence[NewEvent]) -> Stored:
        """Reading does not wait for a disk that is slow to write, nor fail with one that is full."""
        return await asyncio.get_running_loop().run_in_executor(self.writers, self.store.append, events)

    async def ask(self, message: m.Asker, kind: str, **question: Any) -> Response:
        began = time.perf_counter()
        self.batcher.admit()
        self.batcher.announce(1)
        try:
            past = await self.past(message)
            at = int(time.time()) if message.at is None else message.at
            user = message.user
            key = None if user is None else ("user", user)
            q = Request(history=past, at=at, key=key, context=message.context, user=user, **question)
            told = self.batcher.submit(Job(kind, q, message, message.model == "previous"))
        finally:
            self.batcher.announce(-1)
        return answer(await told | {"milliseconds": round(1000 * (time.perf_counter() - began), 3)})

    async def past(self, message: m.Asker) -> History:
        if (message.user is None) == (message.history is None):
            raise Refused(422, "A request needs a user or a history, one of the two.")
        if message.user is not None:
            return await self.read(self.store.history, message.user)
        return given(message.history or [], self.models.live)

    def canaries(self) -> list[History]:
        """Histories of the first users of the store."""
        try:
            return [self.store.history(user) for user in self.store.users("", CANARIES)]
        except StoreGone:
            return []

    def close(self) -> None:
        self.models.close()
        self.batcher.close()
        self.readers.shutdown()
        self.writers.shutdown()
        self.store.close()


def given(events: Sequence[m.EventIn], model: Engine) -> History:
    """A history that came with a request, in any order."""
    ordered = sorted(events, key=lambda event: event.time)
    names, values = tuple(model.actions), tuple(model.values)
    bits, numbers = np.zeros(len(ordered), np.int64), np.full((len(ordered), len(values)), np.nan, np.float32)
    for row, event in enumerate(ordered):
        for name in event.actions:
            if name not in names:
                raise Refused(422, f"There is no action {name!r}; the model knows {', '.join(names) or 'none'}.")
            bits[row] |= 1 << names.index(name)
        for name, value in event.values.items():
            if name not in values:
                raise Refused(422, f"There is no value {name!r}; the model knows {', '.join(values) or 'none'}.")
            numbers[row, values.index(name)] = value
    texts = [event.request for event in ordered]
    places = {text: n for n, text in enumerate(dict.fromkeys(texts)) if text is not None}
    items = np.empty(len(ordered), dtype=object)
    items[:] = [event.item for event in ordered]
    return History(
        items=items,
        times=np.array([event.time for event in ordered], dtype=np.int64),
        actions=bits,
        values=numbers,
        requests=np.array([-1 if text is None else places[text] for text in texts], dtype=np.int64),
        names=Names(names, values),
    )


def shown(model: Engine, q: Request, found: Result, reasons: Sequence[Sequence[Reason]], rich: bool) -> dict[str, Any]:
    """messages.Answer, but for the time it took."""
    names = model.actions if found.probabilities is not None else []
    values = [f"log {n}" if model.ranking and n in model.ranking.log_values else n for n in model.values]
    items = []
    for place, (number, score) in enumerate(zip(found.items.tolist(), found.scores.tolist())):
        raw, title = model.describe(number)
        entry: dict[str, Any] = {"item": raw, "title": title, "score": score}
        if found.probabilities is not None and found.values is not None:
            entry["actions"] = dict(zip(names, found.probabilities[place].tolist()))
            entry["values"] = dict(zip(values, found.values[place].tolist()))
        if rich:
            entry["attributes"] = model.attributes_of(number)
        if place < len(reasons):
            entry["reasons"] = [reason(model, q.history, own) for own in reasons[place]]
        items.append(entry)
    return {"items": items, "model": model.version, "history": found.read, "skipped": found.skipped}


def reason(model: Engine, past: History, why: Reason) -> dict[str, Any]:
    item = plain(past.items[why.row])
    (number,) = model.item_ids.ids([item])
    title = model.describe(int(number))[1] if number >= 0 else ""
    change = None if math.isnan(why.change) else why.change
    return {
        "item": item,
        "title": title,
        "time": int(past.times[why.row]),
        "attention": why.attention,
        "without": change,
    }


def plain(value: Any) -> RawId:
    return value if isinstance(value, str) else int(value)


def open_service(settings: Settings) -> Service:
    """Load the model, open the store, and fill it from the table if it is new."""
    holder: list[Service] = []
    source = Source(settings.run, settings.ranker, settings.table, settings.cache_bytes)
    models = Models(source, lambda: holder[0].canaries(), settings.reload_every_s)
    model = models.live
    (answer,) = model.answer([trial(model)])  # also so that the first request need not wait longer than the others
    if isinstance(answer, InputError):
        raise answer
    try:
        store = open_store(settings.store, names=names_for(model), keep=settings.keep)
    except StoreGone as error:
        raise InputError(f"{error} Start it, or keep histories in a folder: --store histories.") from error
    service = Service(settings, store, models)
    holder.append(service)
    if not store.filled():
        fill(store, model, settings.keep)
    if settings.log:
        print(store.durability(), file=sys.stderr)
    told_model(models)  # reads the attributes, once
    models.watch()
    return service


def names_for(model: Engine) -> Names:
    """All that the table names, so that a ranker which comes later finds its values; else what the model knows."""
    if model.table_path.is_dir():
        manifest = Manifest.read(model.table_path)
        return Names(tuple(manifest.actions), tuple(manifest.values))
    return Names(tuple(model.actions), tuple(model.values))


def fill(store: HistoryStore, model: Engine, keep: int) -> None:
    """The first contents of a store: what the table knows."""
    if not model.table_path.is_dir():
        print(f"The table {model.table_path} is not there, so the store begins empty.", file=sys.stderr)
        return
    table = open_table(model.table_path, values=Manifest.read(model.table_path).values, requests=True)
    users = store.fill(histories(table, keep))
    print(f"The store was empty: histories of {users:,} users were copied from {model.table_path}.", file=sys.stderr)


def from_environment() -> Any:
    """The application as `louder serve --workers N` described it to its processes."""
    return create_app(service_from_environment())


def service_from_environment() -> Service:
    given = json.loads(os.environ[ENVIRONMENT])
    paths = {name: Path(given[name]) for name in ("run", "ranker", "table") if given.get(name)}
    import torch

    torch.set_num_threads(given.pop("threads"))
    service = open_service(Settings(**(given | paths)))
    # a full collection goes through all that importing made, 0.1 to 0.3 s in which nobody is answered
    gc.collect()
    gc.freeze()
    return service


def create_app(service: Service) -> Any:
    """The ASGI application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="Louder", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    def refuse(request: HTTPRequest, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
        return answer({"error": text, "request": request.scope.get("request_id", "")}, status, headers)

    @app.exception_handler(Refused)
    async def refused(request: HTTPRequest, error: Refused) -> Response:
        return refuse(request, error.status, error.error, error.headers)

    @app.exception_handler(StoreDamaged)
    async def damaged(request: HTTPRequest, error: StoreDamaged) -> Response:
        print(f"louder: {error}", file=sys.stderr, flush=True)
        return refuse(request, 500, "The history in the store is damaged; the log of the service says how.")

    @app.exception_handler(InputError)
    async def wrong(request: HTTPRequest, error: InputError) -> Response:
        return refuse(request, 422, str(error))

    @app.exception_handler(RequestValidationError)
    async def misfit(request: HTTPRequest, error: RequestValidationError) -> Response:
        return refuse(request, 422, sentence(error.errors()))

    @app.exception_handler(Overloaded)
    async def overloaded(request: HTTPRequest, error: Overloaded) -> Response:
        text = f"{error.seconds:.2f} s of work are waiting already. Ask again in a second."
        return refuse(request, 429, text, {"retry-after": str(max(1, round(error.seconds)))})

    @app.exception_handler(StoreGone)
    async def gone(request: HTTPRequest, error: StoreGone) -> Response:
        text = f"The histories cannot be read ({error}). Requests that carry their history are answered."
        return refuse(request, 503, text, {"retry-after": "1"})

    @app.exception_handler(Exception)
    async def ours(request: HTTPRequest, error: Exception) -> Response:
        traceback.print_exception(error)
        return refuse(request, 500, "The service has a mistake of its own; its log says which.")

    @app.exception_handler(HTTPException)
    async def other(request: HTTPRequest, error: HTTPException) -> Response:
        return refuse(request, error.status_code, str(error.detail), dict(error.headers or {}))

    example = {"user": 42, "k": 10}

    @app.post(
        "/v1/recommend", responses=answers(m.Answer, *BODY, 429, 503), openapi_extra=body(m.RecommendRequest, example)
    )
    async def recommend(request: HTTPRequest) -> Response:
        """Retrieve candidates, rank them, and answer the best."""
        b = await read(m.RecommendRequest, request)
        return await service.ask(
            b, "answer", k=b.k, retrieve=b.retrieve, weights=b.weights, diversity=b.diversity, **filters(b)
        )

    @app.post(
        "/v1/retrieve", responses=answers(m.Answer, *BODY, 429, 503), openapi_extra=body(m.RetrieveRequest, example)
    )
    async def retrieve(request: HTTPRequest) -> Response:
        """The first stage alone: what the history calls for, out of the whole catalogue."""
        b = await read(m.RetrieveRequest, request)
        return await service.ask(b, "answer", k=b.k, retrieve=0, **filters(b))

    @app.post(
        "/v1/rank",
        responses=answers(m.Answer, *BODY, 429, 503),
        openapi_extra=body(m.RankRequest, {"user": 42, "items": [1, 2, 3]}),
    )
    async def rank(request: HTTPRequest) -> Response:
        """The second stage alone: what will the user do with each of these items? In their order."""
        b = await read(m.RankRequest, request)
        return await service.ask(b, "answer", candidates=b.items, k=len(b.items))

    @app.post(
        "/v1/similar",
        responses=answers(m.Answer, *BODY, 429),
        openapi_extra=body(m.SimilarRequest, {"item": 1, "k": 5}),
    )
    async def similar(request: HTTPRequest) -> Response:
        """Items that the model takes for alike. Nobody asks, so `seen` changes nothing."""
        began = time.perf_counter()
        b = await read(m.SimilarRequest, request)
        q = Request(history=empty_history(), at=0, k=b.k, **filters(b))
        told = await service.batcher.submit(Job("similar", q, b))
        return answer(told | {"milliseconds": round(1000 * (time.perf_counter() - began), 3)})

    event = {"user": 42, "id": "a-1", "item": 1, "time": 1_700_000_000, "actions": []}

    @app.post(
        "/v1/events",
        responses=answers(m.EventsAnswer, *BODY, 503),
        openapi_extra=body(m.EventsRequest, {"events": [event]}),
    )
    async def events(request: HTTPRequest) -> Response:
        """Add events to histories. They are on the disk when this is answered; an id that was stored before is not
        stored again, so a request may be repeated."""
        b = await read(m.EventsRequest, request)
        new = [NewEvent(e.user, e.id, e.item, e.time, tuple(e.actions), dict(e.values), e.request) for e in b.events]
        done = await service.append(new)
        service.numbers.events.inc(done.stored)
        return answer({"stored": done.stored, "duplicates": done.duplicates})

    @app.get("/v1/users", responses=answers(m.UsersAnswer, 401, 422, 503))
    async def users(
        prefix: Annotated[str, Query(max_length=m.MAX_ID)] = "", limit: Annotated[int, Query(ge=1, le=1_000)] = 20
    ) -> Response:
        """Users of the store whose id begins so."""
        return answer({"users": await service.read(service.store.users, prefix, limit)})

    @app.get("/v1/users/{user:path}/history", responses=answers(m.HistoryAnswer, 401, 422, 503))
    async def history(
        user: Annotated[str, InPath(min_length=1, max_length=m.MAX_ID)],
        limit: Annotated[int, Query(ge=1, le=m.MAX_EVENTS)] = 100,
    ) -> Response:
        """The latest events of a user, oldest first. Nobody is unknown: a new user's history is empty."""
        return answer(await service.read(told_history, service, user, limit))

    @app.get("/v1/model", responses=answers(m.ModelAnswer, 401))
    async def model() -> Response:
        """Which model answers, and what can be asked of it."""
        return answer(await asyncio.to_thread(told_model, service.models))

    @app.get("/v1/stats", responses=answers(m.StatsAnswer, 401))
    async def stats() -> Response:
        """Latency and throughput of the last minute."""
        return answer(service.numbers.stats())

    @app.get("/healthz", responses=answers(m.HealthAnswer))
    async def healthz() -> Response:
        """The process is alive."""
        return answer({"ok": True})

    @app.get("/readyz", responses=answers(m.ReadyAnswer, 503))
    async def readyz() -> Response:
        """It can answer for the users of the store."""
        await service.read(service.store.users, "", 1)
        return answer({"ok": True, "model": service.models.live.version})

    @app.get("/metrics", response_class=PlainTextResponse, responses={401: answers(m.Problem, 401)[401]})
    async def metrics() -> Response:
        """For Prometheus."""
        service.measure()
        return Response(service.numbers.exposition(), media_type=CONTENT_TYPE_LATEST)

    pages = add_page(app)
    describe(app, token=bool(service.settings.token))
    free = frozenset({"/healthz", "/readyz", *pages})
    return Gate(app, numbers=service.numbers, token=service.settings.token, free=free, log=service.settings.log)


def filters(b: m.Filters) -> dict[str, Any]:
    return {"seen": b.seen, "allow": b.allow, "deny": b.deny, "where": b.where}


def told_history(service: Service, text: str, limit: int) -> dict[str, Any]:
    user, found = history_of(service.store, text)
    model, names = service.models.live, service.store.names
    rows = range(max(0, len(found.items) - limit), len(found.items))
    items = [plain(found.items[row]) for row in rows]
    numbers = model.item_ids.ids(items) if items else np.empty(0, np.int64)
    events = []
    for row, item, number in zip(rows, items, numbers):
        bits = int(found.actions[row])
        own = {name: float(x) for name, x in zip(names.values, found.values[row]) if not np.isnan(x)}
        happened = [name for place, name in enumerate(names.actions) if bits >> place & 1]
        title = model.describe(int(number))[1] if number >= 0 else ""
        events.append({"item": item, "title": title, "time": int(found.times[row]), "actions": happened, "values": own})
    return {"user": user, "events": events, "total": max(found.total, len(found.items))}


def history_of(store: HistoryStore, text: str) -> tuple[RawId, History]:
    """Of a user whose id came in a path, where a number is a text."""
    if re.fullmatch("0|-?[1-9][0-9]{0,18}", text):
        try:
            return int(text), store.history(int(text))
        except InputError:  # the ids of this store are texts
            pass
    return text, store.history(text)


def told_model(models: Models) -> dict[str, Any]:
    model = models.live
    return {
        "version": model.version,
        "previous": models.previous.version if models.previous else None,
        "name": model.state["config"]["name"],
        "kind": model.state["config"]["model"]["kind"],
        "ranker": model.ranker.state["config"]["model"]["kind"] if model.ranker else None,
        "actions": list(model.actions),
        "values": list(model.values),
        "main": model.main or None,
        "items": len(model.item_ids),
        "attributes": model.labels,
        "context": model.context_labels,
        "window": model.window,
        "refused": models.refused,
    }


def add_page(app: FastAPI) -> list[str]:
    """The page's files, read once: a name that is not among them is not looked for anywhere."""
    paths: list[str] = []
    headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    for file in sorted(resources.files("louder.serving").joinpath("ui").iterdir(), key=lambda x: x.name):
        ending = file.name.rpartition(".")[2]
        if ending not in TYPES:
            continue
        page = Response(file.read_bytes(), headers={**headers, "cache-control": "no-cache"}, media_type=TYPES[ending])
        paths.append("/" if file.name == "index.html" else f"/{file.name}")
        app.add_api_route(paths[-1], always(page), methods=["GET"], include_in_schema=False)
    return paths


def always(page: Response) -> Callable[[], Response]:
    return lambda: page
