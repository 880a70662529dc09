"""Stages that choose have something to choose from, and an answer that is short says why."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import untrained_run
from tables import tiny_config, tiny_ranking_config, write_table
from test_engine import ITEMS, LONG, USERS, history, request, write_items

from louder.histories.items import ItemFacts
from louder.inference.engine import Engine
from louder.inference.request import Boost, Pin
from louder.inference.reranking import diverse
from louder.models import HSTUConfig, MoLConfig

WHO = LONG[0]
SEEN = {token.id for token in USERS[WHO]}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chosen")
    table = write_items(write_table(folder / "table", USERS, items=ITEMS, actions=["like", "share"]))
    config = tiny_config(table, model=HSTUConfig(layers=2, width=8, qk_width=4, v_width=4, max_len=14))
    untrained_run(config, folder / "retrieval")
    mol = MoLConfig(query_components=2, item_components=2, width=4, query_hidden=8, gate_hidden=8, user_rows=7)
    plain, loss = replace(config.model, normalised=False), replace(config.loss, temperature=1.0)
    untrained_run(replace(config, model=plain, mol=mol, loss=loss), folder / "mixture")
    untrained_run(tiny_ranking_config(table, log_values=(), item_attributes=("genres",)), folder / "joint")
    return {name: Engine(folder / name) for name in ("retrieval", "mixture", "joint")}


@pytest.fixture(params=["retrieval", "mixture", "joint"])
def engine(request, engines):
    return engines[request.param]


def test_diversity_chooses_from_more_than_it_answers(engine):
    every = engine.recommend(request(WHO, k=ITEMS, retrieve=ITEMS, seen=True))
    assert sorted(every.items.tolist()) == list(range(ITEMS))
    rows = diverse(engine.vectors.detach()[torch.from_numpy(every.items)], every.scores, 5, 0.8)
    found = engine.recommend(request(WHO, diversity=0.8, seen=True))
    assert found.items.tolist() == every.items[rows].tolist()
    assert set(found.items.tolist()) != set(every.items[:5].tolist())


def test_all_that_are_asked_for_are_answered_however_diverse(engines):
    found = engines["joint"].recommend(request(WHO, k=ITEMS, retrieve=3, diversity=0.5, seen=True))
    assert len(found.items) == ITEMS and found.short == ""


def test_a_boost_brings_what_retrieval_had_lower(engine):
    every = engine.recommend(request(WHO, k=ITEMS, retrieve=ITEMS, seen=True))
    last = int(every.items[-1])
    far = Boost(factor=1e30, items=[1000 + last])
    assert engine.recommend(request(WHO, boost=[far], seen=True)).items[0] == last


def test_a_boosted_logit_of_retrieval_grows_by_the_temperature_of_its_training(engines):
    plain = engines["retrieval"].recommend(request(WHO))
    first = [Boost(factor=2, items=[1000 + int(plain.items[0])])]
    lifted = engines["retrieval"].recommend(request(WHO, boost=first))
    assert engines["retrieval"].run.config["loss"]["temperature"] == 0.05
    assert lifted.scores[0] == pytest.approx(plain.scores[0] + 0.05 * np.log(2))
    np.testing.assert_allclose(lifted.scores[1:], plain.scores[1:], rtol=1e-6)
    nobody = engines["retrieval"].recommend(request(WHO, 0))  # counts of the table, which are no logits
    lifted = engines["retrieval"].recommend(
        request(WHO, 0, boost=[Boost(factor=2, items=[1000 + int(nobody.items[0])])])
    )
    assert lifted.scores[0] == 2 * nobody.scores[0]


def test_a_pin_is_there_where_nothing_found_it(engine):
    every = engine.recommend(request(WHO, k=ITEMS, retrieve=ITEMS, seen=True))
    score_of = dict(zip(every.items.tolist(), every.scores.tolist()))
    last, seen = int(every.items[-1]), min(SEEN)
    pins = [Pin(1000 + last, 2), Pin(1000 + seen, 1), Pin("unknown", 3)]
    plain = engine.recommend(request(WHO, retrieve=5, where={"genres": ["drama", "war"]}))
    found = engine.recommend(request(WHO, retrieve=5, where={"genres": ["drama", "war"]}, pin=pins))
    assert found.items[:2].tolist() == [seen, last]
    rest = [item for item in plain.items.tolist() if item not in (last, seen)]
    assert found.items[2:].tolist() == rest[:3]
    if engine.ranker is None:
        assert found.scores[:2].tolist() == pytest.approx([score_of[seen], score_of[last]], abs=1e-5)
    denied = engine.recommend(request(WHO, pin=pins, deny=[1000 + last]))
    assert denied.items[0] == seen and last not in denied.items


def test_what_is_not_to_be_had_is_nowhere(engine):
    plain = engine.recommend(request(WHO))
    first, second = plain.items[:2].tolist()
    pins = [Pin(1000 + first, 1), Pin("x", 2)]
    engine.catalogue.updates.take({1000 + first: ItemFacts(available=False)})
    try:
        for more in {}, {"where": {"year": [1990, 1991, 1992, 1993]}}, {"diversity": 0.5}, {"pin": pins}:
            found = engine.recommend(request(WHO, **more))
            assert len(found.items) == 5 and first not in found.items
        assert (found.unavailable, found.unknown) == ([1000 + first], ["x"])
        assert first not in engine.recommend(request(WHO, 0)).items
        assert first not in engine.similar(request(WHO, k=ITEMS), 1000 + second).items
        left = ITEMS - len(SEEN) - 1
        assert engine.recommend(request(WHO, k=left + 1)).short.startswith(
            f"The filters leave {ITEMS - 1} of {ITEMS} items"
        )
        batch = engine.recommend_batch([request(WHO), request(LONG[1]), request(WHO, seen=True)])
        assert all(first not in answer.items for answer in batch)
    finally:
        engine.catalogue.updates.take({1000 + first: ItemFacts()})
    assert engine.recommend(request(WHO)).items.tolist() == plain.items.tolist()


def test_a_short_answer_says_why(engine):
    left, drama = ITEMS - len(SEEN), [item for item in range(ITEMS) if item % 3 == 0]
    gone = len(SEEN.intersection(drama))
    assert engine.recommend(request(WHO, k=left)).short == ""
    for more, text in (
        ({"k": left + 1}, f"There are {ITEMS} items, of which {len(SEEN)} were seen."),
        ({"k": ITEMS + 1, "seen": True}, f"There are {ITEMS} items."),
        ({"k": 9, "where": {"genres": ["drama"]}}, f"The filters leave 8 of {ITEMS} items, of which {gone} were seen."),
        ({"allow": [1003, 1004, 1005], "seen": True}, f"The filters leave 3 of {ITEMS} items."),
        (
            {"allow": [1000 + item for item in SEEN]},
            f"The filters leave {len(SEEN)} of {ITEMS} items, all of which were seen.",
        ),
        (
            {"allow": [1000 + min(SEEN), 1000 + min(set(range(ITEMS)) - SEEN)]},
            f"The filters leave 2 of {ITEMS} items, of which 1 was seen.",
        ),
        ({"allow": []}, f"The filters leave 0 of {ITEMS} items."),
        ({"k": 6, "seen": True, "cap": {"year": 1}}, f"The caps leave no more of {ITEMS} candidates."),
    ):
        found = engine.recommend(request(WHO, **{"retrieve": 500} | more))
        assert found.short == text, more


def test_a_history_counts_an_item_once(engines):
    assert len(history(WHO).items) >= len(SEEN)
    found = engines["retrieval"].similar(request(WHO, k=ITEMS), 1003)
    assert len(found.items) == ITEMS - 1 and found.short == f"There are {ITEMS - 1} other items."
    found = engines["retrieval"].similar(request(WHO, k=3, where={"genres": ["drama"]}, deny=[1000]), 1003)
    assert len(found.items) == 3 and found.short == ""
    found = engines["retrieval"].similar(request(WHO, k=9, where={"genres": ["drama"]}), 1003)
    assert found.short == "The filters leave 7 other items."
