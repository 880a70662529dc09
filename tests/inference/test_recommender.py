"""Recommendations are what the model computes directly, for people of the table and for anybody."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import Token, checkerboard, random_users, tiny_config, write_table

from louder.batch import SequenceBatch
from louder.data.config import DataConfig
from louder.data.table import open_table
from louder.errors import InputError
from louder.evaluation.retrieval import evaluate, model_scorer
from louder.inference.catalogue import Catalogue
from louder.inference.recommender import Recommender, read_history
from louder.inference.request import Event, Request
from louder.inference.run import Run
from louder.models import HSTUConfig
from louder.training.loop import train
from louder.training.retrieval import part_loader

ITEMS = 15
USERS = random_users(40, items=ITEMS, longest=14, actions=2)
LONG = max(range(40), key=lambda user: len(USERS[user]))  # longer than the model's window of 12


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference")
    table = write_table(folder / "table", USERS, items=ITEMS, actions=["like", "share"], titles=True)
    config = tiny_config(table)
    config = replace(config, training=replace(config.training, learning_rate=0.02))
    train(config, folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def recommender(run):
    return Recommender(run)


def direct_scores(run, tokens, asked):
    """The model's scores of the 12 latest tokens, computed with nothing in between."""
    model = Run.open(run).sequential()
    tokens = tokens[-12:]
    times = torch.tensor([token.time for token in tokens])
    batch = SequenceBatch(
        ids=torch.tensor([token.id for token in tokens]),
        timestamps=times,
        query_timestamps=torch.cat([times[1:], torch.tensor([asked])]),
        offsets=torch.tensor([0, len(tokens)]),
        actions=torch.tensor([token.actions for token in tokens]),
    )
    with torch.no_grad():
        return model.item_vectors() @ model(batch)[-1]


def as_events(tokens):
    names = [(), ("like",), ("share",), ("like", "share")]
    return [Event(1000 + token.id, token.time, names[token.actions]) for token in tokens]


@pytest.mark.parametrize("user", [0, 1, 2, LONG])
def test_a_known_users_items_are_those_the_model_scores_highest(run, recommender, user):
    tokens = USERS[user]
    scores = direct_scores(run, tokens, tokens[-1].time)
    unseen = [item for item in scores.argsort(descending=True).tolist() if item not in {t.id for t in tokens}]
    found = recommender.recommend(user=100 + user, k=5)
    assert [item.item for item in found] == [1000 + item for item in unseen[:5]]
    assert [item.score for item in found] == pytest.approx(scores[unseen[:5]].tolist(), abs=1e-6)
    assert [item.title for item in found] == [f"Title {item}" for item in unseen[:5]]


def test_seen_items_are_recommended_only_when_asked_for(run, recommender):
    tokens = USERS[LONG]
    seen = {1000 + token.id for token in tokens}
    fresh = recommender.recommend(user=100 + LONG, k=ITEMS)
    everything = recommender.recommend(user=100 + LONG, k=ITEMS, seen=True)
    assert {item.item for item in fresh} == {1000 + i for i in range(ITEMS)} - seen
    scores = direct_scores(run, tokens, tokens[-1].time)
    assert [item.item for item in everything] == [1000 + i for i in scores.argsort(descending=True).tolist()]


def test_a_history_that_is_given_gets_what_the_user_with_that_history_gets(recommender):
    shuffled = as_events(USERS[LONG])
    times = [event.time for event in shuffled]
    assert len(set(times)) == len(times)
    np.random.default_rng(0).shuffle(shuffled)  # given in any order
    assert recommender.recommend(history=shuffled) == recommender.recommend(user=100 + LONG)


def test_at_ends_the_history_and_is_the_time_of_the_request(run, recommender):
    tokens = USERS[LONG]
    cut = tokens[6].time
    found = recommender.recommend(user=100 + LONG, k=3, at=cut + 1, seen=True)
    scores = direct_scores(run, tokens[:7], cut + 1)
    assert [item.item for item in found] == [1000 + i for i in scores.argsort(descending=True)[:3].tolist()]
    assert found == recommender.recommend(history=as_events(tokens[:7]), k=3, at=cut + 1, seen=True)
    later = recommender.recommend(user=100 + LONG, k=3, at=cut + 10**8, seen=True)
    assert later[0].score != found[0].score  # the model knows when it is asked
    with pytest.raises(InputError, match="The history is empty"):
        recommender.recommend(user=100 + LONG, at=tokens[0].time - 1)


