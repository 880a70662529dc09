"""Who may ask for what, and what is noted of it."""

import json
import re

import pytest
from services import client_of
from starlette.routing import Route

from louder.errors import InputError
from louder.serving import messages as m
from louder.serving.access import ADMIN, READ, WATCH, WRITE, Access, Audit, Token, right_for, tokens_of, users_of
from louder.serving.routes import create_app

TOKENS = """
# who  what        token
shop   read,write  s-1
feed   write       f-1
graph  watch       g-1
boss   admin       b-1
"""


def scope(method, path, raw=None):
    return {"method": method, "path": path, "raw_path": (raw or path).encode()}


def test_one_token_may_do_everything_and_lines_give_rights():
    (token,) = tokens_of(" s3cret \n")
    assert (token.name, token.text) == ("token", "s3cret") and all(map(token.may, (WATCH, READ, WRITE, ADMIN)))
    may = {t.name: {right for right in (WATCH, READ, WRITE, ADMIN) if t.may(right)} for t in tokens_of(TOKENS)}
    assert may == {
        "shop": {WATCH, READ, WRITE},
        "feed": {WATCH, WRITE},
        "graph": {WATCH},
        "boss": {WATCH, READ, WRITE, ADMIN},
    }
    assert "s-1" not in repr(tokens_of(TOKENS))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "lines NAME RIGHTS TOKEN"),
        ("# none", "lines NAME RIGHTS TOKEN"),
        ("two\nlines", "lines NAME RIGHTS TOKEN"),
        ("shop read s-1\nboss b-1", "lines NAME RIGHTS TOKEN"),
        ("shop read tökn", "one line of ASCII"),
        ("shop raed s-1", "the right 'raed'"),
        ("shop read s-1\nshop write s-2", "has a name twice"),
        ("shop read s-1\nfeed write s-1", "has a token twice"),
    ],
)
def test_a_wrong_token_file_is_told_of_without_its_secrets(text, error):
    with pytest.raises(InputError, match=error) as found:
        tokens_of(text, "The token file t")
    assert "s-1" not in str(found.value)


RIGHTS = {
    WATCH: ["GET /metrics", "GET /v1/model", "GET /v1/stats", "GET /openapi.json"],
    READ: [
        "POST /v1/recommend",
        "POST /v1/recommend/batch",
        "POST /v1/rank",
        "POST /v1/similar",
        "GET /v1/users/{user:id}/history",
    ],
    WRITE: ["POST /v1/events", "POST /v1/items", "DELETE /v1/users/{user:id}/events/{id:id}"],
    ADMIN: ["DELETE /v1/users/{user:id}"],
}


def test_every_route_needs_the_right_that_fits(service):
    app = create_app(service).app.app  # behind the middleware, and what calls routes at once
    routes = [(method, r.path) for r in app.routes if isinstance(r, Route) for method in r.methods - {"HEAD"}]
    for right, expected in RIGHTS.items():
        assert set(expected) <= {f"{method} {path}" for method, path in routes}
        assert {right_for(scope(*x.split())) for x in expected} == {right}
    for method, path in routes:  # those to come, too: what changes something is not for readers
        if method != "GET":
            assert right_for(scope(method, path)) in ((READ,) if 429 in answers_of(app, path) else (WRITE, ADMIN))


def answers_of(app, path):
    return {status for route in app.routes if route.path == path for status in getattr(route, "responses", ())}


def test_what_is_not_known_needs_the_highest_right_and_slashes_open_nothing():
    for method, path in ("POST", "/v1/users"), ("PUT", "/v1/recommend"), ("PATCH", "/"), ("DELETE", "/v1/users/events"):
        assert right_for(scope(method, path)) == ADMIN
    # a user whose id has slashes: to delete him is not to delete an event
    assert right_for(scope("DELETE", "/v1/users/a/events/b", "/v1/users/a%2Fevents%2Fb")) == ADMIN
    assert right_for(scope("DELETE", "/v1/users/a/events/b")) == WRITE


@pytest.mark.parametrize(
    ("host", "hosts", "answered"),
    [
        ("localhost:8000", (), True),
        ("LocalHost.", (), True),
        ("127.0.0.1:8000", (), True),
        ("[::1]:8000", (), True),
        ("192.168.0.7", (), True),
        ("", (), True),  # HTTP 1.0; a browser always sends one
        ("evil.example", (), False),
        ("evil.example:8000", ("shop.example",), False),
        ("localhost.evil.example", (), False),
        ("127.0.0.1.evil.example", (), False),
        ("shop.example:8000", ("shop.example",), True),
        ("evil.example", ("*",), True),
    ],
)
def test_a_host_that_was_not_named_is_not_answered(host, hosts, answered):
    access, headers = Access(hosts=hosts), {b"host": host.encode()}
    assert (access.refusal(scope("GET", "/v1/model"), headers) is None) == answered
    assert access.refusal(scope("GET", "/readyz"), headers) is None  # balancers ask by any name


