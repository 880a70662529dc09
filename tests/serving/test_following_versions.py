"""A service that follows a folder of versions answers as one that was started on the new model, and never by two at once."""

import asyncio
import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from services import client_of

from louder import checkpoint
from louder.data.histories import histories
from louder.data.table import open_table
from louder.errors import InputError
from louder.inference.engine import Engine
from louder.inference.request import Request
from louder.inference.run import Run
from louder.inference.scoring import Scoring, keep
from louder.publishing import Keeping, current_version, publish, roll_back, state_of_run
from louder.publishing.live import open_version, prepare, take
from louder.publishing.state import write_state

AT = 1_750_000_000
LONG = Keeping(longest=100, share=100.0, versions=100)
KINDS = "retrieval", "joint", "mixture"


def moved(state, rows, seed=0, dense=True, std=0.3, raws=None, grown=0):
    """Another state: these items have other vectors, and all that is dense has too."""
    draw = torch.Generator().manual_seed(seed)
    weights = {name: x.clone() for name, x in state.weights.items()}
    (table,) = [name for name in weights if name.endswith("events.items.weight")]
    if grown:
        new = torch.randn(grown, weights[table].shape[1], generator=draw) * std
        weights[table] = torch.cat([weights[table], new])
    weights[table][rows] += torch.randn(len(rows), weights[table].shape[1], generator=draw) * std
    for name, x in weights.items():
        if dense and name != table and x.is_floating_point() and "user" not in name:
            x += torch.randn(x.shape, generator=draw) * std / 10
    raw = state.raws["item"].to_pylist() + [900_000 + n for n in range(grown)]
    for number, value in (raws or {}).items():
        raw[number] = value
    attributes = dict(state.attributes)
    if grown and "items" in attributes:
        attributes["items"] = pa.concat_tables([attributes["items"], attributes["items"].slice(0, grown)])
    vocabulary = {**state.state["vocabulary"], "items": len(raw)}
    raws = {**state.raws, "item": pa.array(raw, state.raws["item"].type)}
    more = {"state": {**state.state, "vocabulary": vocabulary}, "raws": raws, "attributes": attributes}
    return replace(state, weights=weights, **more)


def as_run(state, run):
    """A run that was never published, with the same model."""
    checkpoint.step_folder(run, 1).mkdir(parents=True)
    write_state(state, checkpoint.step_folder(run, 1))
    (run / "best.json").write_text(json.dumps({"checkpoint": "step-00000001"}))
    if found := state.state.get("scoring"):
        opened = Run.open(run)
        keep(replace(Scoring(**found), retrieval=checkpoint.fingerprint(opened.folder)), opened)
    return run


@pytest.fixture(scope="module")
def past(place):
    return dict(histories(open_table(place / "table"), 30))


def asked(engine, past):
    users = list(past)[:6]
    plain = [Request(history=past[user], user=user, at=AT, k=20) for user in users]
    items = [raw for raw in engine.catalogue.item_ids.raw.to_pylist()[:7] if raw is not None]
    ranks = [replace(plain[0], candidates=items, k=len(items))] if engine.ranker is not None else []
    return [*plain, *ranks, replace(plain[0], deny=items[:3])]


def same_answers(one, other, past):
    requests = asked(other, past)
    for request, a, b in zip(requests, one.recommend_batch(requests), other.recommend_batch(requests)):
        assert np.array_equal(a.items, b.items), request
        for name in "scores", "probabilities", "values", "next":
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None and y is None) or np.array_equal(x, y), name
    first = other.catalogue.item_ids.raws(np.flatnonzero(other.catalogue.item_ids.there)[:1])[0]
    like = replace(requests[0], k=10)
    assert np.array_equal(one.similar(like, first).scores, other.similar(like, first).scores)
    assert torch.equal(one.vectors, other.vectors)
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_delta_the_answers_are_those_of_the_new_model(place, tmp_path, past, kind):
    first = state_of_run(place / kind)
    second = moved(first, rows=[0, 5, 6])
    third = moved(second, rows=[5, 9], seed=1, dense=False)
    old = publish(tmp_path / "chain", first).version
    engine = open_version(old)
    assert same_answers(engine, Engine(place / kind), past)
    for state, name in (second, "second"), (third, "third"):
        new = publish(tmp_path / "chain", state, keeping=LONG).version
        assert new.kind == "delta"
        weights = {key: x.data_ptr() for key, x in model_weights(engine).items()}
        step = prepare(engine, old, new)
        take(engine, step)
        assert {key: x.data_ptr() for key, x in model_weights(engine).items()} == weights  # in place
        assert engine.version == new.name and not step.fetched
        assert same_answers(engine, Engine(as_run(state, tmp_path / name)), past)
        assert same_answers(open_version(new), Engine(tmp_path / name), past)
        take(engine, step)  # twice is harmless
        assert same_answers(engine, Engine(tmp_path / name), past)
        old = new


