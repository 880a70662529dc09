"""The engine answers many requests at once as each alone, by whatever runs it is given."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from runs import untrained_run
from tables import random_users, tiny_config, tiny_ranking_config, write_table

from louder.errors import InputError
from louder.histories.history import Names, empty_history
from louder.inference.engine import Engine
from louder.inference.request import Event, Request, Result, TableUser, history_of
from louder.inference.scoring import Scoring
from louder.models import HSTUConfig, MoLConfig, SASRecConfig

ITEMS = 24
USERS = random_users(30, items=ITEMS, longest=14, actions=2)
GENRES = [["drama"] if item % 3 == 0 else ["war", "love"] if item % 3 == 1 else [] for item in range(ITEMS)]
NAMES = Names(("like", "share"), ())
AT = 10**6


def write_items(table, raw_items=None):
    columns = {
        "title": [f"Title {i}" for i in range(ITEMS)],
        "genres": GENRES,
        "year": [1990 + i % 4 for i in range(ITEMS)],
    }
    pq.write_table(pa.table(columns), table / "items.parquet")
    pq.write_table(pa.table({"age": [[18, 25, None][user % 3] for user in range(len(USERS))]}), table / "users.parquet")
    return table


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    table = write_items(write_table(folder / "table", USERS, items=ITEMS, actions=["like", "share"]))
    config = tiny_config(table, model=HSTUConfig(layers=2, width=8, qk_width=4, v_width=4, max_len=14))
    untrained_run(config, folder / "retrieval")
    untrained_run(replace(config, model=SASRecConfig(layers=2, width=8, hidden=8, max_len=14)), folder / "sasrec")
    mol = MoLConfig(query_components=2, item_components=2, width=4, query_hidden=8, gate_hidden=8, user_rows=7)
    plain = replace(config.model, normalised=False)
    loss = replace(config.loss, temperature=1.0)
    untrained_run(replace(config, model=plain, mol=mol, loss=loss), folder / "mixture")
    ranking = {"log_values": (), "item_attributes": ("genres",)}
    untrained_run(tiny_ranking_config(table, **ranking), folder / "joint")
    untrained_run(tiny_ranking_config(table, **ranking, next_item=0.0), folder / "ranks")
    return folder


@pytest.fixture(scope="module")
def engines(place):
    runs = {name: (place / name,) for name in ("retrieval", "sasrec", "mixture", "joint", "ranks")}
    return {name: Engine(*paths) for name, paths in (runs | {"two": (place / "retrieval", place / "joint")}).items()}


def history(user, length=None):
    names = [(), ("like",), ("share",), ("like", "share")]
    events = [Event(1000 + token.id, token.time, names[token.actions]) for token in USERS[user][:length]]
    return history_of(events, NAMES)


def request(who, length=None, **more):
    return Request(**{"history": history(who, length), "at": AT, "user": 100 + who, "k": 5, "retrieve": 8} | more)


LONG = [user for user in range(30) if len(USERS[user]) >= 6][:6]
MIXED = [
    request(LONG[0]),
    request(LONG[1], where={"genres": ["drama"]}),
    request(LONG[2], 0),
    request(LONG[3], retrieve=0, seen=True),
    request(LONG[4], user=None, deny=[1001, 1002]),
    request(LONG[5], diversity=0.5),
    request(LONG[0]),
    request(LONG[1], where={"genres": ["love"]}, k=3),
]


def same(found, expected):
    assert isinstance(found, Result) and isinstance(expected, Result)
    assert found.items.tolist() == expected.items.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5, rtol=1e-4)
    assert (found.read, found.skipped) == (expected.read, expected.skipped)


@pytest.mark.parametrize("name", ["retrieval", "sasrec", "mixture", "joint", "ranks", "two"])
def test_requests_at_once_are_answered_as_each_alone(name, place, engines):
    engine = engines[name]
    for _ in range(2):  # the second time from the caches
        for found, alone in zip(engine.recommend_batch(MIXED), MIXED):
            same(found, engine.twin().recommend(alone))


def test_a_mistake_is_the_answer_of_who_made_it(engines):
    wrong = [
        (request(LONG[0], cap={"fly": 1}), "There is no attribute 'fly'; items have these: genres, year."),
        (request(LONG[0], weights={"fly": 1.0}), "weights names 'fly', but the actions are like, share"),
        (request(LONG[0], where={"fly": ["a"]}), "the attribute 'fly', but items have these: genres, year"),
        (
            request(LONG[0], context={"fly": 1}),
            "The context has 'fly', but the model knows these attributes of users: age",
        ),
        (request(LONG[0], 0, popular=False), "The history is empty, so there is nothing to recommend from"),
    ]
    good = request(LONG[1])
    found = engines["joint"].recommend_batch([good, *(q for q, _ in wrong), good])
    assert len(found) == len(wrong) + 2
    for answer, (_, text) in zip(found[1:-1], wrong):
        assert isinstance(answer, InputError) and text in str(answer)
    for answer in found[0], found[-1]:
        same(answer, engines["joint"].twin().recommend(good))


def test_no_candidates_are_no_items(engines):
    nothing, some = engines["joint"].recommend_batch([request(LONG[0], candidates=[]), request(LONG[0])])
    assert len(nothing.items) == len(nothing.scores) == 0 and len(some.items) == 5
    none_allowed = engines["two"].recommend(request(LONG[0], allow=[]))
    assert len(none_allowed.items) == 0 and none_allowed.read > 0


def test_what_fails_in_the_middle_fails_for_one_request(engines, monkeypatch):
    engine = engines["retrieval"].twin()
    search = engine.search.search

    def fails_for_some(states, users, *rest):
        if 100 + LONG[1] in users:
            raise InputError("not this one")
        return search(states, users, *rest)

    monkeypatch.setattr(engine.search, "search", fails_for_some)
    found = engine.recommend_batch([request(user) for user in LONG[:3]])
    assert [isinstance(x, InputError) for x in found] == [False, True, False]
    monkeypatch.undo()
    for answer, user in (found[0], LONG[0]), (found[2], LONG[2]):
        same(answer, engine.recommend(request(user)))


def test_a_joint_run_reads_and_opens_a_history_once(place, monkeypatch):
    engine = Engine(place / "joint")
    read, prefilled = [], []
    window, prefill = engine.window, engine.ranker.prefill
    monkeypatch.setattr(engine, "window", lambda *x: read.append(x) or window(*x))
    monkeypatch.setattr(engine.ranker, "prefill", lambda x: prefilled.extend(x) or prefill(x))
    engine.recommend_batch([request(user) for user in LONG[:3]])
    assert len(read) == len(prefilled) == 3
    (cache,) = engine.caches
    assert (len(cache), cache.hits, cache.misses) == (3, 0, 3)
    engine.recommend_batch([request(user) for user in LONG[:2]])
    assert (len(cache), cache.hits, cache.misses) == (3, 2, 3)
    assert engine.runners == [engine.ranker]


def test_the_cache_is_kept_under_the_user_and_for_nobody_else(place):
    engine = Engine(place / "retrieval", place / "joint", cache_bytes=1 << 20)
    assert [cache.capacity for cache in engine.caches] == [1 << 19] * 2
    engine.recommend_batch([request(LONG[0]), request(LONG[1], user=None)])
    assert [list(cache.held) for cache in engine.caches] == [[100 + LONG[0]]] * 2
    twin = engine.twin()
    twin.recommend(request(LONG[2]))
    assert [len(cache) for cache in engine.caches] == [1, 1] and not any(map(len, twin.caches))


def test_two_stages_rank_what_retrieval_found(engines):
    two, q = engines["two"], request(LONG[0], k=8)
    retrieved = engines["retrieval"].recommend(replace(q, retrieve=0))
    found = two.recommend(q)
    assert sorted(found.items) == sorted(retrieved.items) and found.probabilities.shape == (8, 2)
    raws = two.catalogue.item_ids.raws(found.items)
    ranked = engines["joint"].recommend(replace(q, candidates=raws))
    assert ranked.items.tolist() == found.items.tolist()  # in the order of the request
    logit = dict(zip(retrieved.items.tolist(), retrieved.scores / two.scoring.temperature))
    likely = torch.softmax(torch.tensor([logit[item] for item in found.items.tolist()]).double(), 0)
    np.testing.assert_allclose(found.next, likely, rtol=1e-4)
    np.testing.assert_allclose(found.scores, likely**two.scoring.weight * ranked.scores, rtol=1e-4)
    assert found.scores.tolist() == sorted(found.scores, reverse=True)
    few = two.recommend(replace(q, k=3, retrieve=8))
    assert few.items.tolist() == found.items[:3].tolist()  # ranking chooses among all eight
    assert len(two.recommend(replace(q, k=6, retrieve=2)).items) == 6


@pytest.mark.parametrize("name", ["joint", "two"])
def test_reasons_say_by_how_much_the_final_score_changes_without_an_event(name, engines):
    engine = engines[name]
    engine.scoring, before = Scoring(temperature=0.4, weight=1.5), engine.scoring
    q = request(LONG[1], 6, k=ITEMS, retrieve=ITEMS, seen=True)
    whole = engine.recommend(q)
    reasons = engine.reasons(q, whole.items[:3], count=6, likely=whole.next[:3])
    assert all(
        [x.change for x in own] == sorted(x.change for x in own) for own in reasons
    )  # what it leans on most first
    row = min({reason.row for reason in reasons[0]} & {reason.row for reason in reasons[1]})
    lacking = replace(q.history.select(np.delete(np.arange(len(q.history)), row)), total=0)
    without = engine.recommend(replace(q, history=lacking, at=q.at))
    engine.scoring = before
    after = dict(zip(without.items.tolist(), without.scores))
    changes = [{reason.row: reason.change for reason in own} for own in reasons]
    both = [n for n in range(3) if row in changes[n]]
    # the probabilities of all candidates add up to 1 anew, so scores are compared with each other
    shares = [(whole.scores[n] + changes[n][row]) / after[int(whole.items[n])] for n in both]
    assert len(both) > 1
    np.testing.assert_allclose(shares, shares[0], rtol=1e-3)


def test_popular_items_of_two_stages_are_as_likely_as_they_are_popular(engines):
    q = request(LONG[0], history=empty_history(), k=ITEMS, retrieve=ITEMS)
    found = engines["two"].recommend(q)
    counts = engines["two"].catalogue.popularity[found.items] + 1.0
    np.testing.assert_allclose(found.next, counts / counts.sum(), rtol=1e-5)


def test_scores_are_the_weighted_probabilities(engines):
    q = request(LONG[0], candidates=[1003, 1001, 1003, 1010])
    plain = engines["joint"].recommend(q)
    np.testing.assert_allclose(plain.scores, plain.probabilities[:, 0], rtol=1e-6)  # of the first action by default
    weighted = engines["joint"].recommend(replace(q, weights={"share": 2.0, "like": -0.5}))
    np.testing.assert_allclose(weighted.scores, plain.probabilities @ np.array([-0.5, 2.0]), rtol=1e-5)
    assert weighted.items.tolist() == plain.items.tolist() == [3, 1, 3, 10]
    main = engines["joint"].recommend(replace(q, weights={"share": 1.0}))
    np.testing.assert_allclose(main.scores, plain.probabilities[:, 1], rtol=1e-6)


@pytest.mark.parametrize("name", ["retrieval", "mixture", "joint"])
def test_items_of_the_whole_history_are_left_out_unless_they_may_be_seen(name, engines):
    user = max(range(30), key=lambda user: len(USERS[user]))  # longer than any window
    own = {token.id for token in USERS[user]}
    fresh = engines[name].recommend(request(user, k=ITEMS, retrieve=0))
    assert set(fresh.items.tolist()) == set(range(ITEMS)) - own
    every = engines[name].recommend(request(user, k=ITEMS, retrieve=0, seen=True))
    assert set(every.items.tolist()) == set(range(ITEMS)) and every.read < len(USERS[user])


@pytest.mark.parametrize("name", ["retrieval", "mixture", "joint"])
def test_filters_leave_what_they_name(name, engines):
    q = request(LONG[0], k=ITEMS, retrieve=0, seen=True)
    whole = engines[name].recommend(q)
    some = engines[name].recommend(replace(q, where={"genres": ["drama", "love"], "year": [1990, 1991]}, deny=[1000]))
    wanted = [i for i in whole.items if i % 3 < 2 and i % 4 < 2 and i]
    assert some.items.tolist() == wanted
    allowed = engines[name].recommend(replace(q, allow=[1005, 1007, 9], deny=[1007]))
    assert allowed.items.tolist() == [5]
    assert not len(engines[name].recommend(replace(q, allow=[])).items)


def test_of_an_empty_history_the_popular_is_found(engines):
    counts = np.bincount([token.id for user in USERS for token in user], minlength=ITEMS)
    for name in "retrieval", "joint":
        found = engines[name].recommend(request(LONG[0], 0, user=None, retrieve=0, k=4))
        assert found.scores.tolist() == sorted(counts.tolist(), reverse=True)[:4] and found.read == 0
        found = engines[name].recommend(request(LONG[0], 0, user=None, retrieve=0, k=4, where={"genres": ["war"]}))
        assert found.scores.tolist() == sorted(counts[1::3].tolist(), reverse=True)[:4]
    # a run that has not learned the next item ranks what is popular and was not seen
    found = engines["ranks"].recommend(request(LONG[0], k=3, retrieve=5))
    own = {token.id for token in USERS[LONG[0]]}
    unseen = sorted((item for item in range(ITEMS) if item not in own), key=lambda item: -counts[item])
    assert set(found.items.tolist()) <= {i for i in unseen if counts[i] >= counts[unseen[4]]}
    assert found.read == min(len(USERS[LONG[0]]), found.read) > 0


def test_without_its_table_nobody_knows_what_is_popular(place, tmp_path):
    engine = Engine(place / "joint", table=tmp_path / "gone")
    with pytest.raises(InputError, match=r"The history is empty, and without the table .*gone nobody knows"):
        engine.recommend(request(LONG[0], 0))
    assert len(engine.recommend(request(LONG[0], 0, candidates=[1003])).items) == 1
    with pytest.raises(InputError, match=r"ranks only ranks, and without the table"):
        Engine(place / "ranks", table=tmp_path / "gone").recommend(request(LONG[0]))


@pytest.mark.parametrize("name", ["retrieval", "joint", "two"])
def test_unknown_items_are_skipped_and_counted(name, engines):
    events = history(LONG[0], 5)
    items = np.insert(events.items, [1, 3], [77, "x"])
    times = np.insert(events.times, [1, 3], events.times[[1, 3]])
    none = np.zeros(len(items), np.int64)
    actions = np.insert(events.actions, [1, 3], 3)
    more = replace(events, items=items, times=times, actions=actions, requests=none - 1, values=none[:, None][:, :0])
    for kind in {"retrieve": 0}, {"candidates": [1001, 1002]} if name != "retrieval" else {"k": 3}:
        found = engines[name].twin().recommend(request(LONG[0], history=more, **kind))
        expected = engines[name].twin().recommend(request(LONG[0], 5, **kind))
        assert found.items.tolist() == expected.items.tolist() and found.read == expected.read
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        assert (found.skipped, expected.skipped) == (2, 0)
    early = request(LONG[0], history=more, at=int(events.times[0]) - 1, retrieve=0)
    assert engines[name].recommend(early).skipped == 0


@pytest.mark.parametrize("name", ["retrieval", "joint"])
def test_what_was_ever_met_is_left_out_whatever_the_time_of_the_request(name, engines):
    whole = history(LONG[0])
    cut = replace(whole.select(slice(3, None)), older=np.array([1000, 1001]), total=len(whole) + 1)
    of_table = TableUser(engines[name].table, LONG[0])
    for at in AT, int(whole.times[2]):
        for past, met in (whole, set(whole.items)), (cut, {1000, 1001, *cut.items}), (of_table, set(whole.items)):
            ask = request(LONG[0], history=past, at=at, k=ITEMS, retrieve=0)
            left = set(range(1000, 1000 + ITEMS)) - met
            assert set(engines[name].catalogue.item_ids.raws(engines[name].recommend(ask).items)) == left
            assert len(engines[name].recommend(replace(ask, seen=True)).items) == ITEMS


@pytest.mark.parametrize("name", ["retrieval", "joint"])
def test_the_history_ends_at_the_request_which_is_at_the_latest_event_unless_it_says_when(name, engines):
    events, ask = history(LONG[0]), {"retrieve": 0, "user": None, "k": 6, "seen": True}
    cut, last = int(events.times[3]), int(events.times[-1])
    early = engines[name].recommend(request(LONG[0], at=cut, **ask))
    assert early.read == 4
    same(early, engines[name].recommend(request(LONG[0], 4, at=None, **ask)))
    same(
        engines[name].recommend(request(LONG[0], at=None, **ask)),
        engines[name].recommend(request(LONG[0], at=last, **ask)),
    )
    later = engines[name].recommend(request(LONG[0], at=last + 10**8, **ask))
    assert later.scores.tolist() != engines[name].recommend(request(LONG[0], at=last, **ask)).scores.tolist()


def test_context_is_that_of_the_request_or_of_the_training(engines):
    joint, ask = engines["joint"], {"candidates": [1001, 1002]}
    ages = {age: joint.recommend(request(LONG[0], user=None, context={"age": age}, **ask)) for age in (18, 25, None)}
    assert ages[18].scores.tolist() != ages[25].scores.tolist() != ages[None].scores.tolist()
    for user in range(3):
        own = joint.recommend(request(LONG[0], user=100 + user, **ask))
        np.testing.assert_allclose(own.scores, ages[[18, 25, None][user]].scores, atol=1e-6)
    for unknown in (
        request(LONG[0], user=None, **ask),
        request(LONG[0], user=5, **ask),
        request(LONG[0], context={}, **ask),
    ):
        np.testing.assert_allclose(joint.recommend(unknown).scores, ages[None].scores, atol=1e-6)


def test_a_user_of_the_table_is_answered_as_their_events(engines):
    for name in "retrieval", "joint", "mixture":
        engine = engines[name]
        for user in LONG[:2]:
            of_table = request(user, history=TableUser(engine.table, user), retrieve=0)
            same(engine.recommend(of_table), engine.twin().recommend(request(user, retrieve=0)))


def test_a_mixture_knows_the_users_of_the_training(engines):
    mixture, model = engines["mixture"], engines["mixture"].retriever.backbone
    q = request(LONG[0], retrieve=0, seen=True, k=ITEMS)
    known, stranger = mixture.recommend(q), mixture.recommend(replace(q, user=None))
    batch = mixture.window(q, mixture.retriever).sequence
    for found, user in (known, LONG[0]), (stranger, -1):
        with torch.no_grad():
            scores = model.scores(model.queries(batch, torch.tensor([user])), model.catalogue())[0]
        np.testing.assert_allclose(found.scores, scores[torch.from_numpy(found.items)], atol=1e-4)  # of 12
    assert known.scores.tolist() != stranger.scores.tolist()


@pytest.mark.parametrize("name", ["retrieval", "joint", "mixture"])
def test_reasons_are_events_of_the_window_and_what_the_score_is_without_them(name, engines):
    user = max(range(30), key=lambda user: len(USERS[user]))
    q, items = request(user, retrieve=0, seen=True, k=ITEMS), np.array([2, 5])
    engine = engines[name]

    def scores(q):
        if name == "joint":
            return engine.recommend(replace(q, candidates=[1002, 1005])).scores
        found = engine.recommend(q)
        return np.array([found.scores[found.items.tolist().index(item)] for item in items])

    read = engine.recommend(replace(q, candidates=[1002]) if name == "joint" else q).read
    assert read < len(USERS[user])
    whole, window = scores(q), np.arange(len(USERS[user]) - read, len(USERS[user]))
    reasons = engine.reasons(q, items, count=2)
    for place, own in enumerate(reasons):
        assert len(own) == 2 and {reason.row for reason in own} <= set(window)
        for reason in own:
            lacking = replace(q, history=q.history.select(window[window != reason.row]), user=100 + user)
            assert reason.change == pytest.approx(scores(lacking)[place] - whole[place], abs=1e-5)
    everything = engine.reasons(q, items, count=read)[0]
    assert sum(reason.attention for reason in everything) == pytest.approx(1, abs=1e-5)
    if name != "joint":
        changes = [reason.change for reason in reasons[0]]
        assert changes == sorted(changes)
        assert min(reason.change for reason in everything) == pytest.approx(changes[0], abs=1e-6)
    assert engine.reasons(request(user, 0), items) == [[], []] and engine.reasons(q, items[:0]) == []


def test_similar_items_point_the_same_way(engines):
    engine = engines["retrieval"]
    ask = Request(history=empty_history(), at=0, k=4)
    found = engine.similar(ask, 1003)
    cosines = torch.nn.functional.cosine_similarity(engine.vectors, engine.vectors[3], dim=1)
    cosines[3] = -2
    assert found.items.tolist() == cosines.argsort(descending=True)[:4].tolist()
    np.testing.assert_allclose(found.scores, cosines[torch.from_numpy(found.items)], atol=1e-6)
    assert set(engine.similar(replace(ask, k=99, where={"genres": ["drama"]}), 1003).items % 3) == {0}
    assert len(engine.similar(replace(ask, k=99), 1003).items) == ITEMS - 1
    with pytest.raises(InputError, match="There is no item 5"):
        engine.similar(ask, 5)


def test_what_an_engine_tells_of_itself(place, engines):
    joint, retrieval, two = engines["joint"], engines["retrieval"], engines["two"]
    assert (joint.actions, joint.main, joint.values, joint.context_labels) == (
        ("like", "share"),
        "like",
        (),
        {"age": ["18", "25"]},
    )
    told = retrieval.actions, retrieval.main, retrieval.values, retrieval.context_labels
    assert told == (("like", "share"), "", (), {})
    assert two.version == f"{retrieval.version}+{joint.version}" and joint.version.startswith("joint@")
    assert (two.run.name, two.ranking_run.name) == ("tiny", "tiny-rank")


def test_runs_that_do_not_fit_are_refused(place, tmp_path):
    with pytest.raises(InputError, match=r"joint ranks already, so it needs no ranker beside it"):
        Engine(place / "joint", place / "ranks")
    other = write_table(tmp_path / "t", USERS, items=ITEMS, actions=["like", "share"], raw_items=list(range(ITEMS)))
    untrained_run(tiny_ranking_config(write_items(other), log_values=(), item_attributes=()), tmp_path / "other")
    with pytest.raises(InputError, match=r"other was trained on other items than .*retrieval"):
        Engine(place / "retrieval", tmp_path / "other")
    for q, text in (
        (request(LONG[0], candidates=[1001]), "only retrieves, so it cannot rank"),
        (
            request(LONG[0], weights={"like": 1.0}),
            "weights are of actions, and this model only retrieves",
        ),
    ):
        with pytest.raises(InputError, match=text):
            Engine(place / "retrieval").recommend(q)
