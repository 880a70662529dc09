"""What is deleted is gone: from the store, from answers, and from what a cache would say."""

import time

import httpx
import pytest

from louder.histories import Names, open_store
from louder.serving import messages as m
from louder.serving.client import Client, EventIn, NewEvent, quoted

NOW = int(time.time())


def good(response, message=m.Answer):
    assert response.status_code == 200, response.text
    return message.model_validate_json(response.content)


def event(user, id, item, ago=10):
    return {"user": user, "id": id, "item": item, "time": NOW - ago, "actions": ["like"]}


def asked(service, call, path, **body):
    answer = good(*call(service, ("POST", path, {"at": NOW, **body})))
    return answer.history, [(x.item, pytest.approx(x.score, abs=1e-5)) for x in answer.items]


PATHS = {"joint": ["/v1/recommend", "/v1/retrieve"], "retrieval": ["/v1/retrieve"]}


@pytest.mark.parametrize("run", PATHS)
def test_an_answer_without_an_event_is_as_if_it_had_never_been(service_of, call, run):
    """A cache holds what was there when it was asked."""
    service = service_of(run)
    for path in PATHS[run]:
        none = asked(service, call, path, user=1)
        call(service, ("POST", "/v1/events", {"events": [event(1, f"late{path}", 8, 5)]}))
        one = asked(service, call, path, user=1)
        call(service, ("POST", "/v1/events", {"events": [event(1, f"early{path}", 9, 20)]}))
        assert asked(service, call, path, user=1) != one != none
        for id, expected in ("early", one), ("late", none):
            (response,) = call(service, ("DELETE", f"/v1/users/1/events/{quoted(id + path)}", None))
            assert good(response, m.DeletedEvent) == m.DeletedEvent(deleted=True, known=True)
            assert asked(service, call, path, user=1) == expected


@pytest.mark.parametrize("run", PATHS)
def test_a_deleted_user_is_answered_as_nobody(service_of, call, run):
    service = service_of(run)
    who = {"context": {"country": "de"}} if run == "joint" else {}  # which is the model's, and not the store's
    nobody = {path: asked(service, call, path, user=10**9, **who) for path in PATHS[run]}
    for path in PATHS[run]:
        asked(service, call, path, user=1)
    (response,) = call(service, ("DELETE", "/v1/users/1", None))
    assert good(response, m.DeletedUser).events > 5
    for path in PATHS[run]:
        assert asked(service, call, path, user=1, **who) == nobody[path]
    (users, history) = call(service, ("GET", "/v1/users?limit=1000", None), ("GET", "/v1/users/1/history", None))
    assert 1 not in users.json()["users"] and 2 in users.json()["users"]
    assert good(history, m.HistoryAnswer) == m.HistoryAnswer(user=1, events=[], total=0)
    (response,) = call(service, ("POST", "/v1/events", {"events": [event(1, "late", 9)]}))
    assert good(response, m.EventsAnswer) == m.EventsAnswer(stored=0, duplicates=0, deleted=1)
    assert good(*call(service, ("DELETE", "/v1/users/1", None)), m.DeletedUser).events == 0


def test_an_event_is_undone_before_and_after_it_came(service, call):
    for count, (path, expected) in enumerate(
        [
            ("/v1/users/1/events/a", m.DeletedEvent(deleted=False, known=False)),
            ("/v1/users/1/events/a", m.DeletedEvent(deleted=False, known=True)),
            ("/v1/users/1/events/b%2Fc%3F%20d", m.DeletedEvent(deleted=False, known=False)),
        ]
    ):
        assert good(*call(service, ("DELETE", path, None)), m.DeletedEvent) == expected, count
    sent = {"events": [event(1, "a", 9), event(1, "b/c? d", 9), event(1, "e", 9)]}
    assert good(*call(service, ("POST", "/v1/events", sent)), m.EventsAnswer) == m.EventsAnswer(
        stored=1, duplicates=0, deleted=2
    )


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/users/x", 422, "user ids of the store are integers, but 'x' is a text"),
        ("/v1/users/x/events/a", 422, "user ids of the store are integers"),
        ("/v1/users/1/events/", 422, "id: "),
        ("/v1/users/1/events/" + "x" * 201, 422, "id: "),
        ("/v1/users/" + "1" * 201, 422, "user: "),
        ("/v1/users/1/events", 405, "Nothing else can be deleted than /v1/users/USER and"),
        ("/v1/users/1/history", 405, "where a / within an id is written %2F"),
        ("/v1/users/1/events/a/b", 405, "Nothing else"),
    ],
)
def test_what_cannot_be_deleted_is_said(service, call, path, status, text):
    before = good(*call(service, ("GET", "/v1/users/1/history", None)), m.HistoryAnswer)
    (response,) = call(service, ("DELETE", path, None))
    assert response.status_code == status and text in response.json()["error"]
    assert good(*call(service, ("GET", "/v1/users/1/history", None)), m.HistoryAnswer) == before


def test_ids_may_have_slashes_and_line_breaks_also_those_of_an_address(service_of, call, tmp_path):
    store = open_store(str(tmp_path / "texts"), names=Names(("like",), ("watch",)))
    store.fill([])
    store.close()
    service = service_of(store=str(tmp_path / "texts"))
    users = ["a", "a/events/b", "a/history", "sample", "x\ny", "x\n"]
    call(service, ("POST", "/v1/events", {"events": [event(user, "b", 5) for user in users]}))
    for user in users[1:]:
        (response,) = call(service, ("DELETE", f"/v1/users/{quoted(user)}", None))
        assert good(response, m.DeletedUser) == m.DeletedUser(user=user, events=1)
    assert call(service, ("GET", "/v1/users", None))[0].json()["users"] == ["a"]
    assert good(*call(service, ("DELETE", "/v1/users/a/events/b", None)), m.DeletedEvent).deleted
    for path in "/v1/users/x%0A/history", "/v1/users/x%0Ay/history":
        assert good(*call(service, ("GET", path, None)), m.HistoryAnswer).events == []


def test_the_client_deletes():
    asked = []

    def answer(request):
        asked.append((request.method, request.url.raw_path.decode()))
        gone = {"deleted": True, "known": True} if "events" in request.url.path else {"user": "a/b", "events": 3}
        return httpx.Response(200, json=gone)

    with Client("http://louder", transport=httpx.MockTransport(answer)) as client:
        assert client.delete_event("a/b", "c d/e").deleted and client.delete_user("a/b").events == 3
        assert client.delete_user(-5).user == "a/b"
    paths = "/v1/users/a%2Fb/events/c%20d%2Fe", "/v1/users/a%2Fb", "/v1/users/-5"
    assert asked == [("DELETE", path) for path in paths]
    assert NewEvent(user=1, id="a", item=1, time=NOW).id == "a" and EventIn(item=1, time=NOW).item == 1
