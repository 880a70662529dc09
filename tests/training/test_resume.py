"""A run that is stopped or killed and goes on ends with the bits of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tables import (
    random_users,
    ranking_table,
    tiny_config,
    tiny_ranking_config,
    write_ranking_table,
    write_table,
)

from louder import checkpoint
from louder.config import to_dict
from louder.data.config import DataConfig
from louder.data.stochastic_length import StochasticLength
from louder.errors import InputError
from louder.models import DLRMConfig
from louder.results import read_rows
from louder.training.loop import Trainer, train
from louder.training.losses import LossConfig

CLOCKS = "seconds", "events_per_s"
MEASURED = "metrics", "actions", "values", "next_item"


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    users = random_users(40, longest=12, actions=2)
    return write_table(tmp_path_factory.mktemp("table") / "t", users, items=15, actions=["like", "share"])


def config_of(table):
    """Everything that draws random numbers: dropout, negatives, stochastic length, the order of users."""
    config = tiny_config(
        table,
        data=DataConfig(table=str(table), max_len=12, users_per_batch=8, stochastic_length=StochasticLength(alpha=1.3)),
        loss=LossConfig(negatives="popularity", logq=True, num_negatives=4),
    )
    return replace(
        config,
        training=replace(
            config.training, epochs=3, checkpoint_steps=3, schedule="cosine", warmup_steps=2, clip_norm=0.5
        ),
    )


def by_row(config, optimizer):
    """The same with a row-wise optimizer of the tables."""
    return replace(
        config,
        loss=replace(config.loss, shared_negatives=True),
        training=replace(config.training, embedding_optimizer=optimizer, embedding_learning_rate=0.05),
    )


def contents(run):
    """What must be equal: weights and moments of every kept checkpoint, the log and the result, without clocks."""
    tensors = {
        (folder.name, name, key): value
        for folder in sorted((run / "checkpoints").iterdir())
        for name in ("model", "optimizer")
        for key, value in checkpoint.load_tensors(folder, name).items()
    }
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_rows(run / "log.jsonl")]
    result = json.loads((run / "metrics.json").read_text())
    metrics = {name: result[name] for name in MEASURED if name in result}
    return tensors, rows, metrics, (run / "best.json").read_text()


def assert_same(run, expected):
    tensors, *rest = contents(run)
    assert tensors.keys() == expected[0].keys()
    for name, value in tensors.items():
        assert torch.equal(value, expected[0][name]), name
    assert rest == list(expected[1:])
    hidden = [file.name for file in run.rglob(".*")]
    assert hidden == []  # nothing half-written is left


@pytest.fixture(scope="module")
def uninterrupted(table, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    train(config_of(table), run, quiet=True)
    return contents(run)


def steps_of(uninterrupted):
    return sum(row["kind"] == "step" for row in uninterrupted[1])


def train_until(last, config, run, monkeypatch):
    """Stop a run before its step number `last`."""
    step = Trainer.step

    def stopping(self, batch):
        if self.progress.step == last:
            raise Stopped
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        with pytest.raises(Stopped):
            train(config, run, quiet=True)


def test_a_run_stopped_after_any_step_ends_with_the_same_bits(table, uninterrupted, tmp_path, monkeypatch):
    steps = steps_of(uninterrupted)
    assert steps > 8
    for last in range(0, steps, 2):  # every second: it is all one code path
        run = tmp_path / f"stopped-{last}"
        train_until(last, config_of(table), run, monkeypatch)
        train(config_of(table), run, resume=True, quiet=True)
        assert_same(run, uninterrupted)


@pytest.mark.parametrize("optimizer", ["rowwise_adamw", "rowwise_adagrad"])
def test_a_run_with_a_row_wise_optimizer_does_so_too(optimizer, table, tmp_path, monkeypatch):
    config = by_row(config_of(table), optimizer)
    train(config, tmp_path / "whole", quiet=True)
    whole = contents(tmp_path / "whole")
    kept = {key for folder, name, key in whole[0] if name == "optimizer" and key.startswith("events.items")}
    moments = {"rowwise_adamw": {"exp_avg", "exp_avg_sq", "step"}, "rowwise_adagrad": {"exp_avg_sq"}}
    assert {key.rpartition(".")[2] for key in kept} == moments[optimizer]
    for last in range(0, steps_of(whole), 4):
        run = tmp_path / f"stopped-{last}"
        train_until(last, config, run, monkeypatch)
        train(config, run, resume=True, quiet=True)
        assert_same(run, whole)


def test_a_run_that_keeps_an_average_does_so_too(table, tmp_path, monkeypatch):
    config = config_of(table)
    config = replace(config, training=replace(config.training, ema_decay=0.7))
    train(config, tmp_path / "whole", quiet=True)
    whole = contents(tmp_path / "whole")
    for last in range(0, steps_of(whole), 4):
        run = tmp_path / f"stopped-{last}"
        train_until(last, config, run, monkeypatch)
        train(config, run, resume=True, quiet=True)
        assert_same(run, whole)


@pytest.mark.parametrize("model", [None, DLRMConfig(width=4, expert_hidden=(8,), tower_hidden=4)], ids=["hstu", "dlrm"])
def test_a_ranking_run_does_so_too(model, tmp_path, monkeypatch):
    """A DLRM also keeps what it has seen of its counters."""
    log = write_ranking_table(tmp_path / "log", ranking_table(1, requests="contiguous", users=20, items=9))
    config = tiny_ranking_config(log, model, next_item=0.0 if model else 0.2)
    if model:
        config = replace(config, data=replace(config.data, users_per_batch=32))  # exposures
    train(config, tmp_path / "whole", quiet=True)
    whole = contents(tmp_path / "whole")
    assert ("features.norm.mean" in {key for _, _, key in whole[0]}) == bool(model)
    for last in range(0, steps_of(whole)):
        run = tmp_path / f"stopped-{last}"
        train_until(last, config, run, monkeypatch)
        train(config, run, resume=True, quiet=True)
        assert_same(run, whole)


def test_a_run_goes_on_whose_config_was_written_before_a_setting_came(table, tmp_path):
    run = tmp_path / "run"
    config = config_of(table)
    config = replace(config, training=replace(config.training, epochs=1))
    train(config, run, quiet=True)
    started = json.loads((run / "config.json").read_text())
    del started["training"]["embedding_optimizer"], started["loss"]["shared_negatives"]
    (run / "config.json").write_text(json.dumps(started))
    train(config, run, resume=True, quiet=True)
    changed = replace(config, training=replace(config.training, embedding_optimizer="rowwise_adagrad"))
    with pytest.raises(InputError, match=r"training\.embedding_optimizer = 'adamw', but now it is 'rowwise_adagrad'"):
        train(changed, run, resume=True, quiet=True)


def test_resuming_a_finished_run_changes_nothing(table, uninterrupted, tmp_path):
    run = tmp_path / "run"
    train(config_of(table), run, quiet=True)
    train(config_of(table), run, resume=True, quiet=True)
    assert_same(run, uninterrupted)


def test_resuming_a_run_that_never_began_begins_it(table, uninterrupted, tmp_path):
    train(config_of(table), tmp_path / "run", resume=True, quiet=True)
    assert_same(tmp_path / "run", uninterrupted)


def test_a_run_goes_on_to_more_epochs_as_if_they_had_been_asked_for_at_once(table, tmp_path):
    config = config_of(table)
    config = replace(config, training=replace(config.training, schedule="constant"))
    shorter = replace(config, training=replace(config.training, epochs=1))
    train(config, tmp_path / "whole", quiet=True)
    train(shorter, tmp_path / "run", quiet=True)
    train(config, tmp_path / "run", resume=True, quiet=True)
    assert_same(tmp_path / "run", contents(tmp_path / "whole"))


def test_a_log_cut_short_by_the_crash_is_mended(table, uninterrupted, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_until(5, config_of(table), run, monkeypatch)
    with open(run / "log.jsonl", "a") as log:
        log.write('{"step": 6, "epo')
    train(config_of(table), run, resume=True, quiet=True)
    assert_same(run, uninterrupted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"loss": LossConfig(negatives="popularity", logq=True, num_negatives=9)},
            r"loss\.num_negatives = 4, but now it is 9",
        ),
        ({"protocol": "official"}, "protocol = 'validated', but now it is 'official'"),
        ({"name": "other"}, "name = 'tiny', but now it is 'other'"),
    ],
    ids=["loss", "protocol", "name"],
)
def test_resuming_with_another_config_names_what_differs(change, message, table, tmp_path):
    config = replace(config_of(table), training=replace(config_of(table).training, epochs=1))
    train(config, tmp_path / "run", quiet=True)
    with pytest.raises(InputError, match=message):
        train(replace(config, **change), tmp_path / "run", resume=True, quiet=True)


def test_what_a_killed_run_had_half_written_is_swept_away(table, uninterrupted, tmp_path):
    run = tmp_path / "run"
    half = run / "checkpoints" / ".step-00000003.4711.tmp"
    config = config_of(table)
    train(replace(config, training=replace(config.training, epochs=1)), run, quiet=True)
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    train(config, run, resume=True, quiet=True)
    assert not half.exists()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"training": 5}'])
def test_resuming_with_a_damaged_config_is_told(damage, table, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(damage)
    with pytest.raises(InputError, match=r"is not a run that can go on: its config\.json is missing or damaged"):
        train(config_of(table), run, resume=True, quiet=True)


DRIVER = """
import json, os, signal, sys, time, traceback
from pathlib import Path
import torch, torch.utils.tensorboard
from louder.config import from_dict
from louder.training.config import Config
from louder.training.loop import train

torch.set_num_threads(1)
config, run = from_dict(Config, json.loads(sys.argv[1])), Path(sys.argv[2])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            train(config, run, resume=True, quiet=True)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if float(line):
        time.sleep(float(line))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_process_killed_at_random_moments_ends_with_the_same_bits(table, uninterrupted, tmp_path):
    """The driver forks a process that trains, and kills it after as many seconds as it reads; 0 lets it live."""
    run, moments = tmp_path / "run", random.Random(7)
    command = [sys.executable, "-c", DRIVER, json.dumps(to_dict(config_of(table))), str(run)]
    here = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=here) as driver:

        def live(seconds):
            driver.stdin.write(f"{seconds}\n")
            driver.stdin.flush()
            return int(driver.stdout.readline())

        ends = [live(moments.uniform(0.001, 0.4)) for _ in range(10)]
        assert set(ends) <= {-signal.SIGKILL, 0}
        assert ends.count(-signal.SIGKILL) >= 3
        assert live(0) == 0
        driver.stdin.close()
    assert_same(run, uninterrupted)