def bearing(token):
    return {"authorization": f"Bearer {token}"}


def test_rights_over_http(service_of, call):
    service = service_of(token=TOKENS)
    event = {"user": 1, "id": "a-1", "item": 1, "time": 1_750_000_000}
    asked = [
        ("GET", "/v1/model", None),
        ("POST", "/v1/recommend", {"user": 1}),
        ("POST", "/v1/events", {"events": [event]}),
        ("DELETE", "/v1/users/2", None),
    ]
    statuses = {
        "": [401, 401, 401, 401],
        "wrong": [401, 401, 401, 401],
        "g-1": [200, 403, 403, 403],
        "f-1": [200, 403, 200, 403],
        "s-1": [200, 200, 200, 403],
        "b-1": [200, 200, 200, 200],
    }
    for token, expected in statuses.items():
        found = call(service, *asked, headers=bearing(token) if token else None)
        assert [x.status_code for x in found] == expected, token
    (refused,) = call(service, asked[3], headers=bearing("s-1"))
    assert refused.json()["error"] == "The token of shop may read, write, but this needs admin."


def test_a_body_of_another_type_changes_nothing_on_any_route(service):
    """A page of another site can send such bodies without being asked first."""
    import asyncio

    app = create_app(service).app.app  # behind the middleware, and what calls routes at once
    posts = [r.path for r in app.routes if isinstance(r, Route) and "POST" in r.methods]
    assert {"/v1/events", "/v1/recommend"} <= set(posts)

    async def send():
        async with client_of(service) as client:
            for path in posts:
                for kind in {}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}:
                    assert (await client.post(path, content=b"{}", headers=kind)).status_code == 415

    asyncio.run(send())


def test_the_audit_says_who_did_what_about_whom(service_of, call, tmp_path):
    service = service_of(token=TOKENS, audit=tmp_path / "audit.jsonl")
    events = [{"user": user, "id": f"b-{user}", "item": 1, "time": 1_750_000_000} for user in (7, 8, 7)]
    for token, *request in (
        ("s-1", "POST", "/v1/recommend", {"user": 1}),
        ("f-1", "POST", "/v1/events", {"events": events}),
        ("s-1", "GET", "/v1/users/30/history", None),
        ("s-1", "DELETE", "/v1/users/30", None),
        ("wrong", "POST", "/v1/rank", {"user": 1, "items": [1]}),
        ("s-1", "POST", "/v1/recommend", {"user": 1, "k": 0}),
        ("s-1", "GET", "/v1/model", None),  # about nobody
        ("s-1", "GET", "/healthz", None),
    ):
        call(service, tuple(request), headers={**bearing(token), "x-request-id": f"r-{token}"})
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    found = [(x["who"], x["method"], x["route"], x["users"], x["status"]) for x in lines]
    assert found == [
        ("shop", "POST", "/v1/recommend", [1], 200),
        ("feed", "POST", "/v1/events", [7, 8], 200),
        ("shop", "GET", "/v1/users/{user}/history", ["30"], 200),
        ("shop", "DELETE", "/v1/users/30", [], 403),
        ("", "POST", "/v1/rank", [], 401),
        ("shop", "POST", "/v1/recommend", [], 422),
    ]
    assert {x["request"] for x in lines} == {"r-s-1", "r-f-1", "r-wrong"} and all(x["time"] > 1.7e9 for x in lines)
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_an_audit_that_cannot_be_written_is_told_of_at_the_start(tmp_path):
    with pytest.raises(InputError, match=re.escape("--audit")):
        Audit(tmp_path / "nowhere" / "audit.jsonl")


def test_clients_are_told_apart_by_address_and_token():
    named, anybody = Access(tokens=tokens_of(TOKENS)), Access()
    shop, feed, wrong = ({b"authorization": f"Bearer {token}".encode()} for token in ("s-1", "f-1", "x"))
    assert len({named.client(at, bearing) for at in ("10.0.0.1", "10.0.0.2") for bearing in (shop, feed)}) == 4
    assert (
        named.client("10.0.0.1", wrong)
        == named.client("10.0.0.1", {})
        == anybody.client("10.0.0.1", shop)
        == "10.0.0.1"
    )


def test_whom_a_message_is_about():
    assert users_of(m.RecommendRequest(user="a")) == ["a"] and users_of(m.SimilarRequest(item=1)) == []
    assert users_of(None) == [] and users_of(m.RecommendRequest(history=[])) == []


def test_a_token_knows_its_bearer():
    access = Access(tokens=tokens_of(TOKENS))
    assert access.bearer({b"authorization": b"Bearer f-1"}) == Token("feed", frozenset({WRITE}), "f-1")
    assert access.bearer({b"authorization": b"Basic f-1"}) is None and access.bearer({}) is None
