"""Windows of a log, each foretold by the model as it was and then trained on once."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from runs import untrained_run
from tables import Token, random_users, tiny_config, write_table

from louder import checkpoint
from louder.data.config import DataConfig
from louder.data.targets import SplitConfig
from louder.errors import InputError
from louder.inference.run import Run
from louder.training.loop import Trainer
from louder.training.tasks import open_task
from tests.online.streams import FAST, START, arrivals, learnt, require_equal, rows, write_log


@pytest.fixture(scope="module")
def users():
    return random_users(20, items=15, longest=12, actions=2)


@pytest.fixture(scope="module")
def table(tmp_path_factory, users):
    return write_table(tmp_path_factory.mktemp("table") / "t", users, items=15, actions=["like", "share"])


@pytest.fixture(scope="module")
def log(tmp_path_factory, users):
    return write_log(tmp_path_factory.mktemp("log") / "events", arrivals(users))


def test_every_event_but_a_users_first_is_foretold_once(table, users, log, tmp_path):
    learnt(tiny_config(table), log, tmp_path / "s")
    found = rows(tmp_path / "s")
    assert sum(row["events"] for row in found) == sum(map(len, users))
    assert sum(row["next_item"]["events"] for row in found) == sum(len(own) - 1 for own in users)
    assert all(row["upto"] % 9_000 == 8_999 for row in found[:-1]) and len(found) > 8
    assert all(row["first"] > before["upto"] for before, row in pairwise(found))


def test_one_window_of_all_trains_as_an_epoch_on_the_table(table, users, log, tmp_path):
    split = SplitConfig(kind="users", test_users=0.1)  # two users are for testing and two for validation
    config = tiny_config(
        table, data=DataConfig(table=str(table), max_len=12, users_per_batch=4, split=split, shuffle=False)
    )
    config = replace(config, training=replace(config.training, epochs=1))
    task = open_task(config)
    trainer = Trainer(config, task, tmp_path / "run")
    trainer.model.train()
    losses = [step(trainer, batch) for batch in task.loader.batches(0)]
    only = write_log(tmp_path / "events", arrivals(users[:16]))
    row = learnt(config, only, tmp_path / "s", replace(FAST, window_s=10**9))
    assert row["steps"] == len(losses) > 2
    assert row["loss"] == sum(losses) / len(losses)
    for name, weight in checkpoint.load_tensors(checkpoint.latest(tmp_path / "s"), "model").items():
        assert weight.equal(trainer.model.state_dict()[name]), name


def step(trainer, batch):
    loss = trainer.step(batch)
    trainer.progress.step += 1
    return loss


def test_a_stream_that_stops_after_each_window_ends_with_the_same_bits(table, log, tmp_path):
    config = tiny_config(table)
    learnt(config, log, tmp_path / "whole", windows=5)
    for _ in range(5):
        learnt(config, log, tmp_path / "parts", windows=1)
    require_equal(tmp_path / "whole", tmp_path / "parts")


def test_a_warm_start_goes_on_from_the_run_and_its_histories(table, users, tmp_path):
    run = untrained_run(tiny_config(table), tmp_path / "run")
    later = arrivals([[Token(3, 0)], [Token(5, 10), Token(7, 20)]], start=START + 200_000)
    row = learnt(run, write_log(tmp_path / "log", later), tmp_path / "s")
    assert row["next_item"]["events"] == 3  # users of the table have a history already
    assert row["overlap"] == 0
    early = write_log(tmp_path / "early", arrivals([[Token(3, 0)]], start=50), stamps=[50])
    assert learnt(run, early, tmp_path / "e")["overlap"] == 1
    before, after = (checkpoint.load_tensors(Run.open(x).folder, "model") for x in (run, tmp_path / "s"))
    assert any(not before[name].equal(after[name]) for name in before)
    cold = learnt(tiny_config(table), tmp_path / "log", tmp_path / "cold")
    assert cold["next_item"]["events"] == 1


def test_the_first_window_is_foretold_by_the_model_as_it_began(table, tmp_path):
    """HR by hand: the state after the history, against every item."""
    run = untrained_run(tiny_config(table), tmp_path / "run")
    later = arrivals([[Token(3, 0)]], start=START + 200_000)
    row = learnt(run, write_log(tmp_path / "log", later), tmp_path / "s")
    opened = Run.open(run)
    model = opened.sequential()
    encoded = opened.reader.of_user(opened.open_table(table), 0)
    with torch.no_grad():
        batch = opened.reader.batch(encoded, at=START + 200_000)
        scores = model.scores(model.queries(batch), model.catalogue())[0]
    logs = torch.log_softmax(scores / opened.temperature, 0)
    assert row["next_item"]["log_perplexity"] == pytest.approx(-float(logs[3]), abs=1e-5)


def test_unknown_items_are_counted_and_left_out(table, tmp_path):
    events = arrivals([[Token(1, 0), Token(99, 10), Token(2, 20)]])
    row = learnt(tiny_config(table), write_log(tmp_path / "log", events), tmp_path / "s")
    assert (row["events"], row["unknown"], row["next_item"]["events"]) == (3, 1, 1)


def test_a_stream_goes_on_only_as_it_was_started(table, log, tmp_path):
    config = tiny_config(table)
    learnt(config, log, tmp_path / "s", windows=1)
    with pytest.raises(InputError, match="started with window_s = 9000"):
        learnt(config, log, tmp_path / "s", replace(FAST, window_s=60))
    with pytest.raises(InputError, match=r"training\.seed = 42, but now it is 7"):
        learnt(config, log, tmp_path / "s", changes=["training.seed=7"])
    with pytest.raises(InputError, match="is no stream"):
        learnt(config, log, table)


def test_another_log_and_one_that_was_cut_are_refused_by_name(table, users, log, tmp_path):
    config = tiny_config(table)
    learnt(config, log, tmp_path / "s", windows=3)
    other = write_log(tmp_path / "other", arrivals(users))
    with pytest.raises(InputError, match="it was replaced"):
        learnt(config, other, tmp_path / "s")


def test_with_nothing_new_there_is_nothing_to_do(table, log, tmp_path):
    learnt(tiny_config(table), log, tmp_path / "s")
    before = len(rows(tmp_path / "s"))
    assert learnt(tiny_config(table), log, tmp_path / "s") == {}
    assert len(rows(tmp_path / "s")) == before


def test_dense_rate_slows_all_but_the_rows(table, log, tmp_path):
    config = tiny_config(table)
    learnt(config, log, tmp_path / "a", windows=1)
    learnt(config, log, tmp_path / "b", replace(FAST, dense_rate=1e-9), windows=1)
    begun = checkpoint.load_tensors(checkpoint.step_folder(tmp_path / "b", 0), "model")
    moved = {
        which: {
            name: float((weight - begun[name]).abs().max())
            for name, weight in checkpoint.load_tensors(checkpoint.latest(tmp_path / which), "model").items()
        }
        for which in "ab"
    }
    rows_of = [name for name in begun if name.startswith("events.items")]
    assert rows_of and all(moved["b"][name] == pytest.approx(moved["a"][name], rel=1e-5) for name in rows_of)
    assert max(value for name, value in moved["b"].items() if name not in rows_of) < 1e-6
    assert max(value for name, value in moved["a"].items() if name not in rows_of) > 1e-4
