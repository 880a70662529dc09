"""A typed client of the service.

with Client("http://localhost:8000") as louder:
    louder.add_events([NewEvent(user=42, id="a-1", item=1193, time=1_700_000_000)])
    for item in louder.recommend(user=42, k=10).items:
        print(item.title, item.score)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from louder.ids import RawId
from louder.serving import messages as m
from louder.serving.messages import EventIn, ItemIn, NewEvent, RecommendRequest

if TYPE_CHECKING:
    import httpx

M = TypeVar("M", bound=m.Message)

__all__ = ["Client", "EventIn", "ItemIn", "NewEvent", "RecommendRequest", "ServiceError"]


class ServiceError(Exception):
    """The service refused: its HTTP `status`, its sentence, and after how many seconds to ask again (429 and 503)."""

    def __init__(self, status: int, error: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {error}")
        self.status, self.error, self.retry_after = status, error, retry_after


class Client:
    """Calls of one service; connections are kept.

    url       of the service, such as http://localhost:8000
    token     what it asks for, where it was started with one
    timeout   seconds
    settings  of httpx.Client

    Raises ServiceError where the service refuses a call.
    """

    def __init__(self, url: str, *, token: str = "", timeout: float = 10.0, **settings: Any) -> None:
        import httpx

        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=timeout, **settings)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def recommend(self, **request: Any) -> m.Answer:
        """The fields of messages.RecommendRequest, such as user, k, explain."""
        return self.post("/v1/recommend", m.RecommendRequest(**request), m.Answer)

    def recommend_batch(self, requests: Sequence[m.RecommendRequest]) -> list[m.Answer | m.Mistake]:
        """The answers, in order, of at most 100 requests; in place of one that was refused, why."""
        bodies = [request.model_dump(exclude_defaults=True) for request in requests]
        return self.post("/v1/recommend/batch", m.BatchRequest(requests=bodies), m.BatchAnswer).answers

    def retrieve(self, **request: Any) -> m.Answer:
        """The first stage alone, without probabilities."""
        return self.post("/v1/retrieve", m.RetrieveRequest(**request), m.Answer)

    def rank(self, items: Sequence[RawId], **request: Any) -> m.Answer:
        """What will be done with each of the items, in their order."""
        return self.post("/v1/rank", m.RankRequest(items=list(items), **request), m.Answer)

    def similar(self, item: RawId, **request: Any) -> m.Answer:
        """Items whose vectors point the same way."""
        return self.post("/v1/similar", m.SimilarRequest(item=item, **request), m.Answer)

    def add_events(self, events: Sequence[NewEvent]) -> m.EventsAnswer:
        """Stored for good when this returns. Repeat it after an error: nothing is stored twice."""
        return self.post("/v1/events", m.EventsRequest(events=list(events)), m.EventsAnswer)

    def update_items(self, items: Sequence[ItemIn]) -> m.ItemsStored:
        """Kept for good when this returns, and known to the next answer. Repeat it after an error."""
        return self.post("/v1/items", m.ItemUpdates(items=list(items)), m.ItemsStored)

    def item(self, item: RawId) -> m.ItemAnswer:
        """What the live model knows of an item, or was told of it."""
        return self.get(f"/v1/items/{quote(str(item), safe='')}", m.ItemAnswer)

    def history(self, user: RawId, limit: int = 100) -> m.HistoryAnswer:
        """The latest events that the service keeps of a user, and how many there ever were."""
        return self.get(f"/v1/users/{quoted(user)}/history", m.HistoryAnswer, limit=limit)

    def delete_event(self, user: RawId, id: str) -> m.DeletedEvent:
        """Delete, or undo, an event by the id that it was added with. May be repeated."""
        return self.delete(f"/v1/users/{quoted(user)}/events/{quoted(id)}", m.DeletedEvent)

    def delete_user(self, user: RawId) -> m.DeletedUser:
        """Delete all that the service stores of a user. May be repeated."""
        return self.delete(f"/v1/users/{quoted(user)}", m.DeletedUser)

    def users(self, prefix: str = "", limit: int = 20) -> m.UsersAnswer:
        return self.get("/v1/users", m.UsersAnswer, prefix=prefix, limit=limit)

    def model(self) -> m.ModelAnswer:
        """The live version, and which actions, values, attributes and context it knows."""
        return self.get("/v1/model", m.ModelAnswer)

    def post(self, path: str, message: m.Message, answer: type[M]) -> M:
        body = message.model_dump_json(exclude_defaults=True)
        return taken(self.http.post(path, content=body, headers={"content-type": "application/json"}), answer)

    def get(self, path: str, answer: type[M], **parameters: str | int) -> M:
        return taken(self.http.get(path, params=parameters), answer)

    def delete(self, path: str, answer: type[M]) -> M:
        return taken(self.http.delete(path), answer)


def quoted(raw: RawId) -> str:
    """As a part of a path."""
    return quote(str(raw), safe="")


def taken(response: "httpx.Response", answer: type[M]) -> M:
    if response.status_code == 200:
        return answer.model_validate_json(response.content)
    try:
        error = m.Problem.model_validate_json(response.content).error
    except ValueError:
        error = response.text[:200]
    after = response.headers.get("retry-after", "")
    raise ServiceError(response.status_code, error, float(after) if after.isdigit() else None)
