"""The routes: what is read from a request, and what of the service answers it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import signature
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from louder.errors import InputError
from louder.histories import Arrival, StoreGone
from louder.serving import messages as m
from louder.serving.access import Access, Audit, tokens_of
from louder.serving.batching import Overloaded
from louder.serving.bulk import add_batches
from louder.serving.connections import Gate, most_connections
from louder.serving.ending import announced, end_with_parent
from louder.serving.explore import add_exploring
from louder.serving.forgetting import add_forgetting
from louder.serving.items import add_items
from louder.serving.middleware import Middleware
from louder.serving.openapi import BODY, answers, body, describe
from louder.serving.page import add_page
from louder.serving.paths import USER
from louder.serving.problems import problem
from louder.serving.service import Service, service_from_environment
from louder.serving.tracing import Traced
from louder.serving.views import history_view, model_view
from louder.serving.wire import Json, Refused, answer, read
from louder.version import __version__

Route = Callable[[Callable[[Request], Awaitable[Response]]], Callable[[Request], Awaitable[Response]]]


def from_environment() -> ASGIApp:
    """The application as `louder serve --workers N` described it to its processes."""
    end_with_parent()
    return create_app(service_from_environment())


def create_app(service: Service) -> ASGIApp:
    """The ASGI application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Gate]]:
        sweeping = asyncio.create_task(sweep(gate))
        with announced(gate, settings.grace_s):
            yield {"gate": gate}  # for the connections
        sweeping.cancel()
        await asyncio.to_thread(service.close)

    settings = service.settings
    app = FastAPI(title="Louder", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_errors(app)
    add_recommendations(app, service)
    add_histories(app, service)
    add_exploring(app, service)
    add_forgetting(app, service)
    add_batches(app, service)
    add_items(app, service)
    page = add_page(app, images=service.models.live.catalogue.image_column is not None)
    access = Access(
        tokens=tokens_of(settings.token) if settings.token else (),
        hosts=settings.hosts,
        free=frozenset({"/healthz", "/readyz", *page}),
    )
    gate = Gate(
        admit=service.batcher.admit_unread,
        client=access.client,
        computed=frozenset(x.path for x in app.routes if isinstance(x, APIRoute) and 429 in x.responses),
        observe=service.metrics.observe,
        most=most_connections(),
    )
    add_health(app, service, gate)
    describe(app, token=bool(settings.token))
    audit = None if settings.audit is None else Audit(settings.audit)
    routed = Straight(app)
    traced = routed if service.tracer is None else Traced(routed, service.tracer)
    return Middleware(traced, metrics=service.metrics, access=access, audit=audit, log=settings.log)


class Straight:
    """The application, with routes that read their bodies themselves called at once: what the framework does around them
    (exit stacks, dependencies, a middleware each for errors, telemetry and body sizes) took a fifth of the event loop."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        routes = [x for x in app.routes if isinstance(x, APIRoute) and x.methods == {"POST"}]
        self.by_path = {x.path: x for x in routes if list(signature(x.endpoint).parameters) == ["request"]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self.by_path.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["app"], scope["route"] = self.app, route
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except Exception as error:
            response = await refuse(request, error)
        await response(scope, receive, send)


async def sweep(gate: Gate) -> None:
    while True:
        await asyncio.sleep(1)
        gate.sweep()


def add_errors(app: FastAPI) -> None:
    """Every error is a messages.Problem."""

    for kind in (Refused, InputError, RequestValidationError, Overloaded, StoreGone, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)


async def refuse(request: Request, error: Exception) -> Response:
    status, text, headers = problem(error)
    if (
        isinstance(route := request.scope.get("route"), APIRoute) and status == 405
    ):  # the error knows one route's methods
        alike = [x for x in request.app.routes if isinstance(x, APIRoute) and x.path == route.path]
        headers["Allow"] = ", ".join(sorted({method for x in alike for method in x.methods or ()}))
    return answer({"error": text, "request": request.scope.get("request_id", "")}, status, headers)


def add_recommendations(app: FastAPI, service: Service) -> None:
    def post(path: str, message: type[m.Message], example: Json, *problems: int) -> Route:
        responses = answers(m.Answer, *BODY, 429, 504, *problems)
        return app.post(path, responses=responses, openapi_extra=body(message, example))

    @post("/v1/recommend", m.RecommendRequest, {"user": 42, "k": 10}, 503)
    async def recommend(request: Request) -> Response:
        """Retrieve candidates, rank them, and answer the best."""
        return answer(await service.answer(await read(m.RecommendRequest, request)))

    @post("/v1/retrieve", m.RetrieveRequest, {"user": 42, "k": 10}, 503)
    async def retrieve(request: Request) -> Response:
        """The first stage alone: what the history calls for, out of the whole catalogue."""
        return answer(await service.answer(await read(m.RetrieveRequest, request)))

    @post("/v1/rank", m.RankRequest, {"user": 42, "items": [1, 2, 3]}, 503)
    async def rank(request: Request) -> Response:
        """The second stage alone: what will the user do with each of these items? In their order."""
        return answer(await service.answer(await read(m.RankRequest, request)))

    @post("/v1/similar", m.SimilarRequest, {"item": 1, "k": 5})
    async def similar(request: Request) -> Response:
        """Items that the model takes for alike. Nobody asks, so `seen` changes nothing."""
        return answer(await service.answer(await read(m.SimilarRequest, request)))


def add_histories(app: FastAPI, service: Service) -> None:
    event: Json = {"user": 42, "id": "a-1", "item": 1, "time": 1_700_000_000, "actions": []}
    sent = body(m.EventsRequest, {"events": [event]})

    @app.post("/v1/events", responses=answers(m.EventsAnswer, *BODY, 503), openapi_extra=sent)
    async def events(request: Request) -> Response:
        """Add events to histories. They are on the disk when this is answered; an id that was stored before is not
        stored again, so a request may be repeated."""
        b = await read(m.EventsRequest, request)
        new = [Arrival(e.user, e.id, e.item, e.time, tuple(e.actions), dict(e.values), e.request) for e in b.events]
        done = await service.append(new)
        counts: dict[str, Json] = {"stored": done.stored, "duplicates": done.duplicates, "deleted": done.deleted}
        later = len(new) - done.stored - done.duplicates - done.deleted
        return answer(counts | ({"logged": later} if later else {}))

    @app.get("/v1/users", responses=answers(m.UsersAnswer, 401, 422, 503))
    async def users(
        prefix: Annotated[str, Query(max_length=m.MAX_ID)] = "", limit: Annotated[int, Query(ge=1, le=1_000)] = 20
    ) -> Response:
        """Users of the store whose id begins so."""
        return answer({"users": await service.read(service.store.users, prefix, limit)})

    @app.get(f"/v1/users/{USER}/history", responses=answers(m.HistoryAnswer, 401, 422, 503))
    async def history(
        user: Annotated[str, Path(min_length=1, max_length=m.MAX_ID)],
        limit: Annotated[int, Query(ge=1, le=m.MAX_EVENTS)] = 100,
    ) -> Response:
        """The latest events of a user, oldest first. Nobody is unknown: a new user's history is empty."""

        def view(text: str) -> Json:
            known = service.store.user_in(text)
            return history_view(service.models.live, known, service.store.history(known), limit)

        return answer(await service.read(view, user))


def add_health(app: FastAPI, service: Service, gate: Gate) -> None:
    @app.get("/v1/model", responses=answers(m.ModelAnswer, 401))
    async def model() -> Response:
        """Which model answers, and what can be asked of it."""
        return answer(await asyncio.to_thread(model_view, service))

    @app.get("/v1/stats", responses=answers(m.StatsAnswer, 401))
    async def stats() -> Response:
        """Latency and throughput of the last minute."""
        return answer(service.metrics.stats())

    @app.get("/healthz", responses=answers(m.HealthAnswer))
    async def healthz() -> Response:
        """The process is alive."""
        return answer({"ok": True})

    @app.get("/readyz", responses=answers(m.ReadyAnswer, 503))
    async def readyz() -> Response:
        """It can answer for the users of the store, and does not end soon."""
        if gate.ending:
            raise Refused(503, "The service ends.")
        await service.read(service.store.users, "", 1)
        return answer({"ok": True, "model": service.models.live.version})

    @app.get("/metrics", response_class=PlainTextResponse, responses={401: answers(m.Problem, 401)[401]})
    async def metrics() -> Response:
        """For Prometheus."""
        service.measure()
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
