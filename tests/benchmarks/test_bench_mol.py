"""The bench of searches under a mixture of logits: what its rows say is what the searches find."""

import json
from dataclasses import replace

import pytest
import torch
from tables import random_users, tiny_config, write_table
from typer.testing import CliRunner

from benchmarks.commands import app
from benchmarks.mol_topk import recall
from benchmarks.page import write_page
from benchmarks.rows import read
from louder.inference.mol_topk import Top
from louder.models import MoLConfig
from louder.training.loop import train


def bench(*words):
    return CliRunner().invoke(app, ["mol", *map(str, words)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mol")
    config = tiny_config(write_table(folder / "table", random_users(20, items=15), items=15))
    config = replace(
        config,
        model=replace(config.model, normalised=False),
        loss=replace(config.loss, temperature=1.0),
        mol=MoLConfig(query_components=2, item_components=2, width=4, query_hidden=4, gate_hidden=4),
        training=replace(config.training, epochs=1),
    )
    train(config, folder / "run", quiet=True)
    train(replace(config, mol=None), folder / "dot", quiet=True)
    return folder / "run"


def test_rows_of_a_run_and_of_a_random_catalogue(run, tmp_path):
    file = tmp_path / "mol_topk.jsonl"
    sizes = "--run", run, "--items", 300, "-k", 5, "--users", 3, "--repeats", 1
    done = bench(*sizes, "--json", file)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["case"] for row in rows} == {"run, k = 5", "random, 300 items, k = 5"}
    for row in rows:
        if row["implementation"] in ("brute force", "louder, two passes"):
            assert row["recall"] == 1
        assert row["scored"] <= row["items"]
    assert {row["implementation"] for row in rows if row["items"] == 300} > {"louder, combined 5_200"}
    write_page(read(file), tmp_path / "bench.html")
    text = (tmp_path / "bench.html").read_text()
    assert "Top k under a mixture of logits</a> · beside brute force" in text


def test_recall_is_the_share_of_the_true_items_or_of_what_ties_with_them():
    true = Top(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2.0, 1.0], [5.0, 5.0]]), torch.tensor([9, 9]))
    found = Top(torch.tensor([[1, 7], [8, 4]]), torch.tensor([[2.0, 0.5], [5.0, 5.0]]), torch.tensor([2, 2]))
    assert recall(found, true) == 3 / 4


def test_mistakes_are_told(run):
    assert "ask for fewer" in str(bench("-k", 20, "--items", 10).exception)
    assert "scores by dot product" in str(bench("--run", run.parent / "dot").exception)
