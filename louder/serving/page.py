"""The files of the page at /."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def add_page(app: FastAPI, *, images: bool) -> frozenset[str]:
    """Serve the files of the page, and tell their paths. They are read once: a name that is not among them is not looked
    for anywhere. A browser that has a file asks whether it is still the same. `images`: whether items have pictures, which
    other servers give."""
    policy = POLICY.replace("data:", "data: https:") if images else POLICY
    paths = set()
    for file in resources.files("louder.serving").joinpath("ui").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in TYPES:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            content = file.read_bytes()
            tag = f'"{hashlib.blake2b(content + policy.encode(), digest_size=8).hexdigest()}"'
            headers = {"content-security-policy": policy, "etag": tag, **HEADERS}
            app.add_api_route(path, sending(content, TYPES[ending], headers), methods=["GET"], include_in_schema=False)
            paths.add(path)
    return frozenset(paths)


def sending(content: bytes, kind: str, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    whole, same = Response(content, headers=headers, media_type=kind), Response(status_code=304, headers=headers)

    async def send(request: Request) -> Response:
        return same if headers["etag"] in request.headers.get("if-none-match", "") else whole

    return send
