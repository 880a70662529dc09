"""JSON in, strictly; JSON out; every error a sentence."""

import json
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

MOST_BYTES = 4 << 20


class Refused(Exception):
    """An answer that is an error: its status, its sentence and its headers."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers or {}


async def read(message: type[M], request: Request) -> M:
    """The body as a message. pydantic's own parser bounds depth and integers, and knows no NaN in a strict number."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, f"The body is {kind[:60]}, but it must be application/json.")
    body = bytearray()
    async for part in request.stream():  # its length need not be announced
        body += part
        if len(body) > MOST_BYTES:
            raise Refused(413, f"The body is larger than {MOST_BYTES >> 20} MiB. Send it in parts.")
    try:
        return message.model_validate_json(bytes(body))
    except ValidationError as error:
        raise Refused(422, sentence(error)) from error


def sentence(error: ValidationError) -> str:
    first, more = (
        error.errors(include_url=False, include_input=False, include_context=False)[0],
        error.error_count() - 1,
    )
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("constrained-", "function-")))
    text = f"{place[:200] or 'The body'}: {first['msg'][:300]}."
    return text + (f" There are {more} more mistakes." if more else "")


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return Response(text.encode("utf-8", "replace"), status, headers, "application/json")


def described(message: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a body that `read` reads."""
    schema = {"$ref": f"#/components/schemas/{message.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def schemas(*messages: type[BaseModel]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in messages:
        schema = message.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[message.__name__] = schema
    return found
