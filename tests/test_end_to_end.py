"""A raw log in, recommendations out, through the commands a person types."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import louder
from louder.cli import app
from louder.data.synthetic import checkerboard, write_log


def run(*words: str) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Even users meet even items, odd users odd ones: what is right is known without running anything."""
    folder = tmp_path_factory.mktemp("checkerboard")
    write_log(checkerboard(300, 40, length=12, communities=2, seed=0), folder / "log.csv")
    run("etl", folder / "log.csv", "-o", folder / "table")
    sizes = ["model.width=16", "model.qk_width=8", "model.v_width=8", "data.users_per_batch=16"]
    settings = [word for size in [*sizes, "training.epochs=12"] for word in ("--set", size)]
    run("train", "demo", "--table", folder / "table", "-o", folder / "run", *settings, "--json")
    return folder


def test_recommendations_come_from_the_users_own_community(trained: Path) -> None:
    for user in 0, 1, 42, 77:
        items = json.loads(run("recommend", trained / "run", "--user", user, "-k", "5", "--json"))
        assert [item["item"] % 2 for item in items] == [user % 2] * 5


def test_somebody_new_is_recommended_the_community_of_their_history(trained: Path, tmp_path: Path) -> None:
    for community in 0, 1:
        history = tmp_path / f"{community}.json"
        history.write_text(json.dumps([community, community + 2, community + 4]))
        items = json.loads(run("recommend", trained / "run", "--history", history, "-k", "5", "--json"))
        assert [item["item"] % 2 for item in items] == [community] * 5


def test_python_and_the_command_line_give_the_same(trained: Path) -> None:
    typed = json.loads(run("recommend", trained / "run", "--user", "42", "-k", "5", "--json"))
    called = louder.load(trained / "run").recommend(user=42, k=5)
    assert [(item.item, item.score) for item in called] == [(item["item"], item["score"]) for item in typed]


def test_evaluate_repeats_what_training_reported(trained: Path) -> None:
    again = json.loads(run("evaluate", trained / "run", "--json"))
    reported = json.loads((trained / "run" / "metrics.json").read_text())
    assert again["metrics"] == reported["metrics"]
    assert again["metrics"]["hr@50"] == 1.0  # 40 items in all
    # half of the catalogue is out of the question, and the model knows which
    assert again["metrics"]["mrr"] > 1.5 * again["popularity"]["mrr"]


def test_the_report_is_written_beside_the_run(trained: Path) -> None:
    run("report", trained / "run")
    assert "demo" in (trained / "run" / "report.html").read_text(encoding="utf-8")
