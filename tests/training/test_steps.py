"""One step of training: what is drawn in it, what moves in it, and what of it is written down."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tables import random_users, ranking_table, tiny_config, tiny_ranking_config, write_ranking_table, write_table

from louder.models import MoLConfig
from louder.results import read_rows
from louder.training import loop
from louder.training.config import TrainingConfig
from louder.training.loop import Trainer, train
from louder.training.losses import LossConfig
from louder.training.optimizers import groups, update
from louder.training.tasks import open_task

STILL = 1e-30  # a rate at which no weight moves, so that what differs between steps is what they draw


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("t") / "table", random_users(40, longest=12), items=15)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    log = ranking_table(1, requests="contiguous", users=30, longest=20, items=20)
    return write_ranking_table(tmp_path_factory.mktemp("log") / "table", log)


def with_training(config, **changes):
    return replace(config, training=replace(config.training, **changes))


def trainer_of(config, run):
    trainer = Trainer(config, open_task(config), run)
    trainer.model.train()
    return trainer


def losses_on_one_batch(config, run, steps=(0, 1, 2, 3)):
    """The loss of the same batch at steps of these numbers."""
    trainer, losses = trainer_of(with_training(config, learning_rate=STILL), run), []
    batch = next(trainer.loader.batches())
    for number in steps:
        trainer.progress.step = number
        losses.append(trainer.step(batch))
    return losses


def without_dropout(config):
    return replace(config, model=replace(config.model, dropout=0.0, linear_dropout=0.0))


def of_mol(config):
    mol = MoLConfig(query_components=3, item_components=2, width=4, query_hidden=8, gate_hidden=6)
    mol = replace(mol, user_dropout=0, item_dropout=0, gate_dropout=0)
    loss = replace(config.loss, temperature=1.0)
    return replace(config, model=replace(config.model, normalised=False), loss=loss, mol=mol)


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(num_negatives=4),
        LossConfig(num_negatives=4, shared_negatives=True),
        LossConfig(num_negatives=4, negatives="popularity"),
        LossConfig(num_negatives=4, negatives="in_batch"),
        LossConfig(num_negatives=4, kind="bce"),
    ],
    ids=lambda loss: f"{loss.kind}-{loss.negatives}-{loss.shared_negatives}",
)
@pytest.mark.parametrize("optimizer", ["adamw", "rowwise_adamw"])
def test_every_step_draws_negatives_of_its_own(loss, optimizer, table, tmp_path):
    config = without_dropout(tiny_config(table, loss=loss))
    losses = losses_on_one_batch(with_training(config, embedding_optimizer=optimizer), tmp_path)
    assert len(set(losses)) == 4


def test_every_step_of_a_mixture_of_logits_draws_negatives_of_its_own(table, tmp_path):
    losses = losses_on_one_batch(of_mol(without_dropout(tiny_config(table))), tmp_path)
    assert len(set(losses)) == 4


def test_every_step_draws_dropout_of_its_own(table, log, tmp_path):
    config = tiny_config(table, loss=LossConfig(kind="full_softmax"))  # which draws nothing else
    assert len(set(losses_on_one_batch(config, tmp_path))) == 4
    assert len(set(losses_on_one_batch(without_dropout(config), tmp_path))) == 1
    ranker = tiny_ranking_config(log, next_item=0.0)
    assert len(set(losses_on_one_batch(ranker, tmp_path))) == 4


def test_what_a_step_draws_is_told_by_its_number_and_the_seed(table, tmp_path):
    config = tiny_config(table)
    forth = losses_on_one_batch(config, tmp_path, [0, 1, 2, 3])
    torch.rand(7)  # what was drawn before changes nothing
    assert losses_on_one_batch(config, tmp_path, [3, 1, 2, 0]) == [forth[i] for i in (3, 1, 2, 0)]
    other = with_training(config, seed=43)
    batch = next(open_task(config).loader.batches())
    trainer = trainer_of(with_training(other, learning_rate=STILL), tmp_path)
    trainer.model.load_state_dict(trainer_of(config, tmp_path).model.state_dict())
    assert trainer.step(batch) != forth[0]


def test_steps_of_seeds_that_follow_each_other_draw_differently(table, tmp_path):
    """or a study over the seeds 42, 43, 44 would measure nearly the same draws three times"""
    config = with_training(without_dropout(tiny_config(table)), learning_rate=STILL)
    trainer, losses = trainer_of(config, tmp_path), []
    batch = next(trainer.loader.batches())
    for seed in 42, 43:
        trainer.config = with_training(config, seed=seed)  # of the draws alone: weights and batch are the same
        for number in range(5):
            trainer.progress.step = number
            losses.append(trainer.step(batch))
    assert len(set(losses)) == 10


@pytest.mark.parametrize("optimizer", ["adamw", "rowwise_adamw", "rowwise_adagrad"])
def test_a_step_forgets_the_gradient_of_the_one_before(optimizer, table, tmp_path):
    config = with_training(tiny_config(table), embedding_optimizer=optimizer, learning_rate=STILL)
    trainer, gradients = trainer_of(config, tmp_path), []
    batch = next(trainer.loader.batches())
    for _ in range(2):  # of the same number, so they draw the same
        trainer.step(batch)
        gradients.append({name: x.grad.to_dense().clone() for name, x in trainer.model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_the_optimizers_get_the_settings(table, tmp_path):
    settings = {"learning_rate": 0.1, "betas": (0.7, 0.8), "weight_decay": 0.3}
    for name in "adamw", "rowwise_adamw", "rowwise_adagrad":
        trainer = trainer_of(with_training(tiny_config(table), embedding_optimizer=name, **settings), tmp_path)
        for group in groups(trainer.optimizers):
            assert group["lr"] == 0.1
            assert group["weight_decay"] == 0.3
            assert group.get("betas", (0.7, 0.8)) == (0.7, 0.8)


def test_weights_that_get_no_gradient_decay_by_the_rate_times_the_decay(table, tmp_path):
    config = with_training(tiny_config(table), learning_rate=0.1, weight_decay=0.5)
    trainer = trainer_of(config, tmp_path)
    before = {name: x.detach().clone() for name, x in trainer.model.named_parameters()}
    update(trainer.model, trainer.optimizers, sum(0 * x.sum() for x in trainer.model.parameters()), None)
    for name, x in trainer.model.named_parameters():
        torch.testing.assert_close(x.detach(), before[name] * (1 - 0.1 * 0.5))


def test_a_step_moves_against_the_gradient_by_the_rate(table, tmp_path):
    """The first step of AdamW moves every weight by its rate, towards a lower loss."""
    trainer = trainer_of(with_training(tiny_config(table), learning_rate=0.01), tmp_path)
    before = {name: x.detach().clone() for name, x in trainer.model.named_parameters()}
    trainer.step(next(trainer.loader.batches()))
    for name, x in trainer.model.named_parameters():
        large = x.grad.abs() > 1e-3  # so that eps does not count
        expected = -0.01 * x.grad.sign()
        torch.testing.assert_close((x.detach() - before[name])[large], expected[large], rtol=1e-3, atol=1e-6)


def test_only_the_rows_of_the_log_that_are_asked_for_are_written(table, tmp_path):
    config = with_training(tiny_config(table), log_steps=3, checkpoint_steps=1000)
    train(config, tmp_path / "run", quiet=True)
    rows = [row for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "step"]
    assert [row["step"] for row in rows] == [3, 6]


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(table, tmp_path):
    train(tiny_config(table), tmp_path / "run", quiet=True)
    rows = read_rows(tmp_path / "run" / "log.jsonl")
    for epoch in 0, 1:
        steps = [row["loss"] for row in rows if row["kind"] == "step" and row["epoch"] == epoch]
        (whole,) = (row["loss"] for row in rows if row["kind"] == "epoch" and row["epoch"] == epoch)
        assert whole == pytest.approx(sum(steps) / len(steps))


def test_checkpoints_within_an_epoch_come_every_so_many_steps(table, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Trainer, "save", lambda self: saved.append((self.progress.step, self.progress.step_in_epoch)))
    monkeypatch.setattr(loop.tasks, "evaluate_run", lambda *_, **__: {})
    train(with_training(tiny_config(table), checkpoint_steps=3), tmp_path / "run", quiet=True)
    steps = max(step for step, _ in saved) // 2
    within = [step for step in range(3, 2 * steps, 3) if step != steps]
    assert sorted(saved) == sorted([(step, step % steps) for step in within] + [(steps, 0), (2 * steps, 0)])


def test_the_clock_of_a_run_counts_every_second_once(table, tmp_path, monkeypatch):
    """A clock that moves by 1 whenever it is read: no part of an epoch is counted twice, or not at all."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(loop.tasks, "evaluate_run", lambda *_, **__: {})
    train(with_training(tiny_config(table), checkpoint_steps=2), tmp_path / "run", quiet=True)
    whole = next(ticks)
    seconds = [row["seconds"] for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "epoch"]
    assert all(a < b for a, b in pairwise(seconds))
    assert 0.7 * whole < seconds[-1] < whole


