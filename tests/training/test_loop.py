"""A run: what a step does, what a folder holds, and what is said when it cannot go on."""

import json
import math
from dataclasses import replace

import pytest
import torch
from tables import checkerboard, events, random_users, tiny_config, write_table

from louder import checkpoint
from louder.data.config import DataConfig
from louder.data.stochastic_length import StochasticLength
from louder.data.targets import SplitConfig
from louder.errors import InputError
from louder.models import HSTUConfig, SASRecConfig, TransformerConfig
from louder.results import read_rows
from louder.training import loop, retrieval
from louder.training.config import EvaluationConfig, TrainingConfig
from louder.training.loop import Trainer, choose_device, train
from louder.training.losses import LossConfig
from louder.training.optimizers import clip_gradient, groups, learning_rate
from louder.training.retrieval import part_loader
from louder.training.task import open_config_table
from louder.training.tasks import evaluate_run, open_task


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "table", random_users(40, longest=12), items=15, titles=True)


def with_training(config, **changes):
    return replace(config, training=replace(config.training, **changes))


def test_a_run_holds_what_is_needed_to_use_it_and_to_get_it_again(table, tmp_path):
    config, run = tiny_config(table), tmp_path / "run"
    result = train(config, run, quiet=True)
    assert {file.name for file in run.iterdir()} == {
        "config.json",
        "log.jsonl",
        "metrics.json",
        "best.json",
        "items.parquet",
        "vocabulary",
        "tensorboard",
        "checkpoints",
    }
    written = json.loads((run / "metrics.json").read_text())
    assert {"command", "commit", "machine", "seed", "protocol", "train_seconds"} <= written.keys()
    assert written["metrics"] == result["metrics"]
    assert (result["protocol"], result["part"], result["epochs_trained"]) == ("validated", "test", 2)
    rows = read_rows(run / "log.jsonl")
    steps = [row for row in rows if row["kind"] == "step"]
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
    assert [row["epoch"] for row in rows if row["kind"] == "epoch"] == [0, 1]
    assert {row["part"] for row in rows if row["kind"] == "epoch"} == {"validation"}
    assert list((run / "tensorboard").iterdir())


def test_the_loss_falls(tmp_path):
    table = write_table(tmp_path / "t", checkerboard(users=60))
    config = tiny_config(table, loss=LossConfig(kind="full_softmax", temperature=0.2))
    config = with_training(config, epochs=8, learning_rate=1e-2, checkpoint_steps=1000)
    train(config, tmp_path / "run", quiet=True)
    losses = [row["loss"] for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "epoch"]
    assert losses[-1] < losses[0] - 0.3
    # knowing the colour and nothing else is log 10 instead of log 20
    assert losses[0] > math.log(10) > losses[-1] - 0.35


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": LossConfig(kind="bce", num_negatives=1)},
        {"loss": LossConfig(negatives="popularity", logq=True, num_negatives=4)},
        {"loss": LossConfig(kind="gbce", negatives="in_batch", num_negatives=4)},
        {"model": SASRecConfig(width=8, hidden=8, max_len=16)},
        {"model": TransformerConfig(width=8, hidden=8, max_len=16)},
        {"data": DataConfig(max_len=12, events_per_batch=40, stochastic_length=StochasticLength(alpha=1.2))},
        {"data": DataConfig(max_len=12, split=SplitConfig(kind="users", test_users=0.2))},
        {"data": DataConfig(split=SplitConfig(kind="time", validation_from=60_000, test_from=80_000), max_len=9)},
        {"training": TrainingConfig(epochs=1, precision="bfloat16", schedule="cosine", warmup_steps=3, clip_norm=1.0)},
        {
            "training": TrainingConfig(embedding_optimizer="rowwise_adamw", precision="bfloat16", clip_norm=1.0),
            "loss": LossConfig(negatives="in_batch", logq=True, num_negatives=4, shared_negatives=True),
        },
        {
            "training": TrainingConfig(embedding_optimizer="rowwise_adagrad", weight_decay=0.1),
            "loss": LossConfig(kind="bce", num_negatives=1),
        },
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_part_of_a_config_trains(changes, table, tmp_path):
    config = tiny_config(table, **changes)
    config = replace(config, data=replace(config.data, table=str(table)))
    result = train(with_training(config, epochs=1, device="cpu"), tmp_path / "run", quiet=True)
    losses = [row["loss"] for row in read_rows(tmp_path / "run" / "log.jsonl")]
    assert all(map(math.isfinite, losses))
    assert 0 <= result["metrics"]["mrr"] <= 1


