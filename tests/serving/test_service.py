"""The service answers what the models answer when they are asked directly, and refuses what is wrong with a sentence."""

import asyncio
import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services import client_of

from louder.inference.recommender import Recommender
from louder.inference.run import Run
from louder.serving import messages as m

AT = 1_750_000_000


def good(response, message=m.Answer):
    assert response.status_code == 200, response.text
    return message.model_validate_json(response.content)


def context_of(place, user):
    run = Run.open(place / "joint")
    (country,) = run.users.column("country").take(run.user_ids.ids([user])).to_pylist()
    return {"country": country}


def test_ranking_is_what_the_ranker_says(place, service_of, call):
    service, ranker = service_of(), Recommender(place / "joint")
    items = [3, 17, 3, 200, 8]
    for user in 1, 2, 30:
        (response,) = call(service, ("POST", "/v1/rank", {"user": user, "items": items, "at": AT}))
        answer = good(response)
        direct = ranker.rank(user=user, items=items, at=AT)
        assert [x.item for x in answer.items] == items
        for own, expected in zip(answer.items, direct):
            assert own.actions == pytest.approx(expected.actions, abs=1e-5)
            assert own.values == pytest.approx(expected.values, abs=1e-4)
            assert own.score == pytest.approx(expected.actions["like"], abs=1e-5)


def test_retrieval_is_what_the_recommender_says(place, service_of, call):
    service, recommender = service_of("retrieval"), Recommender(place / "retrieval")
    for user in 1, 2, 30:
        (response,) = call(service, ("POST", "/v1/retrieve", {"user": user, "k": 20, "at": AT}))
        direct = recommender.recommend(user=user, k=20, at=AT)
        assert [x.item for x in good(response).items] == [x.item for x in direct]
        np.testing.assert_allclose([x.score for x in good(response).items], [x.score for x in direct], atol=1e-5)


def test_two_runs_are_two_stages(place, service_of, call):
    service = service_of("retrieval", ranker=place / "joint")
    body = {"user": 5, "at": AT, "k": 30}
    retrieved, recommended = call(
        service, ("POST", "/v1/retrieve", body), ("POST", "/v1/recommend", body | {"retrieve": 30})
    )
    items = [x.item for x in good(recommended).items]
    assert sorted(items) == sorted(x.item for x in good(retrieved).items)
    direct = Recommender(place / "joint").rank(user=5, items=items, at=AT)
    likes = [x.actions["like"] for x in good(recommended).items]
    np.testing.assert_allclose(likes, [x.actions["like"] for x in direct], atol=1e-5)
    scores = [x.score for x in good(recommended).items]  # of what comes next and of what is liked then
    assert scores == sorted(scores, reverse=True)


