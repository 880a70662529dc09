"""Ids that come and go: the C++ index and the NumPy one do the same, to the bit, and both do what a plain dict says."""

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from louder.ops.id_table import NEW, IdSettings, IdTable, naive
from louder.ops.id_table.places import Places

MOST, LEAST = (1 << 63) - 1, -(1 << 63)


def tensor(values):
    return torch.tensor(list(values), dtype=torch.int64)


def table_of(budget=4, **given):
    return IdTable(IdSettings(budget=budget, **given))


def observe(table, ids, times):
    return table.observe(tensor(ids), tensor(times)).tolist()


def ids_of(tenants):
    return tenants.ids.tolist()


class Plain:
    """What an IdTable says, by dicts: id -> [occurrences], and each count is added up anew when it is asked for."""

    def __init__(self, settings):
        self.settings, self.slots, self.seen, self.waiting, self.generations = settings, {}, {}, {}, {}

    def worth(self, own, now):
        half = self.settings.half_life_s
        now = max(now, *own)
        return sum(0.5 ** (now // half - time // half) if half else 1 for time in own)

    def order(self, seen, now):
        def key(item):
            last, worth = max(seen[item]), self.worth(seen[item], now)
            first = (worth, last) if self.settings.evict == "least_frequent" else (last, worth)
            return -first[0], -first[1], item

        return sorted(seen, key=key)

    def value(self, own, now):
        return self.worth(own, now) if self.settings.evict == "least_frequent" else max(own)

    def observe(self, ids, times):
        for item, time in zip(ids, times):
            (self.seen if item in self.slots else self.waiting).setdefault(item, []).append(time)
        return [self.slots.get(item, NEW) for item in ids]

    def leave(self, item):
        slot = self.slots.pop(item)
        del self.seen[item]
        return slot, item, self.generations[slot]

    def update(self, now, in_flight):
        settings, gone, came = self.settings, [], []
        if settings.max_age_s:
            for item in list(self.slots):
                if max(self.seen[item]) < now - settings.max_age_s and self.slots[item] not in in_flight:
                    gone.append(self.leave(item))
            self.waiting = {i: own for i, own in self.waiting.items() if max(own) >= now - settings.max_age_s}
        for item in self.order(self.waiting, now):
            own = self.waiting[item]
            if self.worth(own, now) < settings.admit_at:
                continue
            if len(self.slots) + len(came) == settings.budget:
                movable = {i: seen for i, seen in self.seen.items() if self.slots[i] not in in_flight}
                if settings.evict == "never" or not movable:
                    break
                worst = self.order(movable, now)[-1]
                if not self.value(own, now) > self.value(movable[worst], now):
                    break
                gone.append(self.leave(worst))
            came.append(item)
        return gone, self.enter(came, [self.waiting.pop(item) for item in came])

    def enter(self, ids, seen):
        entered = []
        for item, own in zip(ids, seen):
            slot = next(n for n in range(self.settings.budget) if n not in self.slots.values())
            self.slots[item], self.seen[item] = slot, own
            self.generations[slot] = self.generations.get(slot, 0) + 1
            entered.append((slot, item, self.generations[slot]))
        return entered


ids = st.sampled_from([LEAST, -7, -1, 0, 1, 2, 3, 5, 8, 1 << 32, MOST])
events = st.lists(st.tuples(ids, st.integers(-50, 50)), max_size=30)


class Twins(RuleBasedStateMachine):
    """Any sequence of calls: the two tables hold the same numbers afterwards, the index included."""

    @initialize(
        budget=st.integers(1, 7),
        segment=st.integers(1, 4),
        admit_at=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
        half_life_s=st.sampled_from([0, 0, 1, 10]),
        evict=st.sampled_from(["least_recent", "least_frequent", "never"]),
        max_age_s=st.sampled_from([0, 0, 20]),
    )
    def start(self, **given):
        self.now = 0
        self.settings = IdSettings(**given)
        self.plain = Plain(self.settings)
        self.tables = [IdTable(self.settings, compiled=compiled) for compiled in (True, False)]

    @rule(happened=events)
    def observe(self, happened):
        own, times = [x[0] for x in happened], [self.now + x[1] for x in happened]
        expected = self.plain.observe(own, times)
        assert [observe(table, own, times) for table in self.tables] == [expected] * 2

    @rule(later=st.integers(0, 30), in_flight=st.lists(st.integers(-1, 6), max_size=3))
    def update(self, later, in_flight):
        self.now += later
        in_flight = [slot for slot in in_flight if slot < min(table.capacity for table in self.tables)]
        gone, came = self.plain.update(self.now, in_flight)
        for table in self.tables:
            changes = table.update(self.now, in_flight=tensor(in_flight))
            assert sorted(zip(*(x.tolist() for x in changes.evicted))) == sorted(gone)
            assert [*zip(*(x.tolist() for x in changes.admitted))] == came
            assert changes.capacity == table.capacity <= self.settings.budget

    @rule(data=st.data())
    def evict(self, data):
        item = data.draw(ids)
        slot = self.plain.slots.get(item, NEW)
        gone = [self.plain.leave(item)] if slot >= 0 else []
        for table in self.tables:
            assert [*zip(*(x.tolist() for x in table.evict(tensor([slot, NEW, slot]))))] == gone

    @rule()
    def save_and_load(self):
        self.tables = [
            IdTable.from_state(self.settings, table.state(), compiled=compiled)
            for table, compiled in zip(self.tables[::-1], (True, False))
        ]

    @invariant()
    def both_are_the_same_and_right(self):
        if not hasattr(self, "tables"):
            return
        one, two = self.tables
        states = [table.state() for table in self.tables]
        for name in "keys", "counts", "lasts", "generations":
            assert torch.equal(states[0][name], states[1][name]), name
        everybody = [LEAST, -7, -1, 0, 1, 2, 3, 5, 8, 1 << 32, MOST]
        expected = [self.plain.slots.get(item, NEW) for item in everybody]
        assert one.find(tensor(everybody)).tolist() == two.find(tensor(everybody)).tolist() == expected
        assert len(one) == len(two) == len(self.plain.slots)
        for slot in self.plain.slots.values():
            now = self.plain.generations[slot]
            assert one.is_current(tensor([slot] * 2), tensor([now, now - 1])).tolist() == [True, False]


Twins.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


@pytest.mark.usefixtures("needs_compiler")
class TestTwins(Twins.TestCase):
    pass


@pytest.mark.usefixtures("needs_compiler")
def test_the_index_is_the_same_to_the_bit_after_much_coming_and_going():
    random = np.random.default_rng(1)
    tables = [Places(300, 7, compiled=compiled) for compiled in (True, False)]
    known = set()
    for _ in range(30):
        new = [item for item in np.unique(random.integers(0, 4000, 60)).tolist() if item not in known]
        for table in tables:
            own = new[: 300 - table.used]
            zeros = np.zeros(len(own))
            table.put(table.free(len(own)), np.array(own), zeros.astype(np.float32), zeros.astype(np.int64))
        known |= set(own)
        asked, times = random.integers(0, 4000, 500), random.integers(-100, 100, 500)
        found = [table.count(torch.from_numpy(asked), torch.from_numpy(times)).tolist() for table in tables]
        assert found[0] == found[1] and {a for a, f in zip(asked.tolist(), found[0]) if f >= 0} == known & set(asked)
        leaving = random.permutation(tables[0].taken())[: random.integers(0, 80)]
        known -= set(tables[0].keys.numpy()[leaving].tolist())
        for table in tables:
            table.remove(leaving.copy())
        for name in "index", "keys", "counts", "lasts":
            assert torch.equal(getattr(tables[0], name), getattr(tables[1], name)), name


def test_an_id_is_new_until_it_was_seen_often_enough_and_then_keeps_its_slot():
    table = table_of(admit_at=3, segment=2)
    assert observe(table, [10, 11, 10], [1, 2, 3]) == [NEW] * 3
    assert ids_of(table.update(3).admitted) == []
    assert observe(table, [10, 12], [4, 4]) == [NEW, NEW]
    admitted = table.update(4).admitted
    assert [x.tolist() for x in admitted] == [[0], [10], [1]]
    assert observe(table, [10, 11, 11], [5, 5, 5]) == [0, NEW, NEW]
    assert table.update(5).admitted.slots.tolist() == [1]
    assert table.find(tensor([[11, 10], [12, 99]])).tolist() == [[1, 0], [NEW, NEW]]
    assert table.ids(tensor([1, 0])).tolist() == [11, 10]
    assert table.catalogue().tolist() == [0, 1]
    assert table.knows(tensor([10, 12, 99])).tolist() == [True, True, False]


def test_counts_halve_where_a_period_ends():
    """2 in the first period are worth 1 in the second, and with 1 more they are 2, whichever came first."""
    for order in [0, 1, 2], [2, 0, 1], [2, 1, 0]:
        table = table_of(admit_at=2.0, half_life_s=100)
        times = [10, 99, 100]
        for n in order:
            observe(table, [7], [times[n]])
        assert ids_of(table.update(100).admitted) == [7]
        assert table.slots.counts[0] == 2
    table = table_of(admit_at=2.0, half_life_s=100)
    observe(table, [7, 7], [10, 99])
    assert ids_of(table.update(100).admitted) == []  # by now they are worth 1
    assert ids_of(table.update(99).admitted) == [7]


def test_beyond_the_budget_the_least_recent_leaves_for_who_is_more_recent():
    table = table_of(budget=2)
    observe(table, [1, 2, 1, 1], [1, 2, 3, 4])
    assert ids_of(table.update(4).admitted) == [1, 2]
    observe(table, [3], [5])
    changes = table.update(5)
    assert ids_of(changes.evicted) == [2]
    assert [x.tolist() for x in changes.evicted] == [[1], [2], [1]]
    assert [x.tolist() for x in changes.admitted] == [[1], [3], [2]]  # its slot, in the next generation
    observe(table, [4], [3])  # older than both that are there
    assert [len(x.slots) for x in table.update(6)[:2]] == [0, 0]
    assert table.is_current(tensor([1, 1, 0, NEW, 9]), tensor([1, 2, 1, 0, 0])).tolist() == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_the_least_frequent_leaves_for_who_is_more_frequent_and_equals_stay():
    table = table_of(budget=2, evict="least_frequent")
    observe(table, [1, 1, 2, 2, 2], [1, 1, 1, 1, 1])
    table.update(1)
    observe(table, [3, 3, 4], [9, 9, 9])
    assert ids_of(table.update(9).evicted) == []
    observe(table, [3], [9])
    changes = table.update(9)
    assert (ids_of(changes.evicted), ids_of(changes.admitted)) == ([1], [3])


def test_never_means_that_nobody_leaves_and_nobody_comes():
    table = table_of(budget=1, evict="never")
    observe(table, [1, 2, 2], [1, 2, 3])
    assert ids_of(table.update(3).admitted) == [2]
    observe(table, [1], [9])
    assert [len(x.slots) for x in table.update(9)[:2]] == [0, 0]


def test_who_was_not_seen_for_long_leaves_and_comes_back_as_new():
    table = table_of(admit_at=2, max_age_s=10)
    observe(table, [1, 1, 2], [0, 5, 5])
    table.update(5)
    assert ids_of(table.update(15).evicted) == []  # 10 s are not more than 10
    changes = table.update(16)
    assert [x.tolist() for x in changes.evicted] == [[0], [1], [1]]
    assert observe(table, [1, 2], [17, 17]) == [NEW, NEW]
    assert ids_of(table.update(17).admitted) == []  # both are counted from 1 again
    observe(table, [1], [18])
    assert [x.tolist() for x in table.update(18).admitted] == [[0], [1], [2]]


def test_what_is_in_flight_never_leaves():
    table = table_of(budget=2, max_age_s=10)
    observe(table, [1, 2], [0, 1])
    table.update(1)
    slots = table.find(tensor([1, 2]))
    observe(table, [3, 4], [50, 51])
    assert [len(x.slots) for x in table.update(51, in_flight=slots)[:2]] == [0, 0]
    changes = table.update(51, in_flight=slots[:1])
    assert (ids_of(changes.evicted), ids_of(changes.admitted)) == ([2], [4])
    assert table.find(tensor([1, 2, 3, 4])).tolist() == [slots[0], NEW, NEW, slots[1]]


def test_capacity_grows_by_whole_segments_up_to_the_budget():
    table = table_of(budget=10, segment=4)
    capacities = []
    for start in 0, 4, 5, 9:
        new = range(start, start + {0: 4, 4: 1, 5: 4, 9: 1}[start])
        observe(table, new, [start] * len(new))
        capacities.append(table.update(start).capacity)
    assert capacities == [4, 8, 10, 10]
    assert table.find(tensor(range(10))).tolist() == [*range(10)]


def test_what_is_counted_is_bounded_and_the_best_stay():
    table = table_of(counted=3, admit_at=3)
    observe(table, [1, 1, 2, 3], [5, 5, 4, 3])
    observe(table, [4, 5], [6, 7])
    assert table.waiting.used == 3
    assert sorted(table.waiting.keys[table.waiting.taken()].tolist()) == [1, 4, 5]
    observe(table, range(100, 110), [8] * 10)  # of more than there is room for, the first
    assert sorted(table.waiting.keys[table.waiting.taken()].tolist()) == [100, 101, 102]


def test_a_table_that_was_trained_before_is_admitted_as_it_is():
    table = table_of(budget=5, segment=2)
    observe(table, [30], [1])
    assert table.admit(tensor([10, 30, 20]), now=7).slots.tolist() == [0, 1, 2]
    assert table.find(tensor([10, 20, 30])).tolist() == [0, 2, 1]
    assert (table.capacity, table.waiting.used) == (4, 0)
    for wrong in [40, 40], [10], [41, 42, 43]:
        with pytest.raises(ValueError, match="ids"):
            table.admit(tensor(wrong), now=8)
    table.admit(tensor([]), now=8)


def test_a_smaller_budget_holds_from_the_next_update_on():
    table = table_of(budget=4)
    observe(table, [1, 2, 3, 4], [4, 1, 3, 2])
    table.update(4)
    smaller = IdTable.from_state(IdSettings(budget=2), table.state())
    observe(smaller, [5], [2])
    changes = smaller.update(5)
    assert (sorted(ids_of(changes.evicted)), ids_of(changes.admitted)) == ([2, 4], [])


def test_a_state_is_a_copy_and_leaves_nothing_out():
    table = table_of(budget=2, admit_at=2, half_life_s=5)
    observe(table, [1, 1, 2, 3], [1, 2, 3, 4])
    table.update(4)
    state = table.state()
    again = IdTable.from_state(table.settings, {name: x.clone() for name, x in state.items()})
    for one in table, again:
        observe(one, [3, 2, 2], [6, 7, 7])
        one.update(7)
    for name, value in table.state().items():
        if not name.startswith("waiting"):
            assert torch.equal(value, again.state()[name]), name
    assert torch.equal(state["counts"], IdTable.from_state(table.settings, state).state()["counts"])


def test_a_million_ids_take_at_most_32_bytes_each_and_none_is_taken_for_another():
    ids = torch.arange(1_000_000) * 1_048_573 - (1 << 40)
    table = IdTable(IdSettings(budget=len(ids), segment=len(ids)))
    assert torch.equal(table.admit(ids, now=0).slots, torch.arange(len(ids)))
    assert torch.equal(table.find(ids), torch.arange(len(ids)))
    assert (table.find(ids + 1) == NEW).all()
    assert table.slots.bytes() + table.generations.numel() * 4 <= 32 * len(ids)


def test_old_counts_are_worth_nothing_after_many_periods():
    now, then = np.array([200, 126, 0, 5]), np.array([0, 0, 0, 9])
    assert naive.halved(now, then, 1).tolist() == [2.0**-126, 2.0**-126, 1, 1]
    assert naive.halved(now, then, 0).tolist() == [1] * 4
    assert naive.halved(np.array([0]), np.array([-1]), 10).tolist() == [0.5]  # periods begin at 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"budget": 0}, "budget is 0"),
        ({"segment": 0}, "segment"),
        ({"admit_at": 0}, "admit_at"),
        ({"evict": "lru"}, "one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        IdSettings(**{"budget": 1} | given)
