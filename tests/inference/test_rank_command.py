"""louder rank: its answers are the ranker's, and a mistake is one sentence with exit code 2."""

import json
from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import random_users, tiny_config, tiny_ranking_config, write_table

from louder.inference.recommender import Recommender
from louder.inference.request import Event
from louder.models import DLRMConfig
from louder.training.loop import train

TITLES = [f"Title {item}" for item in range(15)]
TITLES[5] = "Alien [director's cut] [/]"  # no markup


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a log, a ranking run, one of a DLRM and one of the next item."""
    folder = tmp_path_factory.mktemp("place")
    table = write_table(folder / "table", random_users(30, actions=2), items=15, actions=["like", "share"])
    pq.write_table(pa.table({"title": TITLES}), table / "items.parquet")
    pq.write_table(pa.table({"age": [[18, 25][user % 2] for user in range(30)]}), table / "users.parquet")
    plain = {"log_values": (), "item_attributes": ()}
    dlrm = DLRMConfig(width=4, unit_hidden=4, counter_hidden=4, expert_hidden=(8,), tower_hidden=4)
    configs = {
        "run": tiny_ranking_config(table, **plain),
        "dlrm": tiny_ranking_config(table, dlrm, next_item=0.0, **plain),
        "next": tiny_config(table),
    }
    for name, config in configs.items():
        train(replace(config, training=replace(config.training, epochs=1)), folder / name, quiet=True)
    (folder / "me.json").write_text('[{"item": 1003, "time": 50, "actions": ["like"]}, {"item": 1004, "time": 60}]')
    (folder / "love.json").write_text('[{"item": 1003, "actions": ["love"]}]')
    (folder / "empty.txt").write_text("\n  \n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    return folder


def test_json_is_what_the_ranker_answers(louder, place):
    code, out, _ = louder("rank", place / "run", "--user", "102", "--items", "1003, 1005,1003", "--json")
    expected = Recommender(place / "run").rank(user=102, items=["1003", "1005", "1003"])
    assert (code, json.loads(out)) == (0, [asdict(answer) for answer in expected])
    assert [answer.item for answer in expected] == [1003, 1005, 1003]  # as in the log, not as they were typed
    history = ("--history", place / "me.json", "--context", "age=18", "--at", "70", "--microbatch", "1")
    code, out, _ = louder("rank", place / "run", *history, "--items", "1001,1002", "--json")
    events = [Event(1003, 50, ("like",)), Event(1004, 60)]
    expected = Recommender(place / "run").rank(history=events, context={"age": 18}, at=70, items=["1001", "1002"])
    for answer, right in zip(json.loads(out), expected, strict=True):
        assert answer["item"] == right.item
        assert answer["actions"] == pytest.approx(right.actions, abs=1e-6)


def test_candidates_come_in_the_order_of_the_request_or_by_an_action(louder, place, tmp_path):
    items = [1000 + item for item in range(15)]
    (tmp_path / "candidates.txt").write_text("\n".join(map(str, items)) + "\n\n", encoding="utf-8")
    given = "rank", place / "run", "--user", "102", "--items", f"@{tmp_path / 'candidates.txt'}", "--json"
    answers = json.loads(louder(*given)[1])
    assert [answer["item"] for answer in answers] == items
    for action in "like", "share":
        code, out, _ = louder(*given, "--sort", action)
        by_action = sorted(answers, key=lambda answer: -answer["actions"][action])
        assert (code, json.loads(out)) == (0, by_action)
        assert by_action != answers


def test_the_table_has_a_row_for_each_candidate(louder, place):
    code, out, err = louder("rank", place / "run", "--user", "102", "--items", "1003,1005")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].strip() == "Probability of each action"
    answers = Recommender(place / "run").rank(user=102, items=["1003", "1005"])
    for answer in answers:
        (line,) = (line for line in lines if str(answer.item) in line)
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells == [str(answer.item), answer.title, *(f"{share:.4f}" for share in answer.actions.values())]
    assert answers[1].title == "Alien [director's cut] [/]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --user 102 --items 5", "1 of the candidates are items that the model does not know: 5."),
        ("run --user 102 --items ,", "There are no candidates. Give at least one item: --items 1,2,3."),
        ("run --user 102 --items @empty.txt", "There are no candidates."),
        ("run --user 102 --items @none.txt", "The candidates none.txt cannot be read: No such file"),
        ("run --user 102 --items @table", "The candidates table cannot be read: Is a directory"),
        ("run --user 102 --items @binary", "The candidates binary cannot be read: it is not text in UTF-8"),
        ("run --user 1 --items 1003", "There is no user '1' among the 30 known ones"),
        ("run --items 1003", "Ranking needs a user or a history, one of the two"),
        ("run --user 102 --history me.json --items 1003", "Ranking needs a user or a history, one of the two"),
        ("run --history none.json --items 1003", "The history none.json cannot be read"),
        ("run --history love.json --items 1003", "There is no action 'love'; the model knows like, share"),
        ("run --user 102 --items 1003 --context sex=F", "The context has 'sex', but the model knows"),
        ("run --user 102 --items 1003 --context age", "--context is 'age', but it must be a name, '='"),
        ("run --user 102 --items 1003 --sort buy", "--sort is 'buy', but the actions are like, share."),
        ("run --user 102 --items 1003 --table nowhere", "histories of known users are in nowhere, which is not there"),
        ("nowhere --user 102 --items 1003", "There is no run nowhere. Make one: louder train RECIPE -o nowhere."),
        ("dlrm --user 102 --items 1003", "dlrm is a model of single impressions, whose counters only a table has."),
        ("next --user 102 --items 1003", "next predicts the next item, not what is done with it."),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(louder, place, monkeypatch, arguments, message):
    monkeypatch.chdir(place)
    code, out, err = louder("rank", *arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("louder: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_candidates_that_are_unknown_are_named_beside_the_others(louder, place):
    code, out, err = louder("rank", place / "run", "--user", "102", "--items", "5,1003,x", "--json")
    assert (code, [answer["item"] for answer in json.loads(out)]) == (0, [1003])
    assert err.startswith("2 of the candidates are items that the model does not know: 5, x. Leave them out, or")


def test_a_ranking_run_puts_in_order_what_it_can_find(louder, place):
    code, out, _ = louder("recommend", place / "run", "--user", "102", "-k", "3", "--json")
    answer = json.loads(out)
    assert code == 0 and len(answer) == 3
    scores = [item["score"] for item in answer]
    assert scores == sorted(scores, reverse=True) and all(item["actions"] for item in answer)
