"""What a first request would wait for is there before it comes."""

import sys
from types import SimpleNamespace

import pyarrow as pa
import pytest

from louder.ids import IdMap
from louder.inference.engine import Engine
from louder.serving.reload import ModelSource
from louder.serving.warmup import trial_request, trial_requests


def lazy(model):
    """The attributes that a model has by now, those that were computed on first use among them."""
    parts = [model, model.catalogue, model.run, model.run.item_ids, *model.catalogue.attributes.values()]
    if model.run.ranking is not None or model.run.mol is not None:
        parts.append(model.run.user_ids)
    return [set(vars(part)) for part in parts]


REQUESTS = [
    ("/v1/recommend", {"user": 1, "explain": True}),
    ("/v1/recommend", {"user": 9_999}),
    ("/v1/recommend", {"user": 1, "where": {"category": ["sport"]}, "deny": [3], "seen": True, "diversity": 0.5}),
    ("/v1/recommend", {"history": [{"item": 1, "time": 5}], "context": {}}),
    ("/v1/retrieve", {"user": 2}),
    ("/v1/similar", {"item": 1}),
]


@pytest.mark.parametrize("run", ["joint", "retrieval", "mixture"])
def test_requests_compute_nothing_for_the_first_time(service_of, call, run):
    service = service_of(run)
    model = service.models.live
    before, loaded = lazy(model), set(sys.modules)
    assert "popularity" in before[1] and "directions" in before[0]
    requests = [*REQUESTS, ("/v1/rank", {"user": 1, "items": [1, 2]})][: 7 if run == "joint" else 6]
    for response in call(service, *(("POST", *request) for request in requests), ("GET", "/v1/model", None)):
        assert response.status_code == 200, response.text
    assert lazy(model) == before
    assert not [name for name in set(sys.modules) - loaded if name.startswith(("torch", "sympy"))]


def test_a_new_model_is_warm_and_keeps_nothing_of_it(place):
    asked = []

    class Noted(Engine):
        def recommend_batch(self, requests):
            asked.append(list(requests))
            return super().recommend_batch(requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("louder.serving.reload.Engine", Noted)
        model = ModelSource(place / "joint").load()
    assert sorted(map(len, asked)) == [1] * len(trial_requests(model)) + [8]
    assert not any(model.caches) and not any(cache.misses for cache in model.caches)


def test_the_trial_is_of_the_first_items_of_the_catalogue():
    few = trial_request(SimpleNamespace(catalogue=SimpleNamespace(item_ids=IdMap(pa.array(["x", "y"])))))
    assert few.history.items.tolist() == ["x", "y"] and few.at == 2 and few.history.values.shape == (2, 0)
    assert few.seen and few.user is None
