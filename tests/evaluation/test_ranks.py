"""Exact ranks, against sorting the whole catalogue user by user."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import Token, events, random_users, tiny_config, write_table

from louder.data.config import DataConfig
from louder.data.retrieval import RetrievalLoader
from louder.data.table import open_table
from louder.errors import InputError
from louder.evaluation import retrieval
from louder.evaluation.retrieval import evaluate, model_scorer, popularity_scorer, rank_of
from louder.models import HSTUConfig, Vocabulary, build
from louder.training.retrieval import RetrievalTask, evaluate_part, popularity, vocabulary

ITEMS = 15
MISS = 201  # beyond every cutoff


def loader_of(folder, part="test", **options):
    table = open_table(folder)
    config = DataConfig(**{"users_per_batch": 4, "max_len": 5, **options})
    return RetrievalLoader(table, part, config, held_out=2)


def against(items):
    """queries [B, D] -> their dot products with items [I, D]"""
    return lambda queries: queries @ items.T


def items_of(seed, levels):
    """[I, 2] of few different values, so that many scores tie"""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (ITEMS, 2))).float()


def brute_force(users, max_len, scorer_items, seen):
    """[rank] of each user's last event: sort everything that was not seen; a tie is shared half-way."""
    ranks = []
    for number, user in enumerate(users):
        history, target = [t for t in user[:-1] if t.kind == 0], user[-1].id
        if len(user) < 2:
            continue
        window = user[:-1][-max_len:]
        left_out = {
            "none": set(),
            "window": {t.id for t in window if t.kind == 0},
            "history": {t.id for t in history},
        }[seen]
        if target in left_out:
            ranks.append(MISS)
            continue
        state = (number % 3 + 1.0, number % 2 - 0.5)
        scores = {i: state[0] * a + state[1] * b for i, (a, b) in enumerate(scorer_items.tolist()) if i not in left_out}
        ordered = sorted(scores.values(), reverse=True)
        places = [place for place, score in enumerate(ordered, start=1) if score == scores[target]]
        ranks.append(sum(places) / len(places))
    return ranks


