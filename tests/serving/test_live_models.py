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
from louder.serving.reload import SLOWER, Models
from tests.histories.events import events_of


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("louder.serving.reload.time.perf_counter", clock)
    return clock


class Engine:
    """Knows the items 1 to 12; answers with `scores` after `seconds` of the clock."""

    def __init__(self, version, clock, *, seconds=0.0, scores=(0.5, 0.25), ranker=None, items=range(1, 13)):
        self.version, self.clock, self.seconds, self.scores, self.ranker = version, clock, seconds, scores, ranker
        self.catalogue, self.asked = SimpleNamespace(item_ids=IdMap(pa.array(list(items)))), []

    def twin(self):
        return self

    def recommend_batch(self, requests):
        self.asked.append(list(requests))
        self.clock.now += self.seconds
        if isinstance(self.scores, Exception):
            return [self.scores for _ in requests]
        return [Result(np.arange(len(self.scores)), np.array(self.scores), 1, 0) for _ in requests]


class Source:
    """What is published, one after another."""

    run = "runs/live"

    def __init__(self):
        self.published, self.loads = None, 0

    def version(self):
        if isinstance(self.published, Exception):
            raise self.published
        return self.published.version

    def load(self):
        self.loads += 1
        return self.published


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def models(source, clock):
    source.published = Engine("a", clock, seconds=1.0)
    return Models(source, source.published, lambda: CANARIES)


CANARIES = [
    events_of([1, 99], [10, 20]),
    events_of([99], [5]),  # unknown to the models
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


def test_known_users_are_asked_just_after_their_latest_event(models, source, clock):
    source.published = new = Engine("b", clock)
    assert models.look()
    (request,) = new.asked[0]  # of the three, one has an item that the model knows
    assert request.history is CANARIES[0] and request.at == 21 and request.seen
    assert models.previous.asked == new.asked


def test_without_known_users_a_trial_is_asked(models, source, clock):
    models.canaries = lambda: CANARIES[2:]
    source.published = new = Engine("b", clock)
    assert models.look()
    (request,) = new.asked[0]
    assert request.history.items.tolist() == list(range(1, 11)) and request.history.times.tolist() == list(range(10))
    assert request.at == 10 and request.seen and request.history.requests.tolist() == [-1] * 10


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"ranker": "one"}, "it ranks and the live model does not, or the other way round"),
        ({"items": [7]}, "it knows none of the items of the known users"),
        ({"scores": (0.5, math.nan)}, "its scores are not finite"),
        ({"scores": (math.inf,)}, "its scores are not finite"),
        ({"scores": InputError("no")}, "it does not answer for a known user: no"),
        ({"seconds": 1.0 * SLOWER + 1.01}, "it needs 11.0 s for what the live model does in 1.0 s"),
    ],
)
def test_a_bad_model_is_refused_and_counted_once(models, source, clock, how, reason):
    live, source.published = models.live, Engine("b", clock, **how)
    assert not models.look() and not models.look()
    assert models.both == (live, None) and models.refused == f"b: {reason}"
    assert (models.swaps, models.refusals, source.loads) == (0, 1, 1)
    source.published = live  # withdrawn
    assert not models.look() and models.refused is None
    source.published = Engine("b", clock, **how)
    assert not models.look() and models.refusals == 2
    source.published = Engine("c", clock, seconds=1.0 * SLOWER + 0.99)
    assert models.look() and models.refused is None


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
