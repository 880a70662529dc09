"""Jobs that are there together share a batch, a lone one does not wait, and what was accepted is answered."""

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from louder.serving.batching import LONGEST_HOLD_S, LONGEST_RETRY_S, REFUSALS_A_SECOND, Batcher, Overloaded

SOON = 5.0  # seconds; far more than any of this takes


class Work:
    """Doubles numbers, once it is let; it notes its batches."""

    def __init__(self):
        self.batches, self.open = [], threading.Event()
        self.open.set()
        self.began = threading.Semaphore(0)

    def __call__(self, jobs):
        self.began.release()
        assert self.open.wait(SOON)
        self.batches.append(list(jobs))
        return [2 * job for job in jobs]


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def batcher_of(work):
    made = []

    def make(function=work, **settings):
        made.append(Batcher(function, **{"max_queue_delay_s": 60.0, **settings}))
        return made[-1]

    yield make
    work.open.set()
    for batcher in made:
        batcher.close()


def begun(work):
    assert work.began.acquire(timeout=SOON)


def test_jobs_that_arrive_while_one_is_computed_share_the_next_batch(batcher_of, work):
    batcher = batcher_of(max_rows=4)

    async def ask():
        work.open.clear()
        first = batcher.submit(0)
        await asyncio.to_thread(begun, work)
        others = [batcher.submit(n) for n in range(1, 7)]
        work.open.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8, 10, 12]
    assert work.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_lone_job_does_not_wait(batcher_of):
    batcher = batcher_of(window_s=60.0)

    async def ask():
        return await asyncio.wait_for(batcher.submit(21), SOON)

    assert asyncio.run(ask()) == 42


def test_as_many_as_were_just_answered_are_waited_for(batcher_of, work, monkeypatch):
    monkeypatch.setattr("louder.serving.batching.RETURN_S", 60.0)
    batcher = batcher_of()

    async def ask():
        with batcher.arriving():
            pair = batcher.submit(1), batcher.submit(2)
        await asyncio.wait_for(asyncio.gather(*pair), SOON)
        first = batcher.submit(3)  # of the two the first one to ask again
        await asyncio.sleep(0.02)
        assert work.batches == [[1, 2]]
        await asyncio.wait_for(asyncio.gather(first, batcher.submit(4)), SOON)
        monkeypatch.setattr("louder.serving.batching.RETURN_S", 0.02)
        for lone in 5, 6:  # the first waits a moment for the other, and the second for nobody
            await asyncio.wait_for(batcher.submit(lone), SOON)
            monkeypatch.setattr("louder.serving.batching.RETURN_S", 60.0)

    asyncio.run(ask())
    assert work.batches == [[1, 2], [3, 4], [5], [6]]


def test_what_is_arriving_is_waited_for_and_not_longer_than_the_window(batcher_of, work):
    patient, hasty = batcher_of(window_s=60.0), batcher_of(window_s=0.02)

    async def together():
        with patient.arriving():
            first = patient.submit(1)
            await asyncio.sleep(0.02)
            assert work.batches == []
            second = patient.submit(2)
        return await asyncio.wait_for(asyncio.gather(first, second), SOON)

    async def too_late():
        with hasty.arriving():
            return await asyncio.wait_for(hasty.submit(3), SOON)

    assert asyncio.run(together()) == [2, 4]
    assert asyncio.run(too_late()) == 6
    assert work.batches == [[1, 2], [3]]


def test_nothing_is_waited_for_once_a_batch_is_full(batcher_of, work):
    batcher = batcher_of(window_s=60.0, max_rows=2)

    async def ask():
        with batcher.arriving():
            return await asyncio.wait_for(asyncio.gather(batcher.submit(1), batcher.submit(2)), SOON)

    assert asyncio.run(ask()) == [2, 4]
    assert work.batches == [[1, 2]]


def test_more_than_can_be_done_in_time_is_turned_away_until_there_is_room_again(batcher_of, work):
    batcher = batcher_of(max_queue_delay_s=0.25)
    batcher.row_s = 0.1

    async def ask():
        work.open.clear()
        accepted = [batcher.submit(0)]
        await asyncio.to_thread(begun, work)
        accepted += [batcher.submit(n) for n in (1, 2)]  # 0.1 s and 0.2 s to wait
        with pytest.raises(Overloaded):
            batcher.submit(3)
        work.open.set()
        assert await asyncio.gather(*accepted) == [0, 2, 4]
        assert batcher.wait_s() == 0
        return await batcher.submit(4)

    assert asyncio.run(ask()) == 8


