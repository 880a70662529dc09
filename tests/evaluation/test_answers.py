"""The whole answer of two stages: who is asked, what the lists are worth, and how they are chosen."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from runs import untrained_run
from tables import Token, random_users, tiny_ranking_config, write_table

from louder import checkpoint
from louder.config import from_dict
from louder.data.config import DataConfig
from louder.data.table import open_table
from louder.data.targets import SplitConfig
from louder.errors import InputError
from louder.evaluation.answers import (
    Answers,
    answers,
    difference,
    final_scores,
    held_out_rows,
    list_metrics,
    ranks,
    report,
)
from louder.evaluation.calibration import calibrated
from louder.inference.engine import Engine
from louder.inference.request import Request, TableUser
from louder.inference.run import Run
from louder.inference.scoring import Scoring, keep, not_chosen
from louder.training.config import Config
from louder.training.two_stages import calibrate_run, whole_answers

ITEMS = 20
USERS = random_users(12, items=ITEMS, longest=12, actions=2)


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    table = write_table(folder / "table", USERS, items=ITEMS, actions=["like", "share"])
    return untrained_run(tiny_ranking_config(table, log_values=(), item_attributes=(), context=()), folder / "joint")


def found(logits, worth, targets, items=None, users=None, liked=None, scoring=None):
    logits = np.asarray(logits, dtype=float)
    everything = np.arange(logits.shape[1])
    log_next = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return Answers(
        users=np.arange(len(logits)) if users is None else np.array(users),
        liked=np.ones(len(logits), dtype=bool) if liked is None else np.array(liked),
        items=[everything if items is None else np.array(items)] * len(logits),
        log_next=list(log_next),
        worth=list(np.broadcast_to(np.asarray(worth, dtype=float), logits.shape)),
        targets=np.array(targets),
        popular=np.full(len(logits), 3.0),
        scoring=scoring or Scoring(),
        catalogue=logits.shape[1],
    )


def test_the_last_events_of_each_user_are_asked_for_and_evenly_spread(tmp_path):
    lengths = [1, 3, 9, 9]
    users = [[Token(i % 5, 10 * i) for i in range(n)] for n in lengths]
    table = open_table(write_table(tmp_path / "t", users, items=5))
    split = SplitConfig(kind="time", validation_from=10, test_from=20)
    rows = held_out_rows(table, "test", DataConfig(split=split), 2, most=9)
    offsets = table.offsets
    own = [rows[(rows >= a) & (rows < b)] - a for a, b in itertools.pairwise(offsets)]
    # of the users one has no history, one has a single held-out event, and two have seven, of which each gives three
    assert [x.tolist() for x in own] == [[], [2], [4, 6, 8], [4, 6, 8]]
    few = held_out_rows(table, "test", DataConfig(split=split), 2, most=2)
    assert few.tolist() == [offsets[2] + 8, offsets[3] + 8]  # one of every second user, the last
    every = held_out_rows(table, "test", DataConfig(split=split), 2, most=1000)
    assert len(every) == 1 + 7 + 7


def test_a_target_that_was_not_found_is_in_no_list_and_equal_scores_count_half():
    some = found([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]], 1.0, targets=[2, 0])
    assert ranks(some, some.log_next).tolist() == [3, 2]
    assert ranks(replace(some, targets=np.array([7, 0])), some.log_next).tolist() == [np.inf, 2]


def test_metrics_of_lists_that_are_known_by_construction():
    logits = np.tile(np.arange(20.0)[::-1], (4, 1))  # item 0 is likeliest
    worth = np.r_[np.full(10, 0.25), np.full(10, 0.75)]
    some = found(logits, worth, targets=[0, 9, 10, 19], liked=[True, False, True, False])
    by_next, by_worth = list_metrics(some, some.log_next), list_metrics(some, some.worth)
    assert (by_next["hr@10"], by_next["liked_hr@10"], by_next["mean_worth"]) == (0.5, 0.5, 0.25)
    assert by_next["ndcg@10"] == pytest.approx((1 + 1 / np.log2(11)) / 4) and by_next["coverage@10"] == 0.5
    assert by_worth["mean_worth"] == 0.75
    popular = list_metrics(some, None)
    assert popular["hr@10"] == 1 and popular["ndcg@10"] == pytest.approx(1 / 2)


def test_the_interval_counts_users_and_not_requests():
    users = np.array([0, 0, 1, 1])
    gain = difference(users, np.array([3, 9, 50, np.inf]), np.array([11, 12, 1, 10]))
    # the lists of one user are better both times, those of the other worse both times
    assert gain["mean"] == 0 and gain["high"] == pytest.approx(1.96 * np.sqrt(2 * 2**2) / 4)
    assert gain["low"] == -gain["high"]
    assert difference(users, np.arange(4), np.arange(4)) == {"mean": 0, "low": 0, "high": 0}
    assert difference(users[:0], np.zeros(0), np.zeros(0))["mean"] is None


def test_the_temperature_is_found_that_the_targets_were_drawn_with():
    random = np.random.default_rng(0)
    logits = 2.0 * random.normal(size=(4000, 30))
    p = np.exp(logits / 2.5)
    p /= p.sum(1, keepdims=True)
    targets = [random.choice(30, p=row) for row in p]
    scoring = calibrated(found(logits, 1.0, targets), "x")
    assert scoring.temperature == pytest.approx(2.5, rel=0.05) and scoring.retrieval == "x"


def test_a_ranker_that_knows_what_is_liked_counts_and_one_that_guesses_does_not():
    random = np.random.default_rng(1)
    logits = random.normal(size=(1500, 60))
    likes = np.where(random.random((1500, 60)) < 0.5, 0.95, 0.6)
    targets, liked = [], []
    for row, worth in zip(logits, likes):
        p = np.exp(row) / np.exp(row).sum()
        targets.append(random.choice(60, p=p))
        liked.append(random.random() < worth[targets[-1]])
    knows = calibrated(found(logits, likes, targets, liked=liked), "")
    guesses = calibrated(found(logits, random.permuted(likes, axis=1), targets, liked=liked), "")
    assert knows.weight <= 2 < guesses.weight
    rows = {row["weight"]: row for row in knows.chosen["rows"]}
    assert rows[knows.weight]["liked_ndcg@10"] > rows[None]["liked_ndcg@10"]
    assert len(rows) == len(knows.chosen["rows"]) == 12


def test_other_weights_and_temperatures_score_as_the_engine_would_with_them():
    logits = np.array([[2.0, 1.0, 0.5]])
    some = found(logits / 0.5, [0.1, 0.9, 0.5], targets=[0], scoring=Scoring(temperature=0.5))
    p = np.exp(logits / 2) / np.exp(logits / 2).sum()
    np.testing.assert_allclose(final_scores(some, 3.0, temperature=2.0), p**3 * [0.1, 0.9, 0.5])


def test_what_is_measured_is_what_the_engine_answers(joint):
    keep(
        Scoring(temperature=0.3, weight=0.7, retrieval=checkpoint.fingerprint(checkpoint.best(joint))), Run.open(joint)
    )
    engine = Engine(joint)
    config = from_dict(Config, engine.run.config)
    all_of_it = answers(engine, "test", config.data, held_out=2, requests=2000)
    assert all_of_it.scoring == engine.scoring and engine.scoring.weight == 0.7
    table, hits, alone = engine.table, [], []
    heads = table.request_rows()
    rows = held_out_rows(table, "test", config.data, 2, 2000)
    assert len(rows) == len(all_of_it.targets) > 5
    for row in rows:
        user = int(np.searchsorted(table.offsets, row, side="right") - 1)
        past = TableUser(table, user, int(heads[row] - table.offsets[user]))
        assert past.tokens > 0
        asked = Request(history=past, at=int(table.times[heads[row]]), user=table.user_ids.raws([user])[0], k=10)
        hits.append(table.ids[row] in engine.recommend(asked).items)
        alone.append(table.ids[row] in engine.recommend(replace(asked, retrieve=0)).items)
    measured = report(all_of_it)
    assert measured["default"]["hr@10"] == pytest.approx(np.mean(hits))
    assert measured["retrieval"]["hr@10"] == pytest.approx(np.mean(alone))
    assert 0 < np.mean(hits) < 1
    liked = (table.actions[rows] & 1) != 0
    assert measured["liked"] == liked.sum() and measured["default"]["liked_hr@10"] == pytest.approx(
        np.mean(np.array(hits)[liked])
    )


def test_what_was_chosen_is_kept_with_the_ranker_and_is_a_new_version(joint):
    before = Engine(joint).version
    chosen = calibrate_run(joint)
    engine = Engine(joint)
    assert engine.scoring == chosen and engine.version != before
    assert not_chosen(engine.run, engine.ranking_run, engine.scoring) == ""
    line = not_chosen(engine.run, engine.ranking_run, Scoring())
    assert line.startswith("How joint weighs P(next) was not chosen") and line.endswith(f"louder calibrate {joint}.")
    assert engine.scoring.weight in [row["weight"] for row in chosen.chosen["rows"]]
    keep(replace(chosen, retrieval="of another"), Run.open(joint))
    assert Engine(joint).scoring == Scoring(temperature=0.05)  # that of training, and nothing was chosen for these two
    (checkpoint.best(joint) / "scoring.json").write_text("{")
    with pytest.raises(InputError, match=r"damaged. Make it again: louder calibrate"):
        Engine(joint)
    (checkpoint.best(joint) / "scoring.json").unlink()


def test_runs_that_hold_out_different_events_are_not_measured_together(joint, tmp_path):
    config = from_dict(Config, Run.open(joint).config)
    alone = replace(config, ranking=None, evaluation=replace(config.evaluation, select="ndcg@10"))
    official = untrained_run(replace(alone, protocol="official"), tmp_path / "official")
    with pytest.raises(InputError, match="hold out different events"):
        whole_answers(official, "test", ranker=joint)
    same = untrained_run(alone, tmp_path / "same")
    both = whole_answers(same, "test", ranker=joint)
    assert len(both.targets) and both.scoring == Scoring(temperature=0.05)
    with pytest.raises(InputError, match="no two stages"):
        whole_answers(same, "test")
