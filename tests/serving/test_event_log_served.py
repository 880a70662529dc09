"""A service with a log: what it accepted and what it answered is there, and the store has nothing that is not."""

import json
import os

import pytest

from louder.errors import InputError
from louder.histories import Arrival, StoreGone
from louder.serving import messages as m
from louder.streaming import Deletion, Joiner, LogReader, Shown

AT = 1_750_000_000


def event(user, id, item, request=None, time=AT):
    given = {"user": user, "id": id, "item": item, "time": time, "actions": ["like"], "values": {"watch": 2.5}}
    return given | ({} if request is None else {"request": request})


def events(*given):
    return "POST", "/v1/events", {"events": list(given)}


def recommend(user, **more):
    return "POST", "/v1/recommend", {"user": user, "k": 3, "at": AT, **more}


@pytest.fixture
def logged(tmp_path):
    """() -> the records of the log, in order of their stamps"""

    def read():
        with LogReader(tmp_path / "log") as reader:
            found = reader.read(1_000)
        return [x.record for x in sorted(found, key=lambda x: x.stamp)]

    return read


@pytest.fixture
def service(service_of, tmp_path):
    return service_of(events=str(tmp_path / "log"))


def test_an_answer_is_logged_and_joined_with_what_came_of_it(service, call, logged, tmp_path):
    (response,) = call(service, recommend(4), headers={"x-request-id": "r-9"})
    answer = m.Answer.model_validate_json(response.content)
    assert answer.request == "r-9" == response.headers["x-request-id"]
    second, third = answer.items[1], answer.items[2]
    sent = event(4, "a", second.item, "r-9", AT + 5), event(4, "b", third.item, "r-9", AT + 700)
    assert call(service, events(*sent))[0].json() == {"stored": 2, "duplicates": 0, "deleted": 0}
    service.log.close()
    shown, *done = logged()
    assert shown == Shown(
        "r-9",
        4,
        AT,
        tuple(x.item for x in answer.items),
        tuple(x.score for x in answer.items),
        (1.0,) * 3,
        answer.model,
    )
    assert done == [Arrival(4, x["id"], x["item"], x["time"], ("like",), {"watch": 2.5}, "r-9") for x in sent]
    with Joiner(tmp_path / "joiner", wait_s=600) as joiner:
        joiner.add(logged())
        told = [(x.exposure.position, x.event and x.event.id, x.corrects) for x in joiner.advance()]
    assert told == [(2, "a", ""), (1, None, ""), (3, None, ""), (3, "b", "nothing")]


def test_what_nobody_was_shown_is_not_logged(service, call, logged):
    item = {"item": 3, "time": AT - 5}
    asked = [recommend(1, what_if=[item]), ("POST", "/v1/recommend", {"history": [item], "at": AT})]
    asked += [("POST", "/v1/rank", {"user": 1, "items": [1, 2]}), ("POST", "/v1/retrieve", {"user": 1})]
    asked += [("POST", "/v1/similar", {"item": 1})]
    for response in call(service, *asked):
        assert response.status_code == 200 and "request" not in response.json()
    assert call(service, events(event("text", "a", 1)))[0].status_code == 422
    service.log.close()
    assert logged() == []


def test_each_answer_of_a_batch_has_an_id_of_its_own(service, call, logged):
    asked = {"requests": [{"user": user, "k": 2, "at": AT} for user in (1, 2, 2)]}
    (response,) = call(service, ("POST", "/v1/recommend/batch", asked), headers={"x-request-id": "mail"})
    ids = [x["request"] for x in response.json()["answers"]]
    assert ids == ["mail.1", "mail.2", "mail.3"]
    service.log.close()
    assert sorted((x.request, x.user) for x in logged()) == list(zip(ids, (1, 2, 2)))


def test_a_new_store_is_made_from_the_log(service, service_of, call, tmp_path, capsys, place):
    call(service, events(*(event(user, f"{user}-{n}", n + 1) for user in (1_001, 1_002) for n in range(3))))
    assert call(service, ("DELETE", "/v1/users/1001/events/1001-0", None))[0].json() == {"deleted": True, "known": True}
    assert call(service, ("DELETE", "/v1/users/1002", None))[0].json() == {"user": 1_002, "events": 3}
    before = [service.store.history(user).items.tolist() for user in (1_001, 1_002)]
    service.log.close()
    again = service_of(events=str(tmp_path / "log"), store=str(tmp_path / "new"))
    assert [again.store.history(user).items.tolist() for user in (1_001, 1_002)] == before == [[2, 3], []]
    said = capsys.readouterr().err
    assert "The store has read the event log" in said and "8 records were new to it" in said
    assert "An acknowledged event is in the event log" in said