def test_what_the_user_did_matters(recommender):
    liked, shared = (
        recommender.recommend(history=[Event(1003, 50, actions)], k=3, seen=True) for actions in (("like",), ("share",))
    )
    assert [item.score for item in liked] != [item.score for item in shared]


def test_the_item_that_evaluation_ranks_first_is_recommended_first(run, recommender):
    from louder.config import from_dict
    from louder.training.config import Config

    opened = Run.open(run)
    model, config = opened.sequential(), from_dict(Config, opened.config)
    loader = part_loader(open_table(config.data.table), config, "test")
    ranks = evaluate(model_scorer(model), loader, seen="history").ranks
    assert (ranks == 1).any()
    for user, rank in zip(loader.spans.users.tolist(), ranks.tolist()):
        *history, target = USERS[user]
        found = recommender.recommend(history=as_events(history), k=ITEMS, at=target.time)
        items = [item.item for item in found]
        if rank > ITEMS:
            assert 1000 + target.id not in items
        else:
            assert items.index(1000 + target.id) + 1 == pytest.approx(rank, abs=0.5)


def test_a_checkerboard_is_completed(tmp_path):
    table = write_table(tmp_path / "t", checkerboard(users=80, liked=10), raw_items=[f"item {i}" for i in range(20)])
    from louder.training.losses import LossConfig

    config = tiny_config(
        table,
        model=HSTUConfig(layers=1, width=16, qk_width=16, v_width=16, max_len=16),
        loss=LossConfig(kind="full_softmax", temperature=0.2),
    )
    train(
        replace(config, training=replace(config.training, epochs=10, learning_rate=1e-2, checkpoint_steps=1000)),
        tmp_path / "run",
        quiet=True,
    )
    evens = [Event(f"item {i}", 60 * i) for i in range(0, 18, 2)]
    odds = [Event(f"item {i}", 60 * i) for i in range(1, 19, 2)]
    recommender = Recommender(tmp_path / "run")
    assert recommender.recommend(history=evens, k=1)[0].item == "item 18"
    assert recommender.recommend(history=odds, k=1)[0].item == "item 19"


def test_series_enter_the_history_and_withheld_times_do_not(tmp_path):
    users = [[Token(u % 2, 0, 0, 1), *(Token((u + i) % 6, 10 * i + 5) for i in range(6))] for u in range(12)]
    table = write_table(tmp_path / "t", users, items=6, series={"city": 2})
    data = DataConfig(table=str(table), max_len=12, users_per_batch=8, query_time="withheld")
    config = tiny_config(table, data=data)
    train(replace(config, training=replace(config.training, learning_rate=0.05)), tmp_path / "run", quiet=True)
    recommender = Recommender(tmp_path / "run")
    request = Request(history=recommender.past("It", 100, None))
    batch = recommender.engine.window(request, recommender.engine.retriever).sequence
    assert batch.kinds.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert batch.query_timestamps.equal(batch.timestamps)
    moved = [Event(1000 + t.id, t.time) for t in users[0][1:]]
    answers = [recommender.recommend(history=moved, at=at, seen=True) for at in (None, 10**6)]
    assert answers[0] == answers[1]


def test_events_of_unknown_items_are_skipped_and_counted(recommender):
    events = as_events(USERS[LONG])
    stray = [Event(5, events[3].time), Event("x", events[5].time + 1)]
    found, expected = recommender.recommend(history=[*events, *stray]), recommender.recommend(history=events)
    assert found == expected
    assert (found.read, found.skipped) == (12, 2) and (expected.read, expected.skipped) == (12, 0)
    assert recommender.recommend(history=[*events, *stray], at=events[4].time).skipped == 1


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "needs a user or a history, one of the two"),
        ({"user": 100, "history": [Event(1000, 0)]}, "needs a user or a history, one of the two"),
        ({"user": 7}, "There is no user 7 among the 40 known ones"),
        ({"user": "nobody"}, "There is no user 'nobody' among the 40 known ones"),
        ({"user": 10**30}, "There is no user"),
        ({"user": 100, "k": 0}, "k must be at least 1, but it is 0"),
        ({"history": []}, "The history is empty"),
        ({"history": [Event(5, 1), Event("x", 2), Event(10**30, 3)]}, "The history is empty"),
        (
            {"history": [Event(1000, 0, ("love",))]},
            "There is no action 'love'; the model knows like, share",
        ),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_answered_is_told(recommender, request_, message):
    with pytest.raises(InputError, match=message):
        recommender.recommend(**request_)