def test_the_time_of_a_job_is_learned_from_many_and_little_from_one(batcher_of):
    batcher = batcher_of(lambda jobs: (time.sleep(0.2 if jobs == [0] else 0.02 * len(jobs)), jobs)[1], window_s=60.0)

    async def ask():
        before = batcher.row_s
        await batcher.submit(0)
        lone = batcher.row_s
        with batcher.arriving():
            together = [batcher.submit(n) for n in range(1, 33)]
        await asyncio.gather(*together)
        return before, lone, batcher.row_s

    before, lone, after = asyncio.run(ask())
    assert before < lone < before + 0.01
    assert after > lone + 0.002


def test_closing_answers_what_was_accepted_and_refuses_what_comes_then(batcher_of, work):
    batcher = batcher_of(max_rows=2)

    async def ask():
        work.open.clear()
        accepted = [batcher.submit(n) for n in range(5)]
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        while not batcher.closing:
            await asyncio.sleep(0.001)
        with pytest.raises(Overloaded):
            batcher.submit(9)
        work.open.set()
        await closing
        return await asyncio.gather(*accepted)

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8]
    assert not batcher.thread.is_alive()


def test_an_exception_reaches_who_caused_it_and_nobody_beside_them(batcher_of):
    def divide(jobs):
        return [12 // job for job in jobs]

    batcher = batcher_of(divide, window_s=60.0)

    async def ask():
        with batcher.arriving():
            together = [batcher.submit(0), batcher.submit(1)]
        answers = await asyncio.gather(*together, return_exceptions=True)
        return *answers, await batcher.submit(3)

    failed, beside, after = asyncio.run(ask())
    assert isinstance(failed, ZeroDivisionError) and (beside, after) == (12, 4)


def test_an_exception_among_the_results_reaches_who_asked_alone(batcher_of):
    batcher = batcher_of(lambda jobs: [ValueError(job) if job < 0 else job for job in jobs])

    async def ask():
        return await asyncio.gather(batcher.submit(1), batcher.submit(-1), return_exceptions=True)

    good, bad = asyncio.run(ask())
    assert good == 1 and isinstance(bad, ValueError)


def test_who_has_gone_does_no_harm(batcher_of, work):
    """Somebody who waits no longer, and somebody whose whole event loop has ended."""
    batcher = batcher_of()

    async def leave():
        work.open.clear()
        first = batcher.submit(0)
        await asyncio.to_thread(begun, work)
        gone, stays = batcher.submit(1), batcher.submit(2)
        gone.cancel()
        work.open.set()
        return await asyncio.gather(first, stays)

    async def leave_at_once():
        work.open.clear()
        batcher.submit(3)

    async def ask():
        return await batcher.submit(4)

    assert asyncio.run(leave()) == [0, 4]
    asyncio.run(leave_at_once())
    work.open.set()
    assert asyncio.run(ask()) == 8
    assert batcher.thread.is_alive()


def test_a_job_that_waits_just_as_long_as_is_allowed_is_accepted(batcher_of, work):
    batcher = batcher_of(max_queue_delay_s=0.25)
    batcher.row_s = 0.125

    async def ask():
        work.open.clear()
        accepted = [batcher.submit(0)]
        await asyncio.to_thread(begun, work)
        accepted += [batcher.submit(1), batcher.submit(2)]  # the one that is computed counts as well
        assert batcher.wait_s() == 0.375
        with pytest.raises(Overloaded):
            batcher.admit()
        work.open.set()
        await asyncio.gather(*accepted)

    asyncio.run(ask())


def test_who_fails_on_the_way_is_not_waited_for(batcher_of):
    batcher = batcher_of(window_s=60.0)

    async def ask():
        with pytest.raises(ZeroDivisionError), batcher.arriving():
            raise ZeroDivisionError
        assert batcher.expected == 0
        return await asyncio.wait_for(batcher.submit(1), SOON)

    assert asyncio.run(ask()) == 2


def test_who_fails_on_the_way_lets_those_go_who_wait_for_them(batcher_of):
    batcher = batcher_of(window_s=60.0)

    async def fail(submitted):
        with batcher.arriving():
            submitted.append(batcher.submit(1))
            raise ZeroDivisionError

    async def ask():
        submitted = []
        with pytest.raises(ZeroDivisionError):
            await fail(submitted)
        return await asyncio.wait_for(submitted[0], SOON)

    assert asyncio.run(ask()) == 2


def test_the_window_is_of_five_milliseconds():
    """What docs/serving.md says."""
    batcher = Batcher(list)
    assert (batcher.window_s, batcher.max_queue_delay_s) == (0.005, 0.2)
    batcher.close()


def queued(batcher_of, work, jobs, **settings):
    """The batches of jobs (name, rows, client) that come while the first is computed; those called "long …" yield, and those
    called "gone" are cancelled."""
    batcher = batcher_of(lambda jobs: [2 * x for x in work(jobs)], **settings)

    async def ask():
        work.open.clear()
        first = batcher.submit("first", rows=1)
        await asyncio.to_thread(begun, work)
        futures = [
            batcher.submit(name, rows=rows, client=client, yields=name.startswith("long"))
            for name, rows, client in jobs
        ]
        for (name, _, _), future in zip(jobs, futures):
            if name == "gone":
                future.cancel()
        work.open.set()
        await asyncio.gather(first, *futures, return_exceptions=True)

    asyncio.run(ask())
    return work.batches[1:], batcher


def test_a_batch_is_bounded_by_rows_and_not_by_jobs(batcher_of, work):
    batches, _ = queued(batcher_of, work, [("a", 3, "x"), ("b", 1, "y"), ("c", 9, "z"), ("d", 2, "v")], max_rows=6)
    assert batches == [["b", "d", "a"], ["c"]]  # the one that is larger than a batch is a batch


def test_what_nobody_waits_for_is_not_computed(batcher_of, work):
    batches, batcher = queued(batcher_of, work, [("gone", 1, ""), ("a", 1, ""), ("gone", 1, "")])
    assert batches == [["a"]] and batcher.abandoned == 2


def test_a_batch_of_which_all_have_gone_is_none(batcher_of, work):
    batches, batcher = queued(batcher_of, work, [("gone", 1, ""), ("gone", 1, "")])
    assert batches == [] and batcher.abandoned == 2

    async def ask():
        return await batcher.submit("b")

    assert asyncio.run(ask()) == "bbbb"


def test_clients_get_equal_rows_whatever_they_ask_for(batcher_of, work):
    """One with many jobs, one with large ones, and one with a single small one, in the order of their turns."""
    many = [(f"many {n}", 2, "many") for n in range(1, 6)]
    large = [("large 1", 8, "greedy"), ("large 2", 8, "greedy")]
    batches, _ = queued(batcher_of, work, [*large, *many, ("single", 2, "single")], max_rows=1)
    order = [name for (name,) in batches]
    assert order == ["many 1", "single", "many 2", "many 3", "large 1", "many 4", "many 5", "large 2"]


def test_of_one_client_a_small_job_does_not_wait_for_large_ones(batcher_of, work):
    jobs = [("large 1", 100, ""), ("large 2", 100, ""), ("small 1", 2, ""), ("small 2", 2, "")]
    batches, _ = queued(batcher_of, work, jobs, max_rows=1)
    assert [name for (name,) in batches] == ["small 1", "small 2", "large 1", "large 2"]


def test_what_yields_has_an_eighth_of_what_another_has(batcher_of, work):
    """Whoever asks for it: two clients of their own, or the other one itself."""
    for first, second in ("x", "y"), ("small", "small"):
        long = [("long 1", 4, first), ("long 2", 4, second)]
        small = [(f"small {n}", 4, "small") for n in range(1, 20)]
        work.batches.clear()
        batches, _ = queued(batcher_of, work, [*small, *long], max_rows=1)
        order = [name for (name,) in batches]
        places = [order.index(name) for name, _, _ in long]
        # the first comes after 8 × 4 rows, in which the small ones of one client have eight turns; the second after as many
        # again, and once more if it is of the same client
        assert places == [8, 17 if first != second else 20]
        assert [name for name in order if name.startswith("small")] == [name for name, _, _ in small]


def test_of_what_yields_a_single_job_does_not_wait_for_all_of_another_client(batcher_of, work):
    jobs = [*((f"long {n}", 4, "many") for n in (1, 2, 3)), ("long single", 4, "single")]
    batches, _ = queued(batcher_of, work, jobs, max_rows=1)
    assert [name for (name,) in batches] == ["long 1", "long 2", "long single", "long 3"]


def test_what_yields_is_not_accepted_where_others_leave_it_no_time(batcher_of, work):
    batcher = batcher_of(max_queue_delay_s=1.0, row_s=0.001)

    async def ask():
        work.open.clear()
        futures = [batcher.submit(0, rows=100)]
        await asyncio.to_thread(begun, work)
        futures += [batcher.submit(1, rows=100, client="x", yields=True)]
        assert batcher.wait_s("y", 100, True) == pytest.approx(0.2)  # what is computed, and what yields, too
        futures += [batcher.submit(2, rows=50, client="z")]
        assert batcher.wait_s("y", 100, True) == pytest.approx(0.1 + 0.05 + 9 * 0.1)
        assert batcher.wait_s("y", 100) == pytest.approx(0.1 + 0.05)
        with pytest.raises(Overloaded):
            batcher.submit(3, rows=100, client="y", yields=True)
        futures += [batcher.submit(4, rows=100, client="y")]
        futures += [batcher.submit(5, rows=100, client="y", yields=True, admitted=True)]
        work.open.set()
        await asyncio.gather(*futures)

    asyncio.run(ask())


def test_what_yields_does_not_make_a_pass_longer_for_others(batcher_of, work):
    jobs = [("long 1", 1, "x"), ("small 1", 1, "y"), ("long 2", 1, "z"), ("small 2", 1, "y")]
    batches, _ = queued(batcher_of, work, jobs, max_rows=100)
    assert batches == [["small 1", "small 2"], ["long 1", "long 2"]]


def test_what_yields_waits_a_moment_for_who_was_just_answered(batcher_of, work, monkeypatch):
    monkeypatch.setattr("louder.serving.batching.AFTER_OTHERS_S", 60.0)
    batcher = batcher_of(max_rows=1)

    async def ask():
        for n in 1, 2:  # nobody else was answered, so nobody is waited for
            await asyncio.wait_for(batcher.submit(n, client="x", yields=True), 30)
        await batcher.submit(3)
        long = batcher.submit(4, client="x", yields=True)
        await batcher.submit(5)
        assert work.batches == [[1], [2], [3], [5]]
        await asyncio.to_thread(batcher.close)  # at the end there are no others
        await long

    asyncio.run(ask())
    assert work.batches[-1] == [4]


def test_what_yields_is_overtaken_however_long_it_waited(batcher_of, work):
    batcher = batcher_of(max_rows=1, max_queue_delay_s=0.01, row_s=0.0)

    async def ask():
        work.open.clear()
        futures = [batcher.submit(0)]
        await asyncio.to_thread(begun, work)
        futures += [batcher.submit(1, client="greedy", yields=True)]
        await asyncio.sleep(0.1)
        futures += [batcher.submit(n, client=str(n)) for n in (2, 3)]
        work.open.set()
        await asyncio.gather(*futures)

    asyncio.run(ask())
    assert work.batches[1:] == [[2], [3], [1]]


def test_nobody_is_overtaken_once_they_waited_for_five_queue_delays(batcher_of, work):
    batcher = batcher_of(max_rows=1, max_queue_delay_s=0.01, row_s=0.0)

    async def ask():
        work.open.clear()
        futures = [batcher.submit(0)]
        await asyncio.to_thread(begun, work)
        futures += [batcher.submit(1, rows=100, client="greedy")]
        await asyncio.sleep(0.1)
        futures += [batcher.submit(n, client=str(n)) for n in (2, 3)]
        work.open.set()
        await asyncio.gather(*futures)

    asyncio.run(ask())
    assert work.batches[1:] == [[1], [2], [3]]


def test_large_jobs_that_wait_turn_away_large_ones_and_no_small_one(batcher_of, work):
    batcher = batcher_of(max_queue_delay_s=0.25, row_s=0.001)

    async def ask():
        work.open.clear()
        first = batcher.submit(0, rows=100, client="x")
        await asyncio.to_thread(begun, work)
        accepted = [batcher.submit(1, rows=200, client="greedy")]
        assert batcher.wait_s("greedy", 200) == pytest.approx(0.3) and batcher.wait_s("x", 10) == pytest.approx(0.1)
        with pytest.raises(Overloaded):
            batcher.submit(2, rows=200, client="greedy")
        with pytest.raises(Overloaded):
            batcher.submit(3, rows=200, client="another")
        accepted += [batcher.submit(n, rows=10, client="x") for n in (4, 5)]
        work.open.set()
        await asyncio.gather(first, *accepted)

    asyncio.run(ask())


def test_what_cannot_be_done_within_its_time_is_turned_away_at_once(batcher_of, work):
    batcher = batcher_of(row_s=0.01)

    async def ask():
        work.open.clear()
        first = batcher.submit(0, rows=10)
        await asyncio.to_thread(begun, work)
        with pytest.raises(Overloaded):
            batcher.submit(1, rows=10, within_s=0.19)  # 0.1 s until its turn, and 0.1 s of its own
        second = batcher.submit(1, rows=10, within_s=0.21)
        work.open.set()
        assert await asyncio.gather(first, second) == [0, 2]

    asyncio.run(ask())


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("louder.serving.batching.time.monotonic", lambda: now[0])
    return now


def test_who_is_refused_is_told_when_their_turn_would_come(batcher_of, clock):
    batcher = batcher_of()
    batcher.job_s = 0.5
    assert [batcher.refusal(0.2).seconds for _ in range(4)] == pytest.approx([1.0, 1.2, 1.7, 2.2])
    clock[0] += 0.9  # the line moves on
    assert batcher.refusal(0.2).seconds == pytest.approx(1.8)
    clock[0] += 1.1  # and is forgotten when nobody is refused
    assert batcher.refusal(0.2).seconds == 1.0
    batcher.job_s = 100.0
    assert batcher.refusal(0.2).seconds == LONGEST_RETRY_S
    assert "Ask again in 30 s" in str(batcher.refusal(0.2))


def test_more_refusals_than_are_worth_their_time_are_told_one_after_another(batcher_of, clock):
    batcher = batcher_of()
    step = 1 / REFUSALS_A_SECOND
    assert [batcher.refusal(0.2).hold_s for _ in range(3)] == pytest.approx([0.0, step, 2 * step])
    clock[0] += step
    assert batcher.refusal(0.2).hold_s == pytest.approx(2 * step)
    for _ in range(2 * REFUSALS_A_SECOND):
        assert batcher.refusal(0.2).hold_s <= LONGEST_HOLD_S
    clock[0] += LONGEST_HOLD_S + step
    assert batcher.refusal(0.2).hold_s == 0.0


def test_who_has_not_read_a_job_takes_it_for_the_smallest_that_came_lately(batcher_of, work, monkeypatch):
    now = [1000.2]
    batcher = batcher_of(max_queue_delay_s=0.35, row_s=0.01)

    async def ask():
        work.open.clear()
        futures = [batcher.submit(0, rows=20)]
        await asyncio.to_thread(begun, work)
        futures += [batcher.submit(n, rows=10) for n in (1, 2)]  # 0.2 and 0.3 s to wait, and 0.4 for one more
        monkeypatch.setattr("louder.serving.batching.time.monotonic", lambda: now[0])
        for seconds, rows, turned_away in (
            (1000.2, 10, True),
            (1000.9, 1, False),  # it would come before both
            (1001.5, 10, False),  # in the second before there was a small one
            (1002.5, 10, True),
            (1004.6, None, False),  # who knows
        ):
            now[0] = seconds
            if rows is not None:
                with suppress(Overloaded):
                    batcher.admit("", rows)
            if turned_away:
                with pytest.raises(Overloaded):
                    batcher.admit_unread("")
            else:
                batcher.admit_unread("")
        monkeypatch.undo()
        work.open.set()
        await asyncio.gather(*futures)

    asyncio.run(ask())
