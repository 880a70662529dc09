"""Stochastic length has the thresholds, the rate and the expected lengths of the paper."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import Token, write_table

from louder.data.config import DataConfig
from louder.data.retrieval import RetrievalLoader
from louder.data.stochastic_length import StochasticLength, keep_probability, subsequence, threshold
from louder.data.table import open_table


@pytest.mark.parametrize(
    ("alpha", "thresholds"),
    [
        (1.6, (256, 445, 776, 1351)),  # the paper's text quotes 776
        (1.7, (362, 652, 1176, 2120)),
        (1.8, (512, 955, 1782, 3326)),
        (1.9, (724, 1398, 2702, 5220)),
        (2.0, (1024, 2048, 4096, 8192)),
    ],
)
def test_thresholds_are_those_of_the_paper(alpha, thresholds):
    assert tuple(threshold(n, alpha) for n in (1024, 2048, 4096, 8192)) == thresholds


def test_a_history_is_kept_whole_with_the_papers_probability():
    lengths = np.array([0, 1, 776, 777, 2000, 4096])
    found = keep_probability(lengths, 4096, 1.6)
    expected = [1, 1, 1, min(1, 4096**1.6 / 777**2), 4096**1.6 / 2000**2, 4096**1.6 / 4096**2]
    assert found == pytest.approx(expected)


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(1.01, 2.0))
def test_a_probability_is_one_and_short_histories_are_never_cut(length, max_len, alpha):
    (found,) = keep_probability(np.array([length]), max_len, alpha)
    assert 0 < found <= 1
    if length <= threshold(max_len, alpha):
        assert found == 1


def test_alpha_2_cuts_nothing():
    assert (keep_probability(np.arange(1, 101), 100, 2.0) == 1).all()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.data())
def test_a_subsequence_has_the_length_asked_for_in_time_order(times, data):
    times = np.sort(np.array(times))
    length = data.draw(st.integers(1, len(times)))
    for selection in "recent", "random", "weighted":
        rows = subsequence(times, length, selection, np.random.default_rng(0))
        assert len(rows) == length
        assert (np.diff(rows) > 0).all()
        assert rows[0] >= 0 and rows[-1] < len(times)


def test_recent_keeps_the_latest():
    assert subsequence(np.arange(10), 3, "recent", np.random.default_rng(0)).tolist() == [7, 8, 9]


def counts(selection, times, length=5, draws=4000):
    random = np.random.default_rng(0)
    found = np.zeros(len(times))
    for _ in range(draws):
        found[subsequence(times, length, selection, random)] += 1
    return found / draws


def test_random_keeps_each_event_equally_often():
    assert counts("random", np.arange(20)) == pytest.approx(np.full(20, 5 / 20), abs=0.03)


def test_weighted_keeps_recent_events_more_often_and_the_only_old_one_never():
    kept = counts("weighted", np.arange(0, 500, 100))  # ages 400, 300, 200, 100, 0; weights .6, .7, .8, .9, 1
    assert kept == pytest.approx(np.ones(5))  # all five of five
    one = counts("weighted", np.arange(0, 500, 100), length=1)
    assert one == pytest.approx(np.array([0.6, 0.7, 0.8, 0.9, 1.0]) / 4, abs=0.03)
    assert counts("weighted", np.array([0, 100, 100, 100]), length=2, draws=200)[0] == 0  # weight 1 - 100 / 100


def test_events_at_one_time_are_kept_equally_often():
    assert counts("weighted", np.full(10, 7)) == pytest.approx(np.full(10, 0.5), abs=0.04)


LENGTH = 64
ALPHA = 1.5  # T = floor(64 ** .75) = 22; kept whole with probability 64 ** 1.5 / 64 ** 2 = 1 / 8


def table_with(tmp_path, users):
    sequences = [[Token(1000 * u + i, 10 * i, 1 + i % 2) for i in range(LENGTH + 3)] for u in range(users)]
    return open_table(write_table(tmp_path / "t", sequences, actions=["like", "share"]))


def loader(table, selection="weighted", part="train"):
    config = DataConfig(
        max_len=LENGTH,
        users_per_batch=16,
        stochastic_length=StochasticLength(alpha=ALPHA, selection=selection),
    )
    return RetrievalLoader(table, part, config, held_out=2, seed=1)


@pytest.mark.parametrize("selection", ["recent", "random", "weighted"])
def test_a_kept_event_keeps_its_action_its_target_and_its_time(tmp_path, selection):
    for batch in loader(table_with(tmp_path, 8), selection).batches():
        ids = batch.sequences.ids
        assert (batch.targets == ids + 1).all()
        assert (batch.sequences.timestamps == 10 * (ids % 1000)).all()
        assert (batch.sequences.query_timestamps == 10 * (ids % 1000 + 1)).all()
        assert (batch.sequences.actions == 1 + ids % 1000 % 2).all()
        assert set(batch.sequences.lengths.tolist()) <= {22, LENGTH}


def test_recent_keeps_the_latest_events_of_a_history(tmp_path):
    for batch in loader(table_with(tmp_path, 8), "recent").batches():
        for ids in batch.sequences.ids.split(batch.sequences.lengths.tolist()):
            assert (ids % 1000).tolist() == list(range(LENGTH - len(ids), LENGTH))


def test_the_mean_length_is_the_expected_one(tmp_path):
    data = loader(table_with(tmp_path, 50))
    lengths = np.concatenate([b.sequences.lengths.numpy() for epoch in range(20) for b in data.batches(epoch)])
    expected = 22 * 7 / 8 + LENGTH / 8  # 27.25; deviation of a mean of 1000 draws: 42 * sqrt(7 / 64 / 1000) = 0.44
    assert lengths.mean() == pytest.approx(expected, abs=1.8)


def test_what_is_kept_depends_on_seed_epoch_and_batch_alone(tmp_path):
    table = table_with(tmp_path, 40)
    first, again = (list(loader(table).batches(1)) for _ in range(2))
    assert all(a.sequences.ids.equal(b.sequences.ids) for a, b in zip(first, again))
    (tail,) = loader(table).batches(1, first=2)
    assert tail.sequences.ids.equal(first[2].sequences.ids)


def test_every_batch_draws_its_own_positions_and_every_epoch_new_ones(tmp_path):
    data = loader(table_with(tmp_path, 32), "random")
    data.config = replace(data.config, users_per_batch=1)
    kept = [(b.sequences.ids % 1000).tolist() for epoch in range(2) for b in data.batches(epoch)]
    cut = [tuple(ids) for ids in kept if len(ids) < LENGTH]
    assert len(cut) > 40 and len(set(cut)) == len(cut)


def test_ranks_draw_what_one_process_would(tmp_path):
    table = table_with(tmp_path, 64)
    whole = list(loader(table).batches(1))
    for rank in range(2):
        own = RetrievalLoader(table, "train", loader(table).config, held_out=2, seed=1, rank=rank, world=2)
        assert all(a.sequences.ids.equal(b.sequences.ids) for a, b in zip(own.batches(1), whole[rank::2], strict=True))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_evaluation_sees_whole_histories(tmp_path, part):
    data = loader(table_with(tmp_path, 8), part=part)
    assert data.config.stochastic_length is not None
    assert all(set(batch.sequences.lengths.tolist()) == {LENGTH} for batch in data.batches())


def test_it_is_off_unless_asked_for(tmp_path):
    data = loader(table_with(tmp_path, 8))
    data.config = replace(data.config, stochastic_length=None)
    assert all(set(batch.sequences.lengths.tolist()) == {LENGTH} for batch in data.batches())
