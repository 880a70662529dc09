"""Which successors go live: bounds on numbers that are made up, and models whose worth is known by construction."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from louder.inference.engine import Engine
from louder.serving import canaries
from louder.serving.canaries import (
    Answered,
    Comparison,
    check,
    compare,
    correlation,
    first_look,
    objection_to,
    popular_lists,
    without_latest,
)
from louder.serving.publishing import mark, mark_of, point
from louder.serving.reload import Models, ModelSource
from tests.histories.events import events_of


def hits(*users):
    found = np.zeros(64, dtype=bool)
    found[list(users)] = True
    return found


ALIKE = Comparison(
    overlap=0.6,
    chance=0.025,
    correlation=0.8,
    distinct=1.0,
    live_distinct=1.0,
    hits=hits(*range(20)),
    live_hits=hits(*range(3, 23)),
)


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ({}, ""),
        ({"overlap": 0.175}, ""),
        ({"overlap": 0.174}, "its lists for known users share 17% of their items"),
        ({"correlation": 0.2}, ""),
        ({"correlation": 0.19}, "its scores have a rank correlation of 0.19"),
        ({"distinct": 0.1}, ""),
        ({"distinct": 0.09}, "its scores hardly differ: 9.0%"),
        # nine or ten users lost and none gained: three standard errors are 9 and 9.5
        ({"hits": hits(*range(12, 23))}, ""),
        (
            {"hits": hits(*range(3), *range(15, 23))},
            "",
        ),  # twelve lost and three gained: nine, where 11.6 are three errors
        ({"hits": hits(*range(13, 23))}, "it finds 10 of the latest events of 64 known users, and the live model 20"),
        # the live model finds nothing, the new one five: more than two standard errors, so it need not be like it
        ({"overlap": 0.0, "correlation": -1.0, "hits": hits(*range(5)), "live_hits": hits()}, ""),
        ({"overlap": 0.0, "hits": hits(*range(4)), "live_hits": hits()}, "its lists"),
        ({"overlap": 0.0, "correlation": 0.0, "live_distinct": 0.005}, ""),  # nor like one that scores all alike
    ],
)
def test_each_number_has_a_bound(change, objection):
    found = objection_to(replace(ALIKE, **change))
    assert found.startswith(objection) and bool(found) == bool(objection)


def test_what_two_models_answer_is_compared_user_by_user():
    histories = [events_of([1, 2], [1, 2]), events_of([3, 4], [1, 2])]
    old = Answered([[2, 5], [4, 6]], np.array([[1.0, 2, 3, 4], [1, 2, 3, 4]]), 1.0)
    new = Answered([[2, 6], [5, 7]], np.array([[2.0, 4, 6, 8], [7, 7, 7, 7]]), 1.0)
    found = compare(histories, old, new, 0.1)
    assert found.overlap == (1 / 2 + 0 / 2) / 2 and found.correlation == pytest.approx((1 + 0) / 2)
    assert (found.distinct, found.live_distinct) == ((1 + 1 / 4) / 2, 1.0)
    assert found.hits.tolist() == [True, False] and found.live_hits.tolist() == [True, True]


def test_correlation_is_that_of_ranks():
    a = np.array([0.1, 0.2, 0.3, 0.9])
    assert correlation(a, np.exp(a)) == pytest.approx(1) and correlation(a, -a) == pytest.approx(-1)
    # ranks 1 2 3 4 and 1.5 1.5 3 4, by hand: cov 1.125 / (sd 1.118 x 1.061)
    assert correlation(a, np.array([5, 5, 6, 7])) == pytest.approx(1.125 / (1.25 * 1.125) ** 0.5)
    assert correlation(np.array([1, 2, np.nan, 3]), np.array([1, 2, -9, 3])) == pytest.approx(1)
    assert correlation(a, np.ones(4)) == 0 and correlation(a, np.full(4, np.nan)) == 0


def test_of_a_history_the_latest_event_is_held_out():
    held = without_latest(replace(events_of([1, 2, 3], [1, 2, 3]), total=9))
    assert held.items.tolist() == [1, 2] and held.dropped == 6


# --- real runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def successor(place, tmp_path):
    """change of the weights -> a run with them"""

    def changed(change, name="next"):
        run = tmp_path / name
        shutil.copytree(place / "joint", run)
        best = run / "checkpoints" / json.loads((run / "best.json").read_text())["checkpoint"]
        weights = {
            key: change(x) if x.is_floating_point() else x for key, x in load_file(best / "model.safetensors").items()
        }
        (best / "model.safetensors").unlink()
        save_file(weights, best / "model.safetensors")
        return run

    return changed


def random_like(weights):
    return torch.randn(weights.shape, generator=torch.Generator().manual_seed(weights.numel())) * 0.4


@pytest.mark.parametrize(
    ("change", "objection"),
    [(torch.zeros_like, "hardly differ"), (random_like, "live model"), (lambda x: x + 0.001 * random_like(x), "")],
    ids=["zero", "random", "a step later"],
)
def test_a_broken_successor_is_refused_and_an_honest_one_is_not(joint, successor, service, change, objection):
    new, histories = Engine(successor(change)), service.models.canaries()
    assert len(histories) == 60
    if not objection:
        check(joint, new, histories)
        return
    with pytest.raises(canaries.InputError, match=objection):
        check(joint, new, histories)
    check(joint, new, histories, forced=True)


@pytest.mark.parametrize(
    ("missed", "asked", "refused"),
    [(1, [64, 64], False), (4, [64, 64, 176, 176], False), (5, [64, 64, 176, 176], True)],
)
def test_more_users_are_asked_about_where_the_first_look_worse(joint, service, monkeypatch, missed, asked, refused):
    """A model that misses so many of the first 64, and as many of the others: one standard error is one, and in all
    8 are 2.8 of them and 10 are 3.2."""
    new, calls = joint.twin(), []

    def answered(model, some, listed, items, seen, scored_for):
        calls.append(len(some))
        lists = [[x.items[-1]] if model is joint or n >= missed else ["nothing"] for n, x in enumerate(some)]
        return Answered(lists, np.tile(np.arange(4.0), (min(len(some), scored_for), 1)), 0.0)

    monkeypatch.setattr(canaries, "answered", answered)
    if refused:
        with pytest.raises(canaries.InputError, match="it finds 230 of the latest events of 240 known users"):
            check(joint, new, 4 * service.models.canaries())
    else:
        check(joint, new, 4 * service.models.canaries())
    assert calls == asked


def test_a_first_model_that_tells_nothing_apart_is_refused(successor, service_of):
    for change, text in (torch.zeros_like, "items are all the same"), (lambda x: x * torch.nan, "are not finite"):
        run = successor(change, text.replace(" ", "-"))
        with pytest.raises(canaries.InputError, match=text):
            service_of(run)


def test_a_first_model_that_finds_less_than_what_is_popular_is_told_of(joint, service, monkeypatch):
    """Forty users whose latest item is the most popular one, and then a model that lists it for all of them but nine."""
    (best, other), histories = joint.catalogue.item_ids.raws([7, 8]), service.models.canaries()[:40]
    assert len(histories) == 40
    told = [events_of([*(x.items[x.items != best].tolist()[:5]), best], range(6)) for x in histories]
    popularity = np.zeros(len(joint.catalogue))
    popularity[7] = 1
    monkeypatch.setattr(joint.catalogue, "popularity", popularity)

    def listing(missed):
        def answered(model, known, listed, items, seen, scored_for):
            lists = [[other] if n < missed else [best] for n in range(len(known))]
            return Answered(lists, np.arange(4.0)[None], 0.0)

        return answered

    monkeypatch.setattr(canaries, "answered", listing(9))  # of nine that differ, three standard errors are nine
    assert first_look(joint, told) == ""
    monkeypatch.setattr(canaries, "answered", listing(10))
    assert first_look(joint, told) == (
        "its lists hold 30 of the latest events of 40 known users, and lists of what is popular 40"
    )


def test_beside_a_first_model_what_is_popular_is_listed_without_what_was_seen(joint, monkeypatch):
    raws = joint.catalogue.item_ids.raws
    popularity = np.arange(len(joint.catalogue), dtype=float)
    monkeypatch.setattr(joint.catalogue, "popularity", popularity)
    last, before, third = raws([len(popularity) - 1, len(popularity) - 2, len(popularity) - 3])
    histories = [events_of([last, third], [1, 2]), events_of([before], [1])]
    assert popular_lists(joint, histories, 2) == [[before, third], [last, before]]  # the latest event is held out


def test_a_model_of_another_data_set_is_refused(joint, successor, service):
    """Whose items have the same numbers, and are other things."""
    other = Engine(successor(lambda x: x))
    raw = other.run.item_ids.raw
    other.run.item_ids.__init__(raw.take(np.random.default_rng(0).permutation(len(raw))))
    with pytest.raises(canaries.InputError, match="live model"):
        check(joint, other, service.models.canaries())


def test_a_mark_forces_one_checkpoint_behind_one_link(place, successor, tmp_path, service):
    link, run = tmp_path / "live", successor(torch.zeros_like)
    point(link, place / "joint")
    models = Models(ModelSource(link), ModelSource(link).load(), service.models.canaries)
    point(link, run)
    assert not models.look() and "hardly differ" in models.refused
    mark(link, place / "again")
    assert not models.look() and "hardly differ" in models.refused
    mark(link, run)
    assert models.look(), models.refused
    assert models.live.run.path == run
    mark(link, None)
    assert mark_of(link) == "" and not models.look()
