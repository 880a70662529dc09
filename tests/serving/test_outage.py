"""When Redis is away, requests that carry their history are answered, the others are told so, and it comes back by itself."""

import os
import signal
import time

import pytest

from tests.histories.servers import BINARY, Server

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no redis-server")

KNOWN = "POST", "/v1/recommend", {"user": 1, "k": 3}
CARRIED = "POST", "/v1/recommend", {"history": [{"item": 5, "time": 10}, {"item": 9, "time": 20}], "k": 3}
EVENT = "POST", "/v1/events", {"events": [{"user": 1, "id": "a", "item": 5, "time": 1_750_000_000}]}
NEEDS_NONE = CARRIED, ("GET", "/healthz", None), ("GET", "/v1/model", None), ("POST", "/v1/similar", {"item": 5})
NEED_STORE = KNOWN, EVENT, ("GET", "/readyz", None), ("GET", "/v1/users", None), ("GET", "/v1/users/1/history", None)


@pytest.fixture
def redis(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()


def back_again(service, call):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if {r.status_code for r in call(service, KNOWN, ("GET", "/readyz", None))} == {200}:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_without_redis_what_can_be_answered_is(redis, service_of, call, way):
    service = service_of(store=redis.url)
    (before,) = call(service, KNOWN)
    if way == "stopped":
        os.kill(redis.process.pid, signal.SIGSTOP)
    else:
        redis.kill()
    try:
        assert [r.status_code for r in call(service, *NEEDS_NONE)] == [200] * len(NEEDS_NONE)
        lost = call(service, *NEED_STORE)
        assert [r.status_code for r in lost] == [503] * len(NEED_STORE)
        for response in lost:
            assert int(response.headers["retry-after"]) >= 1
            assert "Requests that carry their history are answered" in response.json()["error"]
            assert "127.0.0.1" not in response.text  # where it is, the log says
        began = time.monotonic()  # many at once are not in each other's way
        many = call(service, *[KNOWN, CARRIED] * 40)
        assert sorted({r.status_code for r in many}) == [200, 503]
        assert [r.status_code for r in many[1::2]] == [200] * 40
        assert time.monotonic() - began < 20
    finally:
        if way == "stopped":
            os.kill(redis.process.pid, signal.SIGCONT)
        else:
            redis.start()
    assert back_again(service, call)
    assert call(service, EVENT)[0].status_code == 200
    after = call(service, ("GET", "/v1/users/1/history?limit=1000", None))[0].json()
    assert before.json()["history"] > 0 and after["events"][-1]["item"] == 5


def test_a_service_does_not_begin_without_its_store(redis, place, louder):
    redis.kill()
    code, _, error = louder("serve", place / "joint", "--store", redis.url, "--port", 0)
    assert code == 2 and "cannot be used" in error and error.strip().count("\n") == 0
    redis.start()