def model_weights(engine):
    from louder.publishing.item_vectors import model_of

    return dict(model_of(engine).named_parameters())


@pytest.mark.parametrize("kind", ["retrieval", "joint"])
def test_items_come_go_and_take_the_numbers_of_others(place, tmp_path, past, kind):
    first = state_of_run(place / kind)
    raw = first.raws["item"].to_pylist()
    gone, taken = 2, 4
    second = moved(first, rows=[taken], raws={gone: None, taken: 800_000}, grown=3)
    old = publish(tmp_path / "chain", first).version
    engine = open_version(old)
    engine.catalogue.updates.take({})
    new = publish(tmp_path / "chain", second, keeping=LONG).version
    take(engine, prepare(engine, old, new))
    assert same_answers(engine, open_version(new), past)
    assert same_answers(engine, Engine(as_run(second, tmp_path / "run")), past)
    everything = replace(asked(engine, past)[0], k=10_000, seen=True, retrieve=0)
    (answer,) = engine.recommend_batch([everything])
    found = engine.catalogue.item_ids.raws(answer.items)
    assert set(found) == {*raw, 800_000, 900_000, 900_001, 900_002} - {raw[gone], raw[taken]}
    assert engine.catalogue.item_ids.ids([raw[gone], raw[taken], 800_000]).tolist() == [-1, -1, taken]
    assert engine.catalogue.popularity[taken] == 0 and engine.catalogue.popularity[0] > 0
    with pytest.raises(InputError, match="There is no item"):
        engine.similar(everything, raw[gone])
    back = publish(tmp_path / "chain", first, keeping=Keeping()).version  # fewer rows: a whole model, another one
    assert back.kind == "base" and back.facts["note"] == "the model is another"


def test_what_was_computed_with_the_old_weights_is_not_used(place, tmp_path, past):
    first = state_of_run(place / "joint")
    old = publish(tmp_path / "chain", first).version
    engine = open_version(old)
    requests = asked(engine, past)[:6]
    engine.recommend_batch(requests)
    engine.recommend_batch(requests)
    (cache,) = engine.caches
    assert (cache.hits, len(cache)) == (6, 6)
    second = moved(first, rows=[1])
    take(engine, prepare(engine, old, publish(tmp_path / "chain", second, keeping=LONG).version))
    assert len(cache) == 6  # dropped when they are asked for
    fresh = Engine(as_run(second, tmp_path / "run"))
    for a, b in zip(engine.recommend_batch(requests), fresh.recommend_batch(requests)):
        assert np.array_equal(a.scores, b.scores)
    assert (cache.hits, len(cache)) == (6, 6)
    engine.recommend_batch(requests)
    assert cache.hits == 12


@pytest.fixture
def chain(place, tmp_path):
    folder = tmp_path / "live"
    publish(folder, state_of_run(place / "joint"))
    return folder


@pytest.fixture
def following(chain, service_of):
    return service_of(chain, reload_every_s=600.0)


def answer(service, call, user=7, **more):
    return call(service, ("POST", "/v1/recommend", {"user": user, "k": 5, "at": AT, **more}))[0].json()


def scores(found):
    return [(x["item"], x["score"]) for x in found["items"]]


def test_a_service_follows_the_folder_and_a_rollback_gives_the_old_answers(chain, following, call):
    models = following.models
    before = answer(following, call)
    assert before["model"] == current_version(chain).name and not models.look()
    new = publish(chain, moved(state_now(chain), rows=range(5)), keeping=LONG).version
    assert models.look() and models.swaps == 1
    after = answer(following, call)
    assert after["model"] == new.name and scores(after) != scores(before)
    assert not models.look()  # the same version again: nothing to do
    roll_back(chain)
    assert models.look()
    back = answer(following, call)
    assert (back["model"], scores(back)) == (before["model"], scores(before))
    assert answer(following, call, model="previous")["error"].startswith("There is no previous model")
    metrics = call(following, ("GET", "/metrics", None))[0].text
    assert "louder_version 1.0" in metrics and "louder_reloads 2.0" in metrics


def state_now(chain):
    from louder.publishing.chain import state_of

    return state_of(current_version(chain))


def test_what_is_refused_says_why_and_the_live_version_goes_on(chain, following, call):
    models, before = following.models, answer(following, call)
    first = state_now(chain)
    new = publish(chain, moved(first, rows=[1]), keeping=LONG).version
    file = new.folder / "changes.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert not models.look() and "changes.safetensors is damaged: its checksum" in models.refused
    assert not models.look() and models.refusals == 1
    assert call(following, ("GET", "/v1/model", None))[0].json()["refused"] == models.refused
    assert scores(answer(following, call)) == scores(before)
    repaired = publish(chain, moved(first, rows=[2])).version
    assert repaired.kind == "base" and models.look() and models.refused is None
    assert answer(following, call)["model"] == repaired.name


