"""What was shown joined with what was done, beside a plain join of the same records."""

import random
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.errors import InputError
from louder.histories import Arrival
from louder.streaming import Deletion, Exposure, Joiner, Outcome, Shown, joiner_state
from louder.streaming.joiner import END

WAIT, HORIZON = 10, 100
T = 1_000


def shown(request="r", time=T, items=(1, 2, 3), user=7):
    n = len(items)
    return Shown(request, user, time, tuple(items), tuple(0.5 - 0.1 * k for k in range(n)), (1.0,) * n, "m1")


def did(item, time, request="r", id=None, user=7):
    return Arrival(user, id or f"{request}-{item}-{time}", item, time, ("like",), {}, request)


def exposure(record, item):
    row = record.items.index(item)
    return Exposure(record.request, record.user, item, row + 1, record.scores[row], 1.0, record.version, record.time)


@pytest.fixture
def joiner(tmp_path):
    with Joiner(tmp_path / "joiner", wait_s=WAIT, horizon_s=HORIZON) as made:
        yield made


def test_the_four_things_that_are_told_in_order(joiner):
    answer = shown()
    joiner.add([did(2, T + 4), answer, did(9, T + 5, None), did(3, T + 30), did(3, T + 31), did(1, T + WAIT)])
    told = list(joiner.advance(T + 40))
    assert told == [
        Outcome(exposure(answer, 2), did(2, T + 4)),
        Outcome(None, did(9, T + 5, None)),
        Outcome(exposure(answer, 1), did(1, T + WAIT)),  # in the last second of the wait
        Outcome(exposure(answer, 3), None),
        Outcome(exposure(answer, 3), did(3, T + 30), "nothing"),
        Outcome(exposure(answer, 3), did(3, T + 31)),  # corrected already
    ]
    assert joiner.counts == {"done": 3, "alone": 1, "nothing": 1, "corrections": 1, "forgotten": 0}


def test_nothing_is_told_before_its_time(joiner):
    joiner.add([shown(), did(1, T + 2)])
    assert list(joiner.advance(T + 1)) == []
    assert [x.event for x in joiner.advance(T + 2)] == [did(1, T + 2)]
    assert list(joiner.advance(T + WAIT - 1)) == []
    assert [x.exposure.item for x in joiner.advance(T + WAIT)] == [2, 3]
    assert list(joiner.advance(T + 3 * WAIT)) == [] and list(joiner.advance(T)) == []


def test_an_event_from_the_future_waits_and_holds_nobody_up(joiner):
    joiner.add([did(9, T + 10**9, None), shown(items=[1]), did(1, T + 1)])
    assert [x.event for x in joiner.advance(T + 50)] == [did(1, T + 1)]
    assert [x.event for x in joiner.advance()] == [did(9, T + 10**9, None)] and joiner.counts["late"] == 0


def test_an_event_before_its_answer_is_corrected(joiner):
    """A client's clock is behind the service's."""
    answer = shown(time=T + 5)
    joiner.add([did(1, T), did(8, T), answer])
    told = list(joiner.advance())
    assert told[:3] == [
        Outcome(None, did(1, T)),
        Outcome(None, did(8, T)),
        Outcome(exposure(answer, 1), did(1, T), "alone"),
    ]
    assert [x.exposure.item for x in told[3:]] == [2, 3]


def test_what_comes_late_is_told_and_counted(joiner):
    answer = shown()
    joiner.add([answer])
    assert len(list(joiner.advance(T + 50))) == 3
    joiner.add([did(2, T + 1), shown("s", T - 20, [5]), did(6, T - 51), did(1, T + 60), did(9, T + 50, None)])
    assert list(joiner.advance(T + 60)) == [
        Outcome(exposure(shown("s", T - 20, [5]), 5), None),
        Outcome(exposure(answer, 2), did(2, T + 1), "nothing"),
        Outcome(None, did(9, T + 50, None)),
        Outcome(exposure(answer, 1), did(1, T + 60), "nothing"),
    ]
    assert joiner.counts["late"] == 4 and joiner.counts["too_late"] == 1


def test_the_same_is_told_once(joiner):
    again = replace(did(1, T + 1, id="a"), time=T + 3)
    joiner.add([shown(), shown(time=T + 1), did(1, T + 1, id="a"), again, did(1, T + 1, id="a")])
    assert [x.event.time for x in joiner.advance(T + 5)] == [T + 1]
    joiner.add([did(1, T + 1, id="a"), did(1, T + 1, id="a", user=8)])
    (other,) = joiner.advance(T + 6)
    assert (
        other.event.user == 8 and other.exposure is None
    )  # another user has ids of its own, and cannot name this answer
    assert joiner.counts["duplicates"] == 4


