"""Rankings are what the model says in training's forward pass, for people of the table and for anybody."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tables import random_users, ranking_table, tiny_ranking_config, write_ranking_table, write_table

from louder.batch import SequenceBatch
from louder.data.attributes import encode
from louder.data.item_counts import ItemCounts, item_counters
from louder.data.ranking import RankingLoader
from louder.data.table import open_table, read_attributes
from louder.data.window import window_start
from louder.errors import InputError
from louder.inference import recommender as module
from louder.inference.recommender import Recommender
from louder.inference.request import Event, Request
from louder.inference.run import Run
from louder.models import DLRMConfig, TransformerConfig
from louder.schema import ENGAGEMENT
from louder.training.loop import train

ITEMS = 20
ALL = [1000 + item for item in range(ITEMS)]
ACTIONS = [(), ("like",), ("share",), ("like", "share")]


def trained(config, run):
    """A run whose weights are then drawn anew, far from zero, so that whatever a model reads shows in its answers."""
    train(replace(config, training=replace(config.training, epochs=1)), run, quiet=True)
    opened = Run.open(run)
    model = opened.ranker()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    save_file(model.state_dict(), opened.folder / "model.safetensors")
    return run


# --- a log with everything ---------------------------------------------------------------------------------------


LOG = ranking_table(2, requests="contiguous", users=24, longest=24, items=ITEMS)
FULL = "hstu", "withheld", "transformer", "cross"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A folder: a log with requests, values, a series and attributes, and a run of each kind on it: with all of it; with
    the time of what comes next withheld, and without the series; of another model; and with counters of items."""
    folder = tmp_path_factory.mktemp("full")
    log = write_ranking_table(folder / "table", LOG)
    trained(tiny_ranking_config(log), folder / "hstu")
    config = tiny_ranking_config(log, log_values=())
    trained(replace(config, data=replace(config.data, query_time="withheld", auxiliary=False)), folder / "withheld")
    model = TransformerConfig(layers=2, width=8, hidden=16, max_len=18)
    trained(tiny_ranking_config(log, model), folder / "transformer")
    cross = {"cross_layers": 2, "cross_width": 4, "item_counters": True}
    trained(tiny_ranking_config(log, **cross), folder / "cross")
    return folder


def asked(run, part):
    """Each user's exposures of a part, from training's forward pass: user, rows, logits, numbers, time of the request."""
    opened = Run.open(run)
    model, data, ranking = opened.ranker(), opened.data, opened.ranking
    table = open_table(data.table, values=["watch"], requests=True)
    if ranking.log_values:
        table.values["watch"] = np.log1p(table.values["watch"])
    loader = RankingLoader(
        table,
        part,
        replace(data, users_per_batch=1, shuffle=False),
        held_out=2,
        one_pass=True,
        context=encode(read_attributes(table.path, "users"), ["age"]),
        counters=item_counters(table) if ranking.item_counters else None,
    )
    for batch in loader.batches():
        with torch.no_grad():
            logits, numbers = model(batch)
        rows = batch.rows.numpy()
        yield int(batch.users), rows, logits, numbers, int(table.times[rows[0]])


def read(ranker, user, at):
    """How many events of a user's history are read."""
    past = ranker.past("Ranking", user, None)
    return ranker.engine.recommend(Request(history=past, at=at, candidates=[1000])).read


