"""What OpenAPI says of the routes: bodies, answers, and every status that can happen."""

from fastapi import FastAPI
from pydantic import BaseModel

from louder.serving import messages as m
from louder.serving.wire import Json

MESSAGES = (
    *(m.RecommendRequest, m.RetrieveRequest, m.RankRequest, m.SimilarRequest, m.EventsRequest),
    *(m.Answer, m.EventsAnswer, m.UsersAnswer, m.HistoryAnswer, m.ModelAnswer, m.StatsAnswer),
    *(m.ItemsAnswer, m.SampleAnswer, m.ItemUsersAnswer, m.DeletedEvent, m.DeletedUser),
    *(m.BatchRequest, m.BatchAnswer, m.ItemUpdates, m.ItemsStored, m.ItemAnswer),
    *(m.HealthAnswer, m.ReadyAnswer, m.Problem),
)
PROBLEMS = {
    400: "The body ended before it was complete",
    401: "A bearer token is needed",
    403: "The token has not the right that this needs",
    405: "Neither a user nor an event",
    413: "The body is too large",
    415: "The body is not JSON, or neither plain nor gzip",
    421: "The service does not answer to that host name",
    422: "The request is wrong",
    429: "Too many requests; Retry-After says when to come again",
    503: "The store cannot be reached; Retry-After says when to come again",
    504: "The deadline of the request is over",
}
BODY = 400, 401, 413, 415, 422  # what can be wrong with one


def answers(message: type[BaseModel], *problems: int) -> dict[int | str, dict[str, Json]]:
    """The responses of a route."""
    found: dict[int | str, dict[str, Json]] = {200: {"description": "The answer", "content": content(message)}}
    who = (403, 421) if 401 in problems else ()
    for status in (*problems, *who):
        found[status] = {"description": PROBLEMS[status], "content": content(m.Problem)}
        if status in (429, 503):
            found[status]["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return found


def body(message: type[BaseModel], example: Json) -> dict[str, Json]:
    """What a route reads; `wire.read` does it, so FastAPI does not know."""
    return {"requestBody": {"required": True, "content": content(message, example=example)}}


def content(message: type[BaseModel], **more: Json) -> dict[str, Json]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{message.__name__}"}, **more}}


def describe(app: FastAPI, *, token: bool) -> None:
    """Let /openapi.json have the messages, and say that a token is needed."""
    plain = app.openapi

    def openapi() -> dict[str, Json]:
        if app.openapi_schema is None:
            components = plain().setdefault("components", {})
            components["schemas"] = schemas()
            if token:
                components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                app.openapi_schema = {**plain(), "security": [{"token": []}]}
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]


def schemas() -> dict[str, Json]:
    found: dict[str, Json] = {}
    for message in MESSAGES:
        schema = message.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[message.__name__] = schema
    return found
