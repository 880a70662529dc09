"""What every request passes: an id, a bearer token, a log line, and the metrics."""

import asyncio
import hmac
import json
import re
import sys
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from louder.serving.batching import CLIENT
from louder.serving.metrics import Metrics

GONE = "the client has gone"  # why a request is cancelled
LONGEST_ID = 64  # characters of an x-request-id that are kept


class Middleware:
    """`token` "" lets everybody in; the paths `free` need none, such as the page, which asks for it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, token: str, free: frozenset[str], log: bool) -> None:
        self.app, self.metrics, self.token, self.free, self.log = app, metrics, token.encode(), free, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, method = dict(scope["headers"]), scope["method"]
        if head := method == "HEAD":  # a GET of which the body is not sent
            scope = {**scope, "method": "GET"}
        scope["request_id"] = request_id = request_id_of(headers)
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            elif head:
                message["body"] = b""
            await send(message)

        CLIENT.set((scope.get("client") or ("",))[0])
        self.metrics.in_flight.inc()
        try:
            if self.allowed(scope["path"], headers):
                await self.app(scope, receive, sending)
            else:
                await unauthorised(sending, request_id)
        except asyncio.CancelledError as error:
            status = 499  # as nginx counts it; there is nobody to be answered
            if error.args != (GONE,):
                raise
        finally:
            self.metrics.in_flight.dec()
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path_format", "other")
            self.metrics.observe(route, status, seconds)
            if self.log:
                line = {"time": round(time.time(), 3), "request": request_id, "method": method}
                line |= {"route": route, "status": status, "ms": round(1000 * seconds, 2)}
                print(json.dumps(line), file=sys.stderr, flush=True)

    def allowed(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if not self.token or path in self.free:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token)


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """The caller's, where it can stand in a header and a log; else a new one."""
    given = headers.get(b"x-request-id", b"").decode("ascii", "ignore")[:LONGEST_ID]
    return given if re.fullmatch("[0-9A-Za-z._-]+", given) else uuid.uuid4().hex[:16]


async def unauthorised(send: Send, request_id: str) -> None:
    text = "This service asks for a bearer token. Send the header Authorization: Bearer TOKEN."
    body = json.dumps({"error": text, "request": request_id}).encode()
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
