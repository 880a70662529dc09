"""Reasons that are told with an answer are the differences that leaving an event out makes."""

import math

import numpy as np
import pytest

from louder.histories.history import History, Names
from louder.inference.engine import Engine
from louder.inference.request import Request

AT = 4_000
COLUMNS = {
    "items": np.random.default_rng(5).integers(1, 200, 9),
    "times": 1_000 + np.sort(np.random.default_rng(6).integers(0, 500, 9)),
    "actions": np.random.default_rng(7).integers(0, 2, 9),
    "values": np.random.default_rng(8).gamma(2.0, 10.0, (9, 1)).astype(np.float32),
    "requests": np.array([0, 0, 1, 1, 1, 2, -1, -1, 3]),
}


def past_of(rows):
    return History(**{name: x[rows] for name, x in COLUMNS.items()}, names=Names(("like",), ("watch",)))


def test_leaving_out_is_the_answer_to_the_history_without_the_event(joint):
    def question(rows):
        return Request(history=past_of(rows), at=AT, candidates=[5, 17], context={"country": "no"})

    q = question(np.arange(9))
    (whole,) = joint.recommend_batch([q])
    for place, reasons in enumerate(joint.reasons(q, whole.items, count=9)):
        assert sorted(row for row, _, _ in reasons) == list(range(9))
        assert sum(share for _, share, _ in reasons) == pytest.approx(1, abs=1e-5)
        for row, _, change in reasons:
            (lacking,) = joint.recommend_batch([question(np.delete(np.arange(9), row))])
            assert change == pytest.approx(lacking.scores[place] - whole.scores[place], abs=1e-5)


@pytest.mark.parametrize("run", ["retrieval", "mixture"])
def test_retrieval_leans_on_the_events_without_which_its_scores_fall_most(place, run):
    model = Engine(place / run)

    def found(rows):
        (answer,) = model.recommend_batch([Request(history=past_of(rows), at=AT, k=200, retrieve=0, seen=True)])
        return dict(zip(answer.items.tolist(), answer.scores.tolist()))

    whole, items = found(np.arange(9)), np.array([5, 17, 150])
    lacking = [found(np.delete(np.arange(9), row)) for row in range(9)]
    reasons = model.reasons(Request(history=past_of(np.arange(9)), at=AT, retrieve=0), items, count=3)
    for item, own in zip(items.tolist(), reasons):
        changes = [other[item] - whole[item] for other in lacking]
        assert [row for row, _, _ in own] == np.argsort(changes)[:3].tolist()
        assert [change for _, _, change in own] == pytest.approx(sorted(changes)[:3], abs=1e-5)
    first = [
        share for _, share, _ in model.reasons(Request(history=past_of(np.arange(9)), at=AT), items[:1], count=9)[0]
    ]
    assert sum(first) == pytest.approx(1, abs=1e-5)


def test_without_its_only_event_retrieval_has_no_score(place):
    model = Engine(place / "retrieval")
    ((only,),) = model.reasons(Request(history=past_of(np.arange(1)), at=AT), np.array([5]))
    assert (only.row, only.attention) == (0, pytest.approx(1)) and math.isnan(only.change)
