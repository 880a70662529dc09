"""Requests that are odd, and right."""

import json
import shutil

import pytest

from louder.serving import messages as m

AT = 1_750_000_000


def ask(service, call, path, **body):
    (response,) = call(service, ("POST", path, body))
    assert response.status_code == 200, response.text
    return m.Answer.model_validate_json(response.content)


def refused(service, call, path, **body):
    (response,) = call(service, ("POST", path, body))
    assert response.status_code == 422, response.text
    return m.Problem.model_validate_json(response.content).error


@pytest.fixture(scope="module")
def service(place, tmp_path_factory):
    from louder.serving.service import Settings, open_service

    store = str(tmp_path_factory.mktemp("odd") / "store")
    service = open_service(
        Settings(run=place / "joint", store=store, log=False, max_queue_delay_s=60.0, reload_every_s=600.0)
    )
    yield service
    service.close()


@pytest.mark.parametrize(
    "filters",
    [
        {"allow": []},
        {"allow": [99_999, "nothing"]},
        {"allow": [5], "deny": [5, 5]},
        {"where": {"category": []}},
        {"where": {"category": ["no such thing"]}},
    ],
)
@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/retrieve"])
def test_where_nothing_is_left_the_answer_is_empty(service, call, path, filters):
    assert ask(service, call, path, user=1, at=AT, **filters).items == []


@pytest.mark.parametrize("more", [{"diversity": 0.5}, {"explain": True}])
def test_an_empty_answer_can_be_diverse_and_explained(service, call, more):
    assert ask(service, call, "/v1/recommend", user=1, allow=[], **more).items == []


def test_more_than_there_is_is_all_there_is(service, call):
    everything = ask(service, call, "/v1/retrieve", user=1, at=AT, k=16_384, seen=True)
    assert len({x.item for x in everything.items}) == len(everything.items) == 200
    best = ask(service, call, "/v1/recommend", user=1, at=AT, k=1_000, retrieve=16_384, seen=True, diversity=1.0)
    assert len({x.item for x in best.items}) == 200
    assert len(ask(service, call, "/v1/similar", item=3, k=1_000).items) == 199


def test_what_stands_twice_counts_once_in_filters_and_twice_in_candidates(service, call):
    once = ask(service, call, "/v1/recommend", user=1, at=AT, allow=[5, 9, 11], deny=[9], seen=True)
    twice = ask(service, call, "/v1/recommend", user=1, at=AT, allow=[5, 9, 5, 11, 5], deny=[9, 9], seen=True)
    assert once.items == twice.items and len(once.items) == 2
    one, other, again = ask(service, call, "/v1/rank", user=1, at=AT, items=[5, 9, 5]).items
    assert one.item == again.item == 5 and other.item == 9
    assert one.score == pytest.approx(again.score, abs=1e-6)


def test_a_context_of_null_is_unknown(service, call):
    event = [{"item": 5, "time": 10}]
    null = ask(service, call, "/v1/rank", history=event, at=20, items=[1, 2], context={"country": None})
    absent = ask(service, call, "/v1/rank", history=event, at=20, items=[1, 2])
    new = ask(service, call, "/v1/rank", history=event, at=20, items=[1, 2], context={"country": "atlantis"})
    assert [x.score for x in null.items] == [x.score for x in absent.items] == [x.score for x in new.items]


def test_before_the_first_event_nothing_happened(service, call):
    how = {"at": 0, "k": 5, "context": {"country": "de"}, "seen": True}
    early, nobody = (
        ask(service, call, "/v1/recommend", user=1, **how),
        ask(service, call, "/v1/recommend", history=[], **how),
    )
    assert early.history == 0 and early.items == nobody.items


def test_a_long_history_is_read_from_its_end(service, call):
    events = [{"item": 1 + n % 200, "time": 1_000 + n} for n in range(1_000)]
    whole = ask(service, call, "/v1/rank", history=events, at=AT, items=[3, 4])
    assert 15 <= whole.history < 30 and whole.skipped == 0
    assert ask(service, call, "/v1/recommend", history=events, at=AT).items == []  # all were seen
    too_long = refused(service, call, "/v1/recommend", history=[*events, events[0]], at=AT)
    assert too_long.startswith("history: ") and "1000" in too_long


