"""What a stranger is shown, and what would be if, over HTTP."""

import pytest

from louder.serving import messages as m

AT = 1_750_000_000


def test_over_http(service, call):
    found, items, users, unknown, none = call(
        service,
        ("GET", "/v1/users/sample?limit=4", None),
        ("GET", "/v1/items?title=a", None),
        ("GET", "/v1/items/5/users?limit=3", None),
        ("GET", "/v1/items/999999/users", None),
        ("GET", "/v1/items?title=", None),
    )
    sample = m.SampleAnswer.model_validate_json(found.content)
    assert len(sample.users) == 4 and all(view.favourites and view.total for view in sample.users)
    assert m.ItemsAnswer.model_validate_json(items.content).items == []  # this log has no titles
    of_item = m.ItemUsersAnswer.model_validate_json(users.content)
    assert of_item.item.item == 5 and of_item.sample == 60 and 1 <= len(of_item.users) <= 3
    (past,) = call(service, ("GET", f"/v1/users/{of_item.users[0].user}/history?limit=1000", None))
    assert 5 in [x["item"] for x in past.json()["events"]]
    assert unknown.status_code == none.status_code == 422 and "no item '999999'" in unknown.json()["error"]


def test_an_item_that_was_told_is_found_by_its_title(service, call):
    known, new = (
        {"item": 5, "title": "The told one"},
        {"item": 5_001, "title": "Told since", "attributes": {"colour": "red"}},
    )
    event = {"user": 4, "id": "new", "item": 5_001, "time": AT, "actions": ["like"]}
    call(service, ("POST", "/v1/items", {"items": [known, new]}))
    call(service, ("POST", "/v1/events", {"events": [event]}))
    items, users = call(service, ("GET", "/v1/items?title=told", None), ("GET", "/v1/items/5001/users", None))
    found = m.ItemsAnswer.model_validate_json(items.content).items
    assert [(x.item, x.title) for x in found] == [(5_001, "Told since"), (5, "The told one")]
    assert found[0].attributes == {"colour": ["red"]}
    of_item = m.ItemUsersAnswer.model_validate_json(users.content)
    assert of_item.item == found[0] and [view.user for view in of_item.users] == [4]


def test_what_if_is_answered_as_if_it_had_been_stored_and_is_not(service_of, call, tmp_path):
    asked, told = service_of(), service_of(store=str(tmp_path / "other"))
    ask = {"user": 4, "k": 20, "at": AT, "explain": True}
    (before,) = call(asked, ("POST", "/v1/recommend", ask))
    new = [
        {"item": x["item"], "time": AT - 10 * n, "actions": ["like"]} for n, x in enumerate(before.json()["items"][:2])
    ]
    (supposed,) = call(asked, ("POST", "/v1/recommend", ask | {"what_if": new}))
    call(told, ("POST", "/v1/events", {"events": [{**x, "user": 4, "id": str(n)} for n, x in enumerate(new)]}))
    (stored,) = call(told, ("POST", "/v1/recommend", ask))
    assert [x["item"] for x in supposed.json()["items"]] == [x["item"] for x in stored.json()["items"]]
    assert supposed.json()["items"] != before.json()["items"]
    for one, other in zip(supposed.json()["items"], stored.json()["items"]):
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
        assert [r["item"] for r in one.get("reasons", [])] == [r["item"] for r in other.get("reasons", [])]
    (again,) = call(asked, ("POST", "/v1/recommend", ask))
    assert again.json()["items"] == before.json()["items"]  # nothing of it is left, in the store or a cache


def test_what_if_needs_a_user(service, call):
    body = {"history": [], "what_if": [{"item": 5, "time": 7}]}
    (response,) = call(service, ("POST", "/v1/recommend", body))
    assert response.status_code == 422 and "put the events into history" in response.json()["error"]
    body = {"user": 4, "what_if": [{"item": 5, "time": 7, "actions": ["buy"]}]}
    assert call(service, ("POST", "/v1/recommend", body))[0].status_code == 422
