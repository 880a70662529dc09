"""What every request passes: an id, who may ask for it, a log line, and the metrics."""

import asyncio
import json
import random
import re
import sys
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from louder.serving.access import Access, Audit, users_of
from louder.serving.batching import CLIENT, REQUEST, VARIANT
from louder.serving.metrics import Metrics

GONE = "the client has gone"  # why a request is cancelled
LONGEST_ID = 64  # characters of an x-request-id that are kept


class Middleware:
    """`audit` has a line of each request that is about users, and of each that is refused."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, access: Access = Access(), audit: Audit | None = None, log: bool
    ) -> None:
        self.app, self.metrics, self.access, self.audit, self.log = app, metrics, access, audit, log

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

        CLIENT.set(self.access.client((scope.get("client") or ("",))[0], headers))
        REQUEST.set(request_id)
        VARIANT.set("")
        self.metrics.in_flight.inc()
        try:
            if refusal := self.access.refusal(scope, headers):
                await refuse(sending, request_id, *refusal)
            else:
                await self.app(scope, receive, sending)
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
                if variant := VARIANT.get():
                    line["variant"] = variant
                print(json.dumps(line), file=sys.stderr, flush=True)
            if self.audit is not None and self.access.concerns_users(scope, status):
                who, in_path = self.access.bearer(headers), scope.get("path_params", {}).get("user")
                self.audit.add(
                    who=who.name if who else "",
                    request=request_id,
                    method=method,
                    route=scope["path"] if route == "other" else route,
                    users=users_of(scope.get("message")) if in_path is None else [in_path],
                    status=status,
                )


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """The caller's, where it can stand in a header and a log; else a new one."""
    given = headers.get(b"x-request-id", b"").decode("ascii", "ignore")[:LONGEST_ID]
    return given if re.fullmatch("[0-9A-Za-z._-]+", given) else f"{random.getrandbits(64):016x}"


async def refuse(send: Send, request_id: str, status: int, text: str) -> None:
    body = json.dumps({"error": text, "request": request_id}).encode()
    headers = [(b"content-type", b"application/json")]
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