# --- which epoch -------------------------------------------------------------------------------------------------


def epochs_with(monkeypatch, values, config, run):
    """Train with an evaluation that finds these values; the epochs that were trained, and the best of them."""
    from louder.training.task import Score

    script = iter(values)

    class Scripted:
        def __init__(self, task):
            self.task = task

        def __getattr__(self, name):
            return getattr(self.task, name)

        def evaluate(self, *_):
            value = next(script)
            return Score({"metric": value}, value, "")

    monkeypatch.setattr(loop.tasks, "open_task", lambda config: Scripted(open_task(config)))
    monkeypatch.setattr(loop.tasks, "evaluate_run", lambda *_, **__: {})
    result = train(config, run, quiet=True)
    return result["epochs_trained"], json.loads((run / "best.json").read_text())["epoch"]


def test_a_better_epoch_gives_all_of_the_patience_back(table, tmp_path, monkeypatch):
    config = with_training(tiny_config(table), epochs=9, patience=2)
    values = [0.3, 0.2, 0.4, 0.1, 0.5, 0.4, 0.5, 0.9, 0.9]
    assert epochs_with(monkeypatch, values, config, tmp_path / "run") == (7, 4)


def test_without_patience_every_epoch_is_trained_and_the_first_of_equals_is_best(table, tmp_path, monkeypatch):
    config = with_training(tiny_config(table), epochs=5)
    assert epochs_with(monkeypatch, [-3.0, -1.0, -1.0, -2.0, -4.0], config, tmp_path / "run") == (5, 1)


def test_a_run_keeps_the_best_and_the_latest_checkpoint(table, tmp_path, monkeypatch):
    config = with_training(tiny_config(table), epochs=4, checkpoint_steps=1000)
    assert epochs_with(monkeypatch, [0.1, 0.3, 0.2, 0.1], config, tmp_path / "run") == (4, 1)
    kept = sorted(int(folder.name.removeprefix("step-")) for folder in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept[1] == 2 * kept[0]
    pointer = json.loads((tmp_path / "run" / "best.json").read_text())
    assert pointer["checkpoint"] == f"step-{kept[0]:08d}"


def test_the_rate_falls_over_all_epochs_and_not_over_one(table, tmp_path):
    config = with_training(tiny_config(table), schedule="linear", epochs=4)
    trainer = trainer_of(config, tmp_path)
    steps = sum(trainer.loader.steps(epoch) for epoch in range(4))
    trainer.progress.step = steps // 2
    trainer.step(next(trainer.loader.batches()))
    assert trainer.rate() == pytest.approx(TrainingConfig().learning_rate / 2, rel=0.05)
