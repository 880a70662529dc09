"""What every request passes."""

import asyncio
import json
import re
from types import SimpleNamespace

import pytest

from louder.serving.access import Access, tokens_of
from louder.serving.metrics import Metrics
from louder.serving.middleware import Middleware, request_id_of

FREE = frozenset({"/healthz", "/"})


class App:
    """Answers 200, or fails; it notes the ids it was given and how many requests were in flight."""

    def __init__(self, metrics, fails=False):
        self.metrics, self.fails = metrics, fails
        self.ids, self.in_flight, self.methods = [], [], []

    async def __call__(self, scope, receive, send):
        self.ids.append(scope["request_id"])
        self.methods.append(scope["method"])
        self.in_flight.append(self.metrics.in_flight._value.get())
        if self.fails:
            raise ZeroDivisionError
        scope["route"] = SimpleNamespace(path_format="/v1/users/{user}/history")
        await send({"type": "http.response.start", "status": 204, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"body"})


def passed(app, path="/v1/users/7/history", token="", log=False, headers=(), method="GET"):
    """The messages that were sent."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    access = Access(tokens=tokens_of(token) if token else (), free=FREE)
    asyncio.run(Middleware(app, metrics=app.metrics, access=access, log=log)(scope, receive, send))
    return sent


@pytest.mark.parametrize("given", ["abc-1", "A.b_9", "x" * 64])
def test_an_id_that_came_is_kept(given):
    assert request_id_of({b"x-request-id": given.encode()}) == given


@pytest.mark.parametrize("given", ["", "a b", "a\nb", "a;b", "ü", '"'])
def test_an_id_that_could_do_harm_is_replaced(given):
    headers = {b"x-request-id": given.encode()} if given else {}
    one, other = request_id_of(headers), request_id_of(headers)
    assert re.fullmatch("[0-9a-f]{16}", one) and one != other


def test_a_long_id_is_cut():
    assert request_id_of({b"x-request-id": b"0123456789" * 10}) == ("0123456789" * 10)[:64]


def test_an_answer_bears_the_id_beside_its_own_headers():
    app = App(Metrics())
    start, body = passed(app, headers=[(b"x-request-id", b"mine")])
    assert start["headers"] == [(b"a", b"b"), (b"x-request-id", b"mine")] and app.ids == ["mine"]
    assert body["body"] == b"body"


def test_requests_are_in_flight_until_they_are_answered_also_with_a_mistake():
    for fails in False, True:
        app = App(Metrics(), fails)
        try:
            passed(app)
        except ZeroDivisionError:
            assert fails
        assert app.in_flight == [1.0] and app.metrics.in_flight._value.get() == 0
        expected = 'route="other",status="500"' if fails else 'route="/v1/users/{user}/history",status="204"'
        assert f"louder_requests_total{{{expected}}} 1.0" in app.metrics.exposition().decode()


@pytest.mark.parametrize(
    ("header", "path", "allowed"),
    [
        (b"Bearer s3cret", "/v1/model", True),
        (b"bearer  s3cret ", "/v1/model", True),
        (b"Bearer s3cre", "/v1/model", False),
        (b"Bearer s3crets", "/v1/model", False),
        (b"Bearer", "/v1/model", False),
        (b"Basic s3cret", "/v1/model", False),
        (b"s3cret", "/v1/model", False),
        (None, "/v1/model", False),
        (None, "/metrics", False),
        (None, "/healthz/", False),
        (None, "/healthz", True),
        (None, "/", True),
    ],
)
def test_only_the_token_opens_what_is_not_free(header, path, allowed):
    app = App(Metrics())
    headers = [] if header is None else [(b"authorization", header)]
    start, body = passed(app, path, token="s3cret", headers=headers)
    assert start["status"] == (204 if allowed else 401) and len(app.ids) == allowed
    if not allowed:
        assert (b"www-authenticate", b"Bearer") in start["headers"] and (b"content-type", b"application/json") in start[
            "headers"
        ]
        problem = json.loads(body["body"])
        assert "bearer token" in problem["error"] and (b"x-request-id", problem["request"].encode()) in start["headers"]
    assert passed(App(Metrics()), path)[0]["status"] == 204  # a service without a token


def test_the_log_has_one_line_a_request(capsys):
    passed(App(Metrics()), log=True, headers=[(b"x-request-id", b"mine")])
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert line.pop("ms") >= 0 and line.pop("time") > 1_700_000_000
    assert line == {"request": "mine", "method": "GET", "route": "/v1/users/{user}/history", "status": 204}
    passed(App(Metrics()), log=False)
    assert capsys.readouterr().err == ""


def test_a_head_is_a_get_without_its_body(capsys):
    app = App(Metrics())
    get, head = passed(app), passed(app, method="HEAD", log=True)
    assert app.methods == ["GET", "GET"] and json.loads(capsys.readouterr().err)["method"] == "HEAD"
    assert (get[0]["status"], get[1]["body"], head[0]["status"], head[1]["body"]) == (204, b"body", 204, b"")
    assert 'status="204"} 2.0' in app.metrics.exposition().decode()


def test_what_is_no_request_passes_by():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    metrics = Metrics()
    middleware = Middleware(app, metrics=metrics, access=Access(tokens_of("s3cret"), free=FREE), log=True)
    asyncio.run(middleware({"type": "lifespan"}, None, None))
    assert seen == [{"type": "lifespan"}] and sum(metrics.stats()["requests"]) == 0
