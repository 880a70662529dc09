"""What a connection may take, asked over sockets of an application that is made up."""

import asyncio
import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import uvicorn

from louder.serving import connections, log
from louder.serving.batching import Overloaded
from louder.serving.connections import AtOnce, Connection, Gate
from louder.serving.metrics import Metrics
from louder.serving.middleware import Middleware
from louder.serving.wire import MOST_BYTES

SOON = 5.0
ASK = b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


class Served:
    """uvicorn in a thread, with an application that reads a request and answers its length, once it is let."""

    def __init__(self, loop="uvloop", **gate):
        self.open, self.began, self.asked, self.cancelled = threading.Event(), threading.Semaphore(0), [], 0
        self.open.set()
        self.overloaded = None
        self.seen = []
        self.gate = Gate(
            self.admit, lambda address, headers: address, {"/v1/rank"}, lambda *told: self.seen.append(told[:2]), **gate
        )
        self.metrics = Metrics()
        app = Middleware(self.app, metrics=self.metrics, log=False)
        config = uvicorn.Config(app, http=Connection, ws="none", loop=loop, log_level="error", lifespan="on")
        self.server = uvicorn.Server(config)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, args=([self.listening],), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.001)

    def admit(self, client):
        assert client == "127.0.0.1"
        if self.overloaded:
            raise self.overloaded

    async def app(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["gate"] = self.gate
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        length, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length, more = length + len(message["body"]), message["more_body"]
        self.asked.append((scope["path"], length))
        self.began.release()
        try:
            while not self.open.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        body = json.dumps(length).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def in_loop(self, function):
        """Call it in the event loop, and wait."""
        done = threading.Event()
        loop = next(iter(self.server.servers)).get_loop()
        loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(SOON)

    @contextmanager
    def client(self):
        with socket.create_connection(self.listening.getsockname(), timeout=SOON) as one:
            yield one

    def close(self):
        self.open.set()
        self.server.should_exit = True
        self.thread.join(SOON)
        assert not self.thread.is_alive()


@pytest.fixture
def serve():
    made = []

    def one(**settings):
        made.append(Served(**settings))
        return made[-1]

    yield one
    for served in made:
        served.close()


@pytest.fixture
def served(serve):
    return serve()


def answer(client):
    """The status, headers and body of the next answer; None where the connection was closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = client.recv(1)
        if not part:
            return None
        head += part
    status = int(head[9:12])
    headers = dict(re.findall(rb"([a-z-]+): ([^\r]*)", head))
    body, length = b"", int(headers.get(b"content-length", 0))
    while len(body) < length:
        body += client.recv(length - len(body))
    return status, headers, body


def closed(client):
    """Nothing more comes."""
    with suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


def until(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_requests_pass_one_after_another(served):
    with served.client() as client:
        for length in 0, 7, MOST_BYTES:
            client.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length + b"x" * length)
            assert answer(client)[0::2] == (200, str(length).encode())
        client.sendall(ASK * 3)  # pipelined
        assert [answer(client)[0] for _ in range(3)] == [200] * 3
    until(lambda: not served.gate.waiting)


def test_who_is_refused_never_reaches_the_application_and_keeps_the_connection(served):
    served.overloaded = Overloaded(7.4)
    with served.client() as client:
        client.sendall(ASK.replace(b"host", b"x-request-id: mine\r\nhost"))
        status, headers, body = answer(client)
        assert status == 429 and headers[b"retry-after"] == b"7" and headers[b"x-request-id"] == b"mine"
        assert json.loads(body) == {"error": str(served.overloaded), "request": "mine"}
        client.sendall(HEALTH)  # what is not computed is answered
        assert answer(client)[0] == 200
        served.overloaded = None
        client.sendall(ASK)
        assert answer(client)[0] == 200
    assert served.asked == [("/healthz", 0), ("/v1/rank", 2)] and served.seen == [("/v1/rank", 429)]


def test_a_body_of_who_is_refused_is_read_and_dropped(served):
    served.overloaded = Overloaded(1.0)
    with served.client() as client:
        client.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        assert answer(client)[0] == 429
        served.overloaded = None
        client.sendall(ASK)
        assert answer(client)[0::2] == (200, b"2")


def test_a_refusal_is_held_and_what_is_sent_meanwhile_is_not_looked_at(served):
    served.overloaded = Overloaded(1.0, hold_s=0.1)
    with served.client() as client:
        client.sendall(ASK + ASK)
        client.settimeout(0.01)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(5)
        assert answer(client)[0] == 429
        assert closed(client) and served.asked == []
    with served.client() as client:
        client.sendall(ASK.replace(b"1.1", b"1.0"))
        assert answer(client)[0] == 429 and closed(client)


@pytest.mark.parametrize("sent", [b"x-long: " + b"x" * 17_000, b"".join(b"x-%d: y\r\n" % n for n in range(2_000))])
@pytest.mark.parametrize("whole", [False, True])
def test_headers_are_bounded(served, sent, whole):
    with served.client() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + sent + (b"\r\n\r\n" if whole else b""))
        status, headers, body = answer(client)
        assert status == 431 and b"16 KiB" in body and headers[b"connection"] == b"close" and closed(client)
    assert served.asked == []


def test_headers_are_counted_from_their_own_begin(served):
    """Behind those of another request, in the same bytes."""
    with served.client() as client:
        client.sendall(HEALTH + b"GET / HTTP/1.1\r\nx-long: " + b"x" * 17_000)
        until(lambda: ("other", 431) in served.seen)
    with served.client() as client:
        client.sendall(HEALTH * 400 + b"GET / HTTP/1.1\r\n")
        assert [answer(client)[0] for _ in range(400)] == [200] * 400


def test_headers_may_have_16_kib_in_many_parts(served):
    with served.client() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        for n in range(15):
            client.sendall(b"x-%d: " % n + b"y" * 1_000 + b"\r\n")
        client.sendall(b"\r\n")
        assert answer(client)[0] == 200


def test_a_body_without_end_is_cut(served):
    def send_for_ever(client):
        for _ in range(10 * MOST_BYTES >> 16):
            client.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    with served.client() as client:
        client.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(client)


@pytest.mark.parametrize(
    ("sent", "seconds", "says"),
    [
        (b"", "IDLE_S", None),
        (b"GET /healthz HTTP/1.1\r\nho", "HEAD_S", b"within 10 s"),
        (ASK[:-1], "BODY_S", b"within 30 s"),
        (HEALTH, "IDLE_S", None),
    ],
)
def test_who_is_slow_is_let_go(served, monkeypatch, sent, seconds, says):
    now, loop_time = [1000.0], time.monotonic
    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])
    with served.client() as client:
        client.sendall(sent)
        if sent == HEALTH:
            assert answer(client)[0] == 200
        end = loop_time() + SOON
        limit = getattr(connections, seconds)
        while [x - now[0] for x in list(served.gate.waiting.values())] != [limit]:
            assert loop_time() < end
        now[0] += limit
        served.in_loop(served.gate.sweep)
        assert len(served.gate.waiting) == 1  # not yet
        now[0] += 0.001
        served.in_loop(served.gate.sweep)
        told = answer(client)
        assert told is None if says is None else (told[0] == 408 and says in told[2])
        assert closed(client)
    end = loop_time() + SOON
    while served.gate.waiting:
        assert loop_time() < end


def test_who_waits_for_an_answer_is_not_late(served):
    served.open.clear()
    with served.client() as client:
        client.sendall(ASK)
        assert served.began.acquire(timeout=SOON)
        until(lambda: not served.gate.waiting)
        served.open.set()
        assert answer(client)[0] == 200


def test_one_connection_too_many_takes_the_place_of_the_one_that_waits_longest(serve, capsys):
    served = serve(most=3)
    log.last.clear()
    served.open.clear()
    with served.client() as busy:
        busy.sendall(ASK)
        assert served.began.acquire(timeout=SOON)
        waiting = served.gate.waiting
        with served.client() as first:
            until(lambda: len(waiting) == 1)
            oldest = next(iter(waiting))
            with served.client() as second:
                until(lambda: len(waiting) == 2)
                first.sendall(b"GET /healthz HTTP/1.1\r\nx-slow: ")  # now the other one waits longer
                until(lambda: next(iter(waiting)) is not oldest)
                with served.client() as third:
                    assert closed(second)
                    served.open.set()
                    assert answer(busy)[0] == 200
                    third.sendall(HEALTH)
                    assert answer(third)[0] == 200
    assert "3 connections are open, as many as this process keeps" in capsys.readouterr().err


def test_where_all_are_being_answered_one_more_is_refused(serve):
    served = serve(most=1)
    served.open.clear()
    with served.client() as busy:
        busy.sendall(ASK)
        assert served.began.acquire(timeout=SOON)
        until(lambda: not served.gate.waiting)
        with served.client() as other:
            assert answer(other)[0] == 503 and closed(other)
        served.open.set()
        assert answer(busy)[0] == 200


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_nobody_waits_for_is_cancelled_and_counted(serve, loop):
    served = serve(loop=loop)
    served.open.clear()
    with served.client() as client:
        client.sendall(ASK)
        assert served.began.acquire(timeout=SOON)
    until(lambda: served.cancelled == 1)
    until(lambda: 'route="other",status="499"} 1.0' in served.metrics.exposition().decode())


def test_what_is_not_computed_goes_on_when_its_client_has_gone(served):
    served.open.clear()
    with served.client() as client:
        client.sendall(HEALTH)
        assert served.began.acquire(timeout=SOON)
    time.sleep(0.1)
    served.open.set()
    until(lambda: 'status="200"} 1.0' in served.metrics.exposition().decode())
    assert served.cancelled == 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_who_has_only_stopped_sending_is_answered(serve, loop):
    served = serve(loop=loop)
    served.open.clear()
    with served.client() as client:
        client.sendall(ASK)
        assert served.began.acquire(timeout=SOON)
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        served.open.set()
        assert answer(client)[0] == 100  # it shows whether somebody is there
        status, headers, body = answer(client)
        assert (status, headers[b"connection"], body) == (200, b"close", b"2") and closed(client)
    assert served.cancelled == 0


def test_a_request_that_ends_in_its_middle_is_none(served):
    for part in b"GET /he", ASK[:-1]:
        with served.client() as client:
            client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            assert closed(client)
    assert served.asked == []


def test_at_the_end_each_answer_is_the_last_one_of_its_connection(served):
    served.gate.ending = True
    with served.client() as client:
        client.sendall(ASK)
        status, headers, _ = answer(client)
        assert (status, headers[b"connection"]) == (200, b"close") and closed(client)


def test_files_are_left_for_more_than_connections(monkeypatch):
    limits = {}
    monkeypatch.setattr(connections.resource, "setrlimit", lambda kind, pair: limits.update(now=pair))
    for before, after, most in (
        ((1024, 4096), (4096, 4096), 4096 - 256),
        ((1024, 1 << 20), (10_256, 1 << 20), 10_000),
        ((1024, -1), (10_256, -1), 10_000),
        ((1 << 20, 1 << 20), None, 10_000),
        ((64, 64), (64, 64), 1),
    ):
        limits.clear()
        monkeypatch.setattr(connections.resource, "getrlimit", lambda kind, pair=before: pair)
        assert connections.most_connections() == most and limits.get("now") == after


class Written(asyncio.Transport):
    def __init__(self):
        self.parts, self.closed = [], False

    def write(self, data):
        self.parts.append(bytes(data))

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


def test_headers_are_sent_with_the_body():
    written = Written()
    at_once = AtOnce(written)
    at_once.write(b"head ")
    assert written.parts == []
    at_once.write(b"body ")
    at_once.write(b"more")
    assert written.parts == [b"head body ", b"more"]
    assert not at_once.is_closing()
    at_once.close()
    assert written.closed and at_once.is_closing()


def test_an_answer_that_is_computed_is_one_write(served, monkeypatch):
    writes = []
    monkeypatch.setattr(
        AtOnce, "write", lambda self, data, whole=AtOnce.write: writes.append(data) or whole(self, data)
    )
    with served.client() as client:
        client.sendall(ASK + ASK)
        found = b""
        while found.count(b"\r\n\r\n2") < 2:
            found += client.recv(1 << 16)
    assert len(writes) == 4 and found.startswith(b"HTTP/1.1 200")
