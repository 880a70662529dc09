"""Spans of requests, as an exporter in memory gets them."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from louder.errors import InputError
from louder.serving.tracing import ENDPOINTS, tracer_from_environment

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(service):
    """The service is traced -> what was exported."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    service.tracer = provider.get_tracer("louder")
    return exporter.get_finished_spans


def test_a_request_has_spans_of_its_parts_below_the_senders_own(service, call, spans):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "r-1"}
    (response,) = call(service, ("POST", "/v1/recommend", {"user": 1}), headers=headers)
    assert response.status_code == 200
    by_name = {x.name: x for x in spans()}
    assert set(by_name) == {"POST /v1/recommend", "read history", "queue", "compute"} and len(spans()) == 4
    whole = by_name.pop("POST /v1/recommend")
    assert whole.kind == SpanKind.SERVER and f"{whole.parent.span_id:016x}" == PARENT
    assert dict(whole.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/recommend",
        "http.response.status_code": 200,
        "louder.request": "r-1",
    }
    for part in by_name.values():
        assert part.parent.span_id == whole.context.span_id and f"{part.context.trace_id:032x}" == TRACE
        assert whole.start_time <= part.start_time <= part.end_time <= whole.end_time
    assert by_name["read history"].end_time <= by_name["queue"].start_time
    assert by_name["queue"].end_time == by_name["compute"].start_time
    assert dict(by_name["compute"].attributes) == {"louder.batch": 1}


def test_requests_that_share_a_pass_keep_their_traces_apart(service, call, spans):
    call(service, *(("POST", "/v1/similar", {"item": item}) for item in (1, 2, 3)))
    found = {"queue": [], "compute": [], "POST /v1/similar": []}
    for x in spans():
        found[x.name].append(x)
    own = {x.context.trace_id for x in found["POST /v1/similar"]}
    assert len(own) == 3
    for name in "queue", "compute":
        assert {x.context.trace_id for x in found[name]} == own


def test_a_failure_is_one_in_the_trace(service, call, spans, monkeypatch):
    call(service, ("POST", "/v1/rank", {"user": 1, "items": []}), ("GET", "/healthz", None))
    wrong, alive = sorted(spans(), key=lambda x: x.name, reverse=True)
    assert wrong.attributes["http.response.status_code"] == 422 and wrong.status.status_code == StatusCode.UNSET
    assert alive.name == "GET /healthz"
    monkeypatch.setattr(service.metrics, "stats", lambda: 1 / 0)
    call(service, ("GET", "/v1/stats", None))
    assert spans()[-1].name == "GET /v1/stats" and spans()[-1].status.status_code == StatusCode.ERROR


def test_without_a_collector_nothing_is_loaded():
    script = "import sys, louder.serving.routes; print([x for x in sys.modules if x.startswith('opentelemetry.sdk')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_collector_is_named_by_the_environment(monkeypatch):
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert tracer_from_environment() is None
    monkeypatch.setenv(ENDPOINTS[0], "http://localhost:9")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    tracer = tracer_from_environment()
    assert tracer.resource.attributes["service.name"] == "shop"
    for name in list(sys.modules):
        if name.startswith("opentelemetry.sdk.trace"):
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"louder\[trace\]"):
        tracer_from_environment()
