"""What a connection may take before the framework, and a token, are asked: bytes and time of a request, a place among the
open connections, and where too much is waiting, a refusal that costs little."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from louder.serving.batching import Overloaded
from louder.serving.log import tell
from louder.serving.middleware import GONE, request_id_of
from louder.serving.wire import MOST_BYTES

HEAD_BYTES = 16 << 10  # of a request's first line and headers
TOO_LONG = f"The headers have more than {HEAD_BYTES >> 10} KiB."
MESSAGE_BYTES = HEAD_BYTES + 2 * MOST_BYTES  # of all that is sent for one; from MOST_BYTES on, the framework refuses it
HEAD_S = 10.0  # until the headers are there
BODY_S = 30.0  # until the body is there, or the answer was taken
IDLE_S = 75.0  # longer than a balancer keeps its connections
MOST_CONNECTIONS = 10_000
OTHER_FILES = 256  # of the process, besides connections
PROBE_S = 0.02  # between looks whether who stopped sending has gone


@dataclass(eq=False)
class Gate:
    """What the connections of a process have in common.

    admit     raises Overloaded where a request of a client cannot be answered in time
    client    of an address and headers: who asks
    computed  paths of the requests that are asked so, and not answered where the client has gone
    observe   is told of what the framework never sees: path, status, seconds
    most      connections that may be open; beyond, the one that waits longest for its client makes room
    ending    answers are the last ones of their connections
    """

    admit: Callable[[str], None]
    client: Callable[[str, dict[bytes, bytes]], str]
    computed: Collection[str]
    observe: Callable[[str, int, float], None]
    most: int = MOST_CONNECTIONS
    ending: bool = False
    waiting: dict["Connection", float] = field(default_factory=dict)  # for their clients, the longest first: until when

    def has_room(self, connections: int) -> bool:
        if connections <= self.most:
            return True
        many = (
            f"{self.most:,} connections are open, as many as this process keeps, so those are closed that wait longest."
        )
        tell("connections", f"{many} The limit of open files (ulimit -n) allows {files_allowed():,}.")
        longest = next(iter(self.waiting), None)
        if longest is None:
            return False
        longest.leave()
        return True

    def sweep(self) -> None:
        """Close what has waited too long for its client."""
        now = time.monotonic()
        for connection in [x for x, until in self.waiting.items() if until < now]:
            connection.late()


def files_allowed() -> int:
    """Open files of this process, after its own limit was raised as far as is useful and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft


def most_connections() -> int:
    """So many that files of other kinds can always be opened."""
    return max(1, min(MOST_CONNECTIONS, files_allowed() - OTHER_FILES))


