"""Candidates of several sources are ranked together, and each is found by what it is called after."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import untrained_run
from tables import Token, tiny_config, tiny_ranking_config, write_table

from louder.errors import InputError
from louder.histories.history import Names, empty_history
from louder.inference.engine import Engine
from louder.inference.request import Event, Request, history_of
from louder.inference.sources import source_of
from louder.models import HSTUConfig

ITEMS, AT = 30, 10**6
# item 29 is the newest, item 28 the next; item 3 is the most popular, then item 4; items 20 to 27 had no event
LOG = [[Token(item, 100 * item) for item in range(20)] for _ in range(3)]
LOG += [[Token(3, 50), Token(3, 60), Token(4, 70), Token(28, 5000), Token(29, 6000)]]
NAMES = Names(("like",), ())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    table = write_table(folder / "table", LOG, items=ITEMS, actions=["like"])
    joint = tiny_ranking_config(table, log_values=(), item_attributes=(), context=())
    untrained_run(joint, folder / "joint")
    model = HSTUConfig(layers=1, width=8, qk_width=4, v_width=4, max_len=14)
    untrained_run(tiny_config(table, model=model), folder / "other", seed=3)
    return folder


def request(**more):
    events = [Event(1000 + item, 10 * n) for n, item in enumerate([5, 6, 7])]
    return Request(**{"history": history_of(events, NAMES), "at": AT, "k": ITEMS, "retrieve": 2} | more)


def by_source(engine, request):
    """What retrieval and the sources find, before it is ranked."""
    active = engine.admit(request)
    with torch.no_grad():
        engine.retrieve([active])
    return {int(item): names for item, names in zip(active.found.items, active.found.sources)}


def test_each_source_finds_what_it_is_called_after(runs):
    engine = Engine(runs / "joint", sources=["popular:2", "new:3"])
    found = by_source(engine, request(k=2))
    assert {item for item, names in found.items() if "popular" in names} == {3, 4}
    assert {item for item, names in found.items() if "new" in names} == {29, 28, 19}  # of those with an event
    assert sum("retrieval" in names for names in found.values()) == 2
    similar = Engine(runs / "joint", sources=["similar:4"])
    names = by_source(similar, request(k=2))
    cosines = similar.directions[[5, 6, 7]] @ similar.directions.T
    nearest = [item for item in cosines.max(0).values.argsort(descending=True).tolist() if item not in (5, 6, 7)][:4]
    assert {item for item, own in names.items() if "similar" in own} == set(nearest)


def test_sources_keep_to_the_filters_and_to_what_was_seen(runs):
    engine = Engine(runs / "joint", sources=["popular:4", "new:4", f"{runs / 'other'}:4"])
    answer = engine.recommend(request(deny=[1003, 1029], seen=False))
    assert not {3, 29, 5, 6, 7} & set(answer.items.tolist())
    assert 28 in answer.items and len(set(answer.items.tolist())) == len(answer.items)
    only = engine.recommend(request(allow=[1003, 1005, 1029]))
    assert set(only.items.tolist()) == {3, 29}
    assert {5, 6, 7} & set(engine.recommend(request(retrieve=ITEMS, seen=True)).items.tolist())


def test_candidates_of_every_source_have_the_score_of_the_same_two_stages(runs):
    alone = Engine(runs / "joint")
    several = Engine(runs / "joint", sources=["popular:3", "new:2", "similar:3"])
    found = several.recommend(request())
    everything = alone.recommend(request(retrieve=ITEMS))
    score = dict(zip(everything.items.tolist(), everything.scores / everything.scores[0]))
    expected = np.array([score[int(item)] for item in found.items])
    # P(next) adds up to 1 over other candidates, so scores differ by one factor
    np.testing.assert_allclose(found.scores / found.scores[0], expected / expected[0], rtol=1e-3)
    assert found.next.sum() == pytest.approx(1) and (np.diff(found.scores) <= 0).all()


def test_another_run_finds_candidates_and_has_its_say_on_what_comes_next(runs):
    engine = Engine(runs / "joint", sources=[f"{runs / 'other'}:5"])
    answer = engine.recommend(request())
    names = by_source(engine, request())
    other = Engine(runs / "other")
    theirs = other.recommend(request(k=5))
    assert {item for item, own in names.items() if "other" in own} == set(theirs.items.tolist())
    logits = other.recommend(request(k=ITEMS))
    own = dict(zip(logits.items.tolist(), logits.scores / other.run.temperature))
    first = Engine(runs / "joint").recommend(request(k=ITEMS, retrieve=0))
    mine = dict(zip(first.items.tolist(), first.scores / engine.scoring.temperature))
    both = [torch.softmax(torch.tensor([side[int(item)] for item in answer.items]).double(), 0) for side in (mine, own)]
    np.testing.assert_allclose(answer.next, (both[0] + both[1]) / 2, rtol=1e-3)
    assert engine.version.endswith(other.version) and engine.version != Engine(runs / "joint").version


def test_batches_answer_as_each_alone_and_the_unknown_start_from_what_is_popular(runs):
    engine = Engine(runs / "joint", sources=["popular:3", f"{runs / 'other'}:4"])
    nobody = request(history=empty_history())
    asked = [request(), nobody, request(retrieve=5, user=1), request(k=3), request(retrieve=0)]
    together = engine.recommend_batch(asked)
    for one, own in zip(asked, together):
        same = engine.recommend(one)
        assert own.items.tolist() == same.items.tolist()
        np.testing.assert_allclose(own.scores, same.scores, rtol=1e-4)
    assert together[1].sources is None and together[4].sources is None
    twin = engine.twin().recommend(request())
    assert twin.items.tolist() == together[0].items.tolist()


def test_mistakes_have_a_sentence(runs):
    for text in ("popular", "popular:", ":5", "popular:0", "popular:x"):
        with pytest.raises(InputError, match="popular, new, similar or a run, and how many"):
            source_of(text)
    with pytest.raises(InputError, match="sources need one"):
        Engine(runs / "other", sources=["popular:5"])
    with pytest.raises(InputError, match="There is no run"):
        Engine(runs / "joint", sources=["trending:5"])
    assert replace(source_of("runs/a:b:7"), count=8).label == "a:b"
