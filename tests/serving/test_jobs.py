"""What the thread that computes is asked, and the store behind its pools, with an engine that is made up."""

import asyncio
import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from louder.errors import InputError
from louder.histories import StoreGone
from louder.histories.history import empty_history
from louder.inference.request import Attribution, Request, Result
from louder.serving import messages as m
from louder.serving.batching import Overloaded
from louder.serving.jobs import EXPLAINED_ROWS, FEWEST_ROWS, SLICE, Job, rows_of
from louder.serving.service import CANARIES, EXPLAINED, QUICK_S, RETRY_S, Service, Settings, answers, canaries
from louder.serving.turns import Turns
from louder.serving.wire import Refused
from tests.histories.events import NAMES, event, events_of


class Engine:
    """Answers with the items 0 .. k-1; k = 13 is a mistake."""

    actions, values, value_names, caches = ("like",), ("watch",), ["watch"], ()

    def __init__(self, version):
        self.version, self.batches, self.explained = version, [], []
        self.catalogue = SimpleNamespace(
            titles=lambda raws: [""] * len(raws),
            describe_any=lambda raw, number: (number, f"title {number}"),
            attributes_of=lambda number: {"genre": [str(number)]},
            image_of=lambda number: "",
        )

    def recommend_batch(self, requests):
        self.batches.append([request.k for request in requests])
        return [InputError("13") if request.k == 13 else self.of(request.k, 2.0) for request in requests]

    def similar(self, request, item):
        if item == "nothing":
            raise InputError("There is no item nothing")
        return self.of(request.k, 3.0)

    def of(self, k, score):
        return Result(np.arange(k), np.full(k, score), 4, 1)

    def reasons(self, request, items, likely=None):
        if request.k == 14:
            raise InputError("14")
        self.explained.append(len(items))
        return [[Attribution(0, 0.5, 0.25)] for _ in items]


def job(k, **more):
    return Job(Request(history=events_of([5], [6]), at=9, k=k), **more)


def outcome(answer):
    return answer if isinstance(answer, Exception) else (answer["model"], len(answer["items"]))


def test_each_job_has_its_own_answer_or_mistake():
    engine = Engine("a")
    jobs = [
        job(1),
        job(2, similar_to=7),
        job(13),
        job(3, explain=True),
        job(14, explain=True),
        job(4, similar_to="nothing"),
    ]
    found = answers(engine, jobs)
    assert engine.batches == [[1, 13, 3, 14]]  # all that are no similar ones, in one batch
    assert [outcome(x) for x in found[:2]] == [("a", 1), ("a", 2)] and outcome(found[3]) == ("a", 3)
    assert [str(found[n]) for n in (2, 4, 5)] == ["13", "14", "There is no item nothing"]
    assert [x["score"] for x in found[1]["items"]] == [3.0, 3.0] and found[0]["items"][0]["score"] == 2.0


def test_the_first_ten_are_explained_and_attributes_shown_where_they_are_wanted():
    engine = Engine("a")
    plain, explained, rich = answers(engine, [job(12), job(12, explain=True), job(2, attributes=True)])
    assert engine.explained == [EXPLAINED] and EXPLAINED == 10
    assert ["reasons" in x for x in explained["items"]] == [True] * 10 + [False] * 2
    assert not any("reasons" in x or "attributes" in x for x in plain["items"])
    assert [x["attributes"] for x in rich["items"]] == [{"genre": ["0"]}, {"genre": ["1"]}]


class Store:
    """Knows every user; is gone while `gone`."""

    names, at_hand = NAMES, False

    def __init__(self):
        self.gone, self.asked, self.threads = False, [], []

    def history(self, user):
        self.asked.append(user)
        self.threads.append(threading.current_thread().name)
        if self.gone:
            raise StoreGone("away")
        if isinstance(user, int) and self.gone is None:
            raise InputError("texts")
        return events_of([user], [1])

    def users(self, prefix, limit):
        if self.gone:
            raise StoreGone("away")
        return list(range(limit))

    def append(self, events):
        self.threads.append(threading.current_thread().name)
        return SimpleNamespace(stored=len(events), duplicates=0)

    def close(self):
        self.closed = True


@pytest.fixture
def service():
    models = SimpleNamespace(
        live=Engine("live"), swaps=3, refusals=4, turns=Turns(), number=0, gate_refusals=0, close=lambda: None
    )
    models.both = models.live, None
    service = Service(
        Settings(run="run", store="store", max_queue_delay_s=60.0), Store(), models, SimpleNamespace(close=lambda: None)
    )
    yield service
    service.close()
    assert service.store.closed


