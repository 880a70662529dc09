"""What is told of items over HTTP: known to the next answer, to every process, after a restart and to a new model."""

import time

import pytest

from louder.histories import StoreGone
from louder.histories.items import FileItems
from louder.inference.engine import Engine
from louder.serving import messages as m
from louder.serving.item_book import ItemBook

AT = 1_750_000_000


def tell(service, call, *items):
    (response,) = call(service, ("POST", "/v1/items", {"items": list(items)}))
    assert response.status_code == 200, response.text
    return response.json()


def recommended(service, call, **more):
    (response,) = call(service, ("POST", "/v1/recommend", {"user": 1, "at": AT, "k": 5, **more}))
    assert response.status_code == 200, response.text
    return m.Answer.model_validate_json(response.content).items


def until(true):
    end = time.monotonic() + 120  # a busy machine needs a while to load a model
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_not_to_be_had_is_out_of_all_answers_at_once(service, call):
    before = recommended(service, call)
    gone = before[0].item
    assert tell(service, call, {"item": gone, "available": False}) == {"stored": 1, "unknown": []}
    assert gone not in {x.item for x in recommended(service, call, k=200, retrieve=500)}
    bodies = {
        "/v1/retrieve": {"user": 1, "k": 200},
        "/v1/similar": {"item": before[1].item, "k": 200},
        "/v1/rank": {"user": 1, "items": [gone, before[1].item]},
        "/v1/recommend": {"history": [], "k": 200},
    }
    for path, body in bodies.items():
        (response,) = call(service, ("POST", path, body))
        answer = m.Answer.model_validate_json(response.content)
        assert answer.items and gone not in {x.item for x in answer.items}, path
        assert answer.unavailable == ([gone] if path == "/v1/rank" else [])
    tell(service, call, {"item": gone, "available": True})
    assert [x.item for x in recommended(service, call)] == [x.item for x in before]


def test_titles_and_attributes_are_those_that_were_told(service, call):
    first = recommended(service, call)[0]
    told = {"item": first.item, "title": "Told", "attributes": {"price": 9.5, "category": "gift", "sizes": ["S", "M"]}}
    tell(service, call, told)
    (found,) = recommended(service, call, where={"category": ["gift"], "sizes": ["M"]})
    assert (found.item, found.title) == (first.item, "Told")
    assert found.attributes == {"category": ["gift"], "price": ["9.5"], "sizes": ["S", "M"]}
    assert (
        recommended(service, call, boost=[{"where": {"category": ["gift"]}, "factor": 1e-6}], k=5)[0].item != first.item
    )
    (model,) = call(service, ("GET", "/v1/model", None))
    assert "gift" in model.json()["attributes"]["category"] and model.json()["attributes"]["price"] == ["9.5"]
    tell(service, call, {"item": first.item, "attributes": {"category": None, "sizes": None}})
    assert recommended(service, call)[0].attributes == {**first.attributes, "price": ["9.5"]}


def test_an_item_that_the_model_has_not_met_is_ranked_by_what_was_told(place, service_of, call):
    service = service_of("attributes")
    new = {"category": "sport"}
    assert tell(service, call, {"item": 5_001, "title": "New", "attributes": new}) == {"stored": 1, "unknown": [5_001]}
    body = {"user": 1, "at": AT, "items": [5_001, 3, 5_002]}
    told, given = call(
        service,
        ("POST", "/v1/rank", body),
        ("POST", "/v1/rank", {**body, "new_items": [{"item": 5_002, "attributes": new}]}),
    )
    told, given = (m.Answer.model_validate_json(x.content) for x in (told, given))
    assert [(x.item, x.title) for x in told.items] == [(5_001, "New"), (3, "")] and told.unknown == [5_002]
    assert [x.item for x in given.items] == [5_001, 3, 5_002] and given.unknown == []
    assert given.items[2].score == pytest.approx(given.items[0].score, abs=1e-6)
    assert given.items[1].score == pytest.approx(told.items[1].score, abs=1e-6)
    (wrong,) = call(service, ("POST", "/v1/rank", {**body, "new_items": [{"item": 9_999, "attributes": {"color": 1}}]}))
    assert wrong.status_code == 422 and "has 'color', but the model knows category" in wrong.json()["error"]


