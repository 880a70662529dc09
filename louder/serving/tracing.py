"""Spans of OpenTelemetry: of a request, of the reading of its history, of its wait in the queue and of its computing. Where
no exporter is named in the environment, nothing of this is loaded."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from louder.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

ENDPOINTS = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


def tracer_from_environment() -> "Tracer | None":
    """What OpenTelemetry's own variables say; None where they name no collector."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InputError(
            f"{ENDPOINTS[0]} asks for traces, which need more packages: pip install 'louder[trace]'."
        ) from error
    os.environ.setdefault("OTEL_SERVICE_NAME", "louder")
    provider = TracerProvider()  # it sends what is left when the process ends
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("louder")


@contextmanager
def span(tracer: "Tracer | None", name: str) -> Iterator[None]:
    """Around a part of a request."""
    if tracer is None:
        yield
        return
    with tracer.start_as_current_span(name):
        yield


@dataclass(frozen=True)
class Waiting:
    """A request in the queue: its span, and since when (ns since 1970)."""

    context: "Context"
    since: int


def waiting(tracer: "Tracer | None") -> Waiting | None:
    if tracer is None:
        return None
    from opentelemetry.context import get_current

    return Waiting(get_current(), time.time_ns())


@contextmanager
def batch_spans(tracer: "Tracer | None", requests: Sequence[Waiting | None]) -> Iterator[None]:
    """Around the computing of a batch: each request has a span of its wait, and one of the computing that it shared."""
    began = time.time_ns()
    yield
    if tracer is None:
        return
    ended = time.time_ns()
    for request in requests:
        if request is not None:
            tracer.start_span("queue", request.context, start_time=request.since).end(began)
            shared = {"louder.batch": len(requests)}
            tracer.start_span("compute", request.context, start_time=began, attributes=shared).end(ended)


class Traced:
    """The span of each request, a child of the one that its sender names (traceparent)."""

    def __init__(self, app: ASGIApp, tracer: "Tracer") -> None:
        self.app, self.tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        status = 500
        parent = extract({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self.tracer.start_as_current_span(scope["method"], parent, SpanKind.SERVER) as current:
            try:
                await self.app(scope, receive, sending)
            finally:
                route = getattr(scope.get("route"), "path_format", "other")
                current.update_name(f"{scope['method']} {route}")
                current.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.route": route,
                        "http.response.status_code": status,
                        "louder.request": scope.get("request_id", ""),
                    }
                )
                if status >= 500:
                    current.set_status(StatusCode.ERROR)
