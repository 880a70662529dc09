"""Which model goes live, with engines that are made up."""

import math
import threading
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from louder.errors import InputError
from louder.ids import IdMap
from louder.inference.request import Result
from louder.serving.canaries import SLOWER
from louder.serving.reload import Models
from tests.histories.events import events_of


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("louder.serving.canaries.time.perf_counter", clock)
    return clock


ITEMS = range(1, 201)


class Engine:
    """Gives the item n the score -n, and takes `seconds` of the clock for all that it is asked at once."""

    run = SimpleNamespace(shows_seen=False)

    def __init__(self, version, clock, *, seconds=0.0, score=lambda item: -item, ranker=None, items=ITEMS):
        self.version, self.clock, self.seconds, self.score, self.ranker = version, clock, seconds, score, ranker
        self.catalogue, self.asked = SimpleNamespace(item_ids=IdMap(pa.array(list(items)))), []

    def twin(self):
        return self

    def recommend_batch(self, requests):
        self.asked.append(list(requests))
        self.clock.now += self.seconds
        if isinstance(self.score, Exception):
            return [self.score for _ in requests]
        return [self.answer(request) for request in requests]

    def answer(self, request):
        raws = [raw for raw in self.catalogue.item_ids.raw.to_pylist() if request.allow is None or raw in request.allow]
        scores = {raw: self.score(raw) for raw in raws}
        best = sorted(raws, key=lambda raw: -scores[raw])[: request.k]
        return Result(self.catalogue.item_ids.ids(best), np.array([scores[raw] for raw in best], float), 1, 0)


class Source:
    """What is published, one after another."""

    run = "runs/live"

    def __init__(self):
        self.published, self.loads, self.marked = None, 0, ""

    def version(self):
        if isinstance(self.published, Exception):
            raise self.published
        return self.published.version

    def load(self):
        self.loads += 1
        return self.published

    def marks(self):
        return [self.marked]

    def forced(self, live, new):
        return self.marked == new.version


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def models(source, clock):
    source.published = Engine("a", clock, seconds=1.0)
    return Models(source, source.published, lambda: CANARIES)


CANARIES = [
    events_of([1, 999, 2], [10, 15, 20]),
    events_of([999, 1], [5, 6]),  # one item that the models know, none to be held out
    events_of([1], [1]).select(slice(0, 0)),
]


def test_a_new_model_is_taken_and_the_one_before_is_kept(models, source, clock):
    live = models.live
    assert not models.look() and models.previous is None
    source.published = new = Engine("b", clock)
    assert models.look() and models.both == (new, live)
    assert (models.swaps, models.refusals, source.loads) == (1, 0, 1)
    source.published = live
    assert models.look() and models.both == (live, new) and source.loads == 1  # it was there still
    assert not models.look() and models.swaps == 2


def test_known_users_are_asked_for_their_latest_event_and_about_random_items(models, source, clock):
    source.published = new = Engine("b", clock)
    assert models.look()
    (lists,), (scores,) = new.asked  # of the three, one has items that the model knows
    assert lists.history.items.tolist() == [1, 999] and lists.at == 20 and not lists.seen
    assert (lists.k, lists.retrieve) == (20, 0) and lists.allow is None  # a tenth of the catalogue
    assert scores.seen and sorted(scores.allow) == list(ITEMS) and scores.k == scores.retrieve == 200
    assert str(models.previous.asked) == str(new.asked)


def test_without_known_users_a_trial_is_asked(models, source, clock):
    models.canaries = lambda: CANARIES[2:]
    source.published = new = Engine("b", clock)
    assert models.look()
    (request,) = new.asked[0]
    assert request.history.items.tolist() == list(range(1, 10)) and request.history.times.tolist() == list(range(9))
    assert request.at == 9 and request.history.requests.tolist() == [-1] * 9


UNLIKE = {"score": lambda item: item}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"ranker": "one"}, "it ranks and the live model does not, or the other way round"),
        ({"items": [7]}, "it knows none of the items of the known users"),
        ({"items": ["1", "2"]}, "it knows none of the items of the known users"),
        ({"score": lambda item: math.nan if item == 3 else -item}, "its scores are not finite"),
        ({"score": lambda item: math.inf}, "its scores are not finite"),
        ({"score": InputError("no")}, "it does not answer for a known user: no"),
        ({"score": lambda item: 0.5}, "its scores hardly differ"),
        (UNLIKE, "its lists for known users share 0% of their items"),
        ({"seconds": 1.0 * SLOWER + 0.51}, "it needs 21.0 s for what the live model does in 2.0 s"),
    ],
)
def test_a_bad_model_is_refused_and_counted_once(models, source, clock, how, reason):
    live, source.published = models.live, Engine("b", clock, **how)
    assert not models.look() and not models.look()
    assert models.both == (live, None) and models.refused.startswith(f"b: {reason}")
    assert (models.swaps, models.refusals, source.loads) == (0, 1, 1)
    source.published = live  # withdrawn
    assert not models.look() and models.refused is None
    source.published = Engine("b", clock, **how)
    assert not models.look() and models.refusals == 2
    source.published = Engine("c", clock, seconds=1.0 * SLOWER + 0.49)
    assert models.look() and models.refused is None


def test_a_refused_model_that_is_forced_is_taken(models, source, clock):
    source.published = new = Engine("b", clock, **UNLIKE)
    assert not models.look() and "louder publish RUN LINK --force" in models.refused
    source.marked = "another"
    assert not models.look() and not models.look() and source.loads == 2  # a new mark is looked at once
    source.marked = "b"
    assert models.look() and models.live is new and models.refused is None


@pytest.mark.parametrize("how", [{"score": lambda item: math.nan}, {"score": InputError("no")}, {"ranker": "one"}])
def test_what_does_not_answer_cannot_be_forced(models, source, clock, how):
    source.published, source.marked = Engine("b", clock, **how), "b"
    assert not models.look()


def test_a_run_that_is_away_counts_once(models, source):
    for error, refusals in ("gone", 1), ("gone", 1), ("damaged", 2), ("gone", 3):
        source.published = InputError(error)
        assert not models.look() and models.refused == f"runs/live: {error}" and models.refusals == refusals


def test_new_models_are_looked_for_until_the_end(source, clock):
    source.published = Engine("a", clock)
    models = Models(source, source.published, list, every_s=0.001)
    looked = threading.Semaphore(0)
    models.look = looked.release
    models.watch()
    for _ in range(3):
        assert looked.acquire(timeout=10)
    models.close()
    assert not models.thread.is_alive()
    Models(source, source.published, list).close()  # one that never watched