def test_events_in_any_order_and_of_one_moment(service, call):
    events = [{"item": item, "time": 10 * (item % 5), "request": f"r{item % 5}"} for item in range(1, 20)]
    one = ask(service, call, "/v1/recommend", history=events, at=100, explain=True)
    by_time = sorted(events, key=lambda event: event["time"])
    other = ask(service, call, "/v1/recommend", history=by_time, at=100, explain=True)
    assert [x.item for x in one.items] == [x.item for x in other.items]


def test_ids_as_texts_are_the_integers_that_they_write(service, call):
    """A history that comes with a request may have them from JSON keys or a form; a store keeps one kind."""
    texts = [{"item": str(item), "time": item} for item in (5, 6, 7)]
    numbers = [{"item": item, "time": item} for item in (5, 6, 7)]
    one = ask(service, call, "/v1/recommend", history=texts, at=AT, allow=["8", "9"], explain=True)
    other = ask(service, call, "/v1/recommend", history=numbers, at=AT, allow=[8, 9])
    assert [(x.item, x.score) for x in one.items] == [(x.item, x.score) for x in other.items]
    mixed = [{"item": "5", "time": 5}, {"item": 6, "time": 6}, {"item": "seven", "time": 7}]
    assert ask(service, call, "/v1/recommend", history=mixed, at=AT, explain=True).skipped == 1
    assert "the store are integers" in refused(service, call, "/v1/recommend", user="1")
    assert "the store are integers" in refused(
        service, call, "/v1/events", events=[{"user": 1, "id": "a", "item": "5", "time": 1}]
    )


@pytest.mark.parametrize("user", ["9223372036854775807", "-9223372036854775808", "0", "-5", "1"])
def test_an_integer_in_a_path_is_one(service, call, user):
    (response,) = call(service, ("GET", f"/v1/users/{user}/history", None))
    assert response.status_code == 200 and response.json()["user"] == int(user)


@pytest.mark.parametrize("user", ["9223372036854775808", "007", "-0", "a%2Fb", "x" * 201])
def test_what_is_no_integer_of_64_bits_is_no_user_of_this_store(service, call, user):
    (response,) = call(service, ("GET", f"/v1/users/{user}/history", None))
    assert response.status_code == 422 and m.Problem.model_validate_json(response.content).error.endswith(".")


def test_users_of_a_store_of_texts_may_have_slashes(service_of, call, tmp_path):
    from louder.histories import Names, open_store

    store = open_store(str(tmp_path / "texts"), names=Names(("like",), ("watch",)))
    store.fill([])
    store.close()
    service = service_of(store=str(tmp_path / "texts"))
    users = ["a/b", "../../etc/passwd", "ü 🙂", "12", "a/history"]
    events = [{"user": user, "id": "1", "item": 5, "time": 10} for user in users]
    assert call(service, ("POST", "/v1/events", {"events": events}))[0].json()["stored"] == 5
    for user in users:
        quoted = "".join(f"%{byte:02X}" for byte in user.encode())
        (response,) = call(service, ("GET", f"/v1/users/{quoted}/history", None))
        assert response.json()["user"] == user and response.json()["total"] == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v1/users?limit=0", "limit: "),
        ("/v1/users?limit=abc", "limit: "),
        ("/v1/users?limit=1001", "limit: "),
        ("/v1/users/1/history?limit=99999999999999999999", "limit: "),
        ("/v1/users?prefix=" + "1" * 201, "prefix: "),
    ],
)
def test_a_wrong_parameter_is_a_problem_too(service, call, path, text):
    (response,) = call(service, ("GET", path, None))
    assert response.status_code == 422
    assert m.Problem.model_validate_json(response.content).error.startswith(text)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/v1/recommend", 405)])