# --- steps -------------------------------------------------------------------------------------------------------


def test_warm_up_and_schedules_have_the_values_of_their_formulas():
    def rates(schedule, warmup):
        training = TrainingConfig(learning_rate=0.8, schedule=schedule, warmup_steps=warmup)
        return [learning_rate(training, step, 8) for step in range(9)]

    assert rates("constant", 0) == [0.8] * 9
    assert rates("constant", 4) == pytest.approx([0.2, 0.4, 0.6] + [0.8] * 6)
    assert rates("linear", 0) == pytest.approx([0.8 * (1 - i / 8) for i in range(9)])
    assert rates("linear", 4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.6, 0.4, 0.2, 0.0])
    half = 0.4
    assert rates("cosine", 4)[4:] == pytest.approx(
        [0.8, half + half * math.sqrt(0.5), half, half - half * math.sqrt(0.5), 0.0]
    )


def test_the_rate_of_each_step_is_logged_and_used(table, tmp_path):
    config = with_training(tiny_config(table), schedule="linear", warmup_steps=2, learning_rate=0.01)
    train(config, tmp_path / "run", quiet=True)
    rows = [row for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "step"]
    steps = len(rows)
    expected = [0.005, 0.01] + [0.01 * (1 - i / (steps - 2)) for i in range(steps - 2)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)


def test_a_clipped_gradient_has_the_norm_asked_for(table, tmp_path):
    config = with_training(tiny_config(table), clip_norm=1e-4)
    trainer = Trainer(config, open_task(config), tmp_path / "run")
    trainer.step(next(trainer.loader.batches()))
    norm = torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-4, rel=1e-3)


BY_ROW = ["rowwise_adamw", "rowwise_adagrad"]


@pytest.mark.parametrize("optimizer", BY_ROW)
def test_a_sparse_gradient_is_clipped_to_the_norm_of_its_rows_added_up(optimizer, table, tmp_path):
    config = tiny_config(table, loss=LossConfig(num_negatives=2))
    found = []
    for name in "adamw", optimizer:
        clipped = with_training(config, embedding_optimizer=name, clip_norm=1e-4)
        trainer = Trainer(clipped, open_task(config), tmp_path / "run")
        trainer.step(next(trainer.loader.batches()))
        grads = [p.grad for p in trainer.model.parameters()]
        assert any(grad.is_sparse for grad in grads) == (name != "adamw")
        found.append(torch.cat([grad.to_dense().flatten() for grad in grads]))
    assert found[1].norm().item() == pytest.approx(1e-4, rel=1e-3)
    torch.testing.assert_close(*found)


def test_a_gradient_shorter_than_the_norm_is_left_as_it_is():
    model = torch.nn.Embedding(5, 2, sparse=True)
    model(torch.tensor([1, 1, 3])).sum().backward()
    clip_gradient(model, 100.0)
    assert model.weight.grad.to_dense().tolist() == [[0, 0], [2, 2], [0, 0], [1, 1], [0, 0]]


