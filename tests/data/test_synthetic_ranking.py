"""The synthetic ranking log: its truth is the one it states, and what it is made to need is needed."""

import json
from bisect import bisect_right
from collections import Counter
from math import sqrt

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from louder.cli import app
from louder.data import synthetic_ranking as synthetic
from louder.data.synthetic_ranking import AFFINITY, MOODS, RankingLog, ranking_log
from louder.errors import InputError
from louder.evaluation.ranking_metrics import RankingMetrics
from louder.schema import Manifest


@pytest.fixture(scope="module")
def log() -> RankingLog:
    return ranking_log(1_000)


def columns(table) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy() for name in table.column_names}


def metrics(log: RankingLog, probability: np.ndarray) -> dict:
    found = RankingMetrics(["like"])
    events = columns(log.events)
    found.update(probability[:, None], events["is_like"][:, None], events["user_id"], events["request_id"])
    return found.report()["actions"]["like"]


def test_a_log_is_its_seeds():
    one, again, other = (ranking_log(20, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert not one.events.equals(other.events)


def test_the_truth_is_the_formula_of_what_the_files_say():
    log = ranking_log(50, seed=3)
    category = dict(zip(log.items["item_id"].to_pylist(), log.items["category"].to_pylist()))
    moods: dict[int, list[tuple[int, str]]] = {}
    for entry in log.mood.to_pylist():
        moods.setdefault(entry["user_id"], []).append((entry["timestamp"], entry["value"]))
    liked: Counter = Counter()
    open_request, pending = None, []  # likes of a request count after it
    for event, truth in zip(log.events.to_pylist(), log.truth.to_pylist()):
        if event["request_id"] != open_request:
            liked.update(pending)
            open_request, pending = event["request_id"], []
        of = category[event["item_id"]]
        entries = moods[event["user_id"]]
        mood = entries[bisect_right(entries, event["timestamp"], key=lambda entry: entry[0]) - 1][1]
        row, column = MOODS.index(mood), synthetic.CATEGORIES.index(of)
        count = liked[event["user_id"], of]
        logit = synthetic.BIAS + AFFINITY[row, column] + synthetic.SLOPE * (np.log1p(count) - synthetic.CENTRE)
        logit += truth["quality"]
        assert truth["likes_before"] == count
        assert truth["probability"] == pytest.approx(1 / (1 + np.exp(-logit)))
        assert truth["log_watch"] == pytest.approx(synthetic.WATCH + synthetic.WATCH_SLOPE * logit)
        assert [truth[word] for word in ("user_id", "item_id", "request_id")] == [
            event[word] for word in ("user_id", "item_id", "request_id")
        ]
        if event["is_like"]:
            pending.append((event["user_id"], of))


def test_labels_and_watch_times_are_drawn_from_the_truth(log):
    like, watch = log.events["is_like"].to_numpy(), log.events["watch"].to_numpy()
    truth = columns(log.truth)
    p = truth["probability"]
    tenth = np.minimum(np.argsort(np.argsort(p)) * 10 // len(p), 9)
    for part in range(10):
        some = tenth == part
        assert abs((like - p)[some].sum()) < 4 * sqrt((p * (1 - p))[some].sum())
    assert metrics(log, p)["calibration"] == pytest.approx(1, abs=0.03)
    present = ~np.isnan(watch)
    assert 1 - present.mean() == pytest.approx(synthetic.WATCH_ABSENT, abs=0.01)
    error = np.log(watch[present]) - truth["log_watch"][present]
    assert error.mean() == pytest.approx(0, abs=0.01)
    assert error.std() == pytest.approx(synthetic.WATCH_NOISE, rel=0.02)


def test_a_model_needs_the_mood_and_the_counts(log):
    truth = columns(log.truth)
    best = metrics(log, truth["probability"])
    # the mood left out: moods are equally likely, so it is the mean over them
    of = truth["category"], truth["likes_before"], truth["quality"]
    no_mood = np.mean([synthetic.sigmoid(synthetic.logit(mood, *of)) for mood in range(len(MOODS))], axis=0)
    # the counts left out: the mean truth of all events of the same mood and item, more than such a model could know
    cell = truth["mood"] * synthetic.ITEMS + truth["item_id"] - 1
    no_counts = (np.bincount(cell, truth["probability"]) / np.maximum(np.bincount(cell), 1))[cell]
    assert best["ne"] < 0.75
    for poorer in no_mood, no_counts:
        found = metrics(log, poorer)
        assert best["ne"] + 0.1 < found["ne"] < 1
        assert best["auc"] - 0.05 > found["auc"] > 0.6


def test_the_mood_changes_and_likes_no_category_for_itself(log):
    mood = columns(log.mood)
    own = np.diff(mood["user_id"]) == 0
    assert (mood["value"][1:] != mood["value"][:-1])[own].all()
    assert (np.diff(mood["timestamp"])[own] >= 0).all()
    requests = len(np.unique(log.events["request_id"].to_numpy()))
    assert own.sum() / requests == pytest.approx(synthetic.MOOD_CHANGES, abs=0.02)
    share = np.bincount(log.truth["mood"].to_numpy()) / log.truth.num_rows
    assert share == pytest.approx(1 / len(MOODS), abs=0.03)
    assert AFFINITY.mean(0) == pytest.approx(0, abs=1e-12)


def test_some_requests_show_several_items(log):
    events = columns(log.events)
    assert (np.diff(events["timestamp"]) >= 0).all()
    request, first, size = np.unique(events["request_id"], return_index=True, return_counts=True)
    assert (request == np.arange(1, len(request) + 1)).all()
    assert (np.diff(events["request_id"]) >= 0).all()  # the items of a request follow each other
    for word in "user_id", "timestamp":
        assert (events[word] == events[word][first].repeat(size)).all()
    assert len(np.unique(events["request_id"] * 1_000 + events["item_id"])) == log.events.num_rows
    assert 0.3 < (size > 1).mean() < synthetic.SEVERAL + 0.01
    assert size.max() == synthetic.MOST


def test_the_command_writes_what_the_etl_reads(tmp_path):
    folder, table = tmp_path / "ranking", tmp_path / "table"
    command = ["data", "synth", "ranking", "-o", str(folder), "--users", "60", "--seed", "5"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f"Next: louder etl {folder / 'log.parquet'} --schema {folder / 'schema.yaml'}" in done.output
    log = ranking_log(60, seed=5)
    best = metrics(log, log.truth["probability"].to_numpy())
    assert f"The true probabilities have NE {best['ne']:.4f} and AUC {best['auc']:.4f}" in done.output
    assert pq.read_table(folder / "log.parquet").equals(log.events)
    assert pq.read_table(folder / "truth.parquet").equals(log.truth)
    made_by = json.loads(pq.read_schema(folder / "log.parquet").metadata[b"louder"])
    assert made_by == {"kind": "ranking", "users": 60, "requests": 30, "seed": 5}
    assert pyarrow.csv.read_csv(folder / "mood.csv").equals(log.mood)

    done = CliRunner().invoke(
        app, ["etl", str(folder / "log.parquet"), "--schema", str(folder / "schema.yaml"), "-o", str(table)]
    )
    assert done.exit_code == 0, done.output
    manifest = Manifest.read(table)
    assert (manifest.users, manifest.items, manifest.events) == (60, synthetic.ITEMS, log.events.num_rows)
    assert manifest.tokens == log.events.num_rows + log.mood.num_rows
    assert (manifest.actions, manifest.values, manifest.series) == (["like"], ["watch"], {"mood": len(MOODS)})
    assert manifest.has_requests
    assert not manifest.dropped
    assert not manifest.left_out
    assert pq.read_schema(table / "items.parquet").names == ["category"]
    assert pq.read_schema(table / "users.parquet").names == ["country"]
    sequences = pq.read_table(table / "sequences")
    kind, actions, watch = (np.concatenate(sequences[name].to_numpy()) for name in ("kind", "actions", "value.watch"))
    assert actions[kind == 0].sum() == log.events["is_like"].to_numpy().sum()
    assert np.isnan(watch[kind == 0]).sum() == log.events["watch"].null_count


def test_a_folder_is_not_replaced_unasked(tmp_path):
    (tmp_path / "ranking").mkdir()
    with pytest.raises(InputError, match="--overwrite"):
        synthetic.write_ranking_log(ranking_log(2), tmp_path / "ranking")
    synthetic.write_ranking_log(ranking_log(2), tmp_path / "ranking", overwrite=True)
    assert len(list((tmp_path / "ranking").iterdir())) == 6


@pytest.mark.parametrize("wrong", [{"users": 0}, {"requests": 2}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ranking_log(**wrong)
