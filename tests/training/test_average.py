"""Averages of weights: their formula, and that training does not notice them."""

from dataclasses import replace

import pytest
import torch
from tables import random_users, tiny_config, write_table
from torch import nn

from louder import checkpoint
from louder.results import read_rows
from louder.training.average import Average
from louder.training.loop import train

CLOCKS = "events_per_s", "seconds"


def test_an_average_weighs_a_step_less_with_each_one_after_it():
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.25)
    expected = model.weight.item()
    for step, weight in enumerate([3.0, 5.0, -1.0, 8.0], 1):
        nn.init.constant_(model.weight, weight)
        average.update(step)
        decay = min(0.25, (1 + step) / (10 + step))  # 2/11, then 1/4
        expected = decay * expected + (1 - decay) * weight
        with average.in_place() as latest:
            assert model.weight.item() == pytest.approx(expected)
            assert latest["weight.latest"] == weight
        assert model.weight.item() == weight


def test_the_model_has_its_own_weights_again_whatever_happens_meanwhile():
    model = nn.Linear(2, 2)
    average = Average(model, 0.9)
    nn.init.constant_(model.weight, 4.0)
    with pytest.raises(RuntimeError, match="evaluation"), average.in_place():
        raise RuntimeError("evaluation")
    assert torch.equal(model.weight, torch.full((2, 2), 4.0))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    table = write_table(tmp_path_factory.mktemp("t") / "table", random_users(40, longest=12), items=15)
    config = tiny_config(table)
    return replace(config, training=replace(config.training, epochs=2, learning_rate=0.02, checkpoint_steps=3))


def trained(config, run, decay):
    train(replace(config, training=replace(config.training, ema_decay=decay)), run, quiet=True)
    folder = checkpoint.latest(run)
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_rows(run / "log.jsonl")]
    return checkpoint.load_tensors(folder, "model"), checkpoint.load_tensors(folder, "optimizer"), rows


def test_training_does_not_notice_the_average_and_it_is_what_is_measured_and_kept(config, tmp_path):
    plain, moments, rows = trained(config, tmp_path / "plain", None)
    same, _, same_rows = trained(config, tmp_path / "same", 0.0)
    assert all(torch.equal(same[name], weight) for name, weight in plain.items())
    assert same_rows == rows  # an average of one step: the same metrics too
    averaged, kept, averaged_rows = trained(config, tmp_path / "averaged", 0.9)
    assert all(torch.equal(kept[f"{name}.latest"], weight) for name, weight in plain.items())
    assert all(torch.equal(kept[key], value) for key, value in moments.items())
    assert any(not torch.equal(averaged[name], weight) for name, weight in plain.items())
    assert [row for row in averaged_rows if row["kind"] == "step"] == [row for row in rows if row["kind"] == "step"]
    assert averaged_rows != rows