def cut_before(rows, folder):
    """The log as it was before these rows: each user's events up to the first of theirs."""
    kept = np.ones(len(LOG.ids), dtype=bool)
    for first, end in pairwise(LOG.offsets):
        own = [row for row in rows if first <= row < end]
        if own:
            kept[min(own) : end] = False
    return write_ranking_table(folder, LOG.taken(kept, np.searchsorted(np.flatnonzero(kept), LOG.offsets)))


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize("kind", FULL)
def test_a_known_users_answers_are_those_of_the_forward_pass_in_training(kind, part, full, tmp_path):
    """The table ends before the request that the loader asks for; the answers must be what the loader's batch gives."""
    expected = list(asked(full / kind, part))
    cut = cut_before([rows[0] for _, rows, *_ in expected], tmp_path / "cut")
    ranker = Recommender(full / kind, cut, microbatch=2)
    if kind == "cross":  # what others do meanwhile is known to whoever keeps counting
        ranker.engine.item_counts = ItemCounts.of_table(LOG)
    assert len(expected) > 15
    assert max(len(rows) for _, rows, *_ in expected) > 2  # items of one request
    lengths = [read(ranker, 100 + user, at) for user, *_, at in expected]
    assert min(lengths) < 3 and max(lengths) == 7
    for user, rows, logits, numbers, at in expected:
        for _ in range(2):  # computed, and from the cache
            answers = ranker.rank(user=100 + user, items=[1000 + LOG.ids[row] for row in rows], at=at)
            found = torch.tensor([list(answer.actions.values()) for answer in answers])
            torch.testing.assert_close(found, logits.sigmoid(), atol=1e-5, rtol=1e-5)
            values = torch.tensor([list(answer.values.values()) for answer in answers])
            torch.testing.assert_close(values, numbers, atol=1e-5, rtol=1e-5)
    (cache,) = ranker.engine.caches
    assert (cache.hits, cache.misses) == (len(expected), len(expected))
    assert list(answers[0].actions) == ["like", "share"]
    assert list(answers[0].values) == ["watch" if kind == "withheld" else "log watch"]


@pytest.mark.parametrize("kind", FULL)
def test_new_events_are_appended_to_the_cache(kind, full):
    """Asked again later, a user has had more events; the answer is that of a ranker that never heard of the user."""
    user = int(np.argmax(np.diff(LOG.offsets)))
    rows = slice(LOG.offsets[user], LOG.offsets[user + 1])
    counted = LOG.times[rows]
    if kind == "withheld":
        counted = counted[LOG.kinds[rows] == ENGAGEMENT]
    moments = [*np.unique(LOG.times[rows]), 1000]
    cached = Recommender(full / kind)
    for at in moments:
        found = cached.rank(user=100 + user, items=ALL, at=int(at))
        same(found, Recommender(full / kind).rank(user=100 + user, items=ALL, at=int(at)))
    windows = {int(window_start((counted <= at).sum(), 8)) for at in moments}
    (cache,) = cached.engine.caches
    assert (cache.misses, cache.hits) == (len(windows), len(moments) - len(windows))
    assert cache.hits >= 5


def test_what_others_did_with_an_item_counts_up_to_the_request_and_no_later(full, tmp_path):
    """Another user's events change the answers about a time after them, and no others; somebody unknown is asked about."""
    moment, other = 50, int(np.argmax(np.diff(LOG.offsets)))
    before = Recommender(full / "cross")
    events = [Event(1000 + int(LOG.ids[row]), int(LOG.times[row]), ACTIONS[LOG.actions[row]]) for row in range(0, 3)]
    history = [replace(event, time=5 + n) for n, event in enumerate(events)]
    liked = LOG.actions.copy()
    rows = np.arange(LOG.offsets[other], LOG.offsets[other + 1])
    later = rows[(LOG.times[rows] >= moment) & (LOG.kinds[rows] == ENGAGEMENT)]
    liked[later] ^= 3
    assert len(later) > 2
    after = Recommender(full / "cross", write_ranking_table(tmp_path / "other", replace(LOG, actions=liked)))
    first = int(LOG.times[later].min())
    for at, same_answers in (first, True), (first + 1, False), (1000, False):
        found, expected = (x.rank(history=history, items=ALL, at=at, context={"age": 25}) for x in (after, before))
        assert differ(found, expected) != same_answers
    assert before.engine.twin().item_counts is not None


def test_a_ranker_that_reads_counters_says_where_they_are_counted(full, tmp_path):
    ranker = Recommender(full / "cross", tmp_path / "nothing")
    with pytest.raises(InputError, match=r"cross reads what everybody did with an item.*nothing.*--table FOLDER"):
        ranker.rank(history=[Event(1000, 5)], items=ALL)
    ranker.engine.item_counts = ItemCounts.of_table(LOG)
    expected = Recommender(full / "cross").rank(history=[Event(1000, 5)], items=ALL, at=20)
    same(ranker.rank(history=[Event(1000, 5)], items=ALL, at=20), expected)


