"""Messages of clients -> requests of the engine, and what the engine answers -> messages."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from louder.histories.history import History
from louder.histories.merging import merged
from louder.histories.times import request_time
from louder.ids import RawId
from louder.inference.engine import Engine
from louder.inference.request import Attribution, Boost, Pin, Request, Result, history_of
from louder.serving import messages as m
from louder.serving.batching import REQUEST
from louder.serving.variants import Variant
from louder.serving.wire import Json
from louder.streaming import Shown

if TYPE_CHECKING:
    from louder.serving.reload import LiveModels
    from louder.serving.service import Service

SAME = {
    "user",
    "k",
    "retrieve",
    "seen",
    "allow",
    "deny",
    "where",
    "weights",
    "cap",
    "diversity",
}  # in message and request


def request_of(
    message: m.UserRequest | m.SimilarRequest, history: History, explore: int = 0, seen: bool | None = None
) -> Request:
    """`explore` holds for what is logged, and `seen` where the message does not say it; None: as the run was evaluated."""
    fields = {name: value for name, value in message if name in SAME} | {"history": history, "at": 0}
    if fields.get("seen") is None:
        fields["seen"] = seen
    if isinstance(message, m.UserRequest):
        fields["at"] = request_time(history.times, int(time.time())) if message.at is None else message.at
        fields["context"] = message.context or None
    if isinstance(message, m.RecommendRequest):
        fields["boost"] = tuple(Boost(factor=one.factor, items=one.items, where=one.where) for one in message.boost)
        fields["pin"] = tuple(Pin(one.item, one.position) for one in message.pin)
        if is_logged(message):
            fields |= {"explore": explore, "seed": REQUEST.get()}
    if isinstance(message, m.RetrieveRequest):
        fields["retrieve"] = 0
    if isinstance(message, m.RankRequest):
        fields |= {"candidates": message.items, "k": len(message.items)}
        fields["new_items"] = {one.item: one.attributes for one in message.new_items} or None
    return Request(**fields)


def supposed(history: History, events: Sequence[m.EventIn]) -> History:
    """A stored history with some more events, as if they had been stored."""
    if not events:
        return history
    new = history_of(events, history.names)
    return merged(history, replace(new, total=len(new)), len(history) + len(new))


def result_view(
    model: Engine, request: Request, result: Result, reasons: Sequence[Sequence[Attribution]], attributes: bool
) -> dict[str, Json]:
    """messages.Answer, but for the time it took."""
    assert isinstance(request.history, History)
    numbers = (x for x in (result.scores, result.probabilities, result.values) if x is not None)
    if not all(np.isfinite(x).all() for x in numbers):
        raise ValueError(f"the answer of {model.version} is not finite")  # JSON has no NaN, and null would hide it
    items, history, raws = [], request.history, result.raws
    for place, (number, score) in enumerate(zip(result.items.tolist(), result.scores.tolist())):
        raw, title = model.catalogue.describe_any(raws[place] if raws is not None else "", number)
        entry: dict[str, Json] = {"item": raw, "title": title, "score": score}
        if result.probabilities is not None and result.values is not None:
            entry["actions"] = dict(zip(model.actions, result.probabilities[place].tolist()))
            entry["values"] = dict(zip(model.value_names, result.values[place].tolist()))
        if result.next is not None:
            entry["next"] = float(result.next[place])
        if result.sources is not None:
            entry["sources"] = list(result.sources[place])
        if result.propensities is not None:
            entry["propensity"] = float(result.propensities[place])
        if attributes:
            entry |= shown_of(model, number)
        if place < len(reasons):
            entry["reasons"] = [reason_view(model, history, reason) for reason in reasons[place]]
        items.append(entry)
    view: dict[str, Json] = {"items": items, "model": model.version, "history": result.read, "skipped": result.skipped}
    more = {"short": result.short, "unknown": list(result.unknown), "unavailable": list(result.unavailable)}
    return view | {name: value for name, value in more.items() if value}


def is_logged(message: m.RecommendRequest) -> bool:
    """Not without a user of the store, nor for a history that is only thought of: nobody is shown that for what they did."""
    return message.user is not None and not message.what_if


def shown(message: m.UserRequest | m.SimilarRequest, answer: Mapping[str, Json], share: float = 1.0) -> Shown | None:
    """What the log keeps of an answer (messages.Answer), if it does; `share` of the users have its variant."""
    if not isinstance(message, m.RecommendRequest) or message.user is None or not is_logged(message):
        return None
    entries: Any = answer["items"]
    return Shown(
        request=REQUEST.get(),
        user=message.user,
        time=int(time.time()) if message.at is None else message.at,
        items=tuple(entry["item"] for entry in entries),
        scores=tuple(entry["score"] for entry in entries),
        propensities=tuple(entry.get("propensity", 1.0) for entry in entries),
        version=str(answer["model"]),
        variant=str(answer.get("variant", "")),
        share=share,
    )


def shown_of(model: Engine, number: int) -> dict[str, Json]:
    """Attributes and, where there is one, the picture of an item."""
    image = model.catalogue.image_of(number)
    return {"attributes": model.catalogue.attributes_of(number)} | ({"image": image} if image else {})


def reason_view(model: Engine, history: History, reason: Attribution) -> Json:
    item = plain(history.items[reason.row])
    return {
        "item": item,
        "title": model.catalogue.titles([item])[0],
        "time": int(history.times[reason.row]),
        "attention": reason.attention,
        "without": None if math.isnan(reason.change) else reason.change,
    }


def history_view(model: Engine, user: RawId, history: History, limit: int) -> Json:
    """messages.HistoryAnswer: the latest `limit` events."""
    latest, names, events = history.select(slice(-limit, None)), history.names, []
    items = [plain(item) for item in latest.items]
    titles = model.catalogue.titles(items)
    columns = zip(items, titles, latest.times.tolist(), latest.actions.tolist(), latest.values.tolist())
    for item, title, at, bits, values in columns:
        event: dict[str, Json] = {"item": item, "title": title, "time": at}
        event["actions"] = [name for place, name in enumerate(names.actions) if bits >> place & 1]
        event["values"] = {name: value for name, value in zip(names.values, values) if not math.isnan(value)}
        events.append(event)
    return {"user": user, "events": events, "total": max(history.total, len(history))}


def plain(item: np.int64 | str) -> RawId:
    return item if isinstance(item, str) else int(item)


def model_view(service: "Service") -> Json:
    """messages.ModelAnswer, of the control where there are variants."""
    models, seen = service.models, service.settings.seen
    model = models.live
    return {
        "version": model.version,
        "previous": models.previous.version if models.previous else None,
        "name": model.run.name,
        "kind": model.run.model.kind,
        "ranker": model.ranking_run.model.kind if model.ranking_run else None,
        "actions": list(model.actions),
        "values": list(model.values),
        "main": model.main or None,
        "next_weight": model.scoring.weight if model.ranker and model.retriever else None,
        "sources": [f"{source.label}:{source.count}" for source in model.sources],
        "items": len(model.catalogue),
        "attributes": model.catalogue.labels,
        "context": model.context_labels,
        "window": model.run.data.max_len,
        "seen": model.shows_seen(seen),
        "refused": models.refused,
        "variants": [variant_view(x, service.models_of[x.name]) for x in service.variants] if service.tested else [],
    }


def variant_view(variant: Variant, models: "LiveModels") -> Json:
    """messages.VariantView"""
    live, sources = models.live, list(variant.sources)
    named: dict[str, Json] = {"name": variant.name, "share": variant.share, "run": live.run.name}
    return named | {"sources": sources, "version": live.version, "refused": models.refused}