def test_what_is_not_there_is_a_problem_too(service, call, method, path, status):
    (response,) = call(service, (method, path, None))
    assert response.status_code == status and m.Problem.model_validate_json(response.content).error
    assert status == 404 or response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend", {"user": 1, "weights": {"like": 1e300}}),
        ("/v1/recommend", {"history": [{"item": 1, "time": 5, "values": {"watch": 1e39}}]}),
        ("/v1/recommend", {"user": 1, "seen": 1}),
    ],
)
def test_numbers_beyond_what_the_model_computes_with_are_refused(service, call, path, body):
    refused(service, call, path, **body)
    assert ask(service, call, "/v1/rank", items=[1], history=[{"item": 1, "time": 5, "values": {"watch": 1e15}}])


def test_weights_are_not_silently_ignored_where_nothing_is_ranked(service_of, call):
    bare = {"user": 1, "k": 3}
    weighted, plain = call(
        service_of("retrieval"),
        ("POST", "/v1/recommend", bare | {"weights": {"like": 1}}),
        ("POST", "/v1/recommend", bare),
    )
    assert (weighted.status_code, plain.status_code) == (422, 200)
    assert "this model only retrieves" in weighted.json()["error"]


def changed(place, folder, change):
    """A copy of the joint run with another config."""
    shutil.copytree(place / "joint", folder)
    (state,) = folder.glob("checkpoints/*/state.json")
    config = json.loads(state.read_text())
    change(config["config"])
    state.unlink()
    state.write_text(json.dumps(config))
    return folder


def test_a_run_that_only_ranks_ranks_what_is_popular(place, tmp_path, service_of, call):
    """Its states were never trained to be compared with items, so its candidates are the same for everybody."""
    run = changed(place, tmp_path / "blind", lambda config: config["ranking"].update(next_item=0.0))
    service = service_of(run)
    one, other = (ask(service, call, "/v1/retrieve", user=user, k=10, seen=True, at=AT) for user in (1, 2))
    assert [(x.item, x.score) for x in one.items] == [(x.item, x.score) for x in other.items]
    best = ask(service, call, "/v1/recommend", user=1, k=3, retrieve=10, seen=True, at=AT).items
    assert {x.item for x in best} <= {x.item for x in one.items}
    ranked = ask(service, call, "/v1/rank", user=1, items=[x.item for x in one.items], at=AT).items
    assert [x.score for x in best] == pytest.approx(sorted((x.score for x in ranked), reverse=True)[:3], abs=1e-5)


def test_a_run_that_only_ranks_needs_the_table(place, tmp_path, service_of):
    from louder.errors import InputError

    def change(config):
        config["ranking"]["next_item"] = 0.0
        config["data"]["table"] = "/nowhere"

    with pytest.raises(InputError, match=r"only ranks, and without the table /nowhere .* --table TABLE"):
        service_of(changed(place, tmp_path / "blind", change))


def test_a_run_that_cannot_keep_histories_is_not_served(place, tmp_path, service_of):
    from louder.errors import InputError

    run = changed(place, tmp_path / "softmax", lambda config: config["model"].update(attention="softmax"))
    with pytest.raises(InputError, match="no keys and values are kept"):
        service_of(run)


def test_a_retrieval_run_with_series_answers_from_engagements(place, tmp_path_factory, service_of, call):
    from services import run

    folder = tmp_path_factory.mktemp("series")
    (folder / "table").symlink_to(place / "table")
    run(folder, "series", "ml1m:hstu", "model.max_len=40", "data.auxiliary=true")
    service = service_of(folder / "series")
    answer = ask(service, call, "/v1/recommend", user=1, at=AT, k=5)
    assert len(answer.items) == 5 and answer.history > 0
    assert "only retrieves" in refused(service, call, "/v1/rank", user=1, items=[1])
    assert ask(service, call, "/v1/recommend", user=1, at=AT, explain=True).items[0].reasons


def test_a_filter_of_more_values_than_any_attribute_has_is_refused(service, call):
    values = [f"v{n}" for n in range(m.MOST_VALUES + 1)]
    fits, bomb = ({"user": 1, "where": {"category": values[:count]}} for count in (m.MOST_VALUES, m.MOST_VALUES + 1))
    fine, refused = call(service, ("POST", "/v1/recommend", fits), ("POST", "/v1/recommend", bomb))
    assert (fine.status_code, refused.status_code) == (200, 422)
    assert "where" in refused.json()["error"] and "500" in refused.json()["error"]
