"""Whether seen items are recommended: the request says it, or a flag of the service, or how the run was evaluated."""

import json
import shutil

import pytest

from louder import checkpoint
from louder.inference.recommender import Recommender
from louder.serving import messages as m

AT = 1_750_000_000
ALL = 200


@pytest.fixture(scope="module")
def runs(place, tmp_path_factory):
    """The same weights, as a run whose evaluation left seen items out, and as one that did not."""
    repeats = tmp_path_factory.mktemp("runs") / "repeats"
    shutil.copytree(place / "joint", repeats)
    file = checkpoint.best(repeats) / "state.json"
    state = json.loads(file.read_text())
    state["config"]["evaluation"]["seen"] = "none"
    file.write_text(json.dumps(state))
    return {"window": place / "joint", "none": repeats}


@pytest.mark.parametrize(
    ("run", "flag", "asked", "shown"),
    [
        ("window", None, None, False),
        ("none", None, None, True),
        ("window", True, None, True),
        ("none", False, None, False),
        ("none", None, False, False),
        ("window", None, True, True),
        ("window", True, False, False),
    ],
)
def test_over_http_as_in_python(runs, service_of, call, run, flag, asked, shown):
    service = service_of(runs[run], seen=flag)
    said = {} if asked is None else {"seen": asked}
    (past, model, found, retrieved) = call(
        service,
        ("GET", "/v1/users/1/history", None),
        ("GET", "/v1/model", None),
        ("POST", "/v1/recommend", {"user": 1, "at": AT, "k": ALL, **said}),
        ("POST", "/v1/retrieve", {"user": 1, "at": AT, "k": ALL, **said}),
    )
    seen = {event["item"] for event in past.json()["events"]}
    items = [x.item for x in m.Answer.model_validate_json(found.content).items]
    assert len(seen) > 1 and (seen <= set(items) if shown else seen.isdisjoint(items))
    assert set(items) == {x["item"] for x in retrieved.json()["items"]}
    assert m.ModelAnswer.model_validate_json(model.content).seen is (run == "none" if flag is None else flag)
    python = Recommender(runs[run]).recommend(user=1, at=AT, k=ALL, seen=flag if asked is None else asked)
    assert items == [x.item for x in python]


@pytest.mark.parametrize("run", ["window", "none"])
def test_many_users_are_answered_as_one(runs, run):
    recommender = Recommender(runs[run])
    (table,) = recommender.recommend_many([1], k=ALL)
    assert table.column("item").to_pylist() == [x.item for x in recommender.recommend(user=1, k=ALL)]
    assert (table.num_rows == ALL) is (run == "none")
