"""Boosts, caps and pins over HTTP are those of Python, and a short answer says why."""

import pytest

from louder.inference.engine import Engine
from louder.inference.request import Boost, Pin, Request
from louder.serving import messages as m

AT = 1_750_000_000


@pytest.fixture(scope="module")
def engines(place):
    return {name: Engine(place / name) for name in ("joint", "retrieval")}


@pytest.mark.parametrize("run", ["joint", "retrieval"])
def test_stages_over_http_are_those_of_python(run, service_of, engines, call):
    service, engine = service_of(run), engines[run]
    history = service.store.history(1)
    body = {
        "boost": [{"where": {"category": ["sport"]}, "factor": 3}, {"items": [7], "factor": 0.1}],
        "cap": {"category": 2},
        "pin": [{"item": 9, "position": 2}],
        "diversity": 0.3,
        "k": 6,
    }
    asked = Request(
        history=history,
        at=AT,
        user=1,
        boost=[Boost(factor=3, where={"category": ["sport"]}), Boost(factor=0.1, items=[7])],
        cap={"category": 2},
        pin=[Pin(9, 2)],
        diversity=0.3,
        k=6,
    )
    (response,) = call(service, ("POST", "/v1/recommend", {"user": 1, "at": AT, **body}))
    assert response.status_code == 200, response.text
    answer, expected = m.Answer.model_validate_json(response.content), engine.recommend(asked)
    assert [x.item for x in answer.items] == engine.catalogue.item_ids.raws(expected.items)
    assert [x.score for x in answer.items] == pytest.approx(expected.scores.tolist(), rel=1e-4, abs=1e-6)
    assert answer.items[1].item == 9 and "short" not in response.json()
    categories = [x.attributes["category"][0] for x in answer.items]
    assert max(map(categories.count, categories)) == 2


@pytest.mark.parametrize(
    ("more", "short"),
    [
        ({"allow": [1, 2, 3], "seen": True}, "The filters leave 3 of 200 items."),
        ({"seen": True, "cap": {"category": 1}}, "The caps leave no more of 200 candidates."),
    ],
)
def test_a_short_answer_says_why(service_of, call, more, short):
    (response,) = call(service_of(), ("POST", "/v1/recommend", {"user": 1, "k": 20, **more}))
    answer = m.Answer.model_validate_json(response.content)
    assert 0 < len(answer.items) < 20 and answer.short == short


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"boost": [{"factor": 2}]}, "A boost needs items or attributes"),
        ({"boost": [{"factor": 0, "items": [1]}]}, "boost.0.factor: Input should be greater than or equal to 0.000001"),
        ({"boost": [{"factor": 2, "items": [1]}] * 17}, "boost: List should have at most 16 items"),
        ({"boost": [{"factor": 2, "items": list(range(1_001))}]}, "boost.0.items: List should have at most 1000 items"),
        ({"cap": {"category": 0}}, "cap.category: Input should be greater than or equal to 1"),
        ({"cap": {"fly": 1}}, "There is no attribute 'fly'; items have these: category"),
        ({"pin": [{"item": 1, "position": 11}]}, "1 is pinned to position 11, but the answer has positions 1 to 10"),
        ({"pin": [{"item": 1, "place": 1}]}, "pin.0.position: Field required"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_what_no_stage_can_do_is_refused(service_of, call, more, text):
    (response,) = call(service_of(), ("POST", "/v1/recommend", {"user": 1, **more}))
    assert response.status_code == 422 and text in response.json()["error"]


def test_candidates_that_are_unknown_are_named_beside_the_others(service_of, call):
    service = service_of()
    both, alone = call(
        service,
        ("POST", "/v1/rank", {"user": 1, "at": AT, "items": [99_999, 3, "x", 17]}),
        ("POST", "/v1/rank", {"user": 1, "at": AT, "items": [3, 17]}),
    )
    answer, expected = (m.Answer.model_validate_json(response.content) for response in (both, alone))
    assert answer.unknown == [99_999, "x"] and [x.item for x in answer.items] == [3, 17]
    assert [x.score for x in answer.items] == pytest.approx([x.score for x in expected.items], abs=1e-6)
    (nothing,) = call(service, ("POST", "/v1/rank", {"user": 1, "items": [99_999]}))
    assert nothing.status_code == 200 and nothing.json()["items"] == [] and nothing.json()["unknown"] == [99_999]
    (pinned,) = call(service, ("POST", "/v1/recommend", {"user": 1, "pin": [{"item": 99_999, "position": 1}]}))
    assert pinned.json()["unknown"] == [99_999] and len(pinned.json()["items"]) == 10
