"""What every request passes: an id, a bearer token, a log line, and the counters behind /metrics and /v1/stats."""

import hmac
import json
import os
import re
import sys
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

Scope = MutableMapping[str, Any]
Send = Callable[[Any], Awaitable[None]]
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
SECONDS = 60
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the folder where processes of one service count; read when the library is loaded


class Numbers:
    """What the service counts. Of several processes, each counts in a file of its own, and any of them tells the sums;
    `stats` are its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        summed = made | {"multiprocess_mode": "livesum"}
        alike = made | {"multiprocess_mode": "livemax"}  # all of them take the same models
        self.requests = Counter("louder_requests", "Requests by route and status", ["route", "status"], **made)
        self.seconds = Histogram("louder_request_seconds", "Time of a request", ["route"], buckets=BUCKETS, **made)
        self.in_flight = Gauge("louder_in_flight", "Requests being answered", **summed)
        self.events = Counter("louder_events_stored", "Events stored", **made)
        self.batch = Histogram("louder_batch_size", "Requests that shared a pass", buckets=(1, 2, 4, 8, 16, 32), **made)
        self.cached = Gauge("louder_cached_histories", "Histories whose keys and values are kept", **summed)
        self.cached_bytes = Gauge("louder_cached_bytes", "Bytes of kept keys and values", **summed)
        self.hits = Gauge("louder_cache_hits", "Histories that were found kept, of the live model", **summed)
        self.misses = Gauge("louder_cache_misses", "Histories that were not, of the live model", **summed)
        self.reloads = Gauge("louder_reloads", "New models taken", **alike)
        self.refused = Gauge("louder_reloads_refused", "New models refused", **alike)
        self.latest: deque[float] = deque(maxlen=1000)  # seconds
        self.per_second = [0] * SECONDS
        self.newest = int(time.time())

    def see(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if route.startswith("/v1/") and route != "/v1/stats":
            self.latest.append(seconds)
            self.roll()
            self.per_second[self.newest % SECONDS] += 1

    def exposition(self) -> bytes:
        """In the text format of Prometheus."""
        folder = os.environ.get(SHARED)
        if not folder:
            return generate_latest(self.registry)
        for file in Path(folder).glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)  # is it there?
            except ProcessLookupError:
                mark_process_dead(pid, folder)  # what it counted stays, what it held has gone
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)
        return generate_latest(registry)

    def roll(self) -> None:
        now = int(time.time())
        for second in range(max(self.newest + 1, now - SECONDS + 1), now + 1):
            self.per_second[second % SECONDS] = 0
        self.newest = max(self.newest, now)

    def stats(self) -> dict[str, Any]:
        self.roll()
        seconds = [self.newest - SECONDS + 1 + n for n in range(SECONDS)]
        ordered = sorted(self.latest)

        def quantile(share: float) -> float:
            return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0

        return {
            "seconds": seconds,
            "requests": [self.per_second[second % SECONDS] for second in seconds],
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "in_flight": int(self.in_flight._value.get()),
            "cached_histories": int(self.cached._value.get()),
        }


class Gate:
    """ASGI middleware. `token` "" lets everybody in; the paths `free` need none, such as the page, which asks for it."""

    def __init__(self, app: Any, *, numbers: Numbers, token: str, free: frozenset[str], log: bool) -> None:
        self.app, self.numbers, self.token, self.free, self.log = app, numbers, token.encode(), free, log

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("ascii", "ignore")[:64]
        scope["request_id"] = number = given if re.fullmatch("[0-9A-Za-z._-]+", given) else uuid.uuid4().hex[:16]
        began, status = time.perf_counter(), 500

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", number.encode())]
            await send(message)

        self.numbers.in_flight.inc()
        try:
            if self.allowed(scope["path"], headers):
                await self.app(scope, receive, sending)
            else:
                await unauthorised(sending, number)
        finally:
            self.numbers.in_flight.dec()
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path_format", "other")
            self.numbers.see(route, status, seconds)
            if self.log:
                line = {"time": round(time.time(), 3), "request": number, "method": scope["method"], "route": route}
                print(
                    json.dumps(line | {"status": status, "ms": round(1000 * seconds, 2)}), file=sys.stderr, flush=True
                )

    def allowed(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if not self.token or path in self.free:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token)


async def unauthorised(send: Send, number: str) -> None:
    text = "This service asks for a bearer token. Send the header Authorization: Bearer TOKEN."
    body = json.dumps({"error": text, "request": number}).encode()
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