def test_deletions_are_in_the_log(service, call, logged):
    call(service, events(event(1_001, "a", 1)))
    call(service, ("DELETE", "/v1/users/1001/events/a", None))
    call(service, ("DELETE", "/v1/users/1001", None))
    service.log.close()
    assert [(type(x), getattr(x, "id", None)) for x in logged()] == [(Arrival, "a"), (Deletion, "a"), (Deletion, None)]


def test_without_its_store_a_service_accepts_events_and_the_store_gets_them(service, call, monkeypatch):
    with monkeypatch.context() as patch:

        def gone(*_):
            raise StoreGone("away")

        patch.setattr(service.store, "_update", gone)
        (response,) = call(service, events(event(1_001, "a", 1), event(1_001, "b", 2)))
        assert response.json() == {"stored": 0, "duplicates": 0, "deleted": 0, "logged": 2}
        service.measure()
        assert b"louder_log_store_lag 2.0" in service.metrics.exposition()
    service.log.catch_up()
    assert service.store.history(1_001).items.tolist() == [1, 2]
    assert call(service, events(event(1_001, "a", 1)))[0].json()["duplicates"] == 1


def test_without_its_log_a_service_accepts_nothing_and_answers(service, call, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("louder.streaming.tail.os.write", full)
        refused, answered = call(service, events(event(1_001, "a", 1)), recommend(1))
        assert (refused.status_code, answered.status_code) == (503, 200)
        assert "event log" in refused.json()["error"] and service.settings.events not in refused.json()["error"]
        for _ in range(500):
            if service.log.answers_lost:
                break
            service.log.ending.wait(0.01)
    service.measure()
    numbers = service.metrics.exposition()
    assert b"louder_log_answers_lost 1.0" in numbers and b"louder_log_refused 2.0" in numbers
    assert len(service.store.history(1_001)) == 0
    assert call(service, events(event(1_001, "a", 1)))[0].json()["stored"] == 1


def test_what_is_explored_is_logged_with_its_propensity(service_of, call, logged, tmp_path):
    service = service_of(events=str(tmp_path / "log"), explore=2)
    asked = [recommend(4, k=5), recommend(4, k=5, what_if=[{"item": 3, "time": AT}])]
    found = [call(service, asked[0], headers={"x-request-id": f"r-{n}"})[0].json() for n in range(8)]
    again = call(service, asked[0], headers={"x-request-id": "r-0"})[0].json()
    assert [x["item"] for x in again["items"]] == [x["item"] for x in found[0]["items"]]
    assert "propensity" not in call(service, asked[1])[0].json()["items"][0]
    service.log.close()
    assert len({tuple(x["item"] for x in answer["items"]) for answer in found}) > 4
    assert len(logged()) == 9
    for shown, answer in zip(sorted(logged()[:8], key=lambda x: x.request), found):
        assert shown.items == tuple(x["item"] for x in answer["items"])
        assert shown.propensities == tuple(x["propensity"] for x in answer["items"])
        assert all(0 < x < 0.01 or 0.5 < x < 0.51 for x in shown.propensities)


def test_a_log_has_one_service(service, service_of, tmp_path):
    with pytest.raises(InputError, match="is being written by process"):
        service_of(events=str(tmp_path / "log"), store=str(tmp_path / "other"))


def test_the_command_hands_the_log_over_and_refuses_two_writers(place, tmp_path, louder, monkeypatch):
    told = []

    def stop():
        told.append(json.loads(os.environ["LOUDER_SERVE"])["events"])
        raise InputError("Far enough.")

    monkeypatch.setattr("louder.serving.service.service_from_environment", stop)
    monkeypatch.setenv("LOUDER_SERVE", "")
    serve = "serve", place / "joint", "--store", tmp_path / "s", "--port", 0, "--events"
    assert louder(*serve, "events")[0] == 2 and told == ["events"]
    assert "has one writer, but --workers asks for 2 processes" in louder(*serve, "events", "--workers", 2)[2]
    assert "needs a log" in louder(*serve[:-1], "--explore", 10)[2]
    assert "There is no event log for nats://" in louder(*serve, "nats://host/topic")[2] and told == ["events"]
    assert louder(*serve, "kafka://host/topic", "--workers", 2)[0] == 2 and told == ["events", "kafka://host/topic"]
