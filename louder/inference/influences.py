"""Which past events the recommendations of a user lean on, in raw ids and titles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from louder.data.histories import history_of_user, raw_items_of
from louder.histories.history import History
from louder.ids import RawId
from louder.inference.request import Request, TableUser

if TYPE_CHECKING:
    from louder.inference.engine import Engine


@dataclass(frozen=True)
class Influence:
    """An event that the score of an item leans on.

    item, score     what was recommended, and its score
    because, time   the item of the event, and when it happened
    attention       its share of the attention, see explain.reasons
    change          by how much the score would change without the event; NaN where there would be no score
    """

    item: RawId
    score: float
    because: RawId
    time: int
    attention: float
    change: float
    title: str = ""
    because_title: str = ""


def influences(engine: "Engine", request: Request, events: int) -> list[Influence]:
    """Of each item of the answer to a request, best first, the `events` events that it leans on most. Entries of auxiliary
    series are no events, and are not read."""
    history = whole(request.history)
    request = replace(request, history=history)
    result, described = engine.recommend(request), engine.catalogue.describe
    found = engine.reasons(request, result.items, events, likely=result.next)
    rows = zip(map(described, result.items.tolist()), result.scores.tolist(), found)
    past = history.items.tolist()
    (titles, raws) = engine.catalogue.titles(past) if past else [], past
    return [
        Influence(raw, score, raws[x.row], int(history.times[x.row]), x.attention, x.change, title, titles[x.row])
        for (raw, title), score, own in rows
        for x in own
    ]


def whole(past: History | TableUser) -> History:
    """All that a user of a table did, as a history."""
    if isinstance(past, History):
        return past
    return history_of_user(past.table, past.user, raw_items_of(past.table), keep=len(past.table.ids))


def only(items: Sequence[RawId] | None, request: Request) -> Request:
    """The request for these items alone, which may have been seen; None: as it is."""
    if items is None:
        return request
    return replace(request, allow=items, seen=True, k=len(items))
