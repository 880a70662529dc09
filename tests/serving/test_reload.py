"""A new model takes the old one's place without a request failing; a bad one does not."""

import asyncio
import gc
import json
import os
import shutil
import time
import weakref
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from services import client_of

from louder.folders import write_text
from louder.serving import messages as m
from louder.serving.publishing import point
from louder.serving.warmup import trial_request

AT = 1_750_000_000
USERS = 1, 7, 30


@pytest.fixture
def runs(place, tmp_path):
    """Runs of one's own, to be spoiled; each resembles the others, and has scores of its own."""
    for number, name in enumerate(("first", "second", "third")):
        shutil.copytree(place / "joint", tmp_path / name)
        if number:
            publish(tmp_path / name, weights_changed("head.3.bias", number / 2))
    return tmp_path


@pytest.fixture
def live(runs, service_of):
    """A service on the link `live`, which looks when it is told to, and asks few users."""
    point(runs / "live", runs / "first")
    service = service_of(runs / "live", reload_every_s=600.0)
    few = service.models.canaries()[:3]
    service.models.canaries = lambda: few
    return service


def recommend(user, **more):
    return "POST", "/v1/recommend", {"user": user, "k": 5, "at": AT, **more}


def answers(service, call, **more):
    """The version, and the scores for each user."""
    found = [m.Answer.model_validate_json(r.content) for r in call(service, *(recommend(u, **more) for u in USERS))]
    (version,) = {x.model for x in found}
    return version, [[x.score for x in one.items] for one in found]


def publish(run, change, step="step-99999999"):
    """A new best checkpoint: a copy of the best one that `change` changed, published as training does it."""
    best = run / "checkpoints" / json.loads((run / "best.json").read_text())["checkpoint"]
    new = run / "checkpoints" / step
    shutil.copytree(best, new)
    change(new)
    write_text(run / ".best.json", json.dumps({"checkpoint": step, "epoch": 1}))
    os.replace(run / ".best.json", run / "best.json")


def weights_changed(name, value):
    def change(folder):
        tensors = load_file(folder / "model.safetensors")
        (found,) = [tensor for key, tensor in tensors.items() if key.endswith(name)]
        found.fill_(value)
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors")

    return change


def test_a_new_best_checkpoint_is_taken_by_itself(runs, service_of, call):
    service = service_of(runs / "first", reload_every_s=0.02)
    before, scores = answers(service, call)
    publish(runs / "first", weights_changed("head.3.bias", 3.0))
    until = time.monotonic() + 60
    while service.models.swaps == 0 and time.monotonic() < until:
        time.sleep(0.02)
    after, others = answers(service, call)
    assert after != before and np.abs(np.array(others) - scores).max() > 0.01
    assert answers(service, call, model="previous") == (before, scores)
    told = call(service, ("GET", "/v1/model", None))[0].json()
    assert (told["version"], told["previous"], told["refused"]) == (after, before, None)
    assert "louder_reloads 1.0" in call(service, ("GET", "/metrics", None))[0].text


def test_publish_and_rollback_move_a_link_and_the_service_follows(runs, live, call, louder):
    before, scores = answers(live, call)
    first = live.models.live
    assert louder("publish", runs / "second", runs / "live")[0] == 0
    assert live.models.look()
    version, others = answers(live, call)
    assert version.startswith("second@") and others != scores
    assert louder("rollback", runs / "live")[0] == 0
    assert live.models.look()
    assert live.models.live is first  # kept, and not read again
    assert answers(live, call) == (before, scores)
    assert answers(live, call, model="previous") == (version, others)
    assert not live.models.look()  # nothing new


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("publish", "nothing", "live"), "There is no run"),
        (("publish", "second", "first"), "is no link"),
        (("rollback", "live"), "Nothing was behind"),
    ],
)
def test_what_cannot_be_published_is_said(runs, louder, monkeypatch, command, text):
    monkeypatch.chdir(runs)
    point(runs / "live", runs / "first")
    code, _, error = louder(*command)
    assert code == 2 and text in error and error.count("\n") == 1
    assert (runs / "live").resolve() == runs / "first"