def test_live_and_previous_are_batches_of_their_own(service):
    jobs = [job(1), job(2, previous=True), job(3), job(4, previous=True)]
    found = service.compute(jobs)
    assert [outcome(found[n]) for n in (0, 2)] == [("live", 1), ("live", 3)]
    assert all("no previous model" in str(found[n]) for n in (1, 3))
    service.models.both = service.models.live, before = service.models.live, Engine("before")
    assert [outcome(x) for x in service.compute(jobs)] == [("live", 1), ("before", 2), ("live", 3), ("before", 4)]
    assert before.batches == [[2, 4]] and service.models.live.batches == [[1, 3]] * 2
    assert (service.metrics.reloads._value.get(), service.metrics.refused._value.get()) == (3, 4)
    assert service.metrics.batch._sum.get() == 8 and [x.get() for x in service.metrics.batch._buckets][2] == 2


def test_a_request_needs_a_user_or_a_history(service):
    async def history(**who):
        return await service.history_for(m.RecommendRequest(**who))

    assert asyncio.run(history(user=7)).items.tolist() == [7]
    assert asyncio.run(history(user=0)).items.tolist() == [0]
    came = asyncio.run(history(history=[{"item": 3, "time": 1, "actions": ["like"]}]))
    assert came.items.tolist() == [3] and came.actions.tolist() == [1] and came.names.values == ("watch",)
    assert len(asyncio.run(history(history=[]))) == 0
    for who in {}, {"user": 7, "history": []}:
        with pytest.raises(Refused, match="one of the two"):
            asyncio.run(history(**who))


def test_a_history_is_read_by_a_thread_unless_it_is_at_hand_and_quickly_there(service, monkeypatch):
    def reader():
        asyncio.run(service.stored(7))
        return service.store.threads[-1].partition("_")[0]

    assert reader() == "readers"
    service.store.at_hand = True
    assert reader() == threading.current_thread().name
    monkeypatch.setattr("louder.serving.service.time.perf_counter", itertools.count(step=21 * QUICK_S).__next__)
    assert [reader(), reader()] == [threading.current_thread().name, "readers"]  # after one that was slow
    monkeypatch.setattr("louder.serving.service.time.perf_counter", lambda: 0.0)
    found = [reader() for _ in range(60)]
    assert (found[0], found[-1]) == ("readers", threading.current_thread().name)  # until they are quick again


def test_what_each_kind_of_request_is_shown(service):
    async def ask(message):
        return await service.answer(message)

    shown = {}
    for message in (
        m.RecommendRequest(user=7, k=2, explain=True),
        m.RecommendRequest(user=7, k=2),
        m.RetrieveRequest(user=7, k=2),
        m.RankRequest(user=7, items=[5, 6]),
        m.SimilarRequest(item=5, k=2),
    ):
        answer = asyncio.run(ask(message))
        assert answer["milliseconds"] >= 0 and len(answer["items"]) == 2
        shown.setdefault(type(message).__name__, []).append(set(answer["items"][0]) - {"item", "title", "score"})
    assert shown == {
        "RecommendRequest": [{"reasons", "attributes"}, {"attributes"}],
        "RetrieveRequest": [set()],
        "RankRequest": [set()],
        "SimilarRequest": [{"attributes"}],
    }


def test_a_store_that_is_gone_is_asked_once_a_second(service, monkeypatch):
    now = [50.0]
    monkeypatch.setattr("louder.serving.service.time.monotonic", lambda: now[0])
    service.store.gone = True
    for seconds, asked in (0, 1), (0.5, 1), (RETRY_S - 0.01, 1), (RETRY_S, 2), (RETRY_S + 0.5, 2):
        now[0] = 50.0 + seconds
        with pytest.raises(StoreGone, match="away"):
            service.reached(service.store.history, 7)
        assert len(service.store.asked) == asked
    service.store.gone, now[0] = False, 50.0 + 2 * RETRY_S
    assert service.reached(service.store.history, 7).items.tolist() == [7]
    now[0] += 0.001
    assert service.reached(service.store.history, 8).items.tolist() == [8]


def test_events_are_written_by_threads_of_their_own_and_counted(service):
    done = asyncio.run(service.append([event(1, "a"), event(1, "b")]))
    assert done.stored == 2 and service.metrics.events._value.get() == 2
    assert service.store.threads[0].startswith("writers")


def test_canaries_are_of_the_first_users():
    store = Store()
    assert [history.items.tolist() for history in canaries(store)] == [[n] for n in range(CANARIES)]
    store.gone = True
    assert canaries(store) == []


def test_nothing_is_shown_of_an_empty_answer():
    (found,) = answers(Engine("a"), [Job(Request(history=empty_history(), at=9, k=0), explain=True, attributes=True)])
    assert found["items"] == [] and (found["history"], found["skipped"]) == (4, 1)


def test_a_request_counts_by_what_it_costs():
    three = [{"item": 5, "time": 1}] * 3
    for message, rows in (
        (m.RecommendRequest(user=7, k=10, retrieve=0), 1),
        (m.RecommendRequest(user=7), 501),
        (m.RecommendRequest(user=7, k=1_000, retrieve=5), 1_000 + 100),  # so many are ranked
        (m.RecommendRequest(user=7, explain=True), 501 + EXPLAINED_ROWS),
        (m.RecommendRequest(history=three, retrieve=0), 1 + 3),  # nothing of it is kept
        (m.RecommendRequest(user=7, what_if=three[:2], retrieve=0), 1 + 2),
        (m.RankRequest(user=7, items=[1] * 100), 100),
        (m.RankRequest(user=7, items=[1] * (SLICE + 1)), SLICE),
        (m.RetrieveRequest(user=7, k=100), 10),
        (m.SimilarRequest(item=5, k=1_000), 100),
    ):
        assert rows_of(message) == FEWEST_ROWS + rows