def test_an_exposure_is_joined_up_to_the_horizon(joiner):
    joiner.add([shown(), did(1, T + HORIZON), did(2, T + HORIZON + 1)])
    told = list(joiner.advance())
    assert [(x.exposure is not None, x.corrects) for x in told[3:]] == [(True, "nothing"), (False, "")]


def test_what_is_beyond_the_horizon_is_forgotten(joiner, tmp_path):
    for n in range(200):
        joiner.add([shown(f"r{n}", T + 10 * n), did(1, T + 10 * n + 1, f"r{n}"), did(9, T + 10 * n, f"gone{n}")])
        assert len(list(joiner.advance(T + 10 * n))) > 0
    held = {
        x: joiner.state.sql(f"select count(*) from {x}").fetchone()[0] for x in ("shown", "met", "alone", "waiting")
    }
    assert 0 < held["shown"] < 20 and held["met"] < 60 and held["alone"] < 20 and held["waiting"] == 1


def test_of_a_deleted_user_nothing_more_is_told(joiner):
    joiner.add([shown(), shown("q", user=8), did(1, T + 1), Deletion(7, T + 3), did(2, T + 3), did(2, T + 5, None)])
    told = list(joiner.advance(T + 100))
    assert [(x.event and x.event.time, x.exposure and x.exposure.user) for x in told] == [
        (T + 1, 7),
        (T + 3, 7),
        (T + 5, None),
        *[(None, 8)] * 3,
    ]
    joiner.add([did(3, T + 2), did(3, T + 3)])  # came late
    assert list(joiner.advance(T + 101)) == [] and joiner.counts["deleted"] == 2


def test_a_deleted_event_is_not_told_after(joiner):
    joiner.add([shown(items=[1]), Deletion(7, T + 1, id="a"), did(1, T + 2, id="a")])
    assert [x.event for x in joiner.advance()] == [None] and joiner.counts["duplicates"] == 1


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been(joiner, tmp_path):
    records = some_records(random.Random(3), 60)
    random.Random(4).shuffle(records)
    joiner.add(records[:50])
    first = list(joiner.advance(T + 25))
    joiner.save(tmp_path / "saved")
    joiner.add(records[50:])
    rest = list(joiner.advance())
    with Joiner(tmp_path / "other", tmp_path / "saved", wait_s=WAIT, horizon_s=HORIZON) as restored:
        restored.add(records[50:])
        assert list(restored.advance()) == rest and restored.counts == joiner.counts
    assert len(first) > 10 and len(rest) > 10 and not (tmp_path / "other").exists()


def test_what_no_joiner_wrote_is_refused(tmp_path):
    (tmp_path / "saved").write_bytes(b"x" * 5_000)
    with pytest.raises(InputError, match="is not what a joiner wrote"):
        Joiner(tmp_path / "joiner", tmp_path / "saved")


def test_little_memory_and_a_spill_change_nothing(tmp_path):
    records = some_records(random.Random(5), 1_500)
    found = []
    for cache in 100_000, 64 << 20:
        with Joiner(tmp_path / "joiner", wait_s=WAIT, horizon_s=HORIZON, cache_bytes=cache) as joiner:
            joiner.add(records)
            size = (tmp_path / "joiner").stat().st_size  # not committed: what is there was spilled
            assert (size > 200_000) == (cache == 100_000)
            found.append(list(joiner.advance()))
    assert found[0] == found[1] and len(found[0]) > 1_500


def test_beyond_its_bytes_the_oldest_is_forgotten(tmp_path):
    with Joiner(tmp_path / "joiner", wait_s=1, horizon_s=10**9, most_bytes=200_000) as joiner:
        for n in range(2_000):
            joiner.add([shown(f"r{n}", T + n, [n])])
            assert [x.exposure.item for x in joiner.advance(T + n)] == ([n - 1] if n else [])
        assert joiner.state.bytes() < 250_000 and joiner.counts["forgotten"] > 500
        joiner.add([did(1_990, T + 2_000, "r1990")])
        assert next(joiner.advance(T + 2_000)).corrects == "nothing"  # the latest are known
        with pytest.raises(InputError, match="more than 200,000 bytes"):
            joiner.add([shown(f"s{n}", T + 10**6, range(100)) for n in range(500)])


def test_a_full_disk_is_told(joiner, monkeypatch):
    joiner.state.sql(f"pragma max_page_count = {joiner.state.sql('pragma page_count').fetchone()[0]}")
    with pytest.raises(InputError, match="is full"):
        joiner.add([shown(f"r{n}") for n in range(100)])
    with pytest.raises(sqlite3.OperationalError):
        joiner.state.sql("select nonsense")


# --- beside a plain join ----------------------------------------------------------------------------------------------