def test_a_history_that_comes_with_a_request_is_answered_as_the_same_in_the_store(place, service_of, call):
    service = service_of()
    (past,) = call(service, ("GET", "/v1/users/7/history?limit=1000", None))
    events = good(past, m.HistoryAnswer).events
    sent = [
        {"item": e.item, "time": e.time, "actions": e.actions, "values": e.values, "request": str(e.time)}
        for e in events
    ]
    context = context_of(place, 7)
    one, other = call(
        service,
        ("POST", "/v1/recommend", {"user": 7, "at": AT, "k": 9}),
        ("POST", "/v1/recommend", {"history": sent, "context": context, "at": AT, "k": 9}),
    )
    assert [x.item for x in good(one).items] == [x.item for x in good(other).items]
    np.testing.assert_allclose([x.score for x in good(one).items], [x.score for x in good(other).items], atol=1e-5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_requests_at_once_are_answered_as_each_alone(service, call, data):
    body = st.fixed_dictionaries(
        {
            "user": st.integers(1, 70),
            "k": st.integers(1, 40),
            "at": st.sampled_from([AT, AT + 5]),
            "retrieve": st.integers(1, 60),
        },
        optional={
            "seen": st.booleans(),
            "deny": st.lists(st.integers(1, 250), max_size=5),
            "allow": st.lists(st.integers(1, 250), min_size=1, max_size=50),
            "where": st.just({"category": ["news", "film"]}),
            "diversity": st.sampled_from([0.0, 0.3, 1.0]),
        },
    )
    requests = [("POST", "/v1/recommend", b) for b in data.draw(st.lists(body, min_size=1, max_size=6))]
    together = call(service, *requests)
    for request, response in zip(requests, together):
        (alone,) = call(service, request)
        first, second = good(response), good(alone)
        np.testing.assert_allclose([x.score for x in first.items], [x.score for x in second.items], atol=1e-5)
        seen = {x.item for x in first.items}
        assert len(seen) == len(first.items) <= request[2]["k"]
        assert not seen & set(request[2].get("deny", []))
        assert seen <= set(request[2].get("allow", range(1, 999)))
        if "where" in request[2]:
            assert all(set(x.attributes["category"]) <= {"news", "film"} for x in first.items)


def test_events_change_the_answer_at_once_and_are_stored_once(service_of, call):
    service = service_of()
    before = good(call(service, ("POST", "/v1/recommend", {"user": 4, "k": 5, "at": AT}))[0])
    item = before.items[0].item
    event = {"user": 4, "id": "click-1", "item": item, "time": AT - 10, "actions": ["like"], "values": {"watch": 31.0}}
    for expected in (1, 0), (0, 1):
        (stored,) = call(service, ("POST", "/v1/events", {"events": [event]}))
        assert (good(stored, m.EventsAnswer).stored, good(stored, m.EventsAnswer).duplicates) == expected
    after, past = call(
        service, ("POST", "/v1/recommend", {"user": 4, "k": 5, "at": AT}), ("GET", "/v1/users/4/history?limit=1", None)
    )
    assert item not in [x.item for x in good(after).items]
    assert good(after).history == before.history + 1
    (last,) = good(past, m.HistoryAnswer).events
    assert (last.item, last.actions, last.values) == (item, ["like"], {"watch": 31.0})


def test_what_was_kept_makes_no_difference(service_of, call, place, tmp_path):
    kept, never = service_of(), service_of(cache_bytes=0, store=str(tmp_path / "other"))
    requests = [("POST", "/v1/recommend", {"user": user, "k": 10, "at": AT}) for user in (1, 9, 1, 33, 9, 1)]
    for request in requests:
        first, second = good(call(kept, request)[0]), good(call(never, request)[0])
        np.testing.assert_allclose([x.score for x in first.items], [x.score for x in second.items], atol=1e-5)
    assert kept.metrics.hits._value.get() > 0 and never.metrics.cached._value.get() == 0


def test_nobody_is_unknown(service_of, call):
    """Somebody new is shown what is popular, ranked by the model; and after one event something else."""
    service = service_of()
    empty, past = call(
        service, ("POST", "/v1/recommend", {"user": 4711, "k": 5}), ("GET", "/v1/users/4711/history", None)
    )
    assert len(good(empty).items) == 5 and good(empty).history == 0
    assert good(past, m.HistoryAnswer).events == []
    popular = good(call(service, ("POST", "/v1/retrieve", {"history": [], "k": 3}))[0]).items
    assert [x.score for x in popular] == sorted((x.score for x in popular), reverse=True) and popular[0].score > 1


def test_items_that_the_model_does_not_know_are_skipped_and_counted(service_of, call):
    history = [{"item": 5, "time": 10}, {"item": 99_999, "time": 20}, {"item": 6, "time": 30}]
    service = service_of()
    answer = good(call(service, ("POST", "/v1/recommend", {"history": history, "at": 40}))[0])
    assert (answer.history, answer.skipped) == (2, 1)


def test_reasons_are_shares_of_attention_and_what_leaving_out_changes(place, service_of, call):
    service = service_of()
    body = {"user": 3, "k": 4, "at": AT, "explain": True}
    answer = good(call(service, ("POST", "/v1/recommend", body))[0])
    (past,) = call(service, ("GET", "/v1/users/3/history?limit=1000", None))
    events = good(past, m.HistoryAnswer).events
    times = {(e.item, e.time) for e in events}
    for item in answer.items:
        assert 1 <= len(item.reasons) <= 3
        assert all((r.item, r.time) in times and 0 <= r.attention <= 1 for r in item.reasons)
    # leaving out is what it says: the stages asked without the event, each alone
    reason, item = answer.items[0].reasons[0], answer.items[0]
    assert len({e.time for e in events}) == len(events)  # else its row would not be known by its time
    rest = [{"item": e.item, "time": e.time, "actions": e.actions, "values": e.values} for e in events]
    rest = [event for event in rest if (event["item"], event["time"]) != (reason.item, reason.time)]
    one, lacking = {"allow": [item.item], "at": AT}, {"history": rest, "context": context_of(place, 3), "at": AT}
    whole, own, ranked = call(
        service,
        ("POST", "/v1/retrieve", {"user": 3, **one}),
        ("POST", "/v1/retrieve", {**lacking, **one}),
        ("POST", "/v1/rank", {**lacking, "items": [item.item]}),
    )
    scoring, change = service.models.live.scoring, good(own).items[0].score - good(whole).items[0].score
    without = (item.next * np.exp(change / scoring.temperature)) ** scoring.weight * good(ranked).items[0].score
    assert without - item.score == pytest.approx(reason.without, rel=1e-3, abs=1e-7)


def test_similar_items_are_near_by_cosine(service_of, call):
    service = service_of()
    answer = good(call(service, ("POST", "/v1/similar", {"item": 11, "k": 7, "where": {"category": ["news"]}}))[0])
    scores = [x.score for x in answer.items]
    assert scores == sorted(scores, reverse=True) and 11 not in [x.item for x in answer.items]
    assert all(x.attributes["category"] == ["news"] for x in answer.items)


WRONG = [
    ("/v1/recommend", {}, "needs a user or a history"),
    ("/v1/recommend", {"user": 1, "history": []}, "one of the two"),
    ("/v1/recommend", {"user": 1, "k": 0}, "k: "),
    ("/v1/recommend", {"user": 1, "colour": "red"}, "colour: "),
    ("/v1/recommend", {"user": 1, "k": 2**70}, "k: "),
    ("/v1/recommend", {"user": 2**70}, "user"),
    ("/v1/recommend", {"user": True}, "user"),
    ("/v1/recommend", {"user": 1, "k": "10"}, "k: "),
    ("/v1/recommend", {"user": 1, "weights": {"fly": 1.0}}, "weights names 'fly', but the actions are like"),
    ("/v1/recommend", {"user": 1, "where": {"fly": ["a"]}}, "the attribute 'fly', but items have these: category"),
    ("/v1/recommend", {"user": 1, "context": {"fly": "a"}}, "these attributes of users: country"),
    ("/v1/recommend", {"user": 1, "model": "previous"}, "no previous model"),
    ("/v1/rank", {"user": 1, "items": []}, "items: "),
    ("/v1/similar", {"item": 99_999}, "There is no item 99999"),
    ("/v1/events", {"events": []}, "events: "),
    ("/v1/events", {"events": [{"user": 1, "id": "a", "item": 1, "time": 5, "actions": ["fly"]}]}, "fly"),
    ("/v1/recommend", {"history": [{"item": 1, "time": 5, "actions": ["fly"]}]}, "no action 'fly'"),
]


def test_what_is_wrong_is_said_in_a_sentence(service_of, call):
    service = service_of()
    responses = call(service, *(("POST", path, body) for path, body, _ in WRONG))
    for (path, body, text), response in zip(WRONG, responses):
        problem = m.Problem.model_validate_json(response.content)
        assert response.status_code == 422, (path, body, response.text)
        assert text in problem.error and problem.request == response.headers["x-request-id"], (body, problem.error)


RAW = [
    (b'{"user": 1, "diversity": NaN}', 422),
    (b'{"user": 1, "diversity": Infinity}', 422),
    (b'{"user": ' + b"9" * 5000 + b"}", 422),
    (b"[" * 100_000 + b"]" * 100_000, 422),
    (b'{"user": "\\ud800"}', 422),
    (b"\xff\xfe", 422),
    (b"", 422),
    (b'{"user": 1, "x": "' + b"a" * (5 << 20) + b'"}', 413),
]


def test_hostile_bodies_are_refused(service_of):
    service = service_of()

    async def ask():
        async with client_of(service) as client:
            headers = {"content-type": "application/json"}
            found = [(await client.post("/v1/recommend", content=body, headers=headers)) for body, _ in RAW]
            text = await client.post("/v1/recommend", content=b"{}", headers={"content-type": "text/plain"})
            return found, text

    found, text = asyncio.run(ask())
    for (body, status), response in zip(RAW, found):
        assert response.status_code == status, (body[:50], response.text)
        assert m.Problem.model_validate_json(response.content).error
    assert text.status_code == 415


def test_no_path_of_a_request_reaches_the_files(service_of, call):
    service = service_of()
    paths = [
        "/ui/../messages.py",
        "/ui/%2e%2e/messages.py",
        "//etc/passwd",
        "/ui/index.html%00",
        "/v1/users/..%2f..%2fetc/history",
    ]
    for response in call(service, *(("GET", path, None) for path in paths)):
        assert response.status_code in (404, 422) or b'"events":[]' in response.content


def test_a_token_is_asked_for_where_there_is_one(service_of, call):
    service = service_of(token="s3cret")
    wanted = [("GET", "/v1/model", None), ("POST", "/v1/recommend", {"user": 1}), ("GET", "/metrics", None)]
    assert [r.status_code for r in call(service, *wanted)] == [401] * 3
    assert [r.status_code for r in call(service, *wanted, headers={"authorization": "Bearer nope"})] == [401] * 3
    assert [r.status_code for r in call(service, *wanted, headers={"authorization": "Bearer s3cret"})] == [200] * 3
    assert [r.status_code for r in call(service, ("GET", "/healthz", None), ("GET", "/", None))] == [200, 200]


def test_the_log_has_requests_and_no_secrets(service_of, call, capsys):
    service = service_of(token="s3cret", log=True)
    call(
        service,
        ("POST", "/v1/recommend", {"user": 1}),
        headers={"authorization": "Bearer s3cret", "x-request-id": "abc1"},
    )
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert lines[-1]["request"] == "abc1" and lines[-1]["route"] == "/v1/recommend" and lines[-1]["status"] == 200
    assert "s3cret" not in json.dumps(lines)


def test_numbers_of_the_service(service_of, call):
    service = service_of()
    call(service, ("POST", "/v1/recommend", {"user": 1}), ("POST", "/v1/recommend", {}))
    stats, metrics, ready, model = call(
        service, *(("GET", path, None) for path in ("/v1/stats", "/metrics", "/readyz", "/v1/model"))
    )
    assert len(stats.json()["seconds"]) == 60 and sum(stats.json()["requests"]) >= 2
    assert 'louder_requests_total{route="/v1/recommend",status="200"} 1.0' in metrics.text
    assert ready.status_code == 200
    described = good(model, m.ModelAnswer)
    assert (described.actions, described.main, described.ranker) == (["like"], "like", "hstu")
    assert described.attributes["category"] and described.context["country"] and described.items == 200


def test_more_than_can_be_answered_is_turned_away_at_once(service_of, call):
    service = service_of(max_queue_delay_s=0.01)
    plain_work = service.batcher.work
    service.batcher.work = lambda jobs: (time.sleep(0.02 * len(jobs)), plain_work(jobs))[1]
    responses = call(service, *[("POST", "/v1/recommend", {"user": n % 50 + 1}) for n in range(60)])
    statuses = [r.status_code for r in responses]
    assert set(statuses) == {200, 429} and statuses.count(429) > 20
    assert all(int(r.headers["retry-after"]) >= 1 for r in responses if r.status_code == 429)
    time.sleep(0.2)
    assert call(service, ("POST", "/v1/recommend", {"user": 1}))[0].status_code == 200


def test_a_mistake_of_ours_is_an_answer_and_not_the_end(service_of, call):
    service = service_of()
    plain_work, service.batcher.work = service.batcher.work, lambda jobs: 1 / 0
    assert call(service, ("POST", "/v1/recommend", {"user": 1}))[0].status_code == 500
    service.batcher.work = plain_work
    assert call(service, ("POST", "/v1/recommend", {"user": 1}))[0].status_code == 200


def test_a_mixture_of_logits_is_served_as_the_recommender_has_it(place, service_of, call):
    service, recommender = service_of("mixture"), Recommender(place / "mixture")
    for user in 1, 2, 30:
        body = {"user": user, "k": 20, "at": AT}
        (response,) = call(service, ("POST", "/v1/retrieve", body))
        direct = recommender.recommend(user=user, k=20, at=AT)
        np.testing.assert_allclose([x.score for x in good(response).items], [x.score for x in direct], atol=1e-4)
        (filtered,) = call(service, ("POST", "/v1/retrieve", body | {"where": {"category": ["news"]}, "seen": True}))
        assert good(filtered).items and 4711 not in [x.item for x in good(filtered).items]


def test_what_the_caches_hold_is_measured_after_each_batch(service_of, call):
    service = service_of()
    ask = [("POST", "/v1/recommend", {"user": user, "at": 1_750_000_000}) for user in (1, 2)]
    call(service, ask[0])
    call(service, ask[1])
    call(service, ask[1])
    metrics = service.metrics
    (cache,) = service.models.live.caches  # of the joint run, for both stages
    assert metrics.cached._value.get() == 2 and metrics.cached_bytes._value.get() == cache.bytes > 0
    assert metrics.hits._value.get() == cache.hits >= 1 and metrics.misses._value.get() == cache.misses >= 2
    text = call(service, ("GET", "/metrics", None))[0].text
    assert "louder_batch_size_count 3.0" in text and "louder_batch_size_sum 3.0" in text
    assert "louder_in_flight 1.0" in text  # this one


def test_stored_events_are_counted_and_those_sent_again_are_not(service_of, call):
    service = service_of()
    event = {"user": 4, "id": "a", "item": 5, "time": 10}
    for _ in range(2):
        call(service, ("POST", "/v1/events", {"events": [event, event, {**event, "id": "b"}]}))
    assert service.metrics.events._value.get() == 2