class AtOnce(asyncio.Transport):
    """Sends headers with their body: each write is a call of the system, and wakes the client."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.headers: bytes | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.headers is None:
            self.headers = bytes(data)
        else:
            self.transport.write(self.headers + data)
            self.headers = b""

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def close(self) -> None:
        self.transport.close()


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, and its limits; `app_state` holds the Gate."""

    gate: Gate
    task: asyncio.Task[None] | None = None  # that computes an answer
    in_head = in_message = False  # of what is sent
    turned_away = False  # nothing more of it goes to the framework
    refusal: Overloaded | None = None  # to be answered when all of the request is there
    last = False  # its answer is the last one of the connection
    began = 0.0
    received = 0  # bytes of the message

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gate = self.app_state["gate"]
        if self.gate.has_room(len(self.connections)):
            self.wait(IDLE_S)
        else:
            self.say(503, "Too many connections are open.")

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.waiting.pop(self, None)
        super().connection_lost(exc)
        if self.task is not None:
            self.task.cancel(GONE)

    def wait(self, seconds: float) -> None:
        """For the client, and no longer than this."""
        self.gate.waiting.pop(self, None)
        self.gate.waiting[self] = time.monotonic() + seconds

    def late(self) -> None:
        if self.flow.write_paused or self.transport.is_closing():
            self.transport.abort()  # it does not take its answer
        elif self.in_message and (
            self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        ):
            self.say(408, f"The request was not complete within {HEAD_S if self.in_head else BODY_S:.0f} s.")
        else:
            self.leave()

    def leave(self) -> None:
        self.wait(BODY_S)  # and no longer for what was written to be taken
        self.transport.close()

    # --- what is sent -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        before = self.received if self.in_message else 0
        super().data_received(data)
        if self.in_head:  # a message that began in these bytes did so after the last headers that ended there
            end = data.rfind(b"\r\n\r\n")
            self.received = len(data) - end - 4 if end >= 0 else before + len(data)
            if self.received > HEAD_BYTES:
                self.say(431, TOO_LONG)
        elif self.in_message:
            self.received = before + len(data)
            if self.received > MESSAGE_BYTES:
                self.leave()

    def on_message_begin(self) -> None:
        self.last = self.turned_away  # one that comes while the one before it is refused is not looked at
        super().on_message_begin()
        self.in_head = self.in_message = True
        self.began = time.perf_counter()
        self.wait(HEAD_S)

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self.turned_away:
            return
        self.wait(BODY_S)
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self.say(431, TOO_LONG)
        elif not self.refused():
            super().on_headers_complete()
            if self.gate.ending:
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self.turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_message = False
        if self.refusal is not None:
            self.gate.waiting.pop(self, None)
            self.flow.pause_reading()
            path, request = self.url.partition(b"?")[0].decode("latin-1"), request_id_of(dict(self.headers))
            self.loop.call_later(self.refusal.hold_s, self.refuse, self.refusal, path, request)
            self.refusal = None
        elif not self.turned_away:
            super().on_message_complete()
            self.gate.waiting.pop(self, None)
            if self.cycle.response_complete:  # before it was read, as without a token
                self.wait(IDLE_S)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more. It may wait for the answer still, or have gone: that shows when something is written."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self.in_message:
            self.last = True
            return self.turned_away
        cycle.keep_alive = False
        if not cycle.response_started and cycle.scope["http_version"] == "1.1":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.probe()
        return True

    def probe(self) -> None:
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            self.loop.call_later(PROBE_S, self.probe)

    # --- what is answered ---------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        self.task = task if cycle.scope["path"] in self.gate.computed else None
        if self.task is not None and cycle.scope["method"] == "POST" and not cycle.waiting_for_100_continue:
            cycle.transport = AtOnce(cycle.transport)

    def on_response_complete(self) -> None:
        self.task = None
        super().on_response_complete()
        if not self.in_message and self.cycle.response_complete:
            self.wait(IDLE_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.wait(BODY_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.cycle is not None and not self.cycle.response_complete:
            self.gate.waiting.pop(self, None)

    def refused(self) -> bool:
        """Whether the request is answered 429, as soon as all of it is there. Where one before it is not answered yet, or
        its sender asks whether to go on, the framework sees to it."""
        path = self.url.partition(b"?")[0].decode("latin-1")
        busy = self.cycle is not None and not self.cycle.response_complete
        if path not in self.gate.computed or busy or self.expect_100_continue:
            return False
        try:
            self.gate.admit(self.gate.client(self.client[0] if self.client else "", dict(self.headers)))
        except Overloaded as error:
            self.turned_away, self.refusal, self.last = True, error, not self.parser.should_keep_alive()
            return True
        return False

    def refuse(self, error: Overloaded, path: str, request: str) -> None:
        if self.transport.is_closing():
            return
        self.say(429, str(error), request, {"retry-after": f"{error.seconds:.0f}"}, path, close=self.last)
        if not self.last:
            self.turned_away = False
            self.flow.resume_reading()
            self.wait(IDLE_S)

    def say(
        self,
        status: int,
        text: str,
        request: str = "",
        more: Mapping[str, str] = {},
        path: str = "other",
        *,
        close: bool = True,
    ) -> None:
        """Answer with a messages.Problem, past the framework."""
        body = json.dumps({"error": text, "request": request}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **more}
        headers |= ({"x-request-id": request} if request else {}) | ({"connection": "close"} if close else {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[status] + lines.encode() + b"\r\n" + body)
        self.gate.observe(path, status, time.perf_counter() - self.began)
        if close:
            self.turned_away = True
            self.leave()