def some_records(draw, count):
    records = []
    for _ in range(count):
        user, request, time = draw.randint(1, 3), f"r{draw.randint(1, max(2, count // 6))}", T + draw.randint(0, 50)
        if draw.random() < 0.35:
            records.append(shown(request, time, draw.sample(range(6), draw.randint(0, 4)), user))
        else:
            named = None if draw.random() < 0.1 else request
            records.append(did(draw.randint(0, 5), time, named, id=f"e{draw.randint(1, count)}", user=user))
    return records


def plain_join(records):
    """(pairs, exposures without an event, events alone) of all records, each event and answer once: the first by time."""
    answers, events = {}, {}
    for record in sorted(records, key=lambda x: x.time):
        if isinstance(record, Shown):
            answers.setdefault((record.user, record.request), record)
        else:
            events.setdefault((record.user, record.id), record)
    pairs = set()
    for event in events.values():
        answer = answers.get((event.user, event.request))
        if answer and event.item in answer.items:
            pairs.add((key(exposure(answer, event.item)), event.id))
    exposures = {key(exposure(answer, item)) for answer in answers.values() for item in answer.items}
    paired = {(pair[0][0], event) for pair in pairs for event in [pair[1]]}
    alone = {(user, id) for user, id in events if (user, id) not in paired}
    return pairs, exposures - {pair[0] for pair in pairs}, alone


def key(shown_item):
    return shown_item.user, shown_item.request, shown_item.item


def folded(outcomes):
    """What is left when corrections have taken back what they correct; nothing is told twice, or taken back untold."""
    pairs, nothing, alone = set(), set(), set()
    for one in outcomes:
        event = one.event and (one.event.user, one.event.id)
        if one.corrects == "nothing":
            nothing.remove(key(one.exposure))
        if one.corrects == "alone":
            alone.remove(event)
        if one.event and one.exposure:
            pair = key(one.exposure), one.event.id
            assert pair not in pairs
            pairs.add(pair)
        elif one.event:
            assert event not in alone
            alone.add(event)
        else:
            assert key(one.exposure) not in nothing
            nothing.add(key(one.exposure))
    return pairs, nothing, alone


seeds = st.integers(0, 2**32)


def distinct(records):
    """Those of an id are equal, so that it does not matter which of them comes first."""
    first = {}
    kept = []
    for record in records:
        name = (type(record), record.user, record.request if isinstance(record, Shown) else record.id)
        kept.append(first.setdefault(name, record))
    return kept


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 60), st.lists(st.integers(0, 70), max_size=6))
def test_any_order_of_arrival_and_any_watermarks_come_to_the_plain_join(tmp_path_factory, seed, count, marks):
    """Also where records come later than the watermark."""
    draw = random.Random(seed)
    records = distinct(some_records(draw, count))
    draw.shuffle(records)
    outcomes = []
    with Joiner(tmp_path_factory.mktemp("joiner") / "file", wait_s=WAIT, horizon_s=1_000) as joiner:
        for mark in sorted(marks):
            cut = draw.randint(0, len(records))
            joiner.add(records[:cut])
            outcomes += joiner.advance(T + mark)
            records = records[cut:] if cut else records
        joiner.add(records)
        outcomes += joiner.advance()
    assert folded(outcomes) == plain_join(distinct(some_records(random.Random(seed), count)))


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 60), st.lists(st.integers(0, 70), max_size=6))
def test_in_time_the_order_of_arrival_changes_nothing_that_is_told(tmp_path_factory, seed, count, marks):
    """Where nothing is later than the watermark, what is told is the same however the records come."""
    records = distinct(some_records(random.Random(seed), count))
    # of a second the order is that of arrival, so that each has its own
    records = [replace(x, time=T + 60 * (x.time - T) + n % 60) for n, x in enumerate(records)]
    found = []
    for how in "sorted", "shuffled":
        draw, left, outcomes = random.Random(seed), list(records), []
        with Joiner(tmp_path_factory.mktemp("joiner") / "file", wait_s=60 * WAIT, horizon_s=10**6) as joiner:
            for mark in [*(T + 60 * mark for mark in sorted(marks)), END]:
                due = [x for x in left if x.time <= mark or (how == "shuffled" and draw.random() < 0.5)]
                left = [x for x in left if x not in due]
                draw.shuffle(due) if how == "shuffled" else due.sort(key=lambda x: x.time)
                joiner.add(due)
                outcomes += joiner.advance(mark)
            assert joiner.counts["late"] == 0
        found.append(outcomes)
    assert found[0] == found[1]
    for one in found[0]:
        if one.corrects == "nothing":
            assert one.event.time > one.exposure.time + 60 * WAIT


def test_keys_tell_users_kinds_and_texts_apart():
    keys = [
        joiner_state.digest(kind, user, text)
        for kind in (b"e", b"s")
        for user in (1, "1", 2)
        for text in ("", "1", "e")
    ]
    assert len(set(keys)) == len(keys) == 18