def test_what_was_told_is_shown(service, call):
    told = {"item": 5_001, "title": "New", "attributes": {"category": "film", "price": 3}, "available": False}
    tell(service, call, told)
    known, new, nothing = call(service, *(("GET", f"/v1/items/{item}", None) for item in (3, 5_001, 77_777)))
    assert m.ItemAnswer.model_validate_json(known.content).known and known.json()["available"]
    assert new.json() == {
        **{"item": 5_001, "title": "New", "known": False, "available": False},
        "attributes": {"category": ["film"], "price": ["3"]},
    }
    assert nothing.status_code == 422 and "There is no item '77777'" in nothing.json()["error"]


def test_it_survives_a_restart_and_is_shared_by_processes(place, service_of, call):
    service, engine = service_of(), Engine(place / "joint")
    other = ItemBook(FileItems(service.store.folder / "items.sqlite"))  # as another process has it
    other.attach(engine)
    gone = recommended(service, call)[0].item
    tell(service, call, {"item": gone, "available": False})
    until(lambda: engine.catalogue.updates.available is not None)
    assert not engine.catalogue.updates.is_available(gone, int(engine.catalogue.item_ids.ids([gone])[0]))
    other.close()
    service.close()
    again = service_of()
    assert gone not in {x.item for x in recommended(again, call)}


def test_a_new_model_knows_it_before_it_goes_live(place, tmp_path, service_of, call):
    link = tmp_path / "live"
    link.symlink_to(place / "joint")
    service = service_of(link)
    gone = recommended(service, call)[0].item
    tell(service, call, {"item": gone, "available": False})
    link.unlink()
    link.symlink_to(place / "again")
    until(lambda: service.models.swaps or service.models.refused)
    assert service.models.refused is None
    assert gone not in {x.item for x in recommended(service, call, k=200)}
    assert gone not in {x.item for x in recommended(service, call, k=200, model="previous")}
    tell(service, call, {"item": gone, "available": True})
    for model in "live", "previous":
        assert gone in {x.item for x in recommended(service, call, k=200, model=model)}


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], "items: List should have at least 1 item"),
        ([{"item": 1}] * 1_001, "items: List should have at most 1000 items"),
        ([{"item": "1"}], "The item ids of the store are integers, but '1' is a text. Send integers."),
        ([{"item": 1, "titel": "x"}], "items.0.titel: Extra inputs are not permitted"),
        ([{"item": 1, "attributes": {"a": {"b": 1}}}], "items.0.attributes.a"),
        ([{"item": 1, "available": "no"}], "items.0.available: Input should be a valid boolean"),
    ],
    ids=lambda x: str(x)[:50],
)
def test_what_cannot_be_told_is_refused(service, call, items, text):
    (response,) = call(service, ("POST", "/v1/items", {"items": items}))
    assert response.status_code == 422 and text in response.json()["error"]
    assert service.items.facts == {}


def test_a_store_that_is_gone_is_said_and_does_not_stop_the_answers(service, call, monkeypatch):
    def gone(*_):
        raise StoreGone("away")

    monkeypatch.setattr(service.items.store, "_replace", gone)
    monkeypatch.setattr(service.items.store, "_since", gone)
    (response,) = call(service, ("POST", "/v1/items", {"items": [{"item": 1, "available": False}]}))
    assert response.status_code == 503
    assert len(recommended(service, call)) == 5 and service.items.thread.is_alive()


def test_a_path_that_is_read_and_written_says_both(service, call):
    found = call(service, ("PUT", "/v1/items", None), ("POST", "/v1/items/3", None), ("PUT", "/v1/events", None))
    assert [(x.status_code, x.headers.get_list("allow")) for x in found] == [
        (405, ["GET, POST"]),
        (405, ["GET"]),
        (405, ["POST"]),
    ]