def test_a_new_item_is_one_that_nobody_was_shown(full):
    ranker = Recommender(full / "cross")
    about = {"genres": ["war", "drama"]}
    (new,) = ranker.rank(user=100, items=["new"], new_items={"new": about}, at=10_000)
    counts = ranker.engine.item_counts
    features = counts.features(np.array([-1]), np.array([10_000]))
    assert features[0, :3].tolist() == [0, 0, 0]
    ranker.engine.item_counts = ItemCounts(ITEMS, 2)  # another world, in which nothing was expected
    (other,) = ranker.rank(user=100, items=["new"], new_items={"new": about}, at=10_000)
    assert differ([new], [other])


def numbers_of(answers):
    return torch.tensor([[*answer.actions.values(), *answer.values.values()] for answer in answers])


def same(found, expected):
    assert [answer.item for answer in found] == [answer.item for answer in expected]
    torch.testing.assert_close(numbers_of(found), numbers_of(expected), atol=1e-5, rtol=1e-5)


def differ(found, other):
    return bool((numbers_of(found) - numbers_of(other)).abs().max() > 1e-4)


# --- a log with nothing but actions, whose histories can be given by hand ----------------------------------------

USERS = random_users(30, items=ITEMS, longest=14, actions=2)
LONG = max(range(30), key=lambda user: len(USERS[user]))  # longer than a window of 8
AGES = [[18, 25, None][user % 3] for user in range(30)]


def write_plain(folder, users=USERS, ages=AGES, **settings):
    write_table(folder, users, items=ITEMS, actions=["like", "share"], titles=True, **settings)
    pq.write_table(pa.table({"age": ages}), folder / "users.parquet")
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return trained(tiny_ranking_config(write_plain(folder / "table"), log_values=()), folder / "run")


@pytest.fixture(scope="module")
def ranker(plain):
    return Recommender(plain)


def as_events(tokens):
    return [Event(1000 + token.id, token.time, ACTIONS[token.actions]) for token in tokens]


def direct(ranker, tokens, candidate, at, age):
    """The whole model on a few tokens, with the candidate as the last: its probability of each action."""
    model, length = ranker.engine.ranker.model, len(tokens)
    times = torch.tensor([*(token.time for token in tokens), at])
    batch = SequenceBatch(
        ids=torch.tensor([*(token.id for token in tokens), candidate]),
        timestamps=times,
        query_timestamps=torch.cat([times[1:], times[-1:]]),
        offsets=torch.tensor([0, length + 1]),
        actions=torch.tensor([*(token.actions for token in tokens), 0]),
        context=torch.tensor([[["", "18", "25"].index(age)]]),
    )
    with torch.no_grad():
        tokens = model.tokens(batch)
        logits, _ = model.predict(model.states(tokens)[tokens.items[-1:]])
    return dict(zip(["like", "share"], logits[0].sigmoid().tolist()))


def test_a_candidate_that_was_shown_before_is_scored_as_if_it_were_shown_again(ranker):
    tokens = USERS[0][:5]
    assert {token.id for token in tokens} < set(range(ITEMS))
    answers = ranker.rank(history=as_events(tokens), items=ALL, at=10**5, context={"age": 18})
    assert [answer.item for answer in answers] == ALL
    for candidate, answer in enumerate(answers):
        assert answer.actions == pytest.approx(direct(ranker, tokens, candidate, 10**5, "18"), abs=1e-5)
        assert answer.title == f"Title {candidate}"
        assert answer.values == {}


def test_a_candidate_given_twice_is_answered_twice_with_the_same_numbers(plain, ranker):
    once = {answer.item: answer for answer in ranker.rank(user=100, items=[1003, 1005, 1007])}
    twice = Recommender(plain, microbatch=2).rank(user=100, items=[1003, 1005, 1003, 1007, 1003])
    same(twice, [once[item] for item in (1003, 1005, 1003, 1007, 1003)])


