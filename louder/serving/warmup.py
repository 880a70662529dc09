"""What first requests would wait for is done before a model goes live: columns are read and encoded, popularity is counted,
kernels are compiled."""

from dataclasses import replace

import numpy as np

from louder.errors import InputError
from louder.histories.history import History, empty_history
from louder.inference.engine import Engine
from louder.inference.request import Request, Result
from louder.serving.views import result_view

TOGETHER = 8  # requests of the batch that is tried


def trial_request(model: Engine) -> Request:
    """A request that every model which can be served answers, whatever is in the store."""
    ids = model.catalogue.item_ids
    items = np.array(ids.raws(np.flatnonzero(ids.there)[:10]), dtype=object)
    nothing = np.zeros(len(items), np.int64)
    values = np.zeros((len(items), 0), np.float32)
    history = History(items, np.arange(len(items)), nothing, values, nothing - 1, older=np.zeros(1, np.int64))
    return Request(history=history, at=len(items), seen=True)


def trial_requests(model: Engine) -> list[Request]:
    """One of each kind that takes a way of its own."""
    known = trial_request(model)
    assert isinstance(known.history, History)
    items = known.history.items.tolist()
    where = {name: labels[:1] for name, labels in model.catalogue.labels.items()}
    return [
        known,
        replace(known, history=empty_history()),
        replace(known, retrieve=0),
        replace(known, candidates=items, k=len(items)),
        replace(known, allow=items, deny=items[:1]),
        replace(known, where=where),
        replace(known, diversity=0.5),
    ]


def warm(model: Engine) -> None:
    """Answer them, one by one and several at once, with titles, attributes and reasons. Nobody asks, so nothing of it is
    kept in a cache; what a model does not do, such as ranking, is left out. Raises InputError for one that cannot answer for a
    user of the store."""
    requests = trial_requests(model)
    for request in requests:
        (result,) = model.recommend_batch([request])
        if request is requests[0] and isinstance(result, InputError):
            raise result
        if isinstance(result, Result):
            if not np.isfinite(result.scores).all():
                raise InputError(f"The scores of {model.version} are not finite, so it cannot be served.")
            reasons = model.reasons(request, result.items[:1])
            result_view(model, request, result, reasons, attributes=True)
    known = trial_request(model)
    model.recommend_batch([known] * TOGETHER)
    assert isinstance(known.history, History)
    model.similar(known, known.history.items[0])
    for run in {id(run): run for run in (model.run, model.ranking_run) if run is not None}.values():
        if run.ranking is not None and len(run.user_ids):
            for somebody in run.user_ids.raws(np.flatnonzero(run.user_ids.there)[:1]):
                run.context_of(somebody, None)