def test_a_gap_is_bridged_by_the_whole_model(chain, following, call, capsys):
    states = [state_now(chain)]
    for number in range(3):
        states.append(moved(states[-1], rows=[number], seed=number, dense=False))
    for state in states[1:]:
        last = publish(chain, state, keeping=Keeping(longest=1, share=9.0, versions=1)).version
    assert [path.name for path in sorted(chain.glob("v*"))] == ["v00000003", "v00000004"]
    assert following.models.look()
    assert "no deltas lead from 1 to 4, so the whole model was read" in capsys.readouterr().err
    found = answer(following, call)
    assert found["model"] == last.name
    fresh = open_version(last)
    assert torch.equal(following.models.live.vectors, fresh.vectors)


def test_the_gate_is_heard_by_the_service(chain, following, call):
    broken = moved(state_now(chain), rows=[1])
    next(iter(broken.weights.values()))[:] = torch.nan
    done = publish(chain, broken)
    assert done.version == current_version(chain) and "not finite" in done.refused[0]
    assert not following.models.look()
    refused = call(following, ("GET", "/v1/model", None))[0].json()["refused"]
    assert refused.startswith("the gate refused what was to follow version 1: the weight ") and "not finite" in refused
    answer(following, call)
    assert "louder_gate_refused 1.0" in call(following, ("GET", "/metrics", None))[0].text


def test_another_architecture_is_loaded_tried_and_taken(chain, following, place, call):
    other = state_of_run(place / "joint")
    config = other.state["config"]
    shorter = {**config, "data": {**config["data"], "max_len": 20}}
    other = publish(chain, replace(other, state={**other.state, "config": shorter})).version
    assert other.kind == "base" and other.facts["note"] == "the model is another"
    assert following.models.look(), following.models.refused
    assert answer(following, call)["model"] == other.name


def test_no_answer_mixes_versions_and_none_fails(chain, following):
    """Requests go on while versions are taken; what each version answers is known."""
    states = [state_now(chain)]
    for number in range(4):
        states.append(moved(states[-1], rows=[number, 3], seed=number))
    expected, users = {}, (1, 7, 30)

    async def ask(client, user):
        sent = {"user": user, "k": 5, "at": AT}
        found = (await client.post("/v1/recommend", json=sent)).json()
        return user, found["model"], scores(found)

    async def burst():
        async with client_of(following) as client:
            return await asyncio.gather(*(ask(client, user) for user in users * 4))

    async def until(done):
        found = []
        async with client_of(following) as client:
            while not done.is_set():
                found += await asyncio.gather(*(ask(client, user) for user in users))
        return found

    for user, version, found in asyncio.run(burst()):
        assert expected.setdefault((user, version), found) == found
    done = threading.Event()

    def swap():
        try:
            for state in states[1:]:
                publish(chain, state, keeping=LONG)
                assert following.models.look(), following.models.refused
        finally:
            done.set()

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = asyncio.run(until(done))
    swapper.join()
    for user, version, found in [*seen, *asyncio.run(burst())]:
        assert expected.setdefault((user, version), found) == found  # one version, one answer
    roll_back(chain, 3)
    assert following.models.look()
    for user, version, found in asyncio.run(burst()):
        assert version == current_version(chain).name
        assert expected.setdefault((user, version), found) == found
    assert len({found[0] for found in {(name, str(x)) for (_, name), x in expected.items()}}) >= 3


def test_a_step_that_fails_half_way_leaves_a_whole_model(chain, following, call, monkeypatch):
    new = publish(chain, moved(state_now(chain), rows=range(9)), keeping=LONG).version
    monkeypatch.setattr("louder.publishing.live.renew_items", lambda *_: 1 / 0)
    with monkeypatch.context() as patch:
        patch.setattr("louder.serving.following.open_version", lambda *_, **__: Engine(place_of(chain, new)))
        following.models.look()
    found = answer(following, call)
    assert scores(found) == scores(answer(following, call))


def place_of(chain, version):
    from louder.publishing.chain import state_of

    return as_run(state_of(version), chain.parent / "whole")


def test_nothing_is_served_beside_a_folder_of_versions_or_from_an_empty_one(chain, service_of, place):
    with pytest.raises(InputError, match="no other run and no source goes with it"):
        service_of(chain, sources=["popular:10"])
    shutil.rmtree(chain / "v00000001")
    with pytest.raises(InputError, match="has no version 1"):
        service_of(chain)