def test_after_an_empty_history_the_item_and_the_context_decide(ranker):
    for age in "18", "25", "":
        answers = ranker.rank(history=[], items=ALL, at=500, context={"age": age} if age else None)
        for candidate, answer in enumerate(answers):
            assert answer.actions == pytest.approx(direct(ranker, [], candidate, 500, age), abs=1e-5)
    assert differ(answers[:1], answers[1:2])
    assert differ(answers, ranker.rank(history=[], items=ALL, at=500, context={"age": 25}))
    # for a user of the table, too
    before = min(token.time for token in USERS[0]) - 1
    same(
        ranker.rank(user=100, items=ALL, at=before), ranker.rank(history=[], items=ALL, at=before, context={"age": 18})
    )


@pytest.mark.parametrize("user", [0, 1, 2, LONG])
def test_a_history_that_is_given_gets_what_the_user_with_that_history_gets(user, ranker):
    events = as_events(USERS[user])
    assert len({event.time for event in events}) == len(events)
    np.random.default_rng(0).shuffle(events)  # given in any order
    context = {"age": AGES[user]}
    same(ranker.rank(history=events, items=ALL, context=context), ranker.rank(user=100 + user, items=ALL))


def test_of_a_long_history_the_window_counts(ranker):
    tokens = USERS[LONG][:11]
    first = 4  # of 8 that fit, the candidate among them, 11 are 4 too many; windows move on by 4
    found = ranker.rank(history=as_events(tokens), items=ALL)
    same(found, ranker.rank(history=as_events(tokens[first:]), items=ALL))
    assert differ(found, ranker.rank(history=as_events(tokens[first + 1 :]), items=ALL))


def test_events_after_the_request_are_not_looked_at(ranker):
    tokens = USERS[LONG]
    at = tokens[5].time
    context = {"age": AGES[LONG]}
    by_hand = ranker.rank(history=as_events(tokens[:6]), items=ALL, at=at, context=context)
    same(ranker.rank(user=100 + LONG, items=ALL, at=at), by_hand)
    same(ranker.rank(history=as_events(tokens), items=ALL, at=at, context=context), by_hand)
    # one second before, the event at that moment has not happened
    earlier = ranker.rank(history=as_events(tokens[:5]), items=ALL, at=at - 1, context=context)
    same(ranker.rank(user=100 + LONG, items=ALL, at=at - 1), earlier)
    assert differ(by_hand, earlier)


def test_the_time_of_the_request_counts_and_is_the_latest_events_unless_it_is_given(ranker):
    events = as_events(USERS[LONG])
    found = ranker.rank(history=events, items=ALL)
    same(found, ranker.rank(history=events, items=ALL, at=events[-1].time))
    assert differ(found, ranker.rank(history=events, items=ALL, at=events[-1].time + 10**6))


def test_what_was_done_counts(ranker):
    liked, shared = (ranker.rank(history=[Event(1003, 50, actions)], items=ALL) for actions in ACTIONS[1:3])
    assert differ(liked, shared)


def test_a_context_that_is_given_takes_the_place_of_the_tables(ranker):
    assert AGES[0] == 18
    same(ranker.rank(user=100, items=ALL, context={"age": "18"}), ranker.rank(user=100, items=ALL))
    assert differ(ranker.rank(user=100, items=ALL, context={"age": 25}), ranker.rank(user=100, items=ALL))
    unknown = ranker.rank(user=100, items=ALL, context={"age": 77})  # as nobody's was
    same(unknown, ranker.rank(user=100, items=ALL, context={}))