def test_ten_swaps_under_load_fail_no_request_and_mix_no_models(runs, live, call):
    names = ["second", "third", "first"]  # the next is never the previous, so each is read and checked
    expected = dict([answers(live, call)])
    for name in names:
        point(runs / "live", runs / name)
        assert live.models.look()
        version, scores = answers(live, call)
        expected[version] = scores
    assert len(expected) == 3  # the last of them is the first
    done, served = False, []

    async def keep_asking(client, number):
        while not done:
            user = number % len(USERS)
            method, path, body = recommend(USERS[user])
            response = await client.request(method, path, json=body)
            assert response.status_code == 200, response.text
            answer = m.Answer.model_validate_json(response.content)
            served.append(answer.model)
            np.testing.assert_allclose([x.score for x in answer.items], expected[answer.model][user], atol=1e-5)
            number += 1

    async def swap():
        nonlocal done
        for turn in range(10):
            point(runs / "live", runs / names[turn % 3])
            assert await asyncio.to_thread(live.models.look), live.models.refused
            seen = len(served)
            while len(served) < seen + 4:
                await asyncio.sleep(0.005)
        done = True

    async def all_at_once():
        async with client_of(live) as client, asyncio.timeout(300), asyncio.TaskGroup() as tasks:
            tasks.create_task(swap())
            for number in range(4):
                tasks.create_task(keep_asking(client, number))

    asyncio.run(all_at_once())
    assert live.models.swaps == 13 and live.models.refusals == 0
    assert len(set(served)) == 3


def test_of_many_models_the_live_one_and_the_one_before_are_left(runs, live):
    """Also without a garbage collection, from which the service keeps what it was started with."""
    gc.collect()
    gc.disable()
    try:
        gone = []
        for turn in range(8):
            model = live.models.live
            model.recommend(trial_request(model))
            gone += [weakref.ref(x) for x in (model, model.catalogue, model.ranker, model.run)]
            del model
            point(runs / "live", runs / ["second", "third", "first"][turn % 3])
            assert live.models.look(), live.models.refused
        assert [x() for x in gone[:-4]] == [None] * 28 and None not in [x() for x in gone[-4:]]
    finally:
        gc.enable()


def cut_short(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def other_items(folder):
    file = folder / "vocabulary" / "item.parquet"
    table = pq.read_table(file)
    raw = table.column("raw").to_numpy() + 1_000_000
    file.unlink()
    pq.write_table(table.set_column(0, "raw", [raw]), file)


def another_width(folder):
    state = json.loads((folder / "state.json").read_text())
    state["config"]["model"]["width"] += 2
    (folder / "state.json").unlink()
    (folder / "state.json").write_text(json.dumps(state))


BAD = [
    (weights_changed("head.3.bias", float("nan")), "The scores of"),
    (weights_changed("items.weight", float("inf")), "item vectors hold numbers that are not finite"),
    (cut_short, "cut short"),
    (other_items, "none of the items"),
    (another_width, "do not fit the model"),
    (lambda folder: (folder / "state.json").unlink(), "no state.json"),
]


@pytest.mark.parametrize(("change", "reason"), BAD, ids=[reason for _, reason in BAD])
@pytest.mark.parametrize("store", ["full", "away"])
def test_a_bad_checkpoint_is_refused_and_the_live_model_goes_on(runs, live, call, change, reason, store):
    if store == "away":  # also without known users
        live.models.canaries = list
    if store == "away" and change is other_items:
        return  # nothing to compare the items with
    before = answers(live, call)
    publish(runs / "first", change)
    assert not live.models.look() and not live.models.look()
    assert answers(live, call) == before
    told = call(live, ("GET", "/v1/model", None))[0].json()
    assert reason in told["refused"] and told["version"] == before[0] and told["previous"] is None
    assert "louder_reloads_refused 1.0" in call(live, ("GET", "/metrics", None))[0].text


def test_after_a_bad_checkpoint_a_good_one_is_taken(runs, live, call):
    good = json.loads((runs / "first" / "best.json").read_text())
    before, _ = answers(live, call)
    publish(runs / "first", cut_short)
    assert not live.models.look()
    write_text(runs / "first" / "best.json", json.dumps(good))
    assert not live.models.look() and live.models.refused is None  # it is the live one
    publish(runs / "first", weights_changed("head.3.bias", 1.0), "step-99999998")
    assert live.models.look() and live.models.refused is None
    assert answers(live, call)[0] != before


def test_a_run_of_another_kind_is_refused(runs, place, live, call):
    point(runs / "live", place / "retrieval")
    assert not live.models.look()
    assert "ranks and the live model does not" in live.models.refused
    (runs / "live").unlink()
    assert not live.models.look() and not live.models.look()
    assert "There is no run" in live.models.refused and live.models.refusals == 2
    assert call(live, recommend(1))[0].status_code == 200


def test_a_checkpoint_that_changes_while_it_is_read_is_read_again(runs, live, monkeypatch):
    """Else it would be named by one version, and made of another."""
    source, versions = live.models.source, iter(["old", "new", "new", "new"])
    loaded = []

    class Model:
        def __init__(self, *arguments, **settings):
            self.version = "new"
            loaded.append(self)

    monkeypatch.setattr("louder.serving.reload.Engine", Model)
    monkeypatch.setattr("louder.serving.reload.warm", lambda _: None)
    monkeypatch.setattr(type(source), "version", lambda _: next(versions))
    assert replace(source).load() is loaded[-1] and len(loaded) == 2
