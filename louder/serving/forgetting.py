"""What deletes: an event, or all that the store knows of a user."""

from typing import Annotated
from urllib.parse import unquote

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from louder.serving import messages as m
from louder.serving.openapi import answers
from louder.serving.paths import EVENT, USER
from louder.serving.service import Service
from louder.serving.wire import Json, answer

Given = Annotated[str, Path(min_length=1, max_length=m.MAX_ID)]


def add_forgetting(app: FastAPI, service: Service) -> None:
    @app.delete(f"/v1/users/{USER}/events/{EVENT}", responses=answers(m.DeletedEvent, 401, 405, 422, 503))
    async def delete_event(request: Request, user: Given, id: Given) -> Response:
        """Delete one of the latest 2,000 events that were added for a user, by the id that it came with. An event that
        comes after its deletion, or comes again, is not stored, so a request may be repeated."""
        return await delete(request)

    @app.delete(f"/v1/users/{USER}", responses=answers(m.DeletedUser, 401, 405, 422, 503))
    async def delete_user(request: Request, user: Given) -> Response:
        """Delete all that the store knows of a user. Events from before that come late are not stored; later ones begin a
        new history. A request may be repeated."""
        return await delete(request)

    async def delete(request: Request) -> Response:
        """As the address was written: where / stands for a slash of an id, nobody can tell what is to be deleted."""
        _, _, rest = request.scope["raw_path"].decode("latin-1").partition("/v1/users/")
        parts = [unquote(part) for part in rest.split("/")]

        def deleting() -> Json:
            user = service.store.user_in(parts[0])
            if len(parts) == 1:
                return {"user": user, "events": service.changes.delete_user(user)}
            done = service.changes.delete_event(user, parts[2])
            return {"deleted": done.deleted, "known": done.known}

        if len(parts) not in (1, 3) or parts[1:2] not in ([], ["events"]):
            forms = "/v1/users/USER and /v1/users/USER/events/ID, where a / within an id is written %2F"
            raise HTTPException(405, f"Nothing else can be deleted than {forms}.", {"allow": "GET, HEAD"})
        return answer(await service.write(deleting))