@pytest.mark.parametrize("optimizer", BY_ROW)
def test_the_tables_have_the_row_wise_optimizer_with_a_rate_of_their_own_and_the_rest_has_adamw(
    optimizer, table, tmp_path
):
    config = with_training(
        tiny_config(table),
        embedding_optimizer=optimizer,
        learning_rate=0.1,
        embedding_learning_rate=0.3,
        warmup_steps=4,
    )
    trainer = Trainer(config, open_task(config), tmp_path / "run")
    for number in range(2):
        trainer.step(next(trainer.loader.batches()))
        rates = [group["lr"] for group in groups(trainer.optimizers)]
        assert rates == pytest.approx([0.1 * (number + 1) / 4, 0.3 * (number + 1) / 4])
        trainer.progress.step += 1
    dense, by_row = (group["params"] for group in groups(trainer.optimizers))
    assert [p is trainer.model.events.items.weight for p in by_row] == [True]
    assert len(dense) + 1 == len(list(trainer.model.parameters()))
    same = Trainer(with_training(config, embedding_learning_rate=None), open_task(config), tmp_path / "run")
    assert [group["lr"] for group in groups(same.optimizers)] == [0.1, 0.1]


def test_adamw_has_a_rate_of_their_own_for_the_tables_as_well(table, tmp_path):
    """The first step of AdamW moves every weight by its rate, if it has a gradient."""
    config = with_training(tiny_config(table), learning_rate=0.1, embedding_learning_rate=0.001)
    trainer = Trainer(config, open_task(config), tmp_path / "run")
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.step(next(trainer.loader.batches()))
    assert [group["lr"] for group in groups(trainer.optimizers)] == [0.1, 0.001]
    for name, weight in trainer.model.named_parameters():
        rate = 0.001 if name == "events.items.weight" else 0.1
        assert (weight - before[name]).abs().max().item() == pytest.approx(rate, rel=0.05), name


@pytest.mark.parametrize("optimizer", ["adamw", *BY_ROW])
def test_a_rate_of_zero_freezes_the_tables_and_nothing_else(optimizer, table, tmp_path):
    config = with_training(
        tiny_config(table), embedding_optimizer=optimizer, embedding_learning_rate=0.0, weight_decay=0.1
    )
    trainer = Trainer(config, open_task(config), tmp_path / "run")
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    for _ in range(3):
        trainer.step(next(trainer.loader.batches()))
    same = [name for name, weight in trainer.model.named_parameters() if torch.equal(weight, before[name])]
    assert same == ["events.items.weight"]


@pytest.mark.parametrize("optimizer", BY_ROW)
def test_a_step_leaves_the_rows_it_did_not_use_as_they_were(optimizer, tmp_path):
    table = write_table(tmp_path / "t", [events(0, 1, 2, 3, 4)] * 6, items=40)
    config = tiny_config(table, loss=LossConfig(num_negatives=3, negatives="in_batch", shared_negatives=True))
    config = with_training(config, embedding_optimizer=optimizer, weight_decay=0.1)
    trainer = Trainer(config, open_task(config), tmp_path / "run")
    items = trainer.model.events.items.weight
    before = items.detach().clone()
    trainer.step(next(trainer.loader.batches()))
    moved = (items != before).any(1).nonzero()[:, 0].tolist()
    assert moved == [0, 1, 2]  # the events that training sees: histories and targets


@pytest.mark.parametrize("optimizer", ["adamw", *BY_ROW])
@pytest.mark.parametrize("shared", [False, True])
def test_the_loss_falls_with_every_optimizer_of_the_tables(optimizer, shared, tmp_path):
    table = write_table(tmp_path / "t", checkerboard(users=60))
    config = tiny_config(table, loss=LossConfig(num_negatives=8, shared_negatives=shared, temperature=0.2))
    config = with_training(
        config,
        epochs=8,
        learning_rate=1e-2,
        checkpoint_steps=1000,
        embedding_optimizer=optimizer,
        embedding_learning_rate=None if optimizer == "adamw" else 3e-2,
    )
    train(config, tmp_path / "run", quiet=True)
    losses = [row["loss"] for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "epoch"]
    assert losses[-1] < losses[0] - 0.3


