"""`louder serve` as it is started, asked with the typed client, ended and killed."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from louder.serving.client import Client, EventIn, ItemIn, NewEvent, RecommendRequest, ServiceError

AT = 1_750_000_000
SLOW = 120  # seconds; a busy machine needs a while to load torch


class Server:
    """A process that serves; `url` is where."""

    def __init__(self, *arguments, **environment):
        command = [sys.executable, "-c", "from louder.cli import main; main()", "serve"]
        self.process = subprocess.Popen(
            [
                *command,
                "--port",
                "0",
                "--threads",
                "1",
                "--max-queue-delay",
                "60000",
                "--quiet",
                "--grace",
                "0",
                *map(str, arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        )
        watchdog = threading.Timer(SLOW, self.process.kill)
        watchdog.start()
        self.said = self.process.stdout.readline()
        watchdog.cancel()
        assert self.said, f"it ended with {self.process.wait()}"
        self.url = self.said.split(" at ")[-1].strip()

    def client(self, **settings):
        return Client(self.url, timeout=SLOW, **settings)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start():
    servers = []

    def one(*arguments, **environment):
        servers.append(Server(*arguments, **environment))
        return servers[-1]

    yield one
    for server in servers:
        server.kill()


def test_the_client_speaks_with_a_service_that_answers_what_it_has_before_it_ends(place, tmp_path, start):
    (tmp_path / "token").write_text("s3cret\n")
    server = start(place / "joint", "--store", tmp_path / "store", "--token-file", tmp_path / "token")
    with server.client(token="s3cret") as louder:
        every_call(louder)
    with server.client() as louder, pytest.raises(ServiceError) as told:
        louder.recommend(user=1)
    assert told.value.status == 401 and "bearer token" in told.value.error

    with slowly(server.url, b'{"user": 1, "k": 3}', token="s3cret") as (begin, finish):
        begin()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # nothing new is accepted now, and what was begun goes on
        status, answer = finish()
    assert status == b"200" and b'"items":[{' in answer
    assert server.process.wait(SLOW) == 0
    with pytest.raises(httpx.ConnectError), server.client() as louder:
        louder.model()


def every_call(louder):
    answer = louder.recommend(user=1, k=3, at=AT, explain=True)
    assert len(answer.items) == 3 and answer.items[0].reasons and answer.milliseconds > 0
    items = [x.item for x in answer.items]
    assert [x.item for x in louder.rank(items, user=1, at=AT).items] == items
    assert len(louder.retrieve(history=[EventIn(item=items[0], time=AT)], at=AT, k=7).items) == 7
    assert items[0] not in [x.item for x in louder.similar(items[0], k=5, where={"category": ["news"]}).items]
    before = louder.history(4711)
    event = NewEvent(user=4711, id="a-1", item=items[0], time=AT, actions=["like"], values={"watch": 2.0})
    assert (before.total, before.events) == (0, [])
    assert louder.add_events([event]).stored == 1 and louder.add_events([event]).duplicates == 1
    after = louder.history(4711, limit=5)
    assert [(x.item, x.actions, x.values) for x in after.events] == [(items[0], ["like"], {"watch": 2.0})]
    assert louder.users("471").users == [4711] and len(louder.users(limit=5).users) == 5
    batch = louder.recommend_batch([RecommendRequest(user=1, k=3, at=AT), RecommendRequest(user="x")])
    assert [x.item for x in batch[0].items] == items and batch[1].status == 422
    assert louder.update_items([ItemIn(item=items[0], title="Told", available=False)]).stored == 1
    assert louder.item(items[0]).title == "Told" and not louder.item(items[0]).available
    assert items[0] not in {x.item for x in louder.recommend(user=1, k=3, at=AT).items}
    assert louder.model().main == "like" and louder.model().version == answer.model
    with pytest.raises(ServiceError) as told:
        louder.recommend(user=1, where={"colour": ["red"]})
    assert (told.value.status, told.value.retry_after) == (422, None) and "'colour'" in str(told.value)


class slowly:
    """A request whose body comes in two parts: begin() sends the first, finish() the other and reads the answer."""

    def __init__(self, url, body, token):
        place = urlsplit(url)
        self.body, self.token, self.connection = body, token, socket.create_connection((place.hostname, place.port))

    def __enter__(self):
        return self.begin, self.finish

    def __exit__(self, *_):
        self.connection.close()

    def begin(self):
        lines = "POST /v1/recommend HTTP/1.1", "host: louder", "content-type: application/json"
        headers = *lines, f"authorization: Bearer {self.token}", f"content-length: {len(self.body)}", "", ""
        self.connection.sendall("\r\n".join(headers).encode() + self.body[:5])
        time.sleep(0.5)  # until it is there

    def finish(self):
        self.connection.sendall(self.body[5:])
        self.connection.settimeout(SLOW)
        data = b""
        while part := self.connection.recv(65536):
            data += part
        head, _, answer = data.partition(b"\r\n\r\n")
        return head.split()[1], answer


def test_what_was_acknowledged_survives_a_kill(place, tmp_path, start):
    """Twice, while events stream in. One that was not acknowledged is sent again, and stands there once."""
    sent = []
    server = start(place / "joint", "--store", tmp_path / "store")
    for _ in range(2):
        killer = threading.Timer(0.7, server.process.kill)
        killer.start()
        with server.client() as louder, pytest.raises(httpx.HTTPError):
            keep_sending(louder, sent)
        killer.join()
        server.kill()
        server = start(place / "joint", "--store", tmp_path / "store")
        with server.client() as louder:
            users = dict.fromkeys(x.user for x in sent)
            found = [(x.item, x.time) for user in users for x in louder.history(user, limit=1000).events]
            expected = [(x.item, x.time) for x in sent]
            assert found in (expected, expected[:-1])  # the last one was not acknowledged
            assert louder.add_events(sent[-1:]).stored == len(expected) - len(found)
            assert sum(louder.history(user).total for user in users) == len(sent)
    assert len(sent) > 2


def keep_sending(louder, sent):
    """To one user after the other, each of whom gets fewer events than a store keeps: a fast machine sends thousands."""
    while True:
        user = 4711 + len(sent) // 500
        sent.append(NewEvent(user=user, id=f"e{len(sent)}", item=1 + len(sent) % 200, time=AT + len(sent)))
        louder.add_events(sent[-1:])


def test_several_processes_share_the_address_and_the_store(place, tmp_path, start):
    server = start(place / "joint", "--store", tmp_path / "store", "--workers", "2")
    assert "with 2 processes" in server.said
    for number in range(8):  # each time a new connection, and the system decides whose it is
        with server.client() as louder:
            louder.add_events([NewEvent(user=4711, id=str(number), item=5, time=AT)])
            assert louder.history(4711).total == number + 1
            assert louder.recommend(user=1, k=3).items
    pid = server.process.pid
    assert len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) >= 2
    numbers = httpx.get(f"{server.url}metrics").text  # of both, whoever answers
    assert 'louder_requests_total{route="/v1/recommend",status="200"} 8.0' in numbers
    assert "louder_events_stored_total 8.0" in numbers and "louder_in_flight 1.0" in numbers
    with server.client() as louder:
        gone = louder.recommend(user=1, k=1).items[0].item
        louder.update_items([ItemIn(item=gone, available=False)])
    end, without = time.monotonic() + SLOW, 0
    while without < 8:  # also the process that was not told
        with server.client() as louder:
            without = 0 if louder.recommend(user=1, k=1).items[0].item == gone else without + 1
        assert time.monotonic() < end
    server.process.kill()  # nobody tells its processes
    with pytest.raises(httpx.TransportError):
        ask_until(server.url, time.monotonic() + SLOW)


def ask_until(url, end):
    while time.monotonic() < end:
        httpx.get(f"{url}healthz", timeout=SLOW)
        time.sleep(0.1)


def test_a_service_says_that_it_ends_before_it_does(place, tmp_path, start):
    server = start(place / "joint", "--store", tmp_path / "store", "--workers", "2", "--grace", "3")
    with httpx.Client(base_url=server.url, timeout=SLOW) as client:
        assert client.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + SLOW
        while (ready := client.get("/readyz")).status_code == 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert ready.status_code == 503 and "ends" in ready.json()["error"]
        answer = client.post("/v1/recommend", json={"user": 1, "k": 3})  # as long as anybody sends some
        assert answer.status_code == 200 and answer.headers["connection"] == "close"
    assert server.process.wait(SLOW) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing"], "nothing. Make one: louder train"),
        (["{joint}", "--ranker", "{again}"], "ranks already, so it needs no ranker"),
        (["{joint}", "--store", "{joint}"], "holds something other than a history store"),
        (["{joint}", "--store", "mysql://here"], "There is no store for mysql://"),
        (["{joint}", "--store", "redis://127.0.0.1:1/0"], "cannot be used"),
        (["{joint}", "--token-file", "nothing"], "The token file nothing cannot be read (No such file"),
        (["{joint}", "--token-file", "{binary}"], "cannot be read (it is not text)"),
        (["{joint}", "--token-file", "{empty}"], "must hold one line of ASCII"),
        (["{joint}", "--host", "999.1.1.1"], "Nothing can listen at 999.1.1.1:0"),
        (["{joint}", "--workers", "2", "--store", "{joint}"], "holds something other than a history store"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(place, tmp_path, louder, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOUDER_SERVE", raising=False)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_text("\n")
    names = {
        "joint": place / "joint",
        "again": place / "again",
        "binary": tmp_path / "binary",
        "empty": tmp_path / "empty",
    }
    code, _, error = louder("serve", *(word.format(**names) for word in arguments), "--port", 0)
    assert code == 2 and text in error and error.strip().count("\n") == 0, error


def test_a_port_that_is_taken_is_said(place, tmp_path, louder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, error = louder("serve", place / "joint", "--store", tmp_path / "store", "--port", port)
    assert code == 2 and f"at localhost:{port} (Address already in use). Choose another port" in error
