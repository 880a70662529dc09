"""What was shown and what was done with it, as a ranker of a stream learns from it: what it is asked is what was served."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import untrained_run
from tables import ranking_table, tiny_ranking_config, write_ranking_table

from louder import checkpoint
from louder.data.config import DataConfig
from louder.data.targets import SplitConfig
from louder.histories import Arrival, Names
from louder.histories.arrivals import columns, request_number
from louder.inference.mfalcon import MFalcon
from louder.inference.run import Run
from louder.online.config import StreamConfig
from louder.online.learner import Learner
from louder.online.sequences import Sequences, blocks_of
from louder.online.window import gather
from louder.streaming import Exposure, Outcome
from louder.training.loop import Trainer
from louder.training.tasks import open_task
from tests.online.streams import FAST, START, learnt, rows, shown, write_log

ACTIONS = "like", "share"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    own = ranking_table(3, requests="contiguous", series=False, users=12, longest=20, items=9)
    own = replace(own, times=own.times + START)  # the time of a user's attributes is 0
    return own, write_ranking_table(tmp_path_factory.mktemp("ranking") / "t", own)


def events_of(table, users):
    found = []
    for user in users:
        for row in range(table.offsets[user], table.offsets[user + 1]):
            watch = table.values["watch"][row]
            done = tuple(name for bit, name in enumerate(ACTIONS) if table.actions[row] >> bit & 1)
            values = {} if np.isnan(watch) else {"watch": float(watch)}
            number = table.requests[row]
            request = None if number < 0 else f"{user}-{number}"
            time = int(table.times[row])
            found.append(Arrival(100 + user, f"e{row}", 1000 + int(table.ids[row]), time, done, values, request))
    return sorted(found, key=lambda event: event.time)


def test_one_window_of_all_trains_as_an_epoch_on_the_table(made, tmp_path):
    own, table = made
    split = SplitConfig(kind="users", test_users=0.1)
    data = DataConfig(table=str(table), max_len=8, users_per_batch=3, split=split, shuffle=False)
    config = replace(tiny_ranking_config(table), data=data)
    task = open_task(config)
    trainer = Trainer(config, task, tmp_path / "run")
    trainer.model.train()
    losses = []
    for batch in task.loader.batches(0):
        losses.append(trainer.step(batch))
        trainer.progress.step += 1
    log = write_log(tmp_path / "events", events_of(own, range(10)))
    row = learnt(config, log, tmp_path / "s", replace(FAST, window_s=10**9))
    assert row["ranking"]["impressions"] == int(task.loader.is_target.sum())
    assert (row["steps"], row["loss"]) == (len(losses), sum(losses) / len(losses)) and len(losses) > 3
    for name, weight in checkpoint.load_tensors(checkpoint.latest(tmp_path / "s"), "model").items():
        assert weight.equal(trainer.model.state_dict()[name]), name


def done(user, item, second, *, actions=("like",), request=None, id=None):
    values = {"watch": 0.1 * (item % 7)}
    return Arrival(user, id or f"{user}-{item}-{second}", item, START + second, actions, values, request)


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    return untrained_run(tiny_ranking_config(made[1]), tmp_path_factory.mktemp("run") / "r")


def test_what_was_served_is_what_is_learnt_from(run):
    """Scores of the service, from its history at each request, and of the trainer's pass over the window."""
    learner = Learner(Run.open(run), StreamConfig())
    names, user = learner.names, 101
    before = [
        done(user, 1000 + n % 12, 10 * n, request="old" if n in (3, 4) else None) for n in range(14)
    ]  # items 9 on: unknown
    asked = {  # at a time, what was shown, and what was done with it, one of them within the second
        "a": (145, [1003, 1001, 1011, 1005], {1001: 146, 1003: 190}),
        "b": (170, [1002, 1004], {}),
        "c": (191, [1000, 1006, 1001], {1006: 191}),
    }
    acted = [
        done(user, item, second, request=name, actions=("share",))
        for name, (_, _, own) in asked.items()
        for item, second in own.items()
    ]
    acted += [done(user, 1007, 150), done(user, 1008, 160)]  # of no answer
    acted.sort(key=lambda event: event.time)
    by_item = {(event.request, event.item): event for event in acted}
    outcomes = [
        Outcome(Exposure(name, user, item, n + 1, 0.5, 1.0, "m", START + at), by_item.get((name, item)))
        for name, (at, items, _) in asked.items()
        for n, item in enumerate(items)
    ]
    outcomes += [Outcome(None, event) for event in acted if event.request is None]
    outcomes.sort(key=lambda x: x.event.time if x.event else START + 10**6)
    window = gather(outcomes, names, 100)
    old = columns(before, names)
    sequences = Sequences(
        [(user, blocks_of(old, window.users[user], learner.task, window.counts))], learner.task, "request"
    )
    learner.model.eval()
    found = {}
    with torch.no_grad():
        for _, batch in learner.batches(sequences):
            logits, values = learner.model(batch)
            for row, logit, value in zip(batch.rows.tolist(), logits, values):
                key = int(sequences.requests[row]), int(sequences.columns.ids[row])
                found[key] = logit, value
    assert window.counts["unknown"] == 1
    falcon, reader = MFalcon(learner.model), learner.task.reader
    context = learner.run.context_of(user, None)
    answered = 0
    for name, (at, items, _) in asked.items():
        known = [event for event in before + acted if event.time <= START + at and event.request != name]
        history = columns(known, names)
        # the service's history at the time has what was stored by then; what came of the request itself comes after it
        encoded = reader.encode(history, START + at)
        ids = torch.tensor([item - 1000 for item in items if item < 1009])
        logits, values = falcon.score(reader.batch(encoded, START + at, context), ids, START + at)
        for item, logit, value in zip(ids.tolist(), logits, values):
            mine = found[request_number(name), item]
            assert torch.allclose(mine[0], logit, atol=1e-6), (name, item)
            assert torch.allclose(mine[1], value, atol=1e-6), (name, item)
            answered += 1
    assert answered == 8


