"""louder train, evaluate and recommend: their answers, and a mistake as one sentence with exit code 2."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from tables import random_users, tiny_config, write_table

from louder.config import to_dict
from louder.results import read_rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table, a config file and a finished run."""
    from louder.training.loop import train

    folder = tmp_path_factory.mktemp("place")
    write_table(folder / "table", random_users(40), items=15, titles=True)
    config = tiny_config(folder / "table")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(to_dict(config)))))
    train(config, folder / "run", quiet=True)
    return folder


def test_training_prints_its_metrics_beside_popularity(louder, place, tmp_path):
    code, out, err = louder("train", place / "tiny.yaml", "-o", tmp_path / "run", "--set", "training.epochs=1")
    assert code == 0, err
    assert "hr@10" in out
    assert "popularity" in out
    assert "epoch   1" in err
    assert (tmp_path / "run" / "best.json").is_file()


def test_training_gives_json_and_a_row(louder, place, tmp_path):
    code, out, _ = louder(
        "train", place / "tiny.yaml", "-o", tmp_path / "run", "--json", "--row", tmp_path / "rows.jsonl"
    )
    assert code == 0
    result = json.loads(out)
    (row,) = read_rows(tmp_path / "rows.jsonl")
    assert row["metrics"] == result["metrics"]
    assert row["experiment"] == "tiny"
    assert {"command", "commit", "seed", "machine", "train_seconds"} <= row.keys()


def test_show_prints_a_config_that_is_one(louder, tmp_path):
    code, out, _ = louder("train", "ml1m:hstu", "--show", "--set", "training.learning_rate=1e-4")
    assert code == 0
    (tmp_path / "shown.yaml").write_text(out)
    from louder import recipes

    shown, recipe = recipes.load(str(tmp_path / "shown.yaml")), recipes.load("ml1m:hstu")
    assert shown == replace(recipe, training=replace(recipe.training, learning_rate=1e-4))


def test_evaluate_gives_the_numbers_of_the_run(louder, place):
    code, out, _ = louder("evaluate", place / "run", "--json")
    assert code == 0
    assert json.loads(out)["metrics"] == json.loads((place / "run" / "metrics.json").read_text())["metrics"]
    code, out, _ = louder("evaluate", place / "run", "--seen", "history", "--part", "validation")
    assert (code, "on validation" in out) == (0, True)


def test_a_run_goes_on_with_a_table_that_has_moved_and_with_no_other(louder, place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.copytree(place / "table", tmp_path / "moved")
    write_table(tmp_path / "other", random_users(40), items=16, titles=True)
    more = ["train", place / "tiny.yaml", "-o", tmp_path / "run", "--resume", "--set", "training.epochs=9"]
    code, _, err = louder(*more, "--table", tmp_path / "other")
    assert code == 2 and f"{tmp_path}/other has grown since {tmp_path}/run was made" in err
    code, _, err = louder(*more, "--table", tmp_path / "moved")
    assert code == 0, err
    assert read_rows(tmp_path / "run" / "log.jsonl")[-1]["epoch"] == 8
    shutil.rmtree(place / "table")
    try:
        code, out, _ = louder("evaluate", tmp_path / "run")
    finally:
        shutil.copytree(tmp_path / "moved", place / "table")
    assert code == 0 and "hr@10" in out


def test_recommend_gives_items_with_titles(louder, place, tmp_path):
    code, out, _ = louder("recommend", place / "run", "--user", "102", "-k", "3", "--json")
    items = json.loads(out)
    assert (code, len(items)) == (0, 3)
    assert items[0]["title"] == f"Title {items[0]['item'] - 1000}"
    assert items[0]["score"] >= items[1]["score"] >= items[2]["score"]
    code, out, _ = louder("recommend", place / "run", "--user", "102", "-k", "3")
    assert (code, items[0]["title"] in out) == (0, True)
    (tmp_path / "me.json").write_text("[1003, 1004]")
    code, out, _ = louder("recommend", place / "run", "--history", tmp_path / "me.json", "--json", "--seen")
    assert (code, len(json.loads(out))) == (0, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train tiny.yaml -o new --set training.epoch=5", "Did you mean 'training.epochs'?"),
        ("train tiny.yaml -o new --set training.epochs=many", "training.epochs is 'many', which does not fit"),
        ("train tiny.yaml -o new --set training.epochs", "--set needs NAME=VALUE"),
        ("train tiny.yaml -o run", "run exists already. Go on with it: --resume."),
        ("train tiny.yaml -o run --resume --set model.layers=2", "was started with model.layers = 1, but now it is 2"),
        ("train tiny.yaml -o new --table nowhere", "nowhere is not a sequence table"),
        ("train ml1m:hsut -o new", "Did you mean ml1m:hstu?"),
        ("train none.yaml -o new", "The config none.yaml cannot be read"),
        ("evaluate nowhere", "There is no run nowhere. Make one: louder train RECIPE -o nowhere."),
        ("evaluate run --part train", "--part must be test or validation, but it is 'train'"),
        ("evaluate run --seen all", "--seen must be window, history or none, but it is 'all'"),
        ("recommend nowhere --user 102", "There is no run nowhere"),
        ("recommend run", "needs a user or a history"),
        ("recommend run --user 1", "There is no user '1' among the 40 known ones"),
        ("recommend run --user 102 -k 0", "k must be at least 1"),
        ("recommend run --history none.json", "The history none.json cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(louder, place, monkeypatch, arguments, message):
    monkeypatch.chdir(place)
    code, out, err = louder(*arguments.split())
    assert code == 2
    assert out == ""
    assert err.startswith("louder: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (place / "new").exists()