@settings(max_examples=40)
@given(
    st.integers(0, 1000),
    st.sampled_from([2, 5, 1000]),
    st.sampled_from(["window", "history", "none"]),
    st.integers(1, 8),
    st.sampled_from([1, 15, 40, 1 << 20]),
)
def test_ranks_are_those_of_sorting_with_blocks_of_any_size(tmp_path_factory, seed, levels, seen, max_len, block):
    users = random_users(9, items=ITEMS, seed=seed)
    folder = write_table(tmp_path_factory.mktemp("t") / "t", users, items=ITEMS)
    items = items_of(seed, levels)

    def scorer(batch):
        return torch.stack([batch.users % 3 + 1.0, batch.users % 2 - 0.5], 1), against(items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK_SCORES", block)
        expected = brute_force(users, max_len, items, seen)
        if not expected:
            return
        found = evaluate(scorer, loader_of(folder, max_len=max_len), seen=seen, beside=("window", "history"))
    assert found.ranks.tolist() == expected
    for other in "window", "history":
        assert found.beside[other].tolist() == brute_force(users, max_len, items, other)
    assert found.gaps.tolist() == [user[-1].time - user[-2].time for user in users if len(user) > 1]
    assert found.lengths.tolist() == [min(max_len, len(user) - 1) for user in users if len(user) > 1]


def test_entries_of_a_series_are_no_seen_items(tmp_path):
    user = [Token(3, 0, 0, 1), Token(0, 1), Token(1, 2), Token(4, 3, 0, 1), Token(3, 4)]
    folder = write_table(tmp_path / "t", [user], items=5, series={"city": 9})
    items = torch.tensor([9.0, 8, 7, 6, 5])[:, None]
    for seen in "window", "history":
        found = evaluate(lambda _: (torch.ones(1, 1), against(items)), loader_of(folder), seen=seen)
        assert found.ranks.tolist() == [2]  # items 0 and 1 are left out, 2 is before, 3 is the target


def test_ties_count_half():
    scores = torch.tensor([[1.0, 1, 1, 0], [2, 1, 1, 1], [0, 0, 0, 0], [3, 2, 1, 0]])
    targets = torch.tensor([0, 3, 1, 2])
    ranks = rank_of(scores, scores.gather(1, targets[:, None]), targets)
    assert ranks.tolist() == [1 + 2 / 2, 2 + 2 / 2, 1 + 3 / 2, 3]


def test_scores_that_are_no_numbers_are_misses_not_hits():
    scores = torch.tensor([[torch.nan, 1, 2, 3], [torch.nan] * 4, [torch.nan, 4, 3, 2]])
    targets = torch.tensor([0, 0, 1])
    ranks = rank_of(scores, scores.gather(1, targets[:, None]), targets)
    assert ranks.tolist() == [5, 5, 2]


def test_a_target_seen_before_is_a_miss_at_every_cutoff(tmp_path):
    folder = write_table(tmp_path / "t", [events(0, 1, 2, 3, 0)], items=10)
    found = evaluate(
        lambda _: (torch.ones(1, 1), against(torch.arange(10.0)[:, None])), loader_of(folder), seen="window"
    )
    assert found.ranks.tolist() == [MISS]
    assert found.metrics()["hr@200"] == found.metrics()["ndcg@200"] == 0
    kept = evaluate(lambda _: (torch.ones(1, 1), against(torch.arange(10.0)[:, None])), loader_of(folder), seen="none")
    assert kept.ranks.tolist() == [10]


def test_what_is_older_than_the_window_is_left_out_by_history_alone(tmp_path):
    folder = write_table(tmp_path / "t", [events(9, 8, 7, 1, 2, 3)], items=10)
    ranks = {
        seen: evaluate(
            lambda _: (torch.ones(1, 1), against(torch.arange(10.0)[:, None])), loader_of(folder, max_len=2), seen=seen
        ).ranks.tolist()
        for seen in ("none", "window", "history")
    }
    assert ranks == {"none": [7], "window": [7], "history": [4]}  # 9, 8 and 7 are before 3 unless they are left out


def test_coverage_is_the_share_of_the_catalogue_that_anybody_is_shown(tmp_path):
    folder = write_table(tmp_path / "t", [events(0, 1, 2), events(3, 4, 5)], items=300)
    found = evaluate(lambda _: (torch.ones(2, 1), against(torch.arange(300.0)[:, None])), loader_of(folder)).metrics()
    assert found["coverage@1"] == pytest.approx(1 / 300)
    assert found["coverage@200"] == pytest.approx(200 / 300)
    split_by_user = torch.eye(2).repeat(150, 1)  # user 0 scores the even items 1, user 1 the odd ones
    found = evaluate(lambda _: (torch.eye(2), against(split_by_user)), loader_of(folder)).metrics()
    assert found["coverage@1"] == pytest.approx(2 / 300)


def test_seen_items_are_not_covered(tmp_path):
    folder = write_table(tmp_path / "t", [events(0, 1, 2)], items=4)
    scorer = popularity_scorer(np.arange(4))
    assert evaluate(scorer, loader_of(folder), seen="window").coverage["coverage@10"] == 2 / 4
    assert evaluate(scorer, loader_of(folder), seen="none").coverage["coverage@10"] == 1


def test_nobody_to_evaluate_is_told(tmp_path):
    with pytest.raises(InputError, match="There is nobody to evaluate"):
        evaluate(popularity_scorer(np.ones(3)), loader_of(write_table(tmp_path / "t", [events(0)], items=3)))


def test_popularity_counts_nothing_that_is_held_out(tmp_path):
    folder = write_table(tmp_path / "t", [events(0, 0, 1, 2, 3), events(4, 5), events(6, 1, 4)], items=8)
    table, config = open_table(folder), tiny_config(folder)
    # the first user trains on 0, 0, 1; the others have nothing to train on but what is held out
    train = RetrievalLoader(table, "train", config.data, held_out=2)
    assert popularity(table, train).tolist() == [2, 1, 0, 0, 0, 0, 0, 0]


def test_the_popularity_baseline_ranks_by_training_counts(tmp_path):
    # item 5 is the test target of everybody, and would come first if the held-out events were counted
    users = [events(0, 1, 2, 6, 5), events(3, 0, 1, 6, 5), events(0, 4, 2, 6, 5)]
    folder = write_table(tmp_path / "t", users, items=8)
    task = RetrievalTask(tiny_config(folder), open_table(folder))
    found = task.report(task.build(), "test", torch.device("cpu"))["popularity"]
    # for the first user 0, 1, 2 and 6 are seen; 3 and 4 were trained on; 5 ties with 7 at no count
    assert found["mrr"] == pytest.approx(1 / 3.5)
    assert (found["hr@1"], found["hr@10"]) == (0, 1)


def test_the_same_model_gets_the_same_ranks_in_batches_of_any_size(tmp_path):
    folder = write_table(tmp_path / "t", random_users(30, items=ITEMS, longest=9), items=ITEMS)
    torch.manual_seed(0)
    model = build(HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=16), Vocabulary(items=ITEMS)).eval()
    found = [
        evaluate(model_scorer(model), loader_of(folder, max_len=9, users_per_batch=size)).ranks.tolist()
        for size in (1, 7, 100)
    ]
    assert found[0] == found[1] == found[2]


def test_measuring_leaves_the_model_in_training_and_draws_nothing(tmp_path):
    folder = write_table(tmp_path / "t", random_users(30, items=ITEMS, longest=9), items=ITEMS)
    config, table = tiny_config(folder), open_table(folder)
    model = build(config.model, vocabulary(table, config)).train()
    before = torch.get_rng_state()
    first, second = (evaluate_part(model, table, config, "test", torch.device("cpu")) for _ in range(2))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert (first.ranks == second.ranks).all()  # dropout was off