def test_negatives_wait_and_what_comes_after_is_a_correction(run, tmp_path):
    records = [
        shown("r", 101, START + 0, [1001, 1002, 1003]),
        done(101, 1001, 5, request="r"),
        done(102, 1001, 1_000),  # time passes
        done(101, 1002, 1_500, request="r"),  # after the wait
        done(102, 1002, 2_500),
        done(102, 1003, 5_000),
    ]
    settings = replace(FAST, window_s=1_000)
    learnt(run, write_log(tmp_path / "log", records), tmp_path / "s", settings)
    first, second, third, *_ = rows(tmp_path / "s")
    assert (first["events"], first["negatives"], first["corrections"]) == (1, 2, 0)
    assert first["ranking"]["impressions"] == 3 and first["ranking"]["actions"]["like"]["positives"] == 1
    assert (second["events"], second["negatives"], second["corrections"]) == (2, 0, 1)
    assert second["ranking"]["impressions"] == 2  # the one that stands alone, and the correction
    assert (third["events"], third["negatives"]) == (1, 0)


def test_an_event_twice_on_an_item_in_a_window_is_one_example(run):
    exposure = Exposure("r", 1, 1001, 1, 0.5, 1.0, "m", START)
    seen, liked = (
        done(1, 1001, 5, actions=(), request="r", id="a"),
        done(1, 1001, 9, actions=("like", "odd"), request="r", id="b"),
    )
    window = gather([Outcome(exposure, seen), Outcome(exposure, liked)], Names(ACTIONS, ("watch",)), 10)
    (answer,) = window.users[1].answers.values()
    assert answer.done[1001].actions == ("like",) and len(window.users[1].events) == 2


def test_intervals_hold_the_metric_and_narrow_with_more_users(run, tmp_path):
    def width(users):
        draw = np.random.default_rng(0)
        events = [
            done(200 + u, 1000 + int(draw.integers(9)), 10 * u, actions=("like",) * int(draw.integers(2)))
            for u in range(users)
        ]
        log = write_log(tmp_path / f"log{users}", events)
        row = learnt(run, log, tmp_path / f"s{users}", replace(FAST, window_s=10**9))
        like = row["ranking"]["actions"]["like"]
        assert like["ne_interval"][0] <= like["ne"] <= like["ne_interval"][1]
        assert like["auc_interval"][0] <= like["auc"] <= like["auc_interval"][1]
        return like["auc_interval"][1] - like["auc_interval"][0]

    assert width(160) < width(20)
