"""JSON in, strictly; JSON out; every error a sentence."""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

import orjson
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect

M = TypeVar("M", bound=BaseModel)
Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"

MOST_BYTES = 4 << 20


class Refused(Exception):
    """An answer that is an error: its status and its sentence."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


async def read(message: type[M], request: Request) -> M:
    """The body as a message. pydantic's own parser bounds depth and integers, and knows no NaN in a strict number."""
    # a page of another origin can send a body without this header, or with another one, and no browser asks us first
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        found = f"is {kind[:60]}" if kind else "has no content type"
        raise Refused(415, f"The body {found}, but it must be application/json: send the header content-type.")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise Refused(415, f"The body is encoded as {coding[:60]}. Send it plain, or as gzip.")
    body = bytearray()
    try:
        async for part in request.stream():  # its length need not be told
            body += part
            if len(body) > MOST_BYTES:
                raise Refused(413, f"The body is larger than {MOST_BYTES >> 20} MiB. Send it in parts.")
    except ClientDisconnect as error:
        raise Refused(400, "The body ended before it was complete.") from error
    given = parsed(message, unpacked(body) if coding == "gzip" else bytes(body))
    request.scope["message"] = given  # for the audit
    return given


def parsed(message: type[M], text: bytes) -> M:
    try:
        return message.model_validate_json(text)
    except ValidationError as error:
        raise Refused(
            422, sentence(error.errors(include_url=False, include_input=False, include_context=False))
        ) from error


def unpacked(body: bytes | bytearray) -> bytes:
    """Of gzip. What is larger than a body may be is never unpacked."""
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = unpacking.decompress(body, MOST_BYTES + 1)
    except zlib.error as error:
        raise Refused(400, "The body says it is gzip, but it is not.") from error
    if len(plain) > MOST_BYTES:
        raise Refused(413, f"The body unpacks to more than {MOST_BYTES >> 20} MiB. Send it in parts.")
    if not unpacking.eof or unpacking.unused_data:
        raise Refused(400, "The body is not one whole gzip stream.")
    return plain


def sentence(mistakes: Sequence[ErrorDetails]) -> str:
    """Of what pydantic found; where a parameter is wrong, it begins with where that was."""
    first, more = mistakes[0], len(mistakes) - 1
    skipped = "constrained-", "function-", "query", "path"
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(skipped))
    text = f"{place[:200] or 'The body'}: {first['msg'][:300]}."
    return text + (f" There are {more} more mistakes." if more else "")


def answer(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` has no NaN: orjson would write null."""
    try:
        text = orjson.dumps(value)
    except TypeError:  # half a surrogate pair, which is no UTF-8
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return Response(text, status, headers, "application/json")