def test_what_is_late_is_told_so_and_not_computed_if_it_still_waits(service):
    engine, held, began = service.models.live, threading.Event(), threading.Event()
    recommend_batch = engine.recommend_batch

    def slow(requests):
        began.set()
        assert held.wait(5)
        return recommend_batch(requests)

    engine.recommend_batch = slow

    async def ask():
        first = asyncio.create_task(service.answer(m.RecommendRequest(user=7, k=1)))
        await asyncio.to_thread(began.wait, 5)
        with pytest.raises(Refused, match="deadline of 20 ms") as told:
            await service.answer(m.RecommendRequest(user=7, k=2, deadline=20))
        in_time = asyncio.create_task(service.answer(m.RecommendRequest(user=7, k=3, deadline=60_000)))
        while len(service.batcher.queue) < 2:  # the one that was late, and this one
            await asyncio.sleep(0.001)
        service.batcher.row_s = 1.0
        with pytest.raises(Overloaded):
            await service.answer(m.RecommendRequest(user=7, k=4, deadline=5_000))
        await asyncio.sleep(0.1)
        held.set()
        assert [len((await x)["items"]) for x in (first, in_time)] == [1, 3]
        return told.value.status

    assert asyncio.run(ask()) == 504
    assert engine.batches == [[1], [3]] and service.batcher.abandoned == 1


def test_a_long_ranking_is_computed_in_slices_and_lets_others_between(service):
    engine = service.models.live
    engine.recommend_batch = lambda requests: [engine.batches.append(x.candidates) or likewise(x) for x in requests]

    def likewise(request):
        """Each candidate is its own score."""
        items = np.array(request.candidates)
        return Result(items, items.astype(float), 4, 1, unknown=[x for x in request.candidates if x % 1000 == 0])

    async def ask():
        long = asyncio.create_task(service.answer(m.RankRequest(user=7, items=list(range(1, 2 * SLICE + 6)))))
        while not engine.batches:
            await asyncio.sleep(0)
        return await long

    answer = asyncio.run(ask())
    assert [len(x) for x in engine.batches] == [SLICE, SLICE, 5] and max(map(len, engine.batches)) == SLICE
    assert (
        [x["item"] for x in answer["items"]] == [x["score"] for x in answer["items"]] == list(range(1, 2 * SLICE + 6))
    )
    assert answer["unknown"] == [1000, 2000] and (answer["history"], answer["model"]) == (4, "live")


@pytest.mark.parametrize(("items", "yields"), [(SLICE, [False]), (SLICE + 1, [True, True])])
def test_slices_of_a_long_ranking_yield_to_others(service, items, yields):
    admit, submit, asked, told = service.batcher.admit, service.batcher.submit, [], []
    service.batcher.admit = lambda *given, yields: asked.append(yields) or admit(*given, yields=yields)
    service.batcher.submit = lambda job, *, yields, **given: told.append(yields) or submit(job, yields=yields, **given)
    asyncio.run(service.answer(m.RankRequest(user=7, items=[1] * items)))
    assert told == yields and set(asked) == set(yields)


def test_an_answer_in_slices_is_of_one_model(service):
    models = service.models
    old, new = models.live, Engine("new")
    new_batch = old.recommend_batch

    def swapping(requests):
        models.both = new, old
        return new_batch(requests)

    old.recommend_batch = swapping
    answer = asyncio.run(service.answer(m.RankRequest(user=7, items=[1] * (SLICE + 1))))
    assert answer["model"] == "new" and len(answer["items"]) == SLICE + 1
    assert (old.batches, new.batches) == ([[SLICE]], [[1], [SLICE], [1]])


def test_a_slice_of_which_nothing_is_known_leaves_the_others(service):
    def known(request):
        """Those up to SLICE are."""
        items = np.array([x for x in request.candidates if x <= SLICE])
        return Result(items, items.astype(float), 4, 1) if len(items) else InputError("none")

    service.models.live.recommend_batch = lambda requests: [known(x) for x in requests]

    async def ask(first, last):
        return await service.answer(m.RankRequest(user=7, items=list(range(first, last))))

    answer = asyncio.run(ask(1, 2 * SLICE + 1))
    assert [x["item"] for x in answer["items"]] == list(range(1, SLICE + 1))
    assert answer["unknown"] == list(range(SLICE + 1, 2 * SLICE + 1))
    with pytest.raises(InputError, match="none"):
        asyncio.run(ask(2 * SLICE, 4 * SLICE))
