"""Many requests in one: recommendations for a newsletter, or for a page that is made for many users."""

import asyncio
import time

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import JsonValue
from pydantic_core import to_json

from louder.serving import messages as m
from louder.serving.batching import CLIENT, REQUEST, Overloaded
from louder.serving.openapi import BODY, answers, body
from louder.serving.problems import problem
from louder.serving.service import Service
from louder.serving.wire import Json, answer, parsed, read

AT_ONCE = 8  # of one batch in the queue, so that others come between
TRIES = 5  # of a request that the queue has no room for

EXAMPLE: Json = {"requests": [{"user": 42, "k": 10}, {"user": 43, "k": 10}]}


def add_batches(app: FastAPI, service: Service) -> None:
    sent = body(m.BatchRequest, EXAMPLE)

    @app.post("/v1/recommend/batch", responses=answers(m.BatchAnswer, *BODY, 429), openapi_extra=sent)
    async def batch(request: Request) -> Response:
        """Answers to several requests, in their order. A mistake in one of them is the answer to that one alone."""
        began, requests = time.perf_counter(), (await read(m.BatchRequest, request)).requests
        CLIENT.set(f"{CLIENT.get()} in batches")  # its turns are not those of the client's other requests
        places = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(one_of(service, given, n, places) for n, given in enumerate(requests, start=1)))
        return answer({"answers": found, "milliseconds": round(1000 * (time.perf_counter() - began), 3)})


async def one_of(service: Service, given: dict[str, JsonValue], number: int, places: asyncio.Semaphore) -> Json:
    """messages.Answer, or messages.Mistake"""
    REQUEST.set(f"{REQUEST.get()}.{number}")  # of this task alone
    async with places:
        try:
            message = parsed(m.RecommendRequest, to_json(given, inf_nan_mode="constants"))
            for _ in range(TRIES - 1):
                try:
                    return await service.answer(message)
                except Overloaded as error:  # nobody is waiting before a screen
                    await asyncio.sleep(error.seconds)
            return await service.answer(message)
        except Exception as error:
            status, text, _ = problem(error)
            return {"status": status, "error": text}