def test_more_items_than_there_are_gives_those_there_are(recommender):
    assert len(recommender.recommend(history=[Event(1000, 0)], k=10**6)) == ITEMS - 1


def test_without_its_table_a_run_still_answers_to_a_history(run, tmp_path):
    recommender = Recommender(run, tmp_path / "moved")
    assert recommender.recommend(history=[Event("1003", 5)], k=1)
    with pytest.raises(InputError, match=r"The histories of known users are in .*moved, which is not there"):
        recommender.recommend(user=100)


def test_a_table_of_other_items_is_refused(run, tmp_path):
    other = write_table(tmp_path / "other", USERS, items=ITEMS + 1, actions=["like", "share"])
    with pytest.raises(InputError, match=r"other has grown since .* it has 16 items .*, and had 15 items"):
        Recommender(run, other).recommend(user=100)


def test_titles_and_genres_are_empty_where_the_log_has_none(recommender, tmp_path):
    catalogue = recommender.engine.catalogue
    assert (catalogue.text(3, "title"), catalogue.text(3, "genres")) == ("Title 3", "Drama, War")
    catalogue = Catalogue(Run.open(recommender.engine.run.path), tmp_path)
    catalogue.columns = None
    assert (catalogue.text(3, "title"), catalogue.text(3, "genres")) == ("", "")


@pytest.mark.parametrize(
    ("content", "events"),
    [
        ("[1193, 661]", [Event(1193, 0), Event(661, 1)]),
        ('["a"]', [Event("a", 0)]),
        ('[{"item": 5, "time": 9, "actions": ["like"]}]', [Event(5, 9, ("like",))]),
        ('[{"item": 5}, {"item": 6}]', [Event(5, 0), Event(6, 1)]),
        (
            '[{"item": 5, "time": 9, "values": {"watch": 1.5}, "request": "a"}]',
            [Event(5, 9, (), {"watch": 1.5}, "a")],
        ),
        ("[]", []),
    ],
)
def test_a_history_file_is_read(content, events, tmp_path):
    (tmp_path / "me.json").write_text(content)
    found = read_history(tmp_path / "me.json")
    assert [replace(event, actions=tuple(event.actions)) for event in found] == events


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[1193, ", "is not JSON"),
        ("\xff", "is not JSON"),
        ('{"item": 5}', "holds dict"),
        ("5", "holds int"),
        ("[1, null]", "Entry 2 of the history .* is null"),
        ("[1.5]", "Entry 1 of the history .* is 1.5"),
        ("[true]", "Entry 1"),
        ("[[1]]", "Entry 1"),
        ("[{}]", "Entry 1"),
        ('[{"time": 5}]', "Entry 1"),
        ('[{"item": 5, "time": "noon"}]', "Entry 1"),
        ('[{"item": 5, "time": 1.5}]', "Entry 1"),
        ('[{"item": 5, "time": true}]', "Entry 1"),
        ('[{"item": 5, "time": 1000000000000000000000000}]', "Entry 1"),
        ('[{"item": 5, "actions": "like"}]', "Entry 1"),
        ('[{"item": 5, "actions": [1]}]', "Entry 1"),
        ('[{"item": 5, "tyme": 1}]', "Entry 1"),
        ('[{"item": 5, "values": {"watch": "long"}}]', "Entry 1"),
        ('[{"item": 5, "request": 7}]', "Entry 1"),
    ],
)
def test_a_bad_history_file_is_told_with_the_form_it_must_have(content, message, tmp_path):
    (tmp_path / "me.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        read_history(tmp_path / "me.json")
    assert "It must be a list such as [1193, 661]" in str(error.value)


def test_a_missing_history_file_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_history(tmp_path / "none.json")


def test_a_history_file_gives_what_its_events_give(recommender, tmp_path):
    events = as_events(USERS[LONG])
    (tmp_path / "me.json").write_text(
        json.dumps([{"item": e.item, "time": e.time, "actions": list(e.actions)} for e in events])
    )
    found = recommender.recommend(history=read_history(tmp_path / "me.json"))
    assert found == recommender.recommend(user=100 + LONG)
