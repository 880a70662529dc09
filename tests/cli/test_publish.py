"""louder publish and rollback, of a folder of versions; of a link see tests/serving/test_serve_command.py."""

import json

import pytest
import torch

from louder import checkpoint
from louder.publishing import current_version
from tests.publishing.versions import CONFIG, model


def written(run, seed, ne):
    state = model(seed=seed)
    weights = {**state.weights, "layers.0.out.weight": torch.zeros(4, 4)}
    checkpoint.save(checkpoint.step_folder(run, 1), model=weights, optimizer={}, state=dict(state.state))
    (run / "best.json").write_text('{"checkpoint": "step-00000001"}')
    (run / "config.json").write_text(json.dumps(CONFIG))
    measured = {"main": "like", "impressions": 5000, "actions": {"like": {"ne": ne, "auc": 0.7}}}
    (run / "metrics.json").write_text(json.dumps(measured))
    return run


@pytest.fixture
def runs(tmp_path):
    return [written(tmp_path / name, seed, ne) for name, seed, ne in (("a", 0, 0.8), ("b", 1, 0.81), ("c", 2, 0.9))]


def test_versions_are_published_printed_and_left(louder, runs, tmp_path):
    folder = tmp_path / "versions"
    assert louder("publish", runs[0], "--to", folder)[1].startswith(f"{folder} is at version 1: the whole model, 0.0")
    assert louder("publish", runs[1], "--to", folder)[0] == 0
    code, _, err = louder("publish", runs[2], "--to", folder)
    assert (
        code == 2
        and "was not published, so version 2 stays: its ne is 0.9000, and the served version has 0.8100" in err
    )
    assert f"If that is meant: louder publish {runs[2]} --to {folder} --force." in err
    code, out, _ = louder("publish", "--inspect", folder)
    assert code == 0 and "what was to follow version 2 was refused: its ne is 0.9000" in out
    found = json.loads(louder("publish", "--inspect", folder, "--json")[1])
    assert [(row["version"], row["parent"], row["served"]) for row in found["versions"]] == [
        (1, None, False),
        (2, 1, True),
    ]
    assert found["versions"][1]["window"]["metrics"] == {"ne": 0.81, "auc": 0.7} and len(found["refused"]) == 1
    assert louder("publish", runs[2], "--to", folder, "--force")[1].startswith(f"{folder} is at version 3")
    assert louder("rollback", folder)[1] == f"{folder} is at version 2.\n"
    assert louder("rollback", folder, 1)[1] == f"{folder} is at version 1.\n"
    assert current_version(folder).number == 1
    assert "version 2 was left for 1: rolled back by hand" in louder("publish", "--inspect", folder)[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["publish"], "What is to be published? Give a run: louder publish RUN LINK"),
        (["publish", "a"], "Where is it to be served? Give a link or a folder: louder publish a --to FOLDER"),
        (
            ["publish", "--inspect", "nowhere"],
            "nowhere has no version yet. Publish one: louder publish RUN --to nowhere",
        ),
        (["rollback", "nowhere", "3"], "nowhere is no folder of versions, so it has no numbers"),
        (
            ["publish", "a", "--to", "b"],
            "b holds best.json, which is no version, so it is left alone. Choose another: --to FOLDER",
        ),
        (["serve", "empty"], "empty is no run"),
    ],
)
def test_what_is_missing_is_one_sentence(louder, runs, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, err = louder(*words)
    assert code == 2 and sentence in err
