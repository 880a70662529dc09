"""Messages of clients -> requests of the engine, and what the engine answers -> messages."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from louder.histories.history import History, Names
from louder.ids import RawId
from louder.inference.engine import Engine
from louder.inference.request import Reason, Request, Result
from louder.serving import messages as m
from louder.serving.reload import Models
from louder.serving.wire import Json, Refused


def request_of(message: m.Asker | m.SimilarRequest, history: History) -> Request:
    request = Request(history=history, at=0)
    if isinstance(message, m.Asker):
        user = message.user
        request = replace(
            request,
            at=int(time.time()) if message.at is None else message.at,
            key=None if user is None else ("user", user),
            context=message.context,
            user=user,
        )
    if isinstance(message, m.Filters):
        request = replace(request, seen=message.seen, allow=message.allow, deny=message.deny, where=message.where)
    match message:
        case m.RetrieveRequest():
            return replace(request, k=message.k, retrieve=0)
        case m.RankRequest():
            return replace(request, candidates=message.items, k=len(message.items))
        case m.RecommendRequest():
            weights, diversity = message.weights, message.diversity
            return replace(request, k=message.k, retrieve=message.retrieve, weights=weights, diversity=diversity)
        case m.SimilarRequest():
            return replace(request, k=message.k)
    return request


def history_of(events: Sequence[m.EventIn], names: Names) -> History:
    """A history that came with a request, in any order."""
    events = sorted(events, key=lambda event: event.time)
    bits, values = np.zeros(len(events), np.int64), np.full((len(events), len(names.values)), np.nan, np.float32)
    for row, event in enumerate(events):
        for name in event.actions:
            bits[row] |= 1 << place_of(name, names.actions, "action")
        for name, value in event.values.items():
            values[row, place_of(name, names.values, "value")] = value
    texts = [event.request for event in events]
    numbers: dict[str | None, int] = {text: n for n, text in enumerate(dict.fromkeys(texts))} | {None: -1}
    items = np.empty(len(events), dtype=object)
    items[:] = [event.item for event in events]
    return History(
        items=items,
        times=np.array([event.time for event in events], dtype=np.int64),
        actions=bits,
        values=values,
        requests=np.array([numbers[text] for text in texts], dtype=np.int64),
        names=names,
    )


def place_of(name: str, known: tuple[str, ...], kind: str) -> int:
    if name not in known:
        raise Refused(422, f"There is no {kind} {name!r}; the model knows {', '.join(known) or 'none'}.")
    return known.index(name)


def result_view(
    model: Engine, request: Request, result: Result, reasons: Sequence[Sequence[Reason]], attributes: bool
) -> dict[str, Json]:
    """messages.Answer, but for the time it took."""
    values = [f"log {n}" if model.ranking and n in model.ranking.log_values else n for n in model.values]
    items = []
    for place, (number, score) in enumerate(zip(result.items.tolist(), result.scores.tolist())):
        raw, title = model.describe(number)
        entry: dict[str, Json] = {"item": raw, "title": title, "score": score}
        if result.probabilities is not None and result.values is not None:
            entry["actions"] = dict(zip(model.actions, result.probabilities[place].tolist()))
            entry["values"] = dict(zip(values, result.values[place].tolist()))
        if attributes:
            entry["attributes"] = model.attributes_of(number)
        if place < len(reasons):
            entry["reasons"] = [reason_view(model, request.history, reason) for reason in reasons[place]]
        items.append(entry)
    return {"items": items, "model": model.version, "history": result.read, "skipped": result.skipped}


def reason_view(model: Engine, history: History, reason: Reason) -> Json:
    item = plain(history.items[reason.row])
    return {
        "item": item,
        "title": titles_of(model, [item])[0],
        "time": int(history.times[reason.row]),
        "attention": reason.attention,
        "without": None if math.isnan(reason.change) else reason.change,
    }


def history_view(model: Engine, user: RawId, history: History, limit: int) -> Json:
    """messages.HistoryAnswer: the latest `limit` events."""
    latest, names, events = history.select(slice(-limit, None)), history.names, []
    items = [plain(item) for item in latest.items]
    columns = zip(
        items, titles_of(model, items), latest.times.tolist(), latest.actions.tolist(), latest.values.tolist()
    )
    for item, title, at, bits, values in columns:
        event: dict[str, Json] = {"item": item, "title": title, "time": at}
        event["actions"] = [name for place, name in enumerate(names.actions) if bits >> place & 1]
        event["values"] = {name: value for name, value in zip(names.values, values) if not math.isnan(value)}
        events.append(event)
    return {"user": user, "events": events, "total": max(history.total, len(history))}


def titles_of(model: Engine, items: Sequence[RawId]) -> list[str]:
    """ "" for an item that the model does not know"""
    numbers = model.item_ids.ids(items).tolist() if items else []
    return [model.describe(number)[1] if number >= 0 else "" for number in numbers]


def plain(item: np.int64 | str) -> RawId:
    return item if isinstance(item, str) else int(item)


def model_view(models: Models) -> Json:
    """messages.ModelAnswer"""
    model = models.live
    return {
        "version": model.version,
        "previous": models.previous.version if models.previous else None,
        "name": model.state["config"]["name"],
        "kind": model.state["config"]["model"]["kind"],
        "ranker": model.ranker.state["config"]["model"]["kind"] if model.ranker else None,
        "actions": list(model.actions),
        "values": list(model.values),
        "main": model.main or None,
        "items": len(model.item_ids),
        "attributes": model.labels,
        "context": model.context_labels,
        "window": model.window,
        "refused": models.refused,
    }
