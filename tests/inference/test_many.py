"""Lists for many users: the same as for each alone, and a file that is whole or not there."""

import json
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from runs import untrained_run
from tables import random_users, tiny_config, tiny_ranking_config, write_table

import louder as package
from louder.cli import main
from louder.errors import InputError
from louder.inference import many, reranking
from louder.inference.request import Boost
from louder.models import HSTUConfig, MoLConfig, SASRecConfig

ITEMS = 20
USERS = random_users(9, items=ITEMS, longest=16, actions=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    table = write_table(folder / "table", USERS, items=ITEMS, actions=["like"], titles=True)
    hstu = HSTUConfig(layers=2, width=8, qk_width=4, v_width=4, max_len=14)
    config = tiny_config(table, model=hstu)
    untrained_run(config, folder / "hstu")
    untrained_run(tiny_config(table, model=SASRecConfig(layers=1, width=8, hidden=8, max_len=14)), folder / "sasrec")
    mol = MoLConfig(query_components=2, item_components=2, width=4, query_hidden=8, gate_hidden=8, user_rows=7)
    plain = {"model": HSTUConfig(layers=1, width=8, qk_width=4, v_width=4, max_len=14, normalised=False), "mol": mol}
    untrained_run(tiny_config(table, loss=type(config.loss)(temperature=1.0), **plain), folder / "mixture")
    ranking = {"log_values": (), "item_attributes": (), "context": ()}
    untrained_run(tiny_ranking_config(table, **ranking), folder / "joint")
    untrained_run(tiny_ranking_config(table, **ranking, next_item=0.0), folder / "ranks")
    return folder


@pytest.mark.parametrize("name", ["hstu", "sasrec", "mixture", "joint", "ranks"])
@pytest.mark.parametrize(
    "asked",
    [
        {"k": 4},
        {"k": 30, "seen": True},
        {"k": 3, "deny": [1003, 1004], "diversity": 0.4},
        {"k": 5, "allow": list(range(1000, 1012)), "boost": [Boost(factor=3.0, items=[1005])]},
        {"k": 4, "at": 10**6},
    ],
)
def test_many_users_get_what_each_gets_alone(place, monkeypatch, name, asked):
    monkeypatch.setattr(many, "READ_TOGETHER", 4)  # so that there are several batches
    monkeypatch.setattr(many, "RANKED_TOGETHER", 4)
    recommender = package.load(place / name)
    rows = pa.concat_tables(recommender.recommend_many(**asked)).to_pylist()
    assert sorted({row["user"] for row in rows}) == list(range(100, 109))
    for user in range(100, 109):
        own, alone = [row for row in rows if row["user"] == user], recommender.recommend(user=user, **asked)
        assert [row["item"] for row in own] == [x.item for x in alone]
        assert [row["title"] for row in own] == [x.title for x in alone]
        assert [row["rank"] for row in own] == list(range(1, len(own) + 1))
        np.testing.assert_allclose([row["score"] for row in own], [x.score for x in alone], rtol=2e-4, atol=1e-5)
        if name in ("joint", "ranks"):
            likes = [x.actions["like"] for x in alone]
            np.testing.assert_allclose([row["like"] for row in own], likes, rtol=1e-4)
        assert ("next" in own[0]) == (name == "joint")


def test_stages_choose_from_as_many_as_for_one_user(place, monkeypatch):
    monkeypatch.setattr(reranking, "MARGIN", 1)
    recommender = package.load(place / "hstu")
    for item in 1000, 1007, 1019:
        asked = {"k": 2, "boost": [Boost(factor=1e30, items=[item])], "seen": True}
        rows = pa.concat_tables(recommender.recommend_many(**asked)).to_pylist()
        assert {row["item"] for row in rows if row["rank"] == 1} == {item}
        assert recommender.recommend(user=100, **asked)[0].item == item


def test_users_are_those_that_are_named(place, tmp_path, capsys):
    recommender = package.load(place / "hstu")
    (two,) = recommender.recommend_many([107, 101], k=2)
    assert two.column("user").to_pylist() == [107, 107, 101, 101]
    with pytest.raises(InputError, match="There is no user 7 among"):
        next(recommender.recommend_many([107, 7]))
    run, out = str(place / "hstu"), tmp_path / "recs.parquet"
    (tmp_path / "some.txt").write_text("107\n\n101\n")
    call("recommend", run, "--users", str(tmp_path / "some.txt"), "-k", "2", "-o", str(out))
    assert pq.read_table(out).equals(two) and "has 4 rows" in capsys.readouterr().out
    pq.write_table(pa.table({"user": [107, 101, 107]}), tmp_path / "some.parquet")
    call("recommend", run, "--users", str(tmp_path / "some.parquet"), "-k", "2", "-o", str(tmp_path / "new" / "r.csv"))
    assert csv.read_csv(tmp_path / "new" / "r.csv").column("item").to_pylist() == two.column("item").to_pylist()
    call("recommend", run, "--users", "all", "-k", "2", "-o", str(out))
    assert len(pq.read_table(out)) == 18
    call("recommend", run, "--user", "107", "--user", "101", "-k", "2", "--json")
    lists = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [[x["item"] for x in own] for own in lists] == [two["item"].to_pylist()[:2], two["item"].to_pylist()[2:]]


def call(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["louder", *arguments])
        with suppress(SystemExit):
            main()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--users", "all"], "--users goes with -o FILE.parquet"),
        (["--users", "all", "--user", "101", "-o", "x.parquet"], "--users goes with -o FILE.parquet"),
        (["--user", "101", "-o", "x.parquet"], "-o is for many users"),
        (["--users", "all", "-o", "x.xlsx"], "must end in .parquet or .csv"),
        (["--users", "missing.txt", "-o", "x.csv"], "cannot be read"),
        (["--users", "all", "-k", "0", "-o", "x.csv"], "k must be at least 1"),
        (["--user", "101", "--where", "genres"], "--where is 'genres'"),
    ],
)
def test_mistakes_have_a_sentence_and_leave_nothing(place, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["louder", "recommend", str(place / "hstu"), *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2 and sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
