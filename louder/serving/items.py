"""The routes of items: what is told of them after the training, and what is known of one."""

import asyncio
import re
from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from louder.errors import InputError
from louder.histories.items import ItemUpdate
from louder.histories.settings import require_kind
from louder.ids import RawId
from louder.inference.catalogue import Catalogue
from louder.serving import messages as m
from louder.serving.openapi import BODY, answers, body
from louder.serving.paths import ITEM
from louder.serving.service import Service
from louder.serving.wire import Json, answer, read

EXAMPLE: Json = {"items": [{"item": 1, "available": False}, {"item": 2, "attributes": {"price": 9.5}}]}


def add_items(app: FastAPI, service: Service) -> None:
    sent = body(m.ItemUpdates, EXAMPLE)

    @app.post("/v1/items", responses=answers(m.ItemsStored, *BODY, 503), openapi_extra=sent)
    async def items(request: Request) -> Response:
        """Tell titles, attributes and whether items are to be had. What a request says of an item is known to the next
        answer, and kept for good; what it does not say stays as it is."""
        updates = (await read(m.ItemUpdates, request)).items
        for one in updates:
            require_kind("item", one.item, service.store.settings.items)
        new = [ItemUpdate(one.item, one.title, one.attributes, one.available) for one in updates]
        await service.write(lambda: service.items.update(new))
        told = list(dict.fromkeys(one.item for one in updates))
        known = service.models.live.catalogue.item_ids.ids(told) >= 0
        unknown = [item for item, is_known in zip(told, known) if not is_known]
        return answer({"stored": len(told), "unknown": unknown})

    @app.get(f"/v1/items/{ITEM}", responses=answers(m.ItemAnswer, 401, 422))
    async def item(item: Annotated[str, Path(min_length=1, max_length=m.MAX_ID)]) -> Response:
        """What the live model knows of an item, or was told of it."""
        return answer(await asyncio.to_thread(item_view, service.models.live.catalogue, item))


def item_view(catalogue: Catalogue, text: str) -> Json:
    """messages.ItemAnswer of an item whose id came in a path, where a number is a text."""
    raw, number = found_in(catalogue, text)
    return {
        "item": raw,
        "title": catalogue.describe_any(raw, number)[1],
        "attributes": catalogue.attributes_of(number) if number >= 0 else catalogue.updates.attributes_of(raw),
        "available": catalogue.updates.is_available(raw, number),
        "known": number >= 0,
    }


def found_in(catalogue: Catalogue, text: str) -> tuple[RawId, int]:
    """Raw id, and id or -1, of an item that the model knows or that something was told of. Raises InputError."""
    number, facts = int(catalogue.item_ids.ids([text])[0]), catalogue.updates.facts
    if number >= 0:
        return catalogue.describe(number)[0], number
    written: list[RawId] = [text, int(text)] if re.fullmatch("0|-?[1-9][0-9]{0,18}", text) else [text]
    for raw in written:
        if raw in facts:
            return raw, number
    raise InputError(f"There is no item {text!r}: the model does not know it, and nothing was told of it.")