def test_the_most_candidates_that_may_be_asked_for_are_answered(ranker):
    most = module.MAX_CANDIDATES
    answers = ranker.rank(history=[], items=[1003] * most)
    assert len(answers) == most
    with pytest.raises(InputError, match=r"There are 16,385 candidates, but one request may have 16,384.*in parts"):
        ranker.rank(history=[], items=[1003] * (most + 1))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"items": []}, r"There are no candidates\. Give at least one item"),
        ({"items": [5, "x"]}, "2 of the candidates are items that the model does not know: 5, x"),
        ({"items": [10**30]}, "1 of the candidates are items that the model does not know"),
        ({"user": None}, "needs a user or a history, one of the two"),
        ({"history": []}, "needs a user or a history, one of the two"),
        ({"user": 7}, "There is no user 7 among the 30 known ones"),
        ({"user": None, "history": [Event(1000, 0, ("love",))]}, "no action 'love'; the model knows like, share"),
        ({"context": {"agee": 18}}, "The context has 'agee', but the model knows these attributes of users: age"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_answered_is_told(ranker, request_, message):
    with pytest.raises(InputError, match=message):
        ranker.rank(**{"user": 100, "items": [1003]} | request_)


# --- the run and the table ---------------------------------------------------------------------------------------


def test_somebody_who_joined_the_table_since_has_an_unknown_context(plain, ranker, tmp_path):
    grown = write_plain(tmp_path / "grown", [*USERS, USERS[LONG]], [*AGES, 25])
    found = Recommender(plain, grown).rank(user=130, items=ALL)
    same(found, ranker.rank(user=100 + LONG, items=ALL, context={}))


def test_a_user_keeps_their_context_where_the_table_numbers_users_anew(plain, ranker, tmp_path):
    backward = write_plain(
        tmp_path / "t", USERS[::-1], AGES[::-1], raw_users=[100 + user for user in range(29, -1, -1)]
    )
    for user in 0, 1:
        same(Recommender(plain, backward).rank(user=100 + user, items=ALL), ranker.rank(user=100 + user, items=ALL))


def test_without_its_table_a_run_still_answers_to_a_history(plain, tmp_path):
    ranker = Recommender(plain, tmp_path / "moved")
    assert ranker.rank(history=[Event("1003", 5)], items=["1004"])
    with pytest.raises(InputError, match=r"The histories of known users are in .*moved, which is not there"):
        ranker.rank(user=100, items=[1003])


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("items", {"raw_items": [1000 + item for item in range(ITEMS - 1, -1, -1)]}),  # the same number of items
        ("values", {"values": {"watch": [[1.0] * len(tokens) for tokens in USERS]}}),
    ],
)
def test_a_table_of_another_kind_is_refused(part, change, plain, tmp_path):
    with pytest.raises(InputError, match=rf"other (is not the table|has grown since) .* it has .*{part}"):
        Recommender(plain, write_plain(tmp_path / "other", **change)).rank(user=100, items=[1003])


def test_a_model_of_single_impressions_is_told_where_it_is_measured(plain, tmp_path):
    model = DLRMConfig(width=4, unit_hidden=4, counter_hidden=4, expert_hidden=(8,), tower_hidden=4)
    config = tiny_ranking_config(plain.parent / "table", model, log_values=(), next_item=0.0)
    with pytest.raises(InputError, match=r"is a model of single impressions.*Measure it: louder evaluate .*dlrm"):
        Recommender(trained(config, tmp_path / "dlrm"))


def test_a_run_without_the_attributes_of_its_users_is_told(plain, tmp_path):
    import shutil

    run = shutil.copytree(plain, tmp_path / "run")
    for file in run.rglob("users.parquet"):
        file.unlink()
    with pytest.raises(InputError, match=r"has no users\.parquet, which its model needs"):
        Recommender(run)


def test_a_model_without_context_needs_none(plain, tmp_path):
    config = tiny_ranking_config(plain.parent / "table", log_values=(), context=())
    ranker = Recommender(trained(config, tmp_path / "run"))
    context = {"age": 18}
    same(ranker.rank(user=100 + LONG, items=ALL), ranker.rank(history=as_events(USERS[LONG]), items=ALL))
    with pytest.raises(InputError, match="The context has 'age', but the model knows these attributes of users: none"):
        ranker.rank(user=100, items=ALL, context=context)
