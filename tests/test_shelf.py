"""louder runs, louder tables and louder --version: what is there, whatever else lies beside it."""

import json

import pytest
from runs import untrained_run
from tables import random_users, tiny_config, tiny_ranking_config, write_table

from louder.cli import main
from louder.config import to_dict
from louder.version import __version__


@pytest.fixture
def louder(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["louder", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        assert not done.value.code
        return capsys.readouterr().out

    return call


def test_runs_and_tables_are_listed_and_what_is_none_of_them_is_not(louder, tmp_path):
    table = write_table(tmp_path / "tables" / "shop", random_users(5, actions=2), items=15, actions=["like", "share"])
    config = tiny_config(table)
    for name, of in (
        ("monday", config),
        ("tuesday", tiny_ranking_config(table, item_attributes=(), context=(), log_values=())),
    ):
        run = untrained_run(of, tmp_path / "runs" / name)
        (run / "config.json").write_text(json.dumps(to_dict(of)))
    (tmp_path / "runs" / "monday" / "metrics.json").write_text(
        json.dumps({"metrics": {"hr@10": 0.25}, "epochs_trained": 3})
    )
    for broken in "{", "[]", '{"a": 1}':
        (tmp_path / "runs" / f"x{len(broken)}").mkdir()
        (tmp_path / "runs" / f"x{len(broken)}" / "config.json").write_text(broken)
    runs = json.loads(louder("runs", "--json"))
    assert [(row["run"], row["epochs"], row["test"]) for row in runs] == [
        ("runs/monday", 3, "HR@10 0.2500"),
        ("runs/tuesday", "unfinished", ""),
    ]
    assert runs[1]["config"] == "tiny-rank" and runs[0]["table"] == str(table) and runs[0]["seed"] == "42"
    (row,) = json.loads(louder("tables", "--json"))
    assert (row["table"], row["users"], row["items"], row["actions"]) == ("tables/shop", 5, 15, "like, share")
    assert "│ monday" in louder("runs") and "│ shop" in louder("tables")
    assert "Make one: louder train" in louder("runs", tmp_path / "nowhere")
    assert "Make one: louder etl" in louder("tables", tmp_path / "nowhere")


def test_the_version_is_told(louder):
    assert louder("--version") == f"louder {__version__}\n"
