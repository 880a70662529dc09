"""A log whose clicks depend on nothing but the item: what everybody did with it tells, what one user did does not."""

import json

import numpy as np
import pytest
from tables import Token, tiny_ranking_config, write_table

from louder.config import override
from louder.models import HSTUConfig
from louder.training.loop import train

USERS, ITEMS, SHOWN, LIFE = 120, 48, 60, 1000  # each item is shown so often, within so many seconds, and never again
ASKED_FROM = ITEMS * LIFE * 7 // 10
RATES = np.array([0.1, 0.9])  # half of the items each


def exposures():
    """item, user, time, rate, click [E], by time. An item lives for a while, so those of the test are not met in training; a user
    meets an item once, so no history tells what its rate is."""
    draw = np.random.default_rng(0)
    item = np.repeat(np.arange(ITEMS), SHOWN)
    user = np.concatenate([draw.choice(USERS, SHOWN, replace=False) for _ in range(ITEMS)])
    time = item * LIFE + np.concatenate([np.sort(draw.choice(LIFE, SHOWN, replace=False)) for _ in range(ITEMS)])
    rate = RATES[draw.permutation(ITEMS) % 2][item]
    return item, user, time, rate, draw.random(len(item)) < rate


def log_loss(likely, click):
    return -np.log(np.where(click, likely, 1 - likely)).mean()


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    item, user, time, _, click = exposures()
    users = [
        [Token(int(item[row]), int(time[row]), int(click[row])) for row in np.flatnonzero(user == u)]
        for u in range(USERS)
    ]
    return write_table(tmp_path_factory.mktemp("rates") / "table", users, items=ITEMS, actions=["click"])


def trained(log, run, *settings):
    """What is measured on the test. What is learnt of an id is of no use for one that was never met, so ids are frozen."""
    model = HSTUConfig(layers=1, width=8, qk_width=8, v_width=8, max_len=64)
    config = tiny_ranking_config(log, model, context=(), item_attributes=(), log_values=(), next_item=0.0)
    cuts = [f"data.split.validation_from={ITEMS * LIFE * 6 // 10}", f"data.split.test_from={ASKED_FROM}"]
    data = ["data.split.kind=time", *cuts, "data.max_len=30", "data.users_per_batch=3"]
    rates = ["training.epochs=3", "training.learning_rate=0.03", "training.schedule=cosine"]
    rates.append("training.embedding_learning_rate=0")
    train(override(config, [*data, *rates, *settings]), run, quiet=True)
    return json.loads((run / "metrics.json").read_text())["actions"]["click"]


def test_only_a_ranker_with_counters_comes_near_the_truth(log, tmp_path):
    _, _, time, rate, click = exposures()
    asked = time >= ASKED_FROM
    truth = log_loss(rate[asked], click[asked]) / log_loss(click[asked].mean(), click[asked])
    without = trained(log, tmp_path / "without")
    counted = trained(log, tmp_path / "counted", "ranking.cross_layers=2", "ranking.item_counters=true")
    assert without["impressions"] == counted["impressions"] == asked.sum()
    assert without["ne"] > 0.97  # the base rate has 1
    assert truth < 0.5 and counted["ne"] < truth + 0.1
