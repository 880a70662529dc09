"""louder.load and the commands: one user at a time, and what was skipped."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import untrained_run
from tables import random_users, tiny_config, tiny_ranking_config, write_table

import louder as package
from louder.errors import InputError
from louder.inference.request import Event

USERS = random_users(20, items=12, longest=9, actions=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facade")
    watch = [[10.0 * n for n in range(len(user))] for user in USERS]
    requests = [[n // 2 for n in range(len(user))] for user in USERS]
    known = {"actions": ["like", "share"], "titles": True}
    table = write_table(folder / "table", USERS, items=12, values={"watch": watch}, requests=requests, **known)
    pq.write_table(pa.table({"age": [[18, 25][user % 2] for user in range(20)]}), table / "users.parquet")
    untrained_run(tiny_config(table), folder / "next")
    untrained_run(tiny_ranking_config(table, item_attributes=(), next_item=0.0), folder / "rank")
    (folder / "me.json").write_text('[{"item": 1003, "time": 50, "actions": ["like"]}, {"item": 7}, {"item": "x"}]')
    return folder


def test_a_run_that_is_loaded_recommends_or_ranks(place):
    found = package.load(place / "next").recommend(user=102, k=3)
    assert len(found) == 3 and (found.read, found.skipped) == (len(USERS[2]), 0)
    ranker = package.load(place / "rank")
    (answer,) = ranker.rank(user=102, items=[1003])
    assert (answer.item, answer.title, list(answer.actions), list(answer.values)) == (
        1003,
        "Title 3",
        ["like", "share"],
        ["log watch"],
    )
    popular = ranker.recommend(user=102, k=3)  # it does not retrieve, so what is popular is put in order
    likes = [item.actions["like"] for item in popular]
    assert len(popular) == 3 and likes == sorted(likes, reverse=True) and popular[0].next is None
    with pytest.raises(InputError, match="next predicts the next item, not what is done with it"):
        package.load(place / "next").rank(user=102, items=[1003])


def test_events_with_values_and_requests_are_those_of_the_table(place):
    """All that a table holds of an event can be given by hand."""
    ranker, names = package.load(place / "rank"), [(), ("like",), ("share",), ("like", "share")]
    for user in range(6):
        events = [
            Event(1000 + token.id, token.time, names[token.actions], {"watch": 10.0 * n}, f"r{n // 2}")
            for n, token in enumerate(USERS[user])
        ]
        context = {"age": [18, 25][user % 2]}
        given = ranker.rank(history=events, items=[1001, 1005], context=context)
        stored = ranker.rank(user=100 + user, items=[1001, 1005])
        for one, other in zip(given, stored, strict=True):
            assert one.actions == pytest.approx(other.actions, abs=1e-5)
            assert one.values == pytest.approx(other.values, abs=1e-5)
    bare = [Event(event.item, event.time, event.actions) for event in events]
    assert ranker.rank(history=bare, items=[1001], context=context)[0].actions != given[0].actions
    with pytest.raises(InputError, match="There is no value 'fly'; the model knows watch"):
        ranker.rank(history=[Event(1001, 5, (), {"fly": 1.0})], items=[1001])


@pytest.mark.parametrize(("run", "more"), [("next", ("-k", "5")), ("rank", ("--items", "1001,1002"))])
def test_commands_say_in_one_line_what_they_skipped(run, more, louder, place):
    command = "recommend" if run == "next" else "rank"
    code, out, err = louder(command, place / run, "--history", place / "me.json", *more, "--json")
    assert code == 0 and json.loads(out)
    assert err == "Skipped 2 events of the history, whose items the model does not know.\n"
    code, out, err = louder(command, place / run, "--user", "102", *more, "--json")
    assert (code, err) == (0, "")


def test_recommend_shows_what_the_history_holds(louder, place):
    user = max(range(20), key=lambda user: len(USERS[user]))
    code, out, _ = louder("recommend", place / "next", "--user", 100 + user, "-k", "3")
    assert code == 0 and f"Latest of {len(USERS[user])} events" in out
    history, answer = out.split("Recommended")
    assert history.count("Title") == 8 < len(USERS[user])
    for token in USERS[user][-8:]:
        assert f"Title {token.id} " in history and f"{1000 + token.id}" in history
    assert "Drama, War" in history and "Drama" not in answer
    lines = [line for line in answer.splitlines() if "Title" in line]
    assert [line.split()[1] for line in lines] == ["1", "2", "3"]


def test_stages_can_be_typed(louder, place):
    user = min(range(20), key=lambda user: len(USERS[user]) or 99)
    arguments = "recommend", place / "next", "--user", 100 + user, "-k", "4", "--seen", "--json"
    plain = [item["item"] for item in json.loads(louder(*arguments)[1])]
    pinned = "--pin", f"{plain[3]}:1", "--pin", f"{plain[0]}:3"
    assert [item["item"] for item in json.loads(louder(*arguments, *pinned)[1])] == [plain[i] for i in (3, 1, 0, 2)]
    code, out, err = louder(*arguments, "--cap", "genres=1", "--boost", "genres=Drama:2", "--diversity", "0.2")
    assert code == 0 and len(json.loads(out)) < 4
    assert err == f"There are {len(json.loads(out))} items and not 4: The caps leave no more of 12 candidates.\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            "--boost genres=Drama",
            "--boost is 'genres=Drama', but it must be an attribute, '=', a value, ':' and a factor",
        ),
        ("--boost Drama:2", "A boost needs items or attributes"),
        ("--cap genres=many", "--cap is genres=many, but it must be a number of items: --cap genres=3."),
        ("--pin 1003", "--pin is '1003', but it must be an item, ':' and a position: --pin 1193:1."),
    ],
)
def test_a_stage_that_is_mistyped_is_said(louder, place, arguments, text):
    code, _, err = louder("recommend", place / "next", "--user", "102", *arguments.split())
    assert code == 2 and text in err
