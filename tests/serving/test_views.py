"""Messages become requests, and results messages."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from louder.histories.history import empty_history
from louder.inference.request import Attribution, Boost, Pin, Request, Result
from louder.serving import messages as m
from louder.serving.views import history_view, request_of, result_view, supposed
from tests.histories.events import events_of

TITLES = {10: "ten", 11: "eleven", 12: "twelve"}


@pytest.fixture
def model():
    """What the views ask of an engine: three items, 10 to 12."""
    ids = list(TITLES)
    catalogue = SimpleNamespace(
        titles=lambda raws: [TITLES.get(raw, "") for raw in raws],
        describe_any=lambda raw, number: (ids[number], TITLES[ids[number]]) if number >= 0 else (raw, f"told {raw}"),
        attributes_of=lambda number: {"genre": [f"g{number}"]},
        image_of=lambda number: "https://a.example/12.png" if number == 2 else "",
    )
    actions, values = ["click", "like"], ["log seconds", "rating"]
    return SimpleNamespace(version="run@1", actions=actions, value_names=values, catalogue=catalogue)


FILTERS = {"seen": True, "allow": [1, 2], "deny": [3], "where": {"genre": ["Drama"]}}


def test_each_message_asks_for_what_it_says():
    history = events_of([1], [2])
    asker = {"user": 42, "at": 7, "context": {"country": "fr"}}
    asked = {"history": history, "at": 7, "user": 42, "context": {"country": "fr"}}

    recommend = m.RecommendRequest(**asker, **FILTERS, k=5, retrieve=50, weights={"like": 2.0}, diversity=0.5)
    expected = {"k": 5, "retrieve": 50, "weights": {"like": 2.0}, "diversity": 0.5}
    assert vars(request_of(recommend, history)) == vars(Request(**asked, **FILTERS, **expected))

    stages = {"boost": [{"items": [5], "factor": 2}], "pin": [{"item": 6, "position": 1}], "cap": {"genre": 1}}
    recommend = request_of(m.RecommendRequest(**asker, **stages), history)
    assert recommend.boost == (Boost(factor=2, items=[5]),) and recommend.pin == (Pin(6, 1),)
    assert recommend.cap == {"genre": 1}

    retrieve = m.RetrieveRequest(**asker, **FILTERS, k=5)
    assert vars(request_of(retrieve, history)) == vars(Request(**asked, **FILTERS, k=5, retrieve=0))

    rank = m.RankRequest(**asker, items=[4, 5, 4])
    assert vars(request_of(rank, history)) == vars(Request(**asked, candidates=[4, 5, 4], k=3))
    rank = m.RankRequest(**asker, items=[4, "new"], new_items=[{"item": "new", "attributes": {"genre": ["War"]}}])
    assert request_of(rank, history).new_items == {"new": {"genre": ["War"]}}

    similar = request_of(m.SimilarRequest(item=9, k=4, **FILTERS), empty_history())
    assert similar.k == 4 and similar.user is None and (similar.seen, similar.deny) == (True, [3])
    assert similar.allow == [1, 2] and similar.where == {"genre": ["Drama"]} and similar.candidates is None


def test_now_is_the_time_of_a_request_that_says_none(monkeypatch):
    monkeypatch.setattr("louder.serving.views.time.time", lambda: 123.9)
    assert request_of(m.RecommendRequest(user=1), empty_history()).at == 123
    assert request_of(m.RecommendRequest(user=1, at=0), empty_history()).at == 0
    ahead = events_of([1, 2, 3], [5, 125, 10**12])  # of a clock that is ahead, and of one that counts milliseconds
    assert request_of(m.RecommendRequest(user=1), ahead).at == 125
    assert request_of(m.RecommendRequest(user=1, at=7), ahead).at == 7


def test_no_context_is_that_of_the_training():
    assert request_of(m.RecommendRequest(user=0), empty_history()).context is None
    assert request_of(m.RecommendRequest(history=[]), empty_history()).user is None


def result():
    probabilities, values = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    return Result(np.array([2, 0]), np.array([0.9, 0.8]), 5, 1, probabilities, values)


def test_a_result_is_shown_item_by_item(model):
    request = Request(history=events_of([11, 99], [7, 8]), at=9)
    reasons = [[Attribution(0, 0.5, -0.25), Attribution(1, 0.125, math.nan)]]
    view = result_view(model, request, result(), reasons, attributes=True)
    first, second = view["items"]
    assert (view["model"], view["history"], view["skipped"]) == ("run@1", 5, 1)
    assert first == {
        "item": 12,
        "title": "twelve",
        "score": 0.9,
        "actions": {"click": 0.1, "like": 0.2},
        "values": {"log seconds": 1.0, "rating": 2.0},
        "attributes": {"genre": ["g2"]},
        "image": "https://a.example/12.png",
        "reasons": [
            {"item": 11, "title": "eleven", "time": 7, "attention": 0.5, "without": -0.25},
            {"item": 99, "title": "", "time": 8, "attention": 0.125, "without": None},
        ],
    }
    assert second["item"] == 10 and second["actions"] == {"click": 0.3, "like": 0.4} and "reasons" not in second
    assert "image" not in second
    m.Answer.model_validate({**view, "milliseconds": 1.0})


def test_each_item_has_its_own_reasons(model):
    request = Request(history=events_of([11, 12], [7, 8]), at=9)
    view = result_view(model, request, result(), [[Attribution(0, 0.5, 0.0)], [Attribution(1, 0.5, 0.0)]], False)
    assert [[reason["item"] for reason in item["reasons"]] for item in view["items"]] == [[11], [12]]


def test_attributes_are_shown_where_they_are_wanted_and_probabilities_where_there_are_some(model):
    request = Request(history=empty_history(), at=9)
    bare = result_view(model, request, Result(np.array([1]), np.array([0.5]), 0, 0), [], attributes=False)
    assert bare["items"] == [{"item": 11, "title": "eleven", "score": 0.5}]


def test_what_is_missing_is_named(model):
    request = Request(history=empty_history(), at=9)
    found = Result(np.array([-1, 2]), np.array([0.5, 0.25]), 0, 0, raws=["new", "12"], unknown=[7], unavailable=["x"])
    view = result_view(model, request, found, [], attributes=False)
    assert [(item["item"], item["title"]) for item in view["items"]] == [("new", "told new"), (12, "twelve")]
    assert (view["unknown"], view["unavailable"], "short" in view) == ([7], ["x"], False)
    short = Result(np.array([1]), np.array([0.5]), 0, 0, short="There are 3 items.")
    assert result_view(model, request, short, [], attributes=False)["short"] == "There are 3 items."


def test_what_is_not_finite_is_no_answer(model):
    """JSON has no NaN, and what writes it would say null."""
    request = Request(history=empty_history(), at=9)
    for wrong in np.nan, np.inf:
        with pytest.raises(ValueError, match="not finite"):
            result_view(model, request, Result(np.array([1]), np.array([wrong]), 0, 0), [], attributes=False)


@pytest.mark.parametrize(("limit", "shown"), [(1, [12]), (2, [99, 12]), (3, [10, 99, 12]), (100, [10, 99, 12])])
def test_the_latest_events_are_shown_oldest_first(model, limit, shown):
    history = events_of([10, 99, 12], [1, 2, 3], total=8)
    history.actions[:] = [2, 0, 3]
    history.values[2, 1] = 4.5
    view = history_view(model, 42, history, limit)
    assert [x["item"] for x in view["events"]] == shown and (view["user"], view["total"]) == (42, 8)
    assert view["events"][-1] == {
        "item": 12,
        "title": "twelve",
        "time": 3,
        "actions": ["click", "like"],
        "values": {"rating": 4.5},
    }
    if limit >= 3:
        first, unknown, _ = view["events"]
        assert first["actions"] == ["like"] and first["values"] == {} and unknown["title"] == ""
    m.HistoryAnswer.model_validate(view)


def test_a_history_that_was_never_counted_has_at_least_what_is_there(model):
    assert history_view(model, "u", events_of(["a", "b"], [1, 2]), 1)["total"] == 2
    assert history_view(model, "u", empty_history(), 5) == {"user": "u", "events": [], "total": 0}


def test_supposed_events_take_their_place_by_time_behind_stored_ones_and_count():
    stored = events_of([10, 11, 12], [1, 5, 5], total=8)
    both = supposed(stored, [m.EventIn(item="new", time=9), m.EventIn(item=3, time=5, actions=["like"])])
    assert both.items.tolist() == [10, 11, 12, 3, "new"] and both.times.tolist() == [1, 5, 5, 5, 9]
    assert both.actions.tolist()[3:] == [1 << both.names.actions.index("like"), 0] and both.total == 10
    assert supposed(stored, []) is stored
    first = supposed(empty_history(stored.names), [m.EventIn(item=3, time=5)])
    assert first.items.tolist() == [3] and first.total == 1
