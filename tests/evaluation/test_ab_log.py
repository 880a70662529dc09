"""What a log of events and answers tells of an A/B test, from the log to the command."""

import json

import numpy as np
import pytest

from louder.errors import InputError
from louder.evaluation.ab import compare_variants
from louder.evaluation.ab_log import read_test
from louder.histories import Arrival
from louder.serving.variants import assigned, with_control
from louder.streaming import LogWriter, Shown

T = 1_700_000_000


def answer(user, request, variant, share=0.5, time=T, items=(1, 2)):
    n = len(items)
    return Shown(request, user, time, tuple(items), (0.0,) * n, (1.0,) * n, "m", variant, share)


def event(user, id, request, *actions, item=1, time=T + 5):
    return Arrival(user, id, item, time, actions, {}, request)


def write(folder, records):
    with LogWriter(folder) as log:
        log.append(list(records))
    return str(folder)


def crowd(users, lift, *, share=0.5, lost=0.0, seed=0, hours=24):
    """Records of a crowd: a user asks every few hours and likes what is shown with a probability of .2, with `fresh` more often
    by `lift`. Of the share `lost` of the users of `fresh` nothing is logged."""
    draw, variants, records = np.random.default_rng(seed), with_control([f"fresh=x:{share}"]), []
    for user in range(users):
        variant = assigned(user, variants, "t")
        if variant.name == "fresh" and draw.random() < lost:
            continue
        rate = draw.beta(4, 16) * (1 + lift * (variant.name == "fresh"))
        for n, hour in enumerate(np.flatnonzero(draw.random(hours) < 0.2).tolist()):
            time = T + 3_600 * hour + int(draw.integers(0, 3_600))
            records.append(answer(user, f"{user}-{n}", variant.name, variant.share, time))
            if draw.random() < rate:
                records.append(event(user, f"{user}-{n}", f"{user}-{n}", "like", time=time + 60))
    return sorted(records, key=lambda record: record.time)


def test_every_reward_goes_to_the_variant_that_showed_it_once(tmp_path):
    records = [
        answer(1, "a", "control"),
        answer(2, "b", "fresh"),
        answer(2, "b", "fresh"),  # sent twice
        answer(3, "c", "fresh", time=T + 10),
        answer(4, "d", "control"),
        event(1, "1", "a", "click"),
        event(1, "1", "a", "click"),
        event(2, "2", "b", "click", "like"),
        event(2, "3", "b", "click", item=2, time=T + 5_000),  # after the wait: a correction
        event(3, "4", "c", "like"),  # before it was shown, by a clock that is behind
        event(3, "5", None, "click"),  # came of no answer
        event(4, "6", "d", "click", item=9),  # of an item that was not shown
        answer(5, "e", ""),  # before the test began
    ]
    log = read_test(write(tmp_path / "log", records))
    assert log.variants == ("control", "fresh") and sorted(log.actions) == ["click", "like"]
    found = compare_variants(log)
    control, fresh = found["variants"]
    assert (control["users"], control["requests"], fresh["users"], fresh["requests"]) == (2, 2, 2, 2)
    means = [[x["per_request"][name]["mean"] for name in ("events", "click", "like")] for x in (control, fresh)]
    assert means == [[0.5, 0.5, 0.0], [1.5, 1.0, 1.0]]
    weighed = compare_variants(log, {"click": 1.0, "like": 5.0})["variants"]
    assert [x["per_user"]["reward"]["mean"] for x in weighed] == [0.5, 6.0]
    later = compare_variants(read_test(str(tmp_path / "log"), until=T + 10))["variants"]
    assert later[1]["requests"] == 1 and later[1]["per_user"]["events"]["mean"] == 2.0


def test_a_known_effect_is_found_and_none_is_not(tmp_path, louder):
    write(tmp_path / "with", crowd(900, 0.5))
    write(tmp_path / "without", crowd(900, 0.0))
    effect, none = (json.loads(louder("ab", tmp_path / name, "--json")[1]) for name in ("with", "without"))
    fresh, same = effect["variants"][1], none["variants"][1]
    assert fresh["verdict"] == "better" and same["verdict"] == "open"
    look = fresh["against_control"]["per_request"]["reward"]
    assert look["lift_low"] < 0.5 < look["lift_high"] and look["lift_low"] > 0
    assert fresh["always"]["low"] < look["low"] < look["high"] < fresh["always"]["high"]
    assert effect["since"] < fresh["decided_at"] <= effect["until"] and fresh["p"] < 0.05 < same["p"]
    assert effect["drawn"]["p"] > 0.01 and effect["refused"] == ""
    code, text, _ = louder("ab", tmp_path / "with", "--html", tmp_path / "ab.html")
    assert code == 0 and "fresh: better than the control, known since" in text and "p " in text
    page = (tmp_path / "ab.html").read_text()
    assert "fresh is better than the control" in page and "Difference from the control" in page


def test_nothing_is_concluded_where_users_are_missing(tmp_path, louder):
    write(tmp_path / "log", crowd(900, 0.5, lost=0.3))
    found = json.loads(louder("ab", tmp_path / "log", "--json")[1])
    fresh = found["variants"][1]
    assert fresh["verdict"] == "refused" and fresh["decided_at"] is None and found["drawn"]["p"] < 0.001
    assert "The users are not those that were drawn" in louder("ab", tmp_path / "log")[1]


def test_a_variant_that_never_answered_is_missed(tmp_path):
    records = [answer(user, f"{user}", name, 1 / 3) for user, name in ((1, "control"), (2, "a"))]
    found = compare_variants(read_test(write(tmp_path / "log", records)))
    assert "a variant has no answer at all" in found["refused"]


def test_users_of_several_variants_are_left_out_and_nothing_is_concluded(tmp_path):
    records = [answer(user, f"{user}", ("control", "a")[user % 2]) for user in range(40)]
    records.append(answer(0, "again", "a"))
    found = compare_variants(read_test(write(tmp_path / "log", records)))
    assert [x["users"] for x in found["variants"]] == [19, 20] and found["drawn"]["moved"] == 1
    assert "1 of 40 users were answered by several variants" in found["refused"]


def test_logs_that_cannot_be_compared_are_refused(tmp_path, louder):
    write(tmp_path / "one", [answer(1, "a", "control")])
    write(tmp_path / "none", [answer(1, "a", "")])
    changed = [answer(1, "a", "control"), answer(2, "b", "fresh"), answer(3, "c", "fresh", 0.2, T + 9)]
    write(tmp_path / "changed", changed)
    for name, sentence in (
        ("one", "all are of control"),
        ("none", "none is of a variant"),
        ("changed", f"was 0.5 and became 0.2.*--since {T + 9}"),
        ("nothing", "nothing"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_test(str(tmp_path / name))
    write(tmp_path / "two", [answer(1, "a", "control"), answer(2, "b", "fresh"), event(2, "e", "b", "like")])
    assert "There are like, events" in louder("ab", tmp_path / "two", "--reward", "buy=1")[2]
    assert "an action is worth a number" in louder("ab", tmp_path / "two", "--reward", "like=much")[2]
    assert "must be seconds or a date" in louder("ab", tmp_path / "two", "--since", "monday")[2]
    assert louder("ab", tmp_path / "two", "--since", "2023-11-14T22:13")[0] == 0
