"""Every exposure is asked for once, after exactly what came before its request, whatever the batches and windows are.

Items are numbered by their row in the table, so that a batch tells which rows it holds.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import ranking_table

from louder.data.attributes import Attribute, first_codes
from louder.data.config import DataConfig
from louder.data.ranking import RankingLoader
from louder.data.targets import SplitConfig
from louder.data.window import window_start

CUT = SplitConfig(kind="time", validation_from=40, test_from=60)
SPLITS = {"time": CUT, "leave_last_out": SplitConfig(), "users": SplitConfig(kind="users", test_users=0.3)}
PARTS = "train", "validation", "test"


def loader_of(table, part="train", *, held_out=2, one_pass=True, **settings):
    extra = {name: settings.pop(name) for name in ("seed", "context", "counters", "rank", "world") if name in settings}
    config = DataConfig(**{"max_len": 5, "users_per_batch": 3, "shuffle": False, "split": CUT} | settings)
    return RankingLoader(table, part, config, held_out=held_out, one_pass=one_pass, **extra)


def first_rows(table):
    """The first row of each row's request, one by one."""
    found, rows = {}, []
    for user in range(table.users):
        for row in range(table.offsets[user], table.offsets[user + 1]):
            number = -1 if table.requests is None else table.requests[row]
            rows.append(row if number < 0 else found.setdefault((user, number), row))
    return rows


def owner_of(table, row):
    return int(np.searchsorted(table.offsets, row, side="right")) - 1


def history_of(table, row, max_len, auxiliary):
    """The rows that a model is to see before an exposure: those before its request, from the window's start on."""
    begins, start = first_rows(table), int(table.offsets[owner_of(table, row)])

    def kept(rows):
        return [r for r in rows if auxiliary or table.kinds[r] == 0]

    upto = kept(range(start, begins[row]))
    latest = max(begins[r] for r in kept(range(start, row + 1)))  # where requests overlap, windows do not go back
    return upto[int(window_start(np.array(len(kept(range(start, latest)))), max_len)) :]


def sequences_of(loader, epoch=0):
    """(ids, first, asked) of each sequence of an epoch: its rows, and the indices that are asked for."""
    for batch in loader.batches(epoch):
        bounds = batch.sequences.offsets.tolist()
        for number, (first, end) in enumerate(pairwise(bounds)):
            asked = [index - first for index in batch.target_positions.tolist() if first <= index < end]
            yield batch, number, slice(first, end), asked


def exposures_of(loader):
    """Of each row that is asked for, all that a model is given for it."""
    found = {}
    for batch, number, inside, asked in sequences_of(loader):
        x = batch.sequences
        prefix_lengths = x.positions()[inside]
        for index in asked:
            row, seen = int(x.ids[inside][index]), slice(inside.start, inside.start + int(prefix_lengths[index]))
            assert row not in found
            at = int(torch.searchsorted(batch.target_positions, inside.start + index))
            found[row] = {
                "history": x.ids[seen].tolist(),
                "times": x.timestamps[seen].tolist(),
                "asked at": x.query_timestamps[seen].tolist(),
                "actions": x.actions[seen].tolist(),
                "kinds": None if x.kinds is None else x.kinds[seen].tolist(),
                "values": x.values[seen].nan_to_num(-1).tolist(),
                "prefix_lengths": prefix_lengths[: int(prefix_lengths[index])].tolist(),
                "own": (int(batch.users[number]), int(x.timestamps[inside][index])),
                "labels": batch.labels[at].tolist(),
                "numbers": batch.value_targets[at].nan_to_num(-1).tolist(),
            }
    return found


logs = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 500),
        "requests": st.sampled_from(["none", "contiguous", "overlapping"]),
        "series": st.booleans(),
    }
)
ways = st.fixed_dictionaries(
    {
        "max_len": st.integers(1, 16),
        "users_per_batch": st.integers(1, 9),
        "events_per_batch": st.one_of(st.none(), st.integers(1, 40)),
        "auxiliary": st.booleans(),
        "one_pass": st.booleans(),
        "shuffle": st.booleans(),
    }
)
splits = st.sampled_from(list(SPLITS.values()))


# --- windows -----------------------------------------------------------------------------------------------------


