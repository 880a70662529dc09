"""The way of a table through the commands: replay, stream, go on, serve's folder, report."""

import json

import pytest
from runs import untrained_run
from tables import random_users, tiny_config, write_table

import louder as package
from louder.errors import InputError
from louder.inference.run import Run


def test_from_a_table_to_a_page(tmp_path, louder):
    table = write_table(tmp_path / "t", random_users(20, items=15, actions=2), items=15, actions=["like", "share"])
    run = untrained_run(tiny_config(table), tmp_path / "run")
    code, out, _ = louder("data", "replay", table, "-o", tmp_path / "events")
    assert code == 0 and "records written" in out
    words = "stream", run, "--source", tmp_path / "events", "-o", tmp_path / "s", "--window", "6h", "--until-end"
    code, out, err = louder(*words, "--set", "stream.keep=50", "--publish", tmp_path / "live")
    assert code == 0 and "Next: louder serve" in out and "window 1 " in err
    assert json.loads((tmp_path / "s" / "stream.json").read_text())["settings"]["window_s"] == 6 * 3_600
    code, out, _ = louder(*words, "--set", "stream.keep=50")
    assert code == 0 and "nothing new" in out
    code, _, err = louder(*words)
    assert code == 2 and "was started with keep = 50, but now it is 1000" in err
    assert Run.open(tmp_path / "s").sequential() and louder("report", tmp_path / "s")[0] == 0


def test_in_python(tmp_path):
    table = write_table(tmp_path / "t", random_users(20, items=15, actions=2), items=15, actions=["like", "share"])
    run = untrained_run(tiny_config(table), tmp_path / "run")
    from louder.online.replay import replay

    replay(table, str(tmp_path / "events"))
    row = package.stream(str(run), tmp_path / "events", tmp_path / "s", window="1d", until_end=True, quiet=True)
    assert row["window"] == 2 and row["next_item"]["events"] > 0
    assert package.stream(tiny_config(table), tmp_path / "events", tmp_path / "cold", windows=1, quiet=True)["steps"]
    with pytest.raises(InputError, match="window is '1 week'"):
        package.stream(str(run), tmp_path / "events", tmp_path / "other", window="1 week")
