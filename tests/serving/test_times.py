"""Clocks that are wrong: what is not yet is refused, and what an older store holds breaks nothing."""

import time

import numpy as np
import pytest

from louder.histories import History, Names, open_store
from louder.serving import messages as m


def good(response, message=m.Answer):
    assert response.status_code == 200, response.text
    return message.model_validate_json(response.content)


@pytest.mark.parametrize("count", [1, 40])
def test_what_was_liked_by_a_clock_that_is_ahead_is_read_and_does_not_come_back(service, call, count):
    before = good(*call(service, ("POST", "/v1/recommend", {"user": 1, "k": 3})))
    liked = [x.item for x in before.items]
    now = int(time.time())
    events = [{"user": 1, "id": f"{n}", "item": item, "time": now + 60 + n} for n, item in enumerate(liked)]
    call(service, ("POST", "/v1/events", {"events": events}))
    for more in {}, {"at": now - 10**6}, {"at": 0}:
        after = good(*call(service, ("POST", "/v1/recommend", {"user": 1, "k": 100, **more})))
        assert after.items and not {x.item for x in after.items} & set(liked)
        if not more:
            assert after.history == before.history + 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/events", lambda at: {"events": [{"user": 1, "id": "late", "item": 5, "time": at}]}),
        ("/v1/recommend", lambda at: {"user": 1, "at": at}),
        ("/v1/recommend", lambda at: {"history": [{"item": 5, "time": at}]}),
        ("/v1/rank", lambda at: {"user": 1, "items": [1], "what_if": [{"item": 5, "time": at}]}),
    ],
)
def test_a_time_that_is_not_yet_is_refused_and_its_unit_named(service, call, path, body):
    for at, words in (
        (1_700_000_000_000, "looks like milliseconds, but times are seconds since 1970: divide it by 1,000."),
        (int(time.time()) + 10**6, "is more than a day after now"),
        (2**53, "is more than a day after now"),
    ):
        (response,) = call(service, ("POST", path, body(at)))
        assert (
            response.status_code == 422 and words in response.json()["error"] and ".." not in response.json()["error"]
        )


def test_a_store_that_holds_wrong_times_is_answered_from(service_of, call, tmp_path):
    times = [1_500_000_000, 1_600_000_000, 1_700_000_000_000, 2**53, 2**62]
    columns = np.array([5, 6, 7, 8, 9]), np.array(times), np.ones(5, np.int64), np.full((5, 1), np.nan, np.float32)
    store = open_store(str(tmp_path / "wrong"), names=Names(("like",), ("watch",)))
    store.fill([(1, History(*columns, np.full(5, -1), store.names, total=5))])
    store.close()
    service = service_of(store=str(tmp_path / "wrong"))
    for path, more in ("/v1/recommend", {"explain": True}), ("/v1/retrieve", {}), ("/v1/rank", {"items": [5, 10]}):
        answer = good(*call(service, ("POST", path, {"user": 1, **more})))
        assert answer.history == 2 and answer.items
        assert path == "/v1/rank" or not {x.item for x in answer.items} & {5, 6, 7, 8, 9}
    history = good(*call(service, ("GET", "/v1/users/1/history", None)), m.HistoryAnswer)
    assert [x.time for x in history.events] == times
    event = {"user": 1, "id": "a", "item": 11, "time": int(time.time())}
    assert call(service, ("POST", "/v1/events", {"events": [event]}))[0].json()["stored"] == 1
    assert good(*call(service, ("POST", "/v1/recommend", {"user": 1}))).history == 3
    assert call(service, ("DELETE", "/v1/users/1", None))[0].json() == {"user": 1, "events": 6}
    assert call(service, ("POST", "/v1/events", {"events": [event | {"id": "b"}]}))[0].json()["deleted"] == 1
