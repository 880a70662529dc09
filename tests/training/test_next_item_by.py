"""The next item by kind of action: what each query is taught, that it learns it, and that an engine asks it."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tables import Token, ranking_table, tiny_ranking_config, write_table

from louder.data.config import DataConfig
from louder.data.ranking import RankingLoader
from louder.data.targets import SplitConfig
from louder.errors import InputError
from louder.inference.engine import Engine
from louder.inference.recommender import Recommender
from louder.inference.request import Request
from louder.inference.run import Run
from louder.models import RankingConfig
from louder.online.learner import require_streamable
from louder.training.loop import train
from louder.training.ranking import RankingTask, open_ranking_table

USERS, KINDS = 60, 5  # an item is one of two for each kind of user: looked at, or liked


def expected_of(table, begins, rows, asked, action, max_gap):
    """The target of each row of one sequence, by a loop over what follows it; `asked` are the predicted places."""
    events = [place for place, row in enumerate(rows) if table.kinds[row] == 0]
    found = [-1] * len(rows)
    for now, following in pairwise(events):
        if begins[rows[following]] != rows[following] or following not in asked:
            continue
        for later in events:
            if later > now and later in asked and table.actions[rows[later]] >> action & 1:
                near = max_gap is None or table.times[rows[later]] - table.times[rows[now]] <= max_gap
                if begins[rows[later]] > rows[now] and near:
                    found[now] = table.ids[rows[later]]
                break
    return found


@pytest.mark.parametrize("requests", ["none", "contiguous", "overlapping"])
@pytest.mark.parametrize("max_gap", [None, 15])
def test_the_target_is_the_first_later_item_with_the_action(requests, max_gap):
    table = ranking_table(3, requests=requests, users=40, longest=14)
    begins = table.request_rows()
    cut = SplitConfig(kind="time", validation_from=60, test_from=80)
    found = 0
    for part in "train", "test":
        config = DataConfig(max_len=8, users_per_batch=3, split=cut, max_gap=max_gap)
        loader = RankingLoader(table, part, config, held_out=2, one_pass=True, next_by=("share", "like"))
        for batch in loader.batches():
            offsets, asked = batch.sequences.offsets.tolist(), batch.target_positions.tolist()
            for start, end in pairwise(offsets):
                rows = batch.sequences.ids[start:end].tolist()  # items are numbered by their row, entries of series too
                inside = {place - start for place in asked if start <= place < end}
                gap = max_gap if part == "train" else None
                for query, action in enumerate((1, 0)):
                    expected = expected_of(table, begins, rows, inside, action, gap)
                    assert batch.next_items_by[query, start:end].tolist() == expected
                    found += sum(target >= 0 for target in expected)
    assert found > 10


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Of each kind of user one item is looked at and one is liked, in an order that nobody knows."""
    draw = np.random.default_rng(0)
    users = []
    for user in range(USERS):
        kind, liked = user % KINDS, draw.random(14) < 0.3
        users.append([Token(2 * kind + like, 100 * place + user, int(like)) for place, like in enumerate(liked)])
    return write_table(tmp_path_factory.mktemp("log") / "table", users, items=2 * KINDS, actions=["like"])


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    config = tiny_ranking_config(
        log, context=(), item_attributes=(), log_values=(), next_item=1.0, next_item_by=("like",)
    )
    training = replace(config.training, epochs=6, learning_rate=0.02)
    evaluation = replace(config.evaluation, seen="none")
    folder = tmp_path_factory.mktemp("run") / "run"
    train(
        replace(config, training=training, evaluation=evaluation, loss=replace(config.loss, temperature=0.2)),
        folder,
        quiet=True,
    )
    return folder


def test_a_query_finds_what_is_liked_next_and_the_one_for_any_item_what_comes_next(run):
    """What is liked comes next in three of ten, so who asks for any item puts it second."""
    report = json.loads((run / "metrics.json").read_text())["next_item_by"]["like"]
    assert report["targets"] > 10
    assert report["hr@1"] > 0.95
    assert report["by_any"]["hr@1"] < 0.3 and report["by_any"]["hr@10"] == 1


def test_an_engine_asks_the_query_that_a_request_names(run, log):
    recommender = Recommender(run)
    opened = Run.open(run)
    model = opened.ranker()
    for user in range(KINDS):
        past = recommender.past("A recommendation", 100 + user, None)
        sequence = recommender.engine.read(asked(past), opened).sequence
        with torch.no_grad():
            tokens = model.tokens(sequence)
            states = model.states(tokens)
            for action in "", "like":
                expected = model.item_vectors() @ model.next_item_states(states, tokens.actions[-1:], action)[0]
                answer = recommender.engine.recommend(asked(past, next_by=action, retrieve=0, k=2 * KINDS))
                np.testing.assert_allclose(answer.scores, expected[answer.items], rtol=1e-4, atol=1e-5)
        best = recommender.recommend(user=100 + user, next_by="like", k=10)
        assert {item.item for item in best} == set(range(1000, 1000 + 2 * KINDS))
        likely = max(best, key=lambda item: item.next)
        assert likely.item == 1000 + 2 * user + 1  # what users of this kind like


def asked(past, **settings):
    return Request(history=past, seen=True, **settings)


def test_requests_with_and_without_an_action_share_their_pass(run):
    engine, requests = Engine(run, exact=True), []
    recommender = Recommender(run)
    for user, action in (0, "like"), (1, ""), (2, "like"):
        past = recommender.past("A recommendation", 100 + user, None)
        requests.append(asked(past, next_by=action, retrieve=0, k=4))
    for together, request in zip(engine.recommend_batch(requests), requests):
        alone = engine.recommend(request)
        assert together.items.tolist() == alone.items.tolist()
        np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-5)


def test_each_query_begins_as_the_one_for_any_item(log):
    config = tiny_ranking_config(log, context=(), item_attributes=(), log_values=(), next_item_by=("like",))
    model = RankingTask(config, open_ranking_table(config)).build()
    states = torch.randn(5, 8)
    assert torch.equal(model.asked_for(states, "like"), states)
    plain = replace(config, ranking=replace(config.ranking, next_item_by=()))
    plain_model = RankingTask(plain, open_ranking_table(plain)).build()
    assert not [name for name in plain_model.state_dict() if name.startswith("queries")]


def test_what_was_not_learnt_is_not_asked_for(log, run):
    with pytest.raises(InputError, match=r"next_item_by names 'like', but ranking.next_item, .* is 0"):
        RankingConfig(next_item_by=("like",))
    config = tiny_ranking_config(log, context=(), item_attributes=(), log_values=(), next_item_by=("share",))
    with pytest.raises(InputError, match="next_item_by names 'share', but the actions are like"):
        open_ranking_table(config)
    with pytest.raises(InputError, match=r"a stream learns any next item alone yet.*next_item_by=\[\]"):
        require_streamable(config)
    with pytest.raises(InputError, match=r"next_by is 'share', but .* learnt the next item are: like"):
        Recommender(run).recommend(user=100, next_by="share")