def test_two_runs_of_a_config_are_equal_and_another_seed_is_not(table, tmp_path):
    config = tiny_config(table)
    for name, seed in ("a", 42), ("b", 42), ("c", 43):
        train(with_training(config, seed=seed), tmp_path / name, quiet=True)
    a, b, c = (
        [row["loss"] for row in read_rows(tmp_path / name / "log.jsonl") if row["kind"] == "step"] for name in "abc"
    )
    assert a == b
    assert all(x != y for x, y in zip(a, c))


def test_a_loss_that_is_no_number_is_told_with_what_to_try(table, tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval, "batch_loss", lambda model, *_: model.events.items.weight.sum() * torch.nan)
    with pytest.raises(InputError, match=r"The loss became nan at step 0\. Lower the rate \(--set training\.learning"):
        train(tiny_config(table), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "best.json").exists()


def test_a_model_that_broke_in_the_last_step_is_not_the_best(table, tmp_path):
    config = tiny_config(table)
    trainer = Trainer(config, open_task(config), tmp_path / "run")
    with torch.no_grad():
        trainer.model.events.items.weight.fill_(torch.nan)
    assert trainer.evaluate_epoch(0)[0]["hr@1"] == 0


# --- which epoch -------------------------------------------------------------------------------------------------


def scripted(monkeypatch, values):
    """Evaluation that gives these values of NDCG@10, one after the other."""
    names = ["hr@10", "ndcg@10"]
    script = iter(values)

    class Result:
        def metrics(self):
            return dict.fromkeys(names, next(script))

    monkeypatch.setattr(retrieval, "evaluate_part", lambda *_: Result())
    monkeypatch.setattr(
        loop.tasks, "evaluate_run", lambda run, **_: {"best": json.loads((run / "best.json").read_text())}
    )


def test_patience_stops_after_so_many_evaluations_without_a_better_one(table, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.1, 0.3, 0.2, 0.3, 0.9])
    result = train(with_training(tiny_config(table), epochs=9, patience=2), tmp_path / "run", quiet=True)
    assert result["epochs_trained"] == 4  # an equal one is no better one
    assert result["best"]["epoch"] == 1
    kept = sorted(folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir())
    assert len(kept) == 2  # the best and the latest
    assert kept[0] == result["best"]["checkpoint"]


def test_evaluation_every_second_epoch_and_after_the_last(table, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.1, 0.2, 0.3])
    config = tiny_config(table, evaluation=EvaluationConfig(every_epochs=2))
    result = train(with_training(config, epochs=5), tmp_path / "run", quiet=True)
    rows = [row for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "epoch"]
    assert [row["epoch"] for row in rows if "part" in row] == [1, 3, 4]
    assert result["best"]["epoch"] == 4


