"""The page of a live demo, beside what the service answers."""

import json
from collections.abc import Callable
from importlib import resources

from starlette.types import ASGIApp, Receive, Scope, Send

from louder.results import Row
from louder.serving.page import HEADERS, POLICY, TYPES

FILES = {"/live": "live.html", "/live.js": "live.js", "/live.css": "live.css"}


class WithPage:
    """An application with /live, and /live.json as `state` tells it at the time."""

    def __init__(self, app: ASGIApp, state: Callable[[], Row]) -> None:
        self.app, self.state = app, state
        folder = resources.files("louder.live").joinpath("ui")
        self.files = {path: (folder.joinpath(name).read_bytes(), name) for path, name in FILES.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "GET" else ""
        if path == "/live.json":
            await respond(send, json.dumps(self.state()).encode(), "application/json")
        elif path in self.files:
            body, name = self.files[path]
            await respond(send, body, TYPES[name.rpartition(".")[2]])
        else:
            await self.app(scope, receive, send)


async def respond(send: Send, body: bytes, kind: str) -> None:
    headers = HEADERS | {"content-type": kind, "content-security-policy": POLICY, "content-length": str(len(body))}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
