"""Several models in one service: who is answered by which, and that the log says it."""

import json
import os

import numpy as np
import pytest

from louder.errors import InputError
from louder.serving import messages as m
from louder.serving.variants import CONTROL, Variant, assigned, variant_of, with_control
from louder.streaming import Joiner, LogReader

AT = 1_750_000_000


def recommend(user, **more):
    return "POST", "/v1/recommend", {"user": user, "k": 3, "at": AT, **more}


def names(variants, salt="", users=range(20_000)):
    return np.array([assigned(user, variants, salt).name for user in users])


def test_shares_are_those_that_were_asked_for_and_users_stay():
    variants = with_control(["a=x:0.3", "b=y:0.05"])
    drawn = names(variants)
    for name, share in ("a", 0.3), ("b", 0.05), (CONTROL, 0.65):
        assert abs((drawn == name).mean() - share) < 4 * (share * (1 - share) / 20_000) ** 0.5
    assert (names(variants) == drawn).all()


def test_another_salt_is_another_draw():
    variants = with_control(["a=x:0.5"])
    both = (names(variants, "one") == "a") & (names(variants, "two") == "a")
    assert abs(both.mean() - 0.25) < 4 * (0.25 * 0.75 / 20_000) ** 0.5


def test_when_the_last_share_grows_only_the_control_moves():
    before, after = (names(with_control(["a=x:0.3", f"b=y:{share}"])) for share in (0.05, 0.2))
    assert set(before[before != after]) == {CONTROL} and set(after[before != after]) == {"b"}


def test_ids_that_are_numbers_and_texts_are_drawn_on_their_own_and_for_ever():
    variants = with_control(["a=x:0.5"])
    drawn = "".join(assigned(user, variants, "s").name[0] for user in (1, 2, 3, 4, 5, "ann", "bob", "1", "2", "7"))
    assert drawn == "caaaaccaca"  # another build of Louder must not draw anew


def test_what_a_variant_is():
    assert variant_of("fresh=runs/a:b:0.2") == Variant("fresh", 0.2, run=variant_of("x=runs/a:b:0.1").run)
    assert variant_of("wide=+new:50:.1") == Variant("wide", 0.1, sources=("new:50",))
    assert [x.share for x in with_control(["a=x:0.1", "b=y:0.2"])] == [0.7, 0.1, 0.2]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["a=x"], "must be a name"),
        (["a=x:1.5"], "must be a name"),
        (["a=x:0"], "must be a name"),
        (["a b=x:0.5"], "must be a name"),
        (["=x:0.5"], "must be a name"),
        (["control=x:0.5"], "control is what everybody else has"),
        (["a=+new:0.5"], "is no source of candidates"),
        (["a=x:0.1", "a=y:0.1"], "Two variants are called a"),
        (["a=x:0.5", "b=y:0.5"], "leaves no control"),
    ],
)
def test_what_is_no_variant_is_refused(texts, sentence):
    with pytest.raises(InputError, match=sentence):
        with_control(texts)


@pytest.fixture
def service(service_of, place, tmp_path):
    variants = f"again={place / 'again'}:0.5", "wide=+new:20:0.2"
    return service_of(events=str(tmp_path / "log"), variants=variants, salt="s")


