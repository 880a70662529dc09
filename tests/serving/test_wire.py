"""JSON in, strictly; JSON out; every error a sentence."""

import asyncio
import gzip
import json
import time

import pytest
from starlette.requests import ClientDisconnect

from louder.serving import messages as m
from louder.serving.wire import MOST_BYTES, Refused, answer, read, sentence


class Sent:
    """A request whose body comes in parts."""

    def __init__(self, *parts, kind="application/json", coding=None):
        given = {"content-type": kind, "content-encoding": coding}
        self.scope = {}
        self.parts, self.headers = parts, {name: value for name, value in given.items() if value is not None}

    async def stream(self):
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part


def received(*parts, **headers):
    return asyncio.run(read(m.RecommendRequest, Sent(*parts, **headers)))


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON ; charset=utf-8"])
def test_a_body_may_come_in_parts(kind):
    assert received(b'{"us', b'er": 1', b"}", kind=kind).user == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/json5", "", "application", None])
def test_another_kind_of_body_is_refused(kind):
    with pytest.raises(Refused, match="must be application/json") as told:
        received(b'{"user": 1}', kind=kind)
    assert told.value.status == 415


def test_a_body_may_have_4_mib_and_no_byte_more():
    body = b'{"user": 1}'
    assert received(body + b" " * (MOST_BYTES - len(body))).user == 1
    with pytest.raises(Refused, match="larger than 4 MiB") as told:
        received(body, b" " * (MOST_BYTES - len(body) + 1))
    assert told.value.status == 413


@pytest.mark.parametrize("coding", ["gzip", " GZIP "])
def test_a_body_may_be_gzip(coding):
    packed = gzip.compress(b'{"user": 1}')
    assert received(packed[:7], packed[7:], coding=coding).user == 1
    assert received(b'{"user": 1}', coding="identity").user == 1


def test_what_gzip_hides_is_bounded_as_well():
    fits = b'{"user": 1}'.ljust(MOST_BYTES)
    assert received(gzip.compress(fits), coding="gzip").user == 1
    with pytest.raises(Refused, match="unpacks to more than 4 MiB") as told:
        received(gzip.compress(fits + b" "), coding="gzip")
    assert told.value.status == 413


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (b'{"user": 1}', "gzip", 400),
        (gzip.compress(b'{"user": 1}', mtime=0)[:-1], "gzip", 400),
        (gzip.compress(b'{"user": 1}', mtime=0) * 2, "gzip", 400),
        (b"", "gzip", 400),
        (b'{"user": 1}', "br", 415),
        (gzip.compress(b'{"user": 1}', mtime=0), "gzip, gzip", 415),
    ],
)
def test_another_coding_is_refused(body, coding, status):
    with pytest.raises(Refused) as told:
        received(body, coding=coding)
    assert told.value.status == status


def test_a_body_that_ends_early_is_refused():
    with pytest.raises(Refused, match="ended before it was complete") as told:
        received(b"{", ClientDisconnect())
    assert told.value.status == 400


def test_a_sentence_says_where_and_how_many_more():
    def mistake(*loc, msg="Wrong"):
        return {"loc": loc, "msg": msg}

    assert sentence([mistake("history", 3, "item", "constrained-str")]) == "history.3.item: Wrong."
    assert sentence([mistake("query", "limit")]) == "limit: Wrong."
    assert sentence([mistake("path", "user"), mistake("x")]) == "user: Wrong. There are 1 more mistakes."
    assert sentence([mistake()]) == "The body: Wrong."
    assert sentence([mistake("x" * 300, msg="y" * 400)]) == "x" * 200 + ": " + "y" * 300 + "."


def test_an_answer_is_compact_json_in_utf_8():
    response = answer({"item": "ü", "n": 1.5, "none": None}, 201, {"retry-after": "1"})
    assert response.body == '{"item":"ü","n":1.5,"none":null}'.encode()
    assert response.status_code == 201 and response.headers["retry-after"] == "1"
    assert response.headers["content-type"] == "application/json"
    assert json.loads(answer("\ud800").body) == "?"  # half of a pair is no UTF-8


@pytest.mark.parametrize(
    ("message", "body", "fits"),
    [
        (m.RecommendRequest, {"user": 1, "k": 1_000}, True),
        (m.RecommendRequest, {"user": 1, "k": 1_001}, False),
        (m.RecommendRequest, {"user": 1, "retrieve": 0}, True),
        (m.RecommendRequest, {"user": 1, "retrieve": -1}, False),
        (m.RecommendRequest, {"user": 1, "retrieve": 16_384}, True),
        (m.RecommendRequest, {"user": 1, "diversity": 1.001}, False),
        (m.RecommendRequest, {"user": 1, "at": -1}, False),
        (m.RecommendRequest, {"user": 1, "at": int(time.time()) + 86_000}, True),
        (m.RecommendRequest, {"user": 1, "at": int(time.time()) + 87_000}, False),
        (m.RecommendRequest, {"history": [{"item": 1, "time": 10**12}]}, False),
        (m.RecommendRequest, {"user": 1, "what_if": [{"item": 1, "time": 10**12}]}, False),
        (m.EventsRequest, {"events": [{"user": 1, "id": "a", "item": 1, "time": 2**53}]}, False),
        (m.RecommendRequest, {"user": 2**63 - 1}, True),
        (m.RecommendRequest, {"user": 2**63}, False),
        (m.RecommendRequest, {"user": -(2**63)}, True),
        (m.RecommendRequest, {"user": "x" * 200}, True),
        (m.RecommendRequest, {"user": "x" * 201}, False),
        (m.RecommendRequest, {"user": ""}, False),
        (m.RetrieveRequest, {"user": 1, "k": 16_384}, True),
        (m.RetrieveRequest, {"user": 1, "k": 16_385}, False),
        (m.RankRequest, {"user": 1, "items": [1] * 16_384}, True),
        (m.RankRequest, {"user": 1, "items": [1] * 16_385}, False),
        (m.RecommendRequest, {"history": [{"item": 1, "time": 1}] * 1_000}, True),
        (m.RecommendRequest, {"history": [{"item": 1, "time": 1}] * 1_001}, False),
        (m.RecommendRequest, {"history": [{"item": 1, "time": 1, "actions": ["a"] * 63}]}, True),
        (m.RecommendRequest, {"history": [{"item": 1, "time": 1, "actions": ["a"] * 64}]}, False),
        (m.RecommendRequest, {"history": [{"item": 1, "time": 1, "values": {"a": 1e15}}]}, True),
        (m.RecommendRequest, {"history": [{"item": 1, "time": 1, "values": {"a": 1.1e15}}]}, False),
        (m.RecommendRequest, {"user": 1, "weights": {"a": -1e6}}, True),
        (m.RecommendRequest, {"user": 1, "weights": {"a": -1.1e6}}, False),
        (m.EventsRequest, {"events": [{"user": 1, "id": "a", "item": 1, "time": 1}] * 1_000}, True),
        (m.EventsRequest, {"events": [{"user": 1, "id": "a", "item": 1, "time": 1}] * 1_001}, False),
    ],
)
def test_messages_have_bounds(message, body, fits):
    sent = Sent(json.dumps(body).encode())
    if fits:
        assert asyncio.run(read(message, sent))
    else:
        with pytest.raises(Refused) as told:
            asyncio.run(read(message, sent))
        assert told.value.status == 422
