"""What experiments draw and choose."""

import pytest

from benchmarks.serving_load import Seen
from experiments import generative_to_equal_ne, ranking_search, search_page


def test_a_setting_is_a_function_of_the_model_and_the_trial():
    first = ranking_search.settings_of("ml1m", "hstu", 3)
    assert first == ranking_search.settings_of("ml1m", "hstu", 3) != ranking_search.settings_of("ml1m", "hstu", 4)
    assert ranking_search.settings_of("ml1m", "hstu", 0) == []
    names = [setting.split("=")[0] for setting in first]
    assert names == [*ranking_search.COMMON, "training.epochs", *ranking_search.SPACES["hstu"]]
    space = {**ranking_search.COMMON, "training.epochs": ranking_search.EPOCHS["ml1m"], **ranking_search.SPACES["hstu"]}
    for name, value in (setting.split("=") for setting in first):
        assert value in [str(x) for x in space[name]]


def test_the_best_trial_is_that_of_its_log_and_model():
    def row(log, model, ne):
        return {"experiment": f"{log}-search", "model": model, "ne": ne}

    rows = [row("ml1m", "hstu", 0.8), row("ml1m", "hstu", 0.7), row("ml1m", "dlrm", 0.6), row("kuairand", "hstu", 0.5)]
    assert ranking_search.best_of(rows, "ml1m", "hstu") is rows[1]


def test_training_is_compared_at_the_first_point_that_is_as_good():
    def points(rate, *values):
        return [{"exposures": rate * n, "seconds": 2.0 * n, "ne": ne} for n, ne in enumerate(values, 1)]

    row = generative_to_equal_ne.compared(points(100, 0.95, 0.9, 0.8), points(10, 0.99, 0.9, 0.92))
    assert (row["ne"], row["times_as_fast_to_equal_ne"], row["times_exposures_to_equal_ne"]) == (0.9, 1.0, 10.0)
    assert row["exposures_per_s"] == {"generative": 50.0, "impression": 5.0}
    assert row["times_exposures_per_s"] == 10.0


def test_the_worst_twentieth_does_not_stretch_a_scale():
    values = [1.0 + n / 100 for n in range(20)] + [50.0]
    low, high = search_page.scale(values[::-1])
    assert low == pytest.approx(1.0 - 0.05 * 0.19 - 1e-4)
    assert high == pytest.approx(1.19 + 0.05 * 0.19 + 1e-4)


def test_answers_of_a_load_have_quantiles_of_the_good_ones():
    seen = Seen()
    for n in range(100):
        seen.add(200, n / 1000)
    for _ in range(50):
        seen.add(429, 5.0)
    assert seen.facts() == {"requests": 150, "statuses": {"200": 100, "429": 50}, "p50_ms": 50.0, "p99_ms": 99.0}
    assert Seen().quantile(0.5) is None


def test_trial_0_of_ones_own_log_is_what_the_rules_choose_and_the_summary_is_ratios():
    from experiments import own_log

    assert own_log.settings_of("shop", 0) == []
    assert own_log.settings_of("shop", 3) == own_log.settings_of("shop", 3) != own_log.settings_of("shop", 4)
    assert [setting.split("=")[0] for setting in own_log.settings_of("shop", 1)] == list(own_log.SPACE)

    def row(trial, validation, test, seconds):
        row = {"experiment": "own-log-shop", "trial": trial, "settings": [f"t={trial}"], "cpu_seconds": seconds}
        return row | {"validation_ndcg@10": validation, "metrics": {"ndcg@10": test}}

    (found,) = own_log.summary([row(0, 0.3, 0.2, 30.0), row(1, 0.4, 0.25, 20.0), row(2, 0.2, 0.5, 10.0)])
    assert (found["table"], found["trials"], found["best"]) == ("shop", 2, ["t=1"])
    assert (found["validation"], found["test"], found["seconds"]) == (0.3 / 0.4, 0.2 / 0.25, 1.5)
    assert own_log.summary([row(0, 0.3, 0.2, 30.0)]) == []


def test_a_search_for_the_best_retrieval_goes_on_and_looks_at_validation_alone(tmp_path, monkeypatch):
    from experiments import retrieval_search
    from louder import recipes
    from louder.config import override
    from louder.results import read_rows
    from tests.tables import random_users, write_table

    table = write_table(tmp_path / "table", random_users())
    tiny = ["model.width=8", "model.qk_width=4", "model.v_width=4", "data.max_len=8", "model.max_len=8"]
    large = recipes.load("ml1m:hstu_large")
    monkeypatch.setattr(recipes, "load", lambda name: override(large, tiny))
    monkeypatch.setattr(retrieval_search, "SPACE", {"training.learning_rate": [0.01, 0.02], "model.layers": [1]})
    own = {"table": str(table), "runs": tmp_path / "runs", "rows": tmp_path / "rows.jsonl"}
    retrieval_search.attempt(1, **own, minutes=0.0, tokens=1)
    assert not own["rows"].exists()  # it had no time for an epoch
    retrieval_search.attempt(1, **own, minutes=None, tokens=1)
    (row,) = read_rows(own["rows"])
    assert (row["trial"], row["part"], row["settings"]) == (1, "validation", retrieval_search.settings_of(1))
    assert len(row["curve"]) == row["epochs"] == 1
    assert "test" not in (tmp_path / "runs" / "trial-1" / "log.jsonl").read_text()
    assert retrieval_search.best_of([row, {"ndcg@10": 2.0}]) == {"ndcg@10": 2.0}


def test_the_loss_by_length_of_the_history_is_the_whole_one_in_parts(tmp_path):
    from experiments.ranking_by_length import losses
    from louder.training.loop import train
    from louder.training.tasks import evaluate_run
    from tests.tables import ranking_table, tiny_ranking_config, write_ranking_table

    log = ranking_table(1, requests="contiguous", users=30, longest=20, items=20)
    train(tiny_ranking_config(write_ranking_table(tmp_path / "t", log)), tmp_path / "run", quiet=True)
    lengths, loss, labels, config = losses(tmp_path / "run")
    found = evaluate_run(tmp_path / "run")["actions"]["like"]
    assert config.name == "tiny-rank"
    assert (len(loss), labels.sum()) == (found["impressions"], found["positives"])
    assert abs(loss.mean() - found["log_loss"]) < 1e-6
    # the last request of a user is for the test: what came before it are all other events
    users = range(log.users)
    own = [slice(log.offsets[user], log.offsets[user + 1]) for user in users]
    before = [[log.requests[rows][log.kinds[rows] == 0]] for rows in own if (log.kinds[rows] == 0).any()]
    expected = [int((x != x[-1]).sum()) for (x,) in before for _ in range(int((x == x[-1]).sum()))]
    assert lengths.tolist() == expected