def test_each_user_is_answered_by_their_variant_and_the_log_says_so(service, service_of, place, call, tmp_path, capsys):
    users = range(1, 31)
    found = [m.Answer.model_validate_json(x.content) for x in call(service, *map(recommend, users))]
    due = [assigned(user, service.variants, "s").name for user in users]
    assert [x.variant for x in found] == due and set(due) == {CONTROL, "again", "wide"}
    for name, models in service.models_of.items():
        assert {x.model for x, own in zip(found, due) if own == name} == {models.live.version}
    assert {s for x, own in zip(found, due) for item in x.items for s in item.sources if own != "wide"} == set()
    assert all(item.sources for x, own in zip(found, due) for item in x.items if own == "wide")
    # what a service with that run alone answers
    alone = service_of("again", store=str(tmp_path / "other"))
    user = users[due.index("again")]
    (direct,) = call(alone, recommend(user))
    assert [x["item"] for x in direct.json()["items"]] == [x.item for x in found[user - 1].items]
    assert direct.json().get("variant") is None
    service.log.close()
    with LogReader(tmp_path / "log") as reader, Joiner(tmp_path / "joiner") as joiner:
        records = [x.record for x in reader.read(1_000)]
        joiner.add(records)
        told = {x.exposure.user: x.exposure.variant for x in joiner.advance()}
    assert told == dict(zip(users, due))
    assert {(x.variant, x.share) for x in records} == {(CONTROL, 0.3), ("again", 0.5), ("wide", 0.2)}
    assert b'louder_variant_answers_total{variant="again"} %.1f' % due.count("again") in service.metrics.exposition()


def test_histories_are_shared(service, call):
    user = next(n for n in range(1, 60) if assigned(n, service.variants, "s").name == "again")
    before = call(service, recommend(user))[0].json()
    event = {"user": user, "id": "a", "item": before["items"][0]["item"], "time": AT, "actions": ["like"]}
    call(service, ("POST", "/v1/events", {"events": [event]}))
    after = call(service, recommend(user))[0].json()
    assert after["history"] == before["history"] + 1 and after["variant"] == "again"


def test_without_a_user_the_control_answers(service, call):
    history = [{"item": 3, "time": AT - 5}]
    asked = [("POST", "/v1/recommend", {"history": history, "at": AT}), ("POST", "/v1/similar", {"item": 1})]
    assert [x.json()["variant"] for x in call(service, *asked)] == [CONTROL, CONTROL]


def test_the_model_tells_its_variants_and_the_start_their_memory(service, call, capsys):
    told = call(service, ("GET", "/v1/model", None))[0].json()
    m.ModelAnswer.model_validate(told)
    assert [(x["name"], x["share"], x["run"], x["sources"]) for x in told["variants"]] == [
        (CONTROL, 0.3, "joint", []),
        ("again", 0.5, "again", []),
        ("wide", 0.2, "joint", ["new:20"]),
    ]
    sizes = {models.live.weight_bytes for models in service.models_of.values()}
    model = service.models.live
    assert sizes == {sum(x.nbytes for x in model.ranker.model.parameters()) + model.vectors.nbytes}


def test_a_line_of_the_log_names_the_variant(service_of, place, call, capsys):
    service = service_of(variants=(f"again={place / 'again'}:0.5",), log=True)
    assert "Variant again: 0.5 of the users" in capsys.readouterr().err
    call(service, recommend(1))
    call(service, ("GET", "/v1/model", None))
    lines = [json.loads(x) for x in capsys.readouterr().err.splitlines() if x.startswith("{")]
    assert lines[0]["variant"] in ("again", CONTROL) and "variant" not in lines[1]


def test_a_variant_that_cannot_be_asked_the_same_is_refused(service_of, place):
    with pytest.raises(InputError, match="The variant few only retrieves"):
        service_of(variants=(f"few={place / 'retrieval'}:0.5",))


def test_the_command_hands_variants_over(place, tmp_path, louder, monkeypatch):
    told = []

    def stop():
        told.append(json.loads(os.environ["LOUDER_SERVE"]))
        raise InputError("Far enough.")

    monkeypatch.setattr("louder.serving.service.service_from_environment", stop)
    monkeypatch.setenv("LOUDER_SERVE", "")
    serve = "serve", place / "joint", "--store", tmp_path / "s", "--port", 0, "--variant"
    assert louder(*serve, "a=x:0.5", "--variant", "b=+new:5:0.1", "--salt", "t")[0] == 2
    assert told[0]["variants"] == ["a=x:0.5", "b=+new:5:0.1"] and told[0]["salt"] == "t"
    assert "must be a name" in louder(*serve, "a=x")[2] and len(told) == 1
