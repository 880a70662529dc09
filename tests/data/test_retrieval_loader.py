"""Batches: the latest events, what each of them predicts, and who is in which batch."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Token, events, random_users, write_table

from louder.data.config import DataConfig
from louder.data.loader import pack
from louder.data.retrieval import RetrievalLoader
from louder.data.table import open_table
from louder.data.targets import SplitConfig
from louder.errors import InputError

CONFIG = DataConfig(max_len=200, users_per_batch=4)


def loader(folder, config=CONFIG, part="train", **options):
    return RetrievalLoader(open_table(folder), part, config, held_out=2, **options)


def per_user(batches):
    """user -> (ids, targets, query times), each a list"""
    found = {}
    for batch in batches:
        offsets = batch.sequences.offsets.tolist()
        for user, start, end in zip(batch.users.tolist(), offsets[:-1], offsets[1:]):
            assert user not in found
            fields = batch.sequences.ids, batch.targets, batch.sequences.query_timestamps
            found[user] = tuple(x[start:end].tolist() for x in fields)
    return found


@pytest.fixture
def one_user(tmp_path):
    return write_table(tmp_path / "one", [events(0, 1, 2, 3, 4, 5, 6)])  # 5 and 6 are held out; every 60 s


@pytest.fixture
def many(tmp_path):
    return write_table(tmp_path / "many", random_users(50, longest=20), items=15)


def test_each_row_predicts_the_next_item_and_knows_its_time(one_user):
    (batch,) = loader(one_user).batches()
    assert batch.sequences.ids.tolist() == [0, 1, 2, 3]
    assert batch.targets.tolist() == [1, 2, 3, 4]
    assert batch.sequences.timestamps.tolist() == [0, 60, 120, 180]
    assert batch.sequences.query_timestamps.tolist() == [60, 120, 180, 240]
    assert batch.rows.tolist() == [4]


def test_training_predicts_nothing_that_comes_too_long_after_the_history(tmp_path):
    times = [0, 60, 1060, 1100, 9000, 9001, 20_000, 30_000]
    folder = write_table(tmp_path / "t", [[Token(n, time) for n, time in enumerate(times)]])
    for max_gap, expected in (
        (None, [1, 2, 3, 4, 5]),
        (1000, [1, 2, 3, -1, 5]),
        (999, [1, -1, 3, -1, 5]),
        (1, [-1] * 4 + [5]),
    ):
        (batch,) = loader(folder, replace(CONFIG, max_gap=max_gap)).batches()
        assert (batch.sequences.ids.tolist(), batch.targets.tolist()) == ([0, 1, 2, 3, 4], expected)
        (batch,) = loader(folder, replace(CONFIG, max_gap=max_gap), "test").batches()
        assert batch.targets.tolist() == [-1] * 6 + [7]  # what is measured stays the same


def test_without_times_no_gap_is_known(tmp_path):
    folder = write_table(tmp_path / "t", [events(0, 1, 2, 3, 4)], has_times=False)
    with pytest.raises(InputError, match=r"data.max_gap is 60 seconds, but .*t has no times: --set data.max_gap=null"):
        list(loader(folder, replace(CONFIG, max_gap=60)).batches())


def test_a_withheld_query_time_is_the_events_own(one_user):
    (batch,) = loader(one_user, replace(CONFIG, query_time="withheld")).batches()
    assert batch.sequences.query_timestamps.tolist() == batch.sequences.timestamps.tolist() == [0, 60, 120, 180]


@pytest.mark.parametrize("max_len", [1, 2, 3])
def test_the_latest_events_are_kept_never_the_oldest(one_user, max_len):
    config = replace(CONFIG, max_len=max_len)
    assert per_user(loader(one_user, config).batches())[0][:2] == ([0, 1, 2, 3][-max_len:], [1, 2, 3, 4][-max_len:])
    (test,) = loader(one_user, config, "test").batches()
    assert test.sequences.ids.tolist() == [0, 1, 2, 3, 4, 5][-max_len:]


def test_all_windows_of_a_history_are_read_each_in_its_turn(one_user):
    config = replace(CONFIG, max_len=3, windows="all", shuffle=False)
    (batch,) = loader(one_user, config).batches()
    assert batch.sequences.offsets.tolist() == [0, 3, 4]  # the latest three events, and the one before them
    assert batch.sequences.ids.tolist() == [1, 2, 3, 0]
    assert batch.targets.tolist() == [2, 3, 4, 1]
    assert (batch.users.tolist(), batch.rows.tolist()) == ([0, 0], [4, 1])
    (test,) = loader(one_user, config, "test").batches()
    assert test.sequences.ids.tolist() == [3, 4, 5]


@pytest.mark.parametrize("max_len", [1, 3, 7, 20])
def test_with_all_windows_every_event_is_predicted_once(many, max_len):
    def predicted(config):
        batches = list(loader(many, config).batches())
        return sorted(
            (user, target)
            for batch in batches
            for user, lasts, firsts in zip(batch.users.tolist(), batch.sequences.offsets[1:], batch.sequences.offsets)
            for target in batch.targets[firsts:lasts].tolist()
        )

    assert predicted(replace(CONFIG, max_len=max_len, windows="all")) == predicted(replace(CONFIG, max_len=20))


def test_evaluation_predicts_from_the_last_row_only(one_user):
    (validation,) = loader(one_user, part="validation").batches()
    assert validation.sequences.ids.tolist() == [0, 1, 2, 3, 4]
    assert validation.targets.tolist() == [-1, -1, -1, -1, 5]
    assert validation.sequences.query_timestamps.tolist()[-1] == 300
    (test,) = loader(one_user, part="test").batches()
    assert test.targets.tolist() == [-1] * 5 + [6]


def test_a_negative_next_event_is_no_target_but_history(tmp_path):
    likes = [1, 0, 1, 0, 1, 1, 1]
    folder = write_table(tmp_path / "t", [[Token(i, i, like) for i, like in enumerate(likes)]], actions=["like"])
    (batch,) = loader(folder, replace(CONFIG, positive=("like",))).batches()
    assert batch.sequences.ids.tolist() == [0, 1, 2, 3]
    assert batch.targets.tolist() == [-1, 2, -1, 4]
    assert batch.sequences.actions.tolist() == [1, 0, 1, 0]
    (validation,) = loader(folder, replace(CONFIG, positive=("like",)), "validation").batches()
    assert (validation.targets.tolist()[-1], validation.rows.tolist()) == (5, [5])


def test_actions_can_be_switched_off(tmp_path):
    folder = write_table(tmp_path / "t", [[Token(i, i, 1) for i in range(5)]], actions=["like"])
    (on,), (off,) = (loader(folder, replace(CONFIG, actions=x)).batches() for x in (True, False))
    assert on.sequences.actions.tolist() == [1, 1]
    assert off.sequences.actions is None


CITY = [
    Token(7, 0, 0, 1),
    Token(0, 10),
    Token(8, 15, 0, 1),
    Token(1, 20),
    Token(2, 30),
    Token(9, 35, 0, 1),
    Token(3, 40),
    Token(4, 50),
]


def test_entries_of_a_series_are_history_and_predict_the_engagement_after_them(tmp_path):
    folder = write_table(tmp_path / "t", [CITY], series={"city": 10})
    (batch,) = loader(folder).batches()
    assert batch.sequences.ids.tolist() == [7, 0, 8, 1]
    assert batch.sequences.kinds.tolist() == [1, 0, 1, 0]
    assert batch.targets.tolist() == [0, -1, 1, 2]  # an entry of a series is never a target
    assert batch.sequences.query_timestamps.tolist() == [10, 15, 20, 30]


def test_without_auxiliary_series_the_history_is_engagements_alone(tmp_path):
    folder = write_table(tmp_path / "t", [CITY, [Token(7, 0, 0, 1), *events(1, 2, 3)]], series={"city": 10})
    config = replace(CONFIG, auxiliary=False)
    (batch,) = loader(folder, config).batches()
    assert batch.users.tolist() == [0]  # the second user's history would be its city alone
    assert batch.sequences.kinds is None
    assert batch.sequences.ids.tolist() == [0, 1]
    assert batch.targets.tolist() == [1, 2]
    assert batch.sequences.query_timestamps.tolist() == [20, 30]
    (test,) = (b for b in loader(folder, replace(config, max_len=2), "test").batches())
    assert test.sequences.ids.tolist() == [2, 3, 1, 2]
    assert test.targets.tolist() == [-1, 4, -1, 3]
    assert (batch.rows.tolist(), test.rows.tolist()) == ([4], [7, 11])  # of the table, entries of the series counted


def test_every_user_is_in_an_epoch_exactly_once(many):
    for config in CONFIG, replace(CONFIG, events_per_batch=25):
        data = loader(many, config)
        assert sorted(per_user(data.batches(3))) == data.spans.users.tolist()


def test_an_epochs_order_depends_on_seed_and_epoch_alone(many):
    def order(seed, epoch):
        return [batch.users.tolist() for batch in loader(many, seed=seed).batches(epoch)]

    data = loader(many, seed=5)
    list(data.batches(0))
    assert [batch.users.tolist() for batch in data.batches(2)] == order(5, 2)
    assert len({str(order(seed, epoch)) for seed in (5, 6) for epoch in (0, 1, 2)}) == 6


def test_without_shuffling_users_stay_in_order(many):
    data = loader(many, replace(CONFIG, shuffle=False))
    assert [u for batch in data.batches(4) for u in batch.users.tolist()] == data.spans.users.tolist()


def test_evaluation_is_never_shuffled(many):
    users = [u for batch in loader(many, part="test").batches() for u in batch.users.tolist()]
    assert users == sorted(users)


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, events_per_batch=30)], ids=["users", "events"])
def test_resuming_in_an_epoch_gives_its_tail(many, config):
    data = loader(many, config)
    whole = list(data.batches(1))
    assert len(whole) == data.steps(1) > 3
    tail = list(data.batches(1, first=3))
    assert len(tail) == len(whole) - 3
    for a, b in zip(whole[3:], tail):
        assert torch.equal(a.users, b.users)
        assert torch.equal(a.sequences.ids, b.sequences.ids)
        assert torch.equal(a.targets, b.targets)


@pytest.mark.parametrize("world", [1, 2, 3, 5])  # 12 batches, which 5 do not share without a rest
def test_ranks_share_an_epoch_evenly_and_without_overlap(many, world):
    ranks = [loader(many, rank=rank, world=world) for rank in range(world)]
    users = [[u for batch in data.batches(1) for u in batch.users.tolist()] for data in ranks]
    together = sorted(u for rank in users for u in rank)
    assert len(together) == len(set(together))
    assert len({data.steps(1) for data in ranks}) == 1
    assert all(len(list(data.batches(1))) == data.steps(1) for data in ranks)
    left_out = len(ranks[0]) - len(together)
    assert left_out < world * CONFIG.users_per_batch
    assert left_out == 0 or world > 1


def test_ranks_leave_nobody_out_of_an_evaluation(many):
    ranks = [loader(many, part="test", rank=rank, world=3) for rank in range(3)]
    users = sorted(u for data in ranks for batch in data.batches() for u in batch.users.tolist())
    assert users == ranks[0].spans.users.tolist()


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 40))
def test_packing_never_exceeds_the_budget_but_for_a_single_long_history(tokens, budget):
    cuts = pack(np.array(tokens, dtype=np.int64), budget)
    packed = np.split(np.array(tokens, dtype=np.int64), cuts)
    assert [t for group in packed for t in group] == tokens
    for group in packed:
        assert group.sum() <= budget or len(group) == 1
        assert len(group) or not tokens
    for group, following in itertools.pairwise(packed):
        assert group.sum() + following[0] > budget  # as full as can be


def test_batches_by_events_keep_to_the_budget(many):
    data = loader(many, replace(CONFIG, events_per_batch=25, max_len=10))
    sizes = [len(batch.targets) for batch in data.batches()]
    assert max(sizes) <= 25
    assert len(sizes) < len(data.spans.users)


def test_nobody_gives_no_batches(tmp_path):
    data = loader(write_table(tmp_path / "t", [events(0), events(1, 2)]))
    assert (list(data.batches()), data.steps()) == ([], 0)


@settings(max_examples=40)
@given(st.integers(0, 50), st.integers(1, 8), st.sampled_from([None, 7, 20]), st.booleans())
def test_batches_of_random_tables_are_what_a_slow_reading_gives(tmp_path_factory, seed, max_len, budget, withheld):
    users = random_users(12, longest=9, seed=seed)
    folder = write_table(tmp_path_factory.mktemp("t") / "t", users, items=15)
    config = DataConfig(
        max_len=max_len,
        users_per_batch=3,
        events_per_batch=budget,
        query_time="withheld" if withheld else "request",
    )
    expected = {}
    for number, user in enumerate(users):
        known = user[:-2][-max_len - 1 :]  # the latest events that may be trained on, one more to be predicted
        if len(known) > 1:
            asked = known[:-1] if withheld else known[1:]
            expected[number] = [t.id for t in known[:-1]], [t.id for t in known[1:]], [t.time for t in asked]
    assert per_user(loader(folder, config).batches(seed)) == expected


def test_a_split_by_time_reaches_the_batches(tmp_path):
    folder = write_table(tmp_path / "t", [events(0, 1, 2, 3, 4, 5)])  # at 0, 60 ... 300
    config = replace(CONFIG, split=SplitConfig(kind="time", validation_from=150, test_from=250))
    parts = {part: next(loader(folder, config, part).batches()) for part in ("train", "validation", "test")}
    assert parts["train"].targets.tolist() == [1, 2]
    assert parts["validation"].targets.tolist() == [-1, -1, 3]
    assert parts["test"].targets.tolist() == [-1, -1, -1, -1, 5]
