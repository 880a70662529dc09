"""Users with far more events than the store keeps: answers are those of the whole history, from a cache that holds."""

import numpy as np
import pytest

from louder.inference.engine import Engine
from louder.inference.recommender import Recommender
from louder.inference.request import Event
from louder.serving import messages as m

AT = 1_750_000_000
KEEP = 30  # what the model reads
WHO = 777  # whom the table does not know


def good(response, message=m.Answer):
    assert response.status_code == 200, response.text
    return message.model_validate_json(response.content)


def events_of(count):
    draw = np.random.default_rng(1)
    items, liked = 1 + draw.integers(0, 60, count), draw.random(count) < 0.4
    return [
        {"item": int(item), "time": AT - 1000 * (count - n), "actions": ["like"] * int(like)}
        for n, (item, like) in enumerate(zip(items, liked))
    ]


def tell(service, call, events, first=0):
    new = [{"user": WHO, "id": str(first + n), **event} for n, event in enumerate(events)]
    assert call(service, ("POST", "/v1/events", {"events": new}))[0].json()["stored"] == len(new)


def python_events(events):
    return [Event(x["item"], x["time"], tuple(x["actions"])) for x in events]


def test_scores_are_those_of_the_whole_history_and_the_cache_holds_between_steps(place, service_of, call):
    service, ranker = service_of(keep=KEEP), Recommender(place / "joint")
    events, items = events_of(200), [3, 17, 60, 200]
    tell(service, call, events[:170])
    (cache,) = service.models.live.caches
    for count in range(170, 200):
        (response,) = call(service, ("POST", "/v1/rank", {"user": WHO, "items": items, "at": AT}))
        direct = ranker.rank(history=python_events(events[:count]), items=items, at=AT)
        assert [x.score for x in good(response).items] == pytest.approx([x.actions["like"] for x in direct], abs=1e-5)
        assert good(response).history == direct.read
        tell(service, call, events[count : count + 1], first=count)
    assert (cache.hits, cache.misses) == (27, 3)  # the first one, and a step of 15 after 180 and after 195 events


def test_what_was_ever_met_does_not_come_back(place, service_of, call):
    service, events = service_of(keep=KEEP), events_of(200)
    tell(service, call, events)
    met = {x["item"] for x in events}
    assert len(service.store.history(WHO)) == KEEP and len({x["item"] for x in events[-KEEP:]}) < len(met)
    for path, more in ("/v1/recommend", {"retrieve": 1_000}), ("/v1/retrieve", {}):
        answer = good(*call(service, ("POST", path, {"user": WHO, "k": 1_000, "at": AT, **more})))
        assert {x.item for x in answer.items} == set(range(1, 201)) - met


@pytest.mark.parametrize("run", ["joint", "retrieval"])
def test_who_is_in_the_table_is_answered_as_from_the_table(place, service_of, call, run):
    service, recommender, engine = service_of(run, keep=1), Recommender(place / run), Engine(place / run)
    lengths = np.diff(engine.table.engagements()[0].offsets)
    heaviest = np.argsort(-lengths)[:3]
    assert service.store.keep == KEEP < lengths[heaviest[1]]
    for user in engine.table.user_ids.raws(heaviest):
        answer = good(*call(service, ("POST", "/v1/retrieve", {"user": user, "at": AT, "k": 200})))
        direct = recommender.recommend(user=user, k=200, at=AT) if run == "retrieval" else None
        whole = engine.table.of_user(engine.table.user_ids.id(user))
        assert not {x.item for x in answer.items} & set(
            engine.table.item_ids.raws(np.unique(whole.engagements()[0].ids))
        )
        if direct:
            assert [x.item for x in answer.items] == [x.item for x in direct]
            continue
        ranked = good(*call(service, ("POST", "/v1/rank", {"user": user, "at": AT, "items": [5, 6]})))
        direct = recommender.rank(user=user, items=[5, 6], at=AT)
        assert [x.score for x in ranked.items] == pytest.approx([x.actions["like"] for x in direct], abs=1e-5)


def test_a_store_keeps_what_the_model_reads(service_of, tmp_path, capsys):
    assert service_of(keep=KEEP - 1).store.keep == KEEP
    assert "reads the latest 30 events of a user, so the store keeps so many" in capsys.readouterr().err
    assert service_of("retrieval", keep=KEEP + 1, store=str(tmp_path / "other")).store.keep == KEEP + 1
    assert "reads the latest" not in capsys.readouterr().err