@given(max_len=st.integers(1, 50))
def test_a_window_moves_by_half_of_its_length_and_never_back(max_len):
    before = np.arange(5 * max_len)
    start = window_start(before, max_len)
    hop = max(1, max_len // 2)
    assert (start[:max_len] == 0).all()
    assert set(np.diff(start)) <= {0, hop}
    held = before - start
    assert held.max() == max_len - 1 and held[max_len:].min() == max_len - hop
    moves = np.flatnonzero(np.diff(start)) + 1
    assert moves[:3].tolist() == [max_len, max_len + hop, max_len + 2 * hop]  # between two moves events are appended


@given(log=logs, max_len=st.integers(1, 9))
def test_events_that_are_appended_change_no_window_before_them(log, max_len):
    """A log and the same one cut short have the same histories in common."""
    table = ranking_table(**log)
    keep = [
        r for u in range(table.users) for r in range(table.offsets[u], (table.offsets[u] + table.offsets[u + 1]) // 2)
    ]
    cut = replace(
        table,
        offsets=np.searchsorted(keep, table.offsets),
        **{name: getattr(table, name)[keep] for name in ("kinds", "ids", "times", "actions")},
        values={"watch": table.values["watch"][keep]},
        requests=None if table.requests is None else table.requests[keep],
    )
    everything = SplitConfig(kind="time", validation_from=200, test_from=300)
    whole, shorter = (exposures_of(loader_of(x, max_len=max_len, split=everything)) for x in (table, cut))
    assert set(shorter) == {row for row in keep if table.kinds[row] == 0}
    for row, found in shorter.items():
        assert found["history"] == whole[row]["history"]


# --- what is asked for -------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(log=logs, way=ways, split=splits, held_out=st.sampled_from([1, 2]), part=st.sampled_from(PARTS))
def test_every_exposure_of_a_part_is_asked_for_once(log, way, split, held_out, part):
    table = ranking_table(**log)
    loader = loader_of(table, part, held_out=held_out, split=split, **way)
    rows, items = [], []
    for batch in loader.batches(epoch=1):
        rows += batch.rows.tolist()
        items += batch.sequences.ids[batch.target_positions].tolist()
        assert (batch.target_positions.diff() > 0).all()
        if not way["one_pass"]:
            assert len(batch.target_positions) == batch.sequences.users
    assert rows == items  # a row names its exposure, also where series are left out
    assert len(rows) == loader.is_target.sum()
    assert sorted(rows) == expected_part(table, part, split, held_out)


def expected_part(table, part, split, held_out):
    begins = first_rows(table)
    engaged = [row for row in range(len(table.ids)) if table.kinds[row] == 0]
    if split.kind == "time":
        bounds = {
            "train": (-1, split.validation_from if held_out == 2 else split.test_from),
            "validation": (split.validation_from, split.test_from if held_out == 2 else -1),
            "test": (split.test_from, 10**9),
        }
        low, high = bounds[part]
        return [row for row in engaged if low <= table.times[begins[row]] < high]
    if split.kind == "users":  # 6 of them, 2 for each part that is held out
        bounds = {"train": (0, 2 if held_out == 2 else 4), "validation": (2 if held_out == 2 else 4, 4), "test": (4, 6)}
        low, high = bounds[part]
        return [row for row in engaged if low <= owner_of(table, row) < high]
    chosen = []
    for user in range(table.users):
        own = [row for row in engaged if owner_of(table, row) == user]
        requests = sorted({begins[row] for row in own})
        parts = {
            "train": requests[:-held_out],
            "validation": requests[-2:-1] if held_out == 2 else [],
            "test": requests[-1:],
        }
        chosen += [row for row in own if begins[row] in parts[part]]
    return chosen


@settings(max_examples=80)
@given(log=logs, split=splits, held_out=st.sampled_from([1, 2]), auxiliary=st.booleans())
def test_parts_are_disjoint_and_a_request_is_in_one(log, split, held_out, auxiliary):
    table = ranking_table(**log)
    begins, part_of = np.array(first_rows(table)), {}
    rows = {}
    for part in PARTS:
        loader = loader_of(table, part, held_out=held_out, split=split, auxiliary=auxiliary)
        rows[part] = [row for batch in loader.batches() for row in batch.rows.tolist()]
        for row in rows[part]:
            assert part_of.setdefault(begins[row], part) == part
    assert sum(map(len, rows.values())) == len({row for part in rows.values() for row in part})
    if split.kind != "leave_last_out":  # there the only request of a user is for testing, so nothing is left out either
        assert sum(map(len, rows.values())) == (table.kinds == 0).sum()
    if held_out == 1:
        assert not rows["validation"]
    if split.kind == "time":
        moments = [table.times[begins[rows[part]]] for part in PARTS if rows[part]]
        assert all(earlier.max() < later.min() for earlier, later in pairwise(moments))


# --- what is seen ------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(log=logs, max_len=st.integers(1, 12), auxiliary=st.booleans(), part=st.sampled_from(PARTS))
def test_the_history_is_what_came_before_the_request_and_nothing_else(log, max_len, auxiliary, part):
    table = ranking_table(**log)
    begins = first_rows(table)
    loader = loader_of(table, part, max_len=max_len, auxiliary=auxiliary, one_pass=False)
    for batch, number, inside, asked in sequences_of(loader):
        x = batch.sequences
        *history, row = x.ids[inside].tolist()
        assert asked == [len(history)]
        assert history == history_of(table, row, max_len, auxiliary)
        assert x.timestamps[inside].tolist() == [table.times[begins[r]] for r in (*history, row)]
        assert int(batch.users[number]) == owner_of(table, row)
        assert x.actions[inside].tolist() == table.actions[[*history, row]].tolist()


@settings(max_examples=150)
@given(log=logs, max_len=st.integers(1, 12), auxiliary=st.booleans(), split=splits, part=st.sampled_from(PARTS))
def test_one_pass_holds_for_an_exposure_what_it_holds_alone(log, max_len, auxiliary, split, part):
    table = ranking_table(**log)
    together, alone = (
        exposures_of(loader_of(table, part, max_len=max_len, auxiliary=auxiliary, split=split, one_pass=one_pass))
        for one_pass in (True, False)
    )
    assert together.keys() == alone.keys()
    for row, found in together.items():
        assert found == alone[row]


def test_labels_are_the_bits_of_the_actions_and_values_those_of_the_row():
    table = ranking_table(1)
    for batch in loader_of(table).batches():
        rows = batch.rows.numpy()
        assert batch.labels.tolist() == [[bits & 1, bits >> 1] for bits in table.actions[rows]]
        np.testing.assert_array_equal(batch.value_targets[:, 0], table.values["watch"][rows])
        np.testing.assert_array_equal(batch.sequences.values[batch.target_positions, 0], table.values["watch"][rows])


@pytest.mark.parametrize("auxiliary", [True, False])
def test_counters_and_requests_are_those_of_the_tables_rows(auxiliary):
    table = ranking_table(2, requests="contiguous")
    counters = np.arange(len(table.ids), dtype=np.float32)[:, None] * 10
    loader = loader_of(table, auxiliary=auxiliary, counters=counters)
    for batch in loader.batches():
        assert batch.counters[:, 0].tolist() == (batch.rows * 10).tolist()
        assert loader.requests(batch).tolist() == table.requests[batch.rows.numpy()].tolist()
    loader = loader_of(ranking_table(2), auxiliary=auxiliary)
    assert all((loader.requests(batch) == -1).all() for batch in loader.batches())


@given(log=logs, auxiliary=st.booleans())
def test_a_row_knows_the_time_of_the_next_unless_it_is_withheld(log, auxiliary):
    table = ranking_table(**log)
    for withheld in True, False:
        loader = loader_of(table, auxiliary=auxiliary, query_time="withheld" if withheld else "request")
        for batch in loader.batches():
            for row, asked in zip(batch.sequences.ids.tolist(), batch.sequences.query_timestamps.tolist()):
                after = range(row + 1, table.offsets[owner_of(table, row) + 1])
                following = [r for r in after if auxiliary or table.kinds[r] == 0]
                assert asked == table.times[following[0] if following and not withheld else row]


# --- the next item -----------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    log=logs,
    way=ways,
    split=splits,
    part=st.sampled_from(PARTS),
    positive=st.sampled_from([(), ("like",)]),
    max_gap=st.sampled_from([None, 8]),
)
def test_the_next_item_is_the_first_of_the_next_request(log, way, split, part, positive, max_gap):
    table = ranking_table(**log)
    begins = first_rows(table)
    loader = loader_of(table, part, split=split, positive=positive, max_gap=max_gap, **way)
    for batch, _, inside, asked in sequences_of(loader, epoch=2):
        rows = batch.sequences.ids[inside].tolist()
        expected = [-1] * len(rows)
        events = [index for index, row in enumerate(rows) if table.kinds[row] == 0]
        for now, following in pairwise(events):
            row = rows[following]
            begins_request = begins[row] == row
            liked = not positive or table.actions[row] & 1
            near = part != "train" or max_gap is None or table.times[row] - table.times[rows[now]] <= max_gap
            if way["one_pass"] and begins_request and following in asked and liked and near:
                expected[now] = row
        assert batch.next_items[inside].tolist() == expected


# --- batches -----------------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(log=logs, way=ways, part=st.sampled_from(PARTS))
def test_batches_are_as_large_as_they_may_be_and_can_begin_anywhere(log, way, part):
    table = ranking_table(**log)
    loader = loader_of(table, part, **way)
    batches = list(loader.batches(epoch=3))
    assert len(batches) == loader.steps(3)
    budget = way["events_per_batch"]
    for number, batch in enumerate(batches):
        if budget is None:
            wanted = way["users_per_batch"]
            assert batch.sequences.users == min(wanted, len(loader) - number * wanted)
        else:
            assert len(batch.sequences.ids) <= budget or batch.sequences.users == 1
    for first in {0, 1, len(batches) // 2, len(batches)}:
        tail = list(loader.batches(epoch=3, first=first))
        assert len(tail) == max(0, len(batches) - first)
        for found, expected in zip(tail, batches[first:]):
            assert_same_batch(found, expected)


def assert_same_batch(found, expected):
    for name, value in vars(expected).items():
        other = getattr(found, name)
        if name == "sequences":
            assert_same_batch(other, value)
        elif value is None:
            assert other is None
        else:
            assert torch.equal(other.nan_to_num(-1), value.nan_to_num(-1)), name


def test_the_order_depends_on_the_seed_and_the_epoch_alone():
    table = ranking_table(4, users=40)

    def order(epoch, **changes):
        loader = loader_of(table, **{"shuffle": True, "seed": 1} | changes)
        list(loader.batches(epoch + 1))  # what was read before does not matter
        return [user for batch in loader.batches(epoch) for user in batch.users.tolist()]

    assert order(0) == order(0)
    assert len({tuple(order(0)), tuple(order(1)), tuple(order(0, seed=2))}) == 3
    assert order(0, shuffle=False) == order(1, shuffle=False) == sorted(order(0))


def test_a_part_in_which_nobody_is_has_no_batches():
    late = SplitConfig(kind="time", validation_from=200, test_from=300)
    for one_pass in True, False:
        loader = loader_of(ranking_table(), "test", split=late, one_pass=one_pass)
        assert (len(loader), loader.steps(), list(loader.batches())) == (0, 0, [])


# --- context -----------------------------------------------------------------------------------------------------

AGE = Attribute("age", 4, torch.tensor([2, 0, 3, 1, 1, 2]), torch.arange(7), ("", "18", "25", "35"))
HOBBIES = Attribute(
    "hobbies", 3, torch.tensor([2, 1, 1, 2]), torch.tensor([0, 2, 2, 3, 3, 3, 4]), ("", "chess", "golf")
)


def test_context_is_the_code_of_each_attribute_and_of_a_list_the_first():
    assert first_codes([AGE, HOBBIES]).tolist() == [[2, 2], [0, 0], [3, 1], [1, 0], [1, 0], [2, 2]]
    assert (
        first_codes([replace(HOBBIES, codes=torch.zeros(0, dtype=torch.int64), offsets=torch.zeros(7).long())]).tolist()
        == [[0]] * 6
    )


@pytest.mark.parametrize("one_pass", [True, False])
def test_every_sequence_has_the_context_of_its_user(one_pass):
    loader = loader_of(ranking_table(3), context=[AGE, HOBBIES], one_pass=one_pass)
    codes = first_codes([AGE, HOBBIES])
    for batch in loader.batches():
        assert torch.equal(batch.sequences.context, codes[batch.users])
    assert all(batch.sequences.context is None for batch in loader_of(ranking_table(3)).batches())


# --- ranks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_the_batches_of_an_epoch_in_turn(part, world):
    table = ranking_table(5, users=30)
    whole = list(loader_of(table, part, shuffle=True).batches(epoch=2))
    even = len(whole) // world if part == "train" else None  # in training every rank gets as many
    for rank in range(world):
        own = loader_of(table, part, shuffle=True, rank=rank, world=world)
        batches = list(own.batches(epoch=2))
        assert len(batches) == own.steps(2) == len(whole[rank::world][:even])
        for found, expected in zip(batches, whole[rank::world]):
            assert_same_batch(found, expected)


def test_nothing_but_training_is_shuffled():
    table = ranking_table(4, users=40)
    for part in "validation", "test":
        users = [user for batch in loader_of(table, part, shuffle=True).batches(3) for user in batch.users.tolist()]
        assert users == sorted(users)