def test_a_run_whose_time_is_up_stops_within_an_epoch_and_is_measured(table, tmp_path, monkeypatch):
    config = with_training(tiny_config(table, evaluation=EvaluationConfig(every_epochs=2)), epochs=9, minutes=1.0)
    now, steps = [0.0], Trainer.step
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])

    def slow(self, batch):
        now[0] += 9.0
        return steps(self, batch)

    monkeypatch.setattr(Trainer, "step", slow)
    result = train(config, tmp_path / "run", quiet=True)
    each = Trainer(config, open_task(config), tmp_path / "none").loader.steps()
    rows = [row for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "epoch"]
    assert rows[-1]["step"] == 7 and 7 % each  # 7 steps of 9 s: the first moment after 60 s
    assert (result["stopped_by"], result["epochs_trained"]) == ("minutes", 7 // each + 1)
    assert "part" in rows[-1]
    more = train(with_training(config, minutes=2.0), tmp_path / "run", resume=True, quiet=True)
    assert more["train_seconds"] == 126.0  # 14 steps


def test_what_ended_a_run_is_told(table, tmp_path):
    assert train(with_training(tiny_config(table), epochs=1), tmp_path / "a", quiet=True)["stopped_by"] == "epochs"
    impatient = with_training(tiny_config(table), epochs=50, patience=1, learning_rate=1e-30)
    assert train(impatient, tmp_path / "b", quiet=True)["stopped_by"] == "patience"


def test_at_most_so_many_users_are_measured_and_they_are_spread_over_the_part(table):
    config = tiny_config(table)
    whole = part_loader(open_config_table(config), config, "test")
    few = replace(config, evaluation=EvaluationConfig(users=3))
    loader = part_loader(open_config_table(few), few, "test")
    assert loader.spans.users.tolist() == [whole.spans.users[at * len(whole) // 3] for at in range(3)]
    rows = [batch.rows for batch in loader.batches()]
    assert torch.cat(rows).tolist() == loader.spans.lasts.tolist()
    assert len(part_loader(open_config_table(few), few, "train")) == len(
        part_loader(open_config_table(few), config, "train")
    )


def test_more_patience_lets_a_stopped_run_go_on(table, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.3, 0.2, 0.4, 0.1, 0.1])
    config = with_training(tiny_config(table), epochs=9, patience=1)
    assert train(config, tmp_path / "run", quiet=True)["epochs_trained"] == 2
    again = train(with_training(config, patience=2), tmp_path / "run", resume=True, quiet=True)
    assert again["epochs_trained"] == 5
    assert again["best"]["epoch"] == 2


def test_the_protocols_hold_out_and_select_as_they_say(tmp_path):
    table = write_table(tmp_path / "t", [events(0, 1, 2, 3, 4)] * 6, items=6)
    validated = tiny_config(table)
    official = replace(validated, protocol="official")
    opened = open_config_table(validated)
    latest = {
        (config.protocol, part): next(part_loader(opened, config, part).batches()).targets[-1].item()
        for config in (validated, official)
        for part in ("train", "validation", "test")
    }
    assert {key: value for key, value in latest.items() if key != ("official", "validation")} == {
        ("validated", "train"): 2,
        ("validated", "validation"): 3,
        ("validated", "test"): 4,
        ("official", "train"): 3,
        ("official", "test"): 4,
    }
    result = train(official, tmp_path / "run", quiet=True)
    rows = [row for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "epoch"]
    assert {row["part"] for row in rows} == {"test"}
    assert result["protocol"] == "official"
    with pytest.raises(InputError, match="protocol 'official', which keeps no validation part"):
        evaluate_run(tmp_path / "run", part="validation")


def test_a_run_evaluates_to_the_numbers_it_was_selected_by(table, tmp_path):
    train(tiny_config(table), tmp_path / "run", quiet=True)
    result = evaluate_run(tmp_path / "run", part="validation")
    rows = [row for row in read_rows(tmp_path / "run" / "log.jsonl") if row["kind"] == "epoch"]
    best = max(rows, key=lambda row: row["ndcg@10"])
    assert (result["epoch"], round(result["metrics"]["mrr"], 6)) == (best["epoch"], best["mrr"])
    assert evaluate_run(tmp_path / "run", seen="none")["seen_items_left_out"] == "none"


# --- bad input ---------------------------------------------------------------------------------------------------


def test_an_existing_run_is_not_touched_unasked(table, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "precious.txt").write_text("keep")
    with pytest.raises(InputError, match=r"run exists already\. Go on with it: --resume\. Start anew: --overwrite"):
        train(tiny_config(table), run, quiet=True)
    with pytest.raises(InputError, match=r"is not a run that can go on: its config\.json is missing or damaged"):
        train(tiny_config(table), run, resume=True, quiet=True)
    assert (run / "precious.txt").read_text() == "keep"


def test_overwriting_a_run_starts_anew(table, tmp_path):
    run = tmp_path / "run"
    train(with_training(tiny_config(table), epochs=3), run, quiet=True)
    train(with_training(tiny_config(table), epochs=1), run, overwrite=True, quiet=True)
    assert [row["epoch"] for row in read_rows(run / "log.jsonl") if row["kind"] == "epoch"] == [0]
    assert [folder.name for folder in tmp_path.iterdir() if "run" in folder.name] == ["run"]


def test_a_mistake_in_the_config_leaves_no_run(table, tmp_path):
    config = tiny_config(table, data=DataConfig(table=str(table), positive=("like",), max_len=12))
    with pytest.raises(InputError, match="has no action 'like'"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_table_without_times_has_no_bias_by_time_and_no_split_by_time(tmp_path):
    table = write_table(tmp_path / "t", [events(0, 1, 2, 3, 4, gap=1)] * 4, has_times=False)
    with pytest.raises(InputError, match=r"has no times, so a bias by time .*: --set model\.time_bias=false"):
        train(tiny_config(table), tmp_path / "run", quiet=True)
    timeless = HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=16, time_bias=False)
    assert train(tiny_config(table, model=timeless), tmp_path / "run", quiet=True)["users"] == 4
    by_time = DataConfig(table=str(table), max_len=9, split=SplitConfig(kind="time", validation_from=2, test_from=3))
    with pytest.raises(InputError, match="has no times to split by"):
        train(tiny_config(table, model=timeless, data=by_time), tmp_path / "other", quiet=True)


def test_a_table_in_which_nobody_has_enough_events_is_told(tmp_path):
    short = write_table(tmp_path / "short", [events(0, 1, 2), events(1, 2)])
    with pytest.raises(
        InputError, match=r"Nobody in .* has enough events for the train part .*a user needs at least 4"
    ):
        train(tiny_config(short), tmp_path / "run", quiet=True)
    empty = write_table(tmp_path / "ones", [events(0)] * 3, items=3)
    with pytest.raises(InputError, match="Nobody in"):
        train(replace(tiny_config(empty), protocol="official"), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_config_without_a_table_is_told(tmp_path):
    with pytest.raises(InputError, match=r"The config names no table. Pass --table FOLDER"):
        train(tiny_config(""), tmp_path / "run", quiet=True)
    with pytest.raises(InputError, match="is not a sequence table"):
        train(tiny_config(tmp_path / "nowhere"), tmp_path / "run", quiet=True)


def test_a_run_is_not_evaluated_on_a_table_of_other_items(table, tmp_path):
    train(tiny_config(table), tmp_path / "run", quiet=True)
    other = write_table(tmp_path / "other", random_users(20), items=16)
    with pytest.raises(InputError, match=r"other has grown since .*run was made: it has 16 items .*, and had 15"):
        evaluate_run(tmp_path / "run", table=str(other))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", "model.safetensors is missing, cut short or damaged"),
        ("state.json", "state.json is missing, cut short or damaged"),
    ],
)
def test_a_checkpoint_cut_short_is_told_when_it_is_used(name, message, table, tmp_path):
    run = tmp_path / "run"
    train(tiny_config(table), run, quiet=True)
    for folder in (run / "checkpoints").iterdir():
        file = folder / name
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=message):
        evaluate_run(run)
    with pytest.raises(InputError, match=message):
        train(tiny_config(table), run, resume=True, quiet=True)


def test_a_damaged_optimizer_is_told_when_a_run_goes_on(table, tmp_path):
    run = tmp_path / "run"
    train(tiny_config(table), run, quiet=True)
    (checkpoint.latest(run) / "optimizer.safetensors").unlink()
    with pytest.raises(InputError, match=r"optimizer\.safetensors is missing, cut short or damaged"):
        train(with_training(tiny_config(table), epochs=3), run, resume=True, quiet=True)


def test_a_run_without_a_best_checkpoint_is_told(tmp_path):
    with pytest.raises(InputError, match="There is no run"):
        evaluate_run(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has no best checkpoint yet"):
        evaluate_run(tmp_path / "run")


def test_a_device_that_is_none_is_told():
    with pytest.raises(InputError, match=r"training.device is 'gpu7', but it must be auto, cpu or cuda"):
        choose_device("gpu7")
    assert choose_device("cpu").type == "cpu"
