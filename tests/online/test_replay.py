"""A table or a log, played as a stream, holds what it held."""

import numpy as np
import pytest
from tables import ranking_table, write_ranking_table, write_table

from louder.data.histories import histories
from louder.data.table import open_table
from louder.errors import InputError
from louder.histories import Names, open_store
from louder.online.replay import replay
from louder.streaming import LogReader
from tests.online.streams import START, arrivals, learnt, rows, shown, write_log


def records_of(log):
    with LogReader(log) as reader:
        found = []
        while some := reader.read():
            found += some
    return found


def test_a_table_played_into_a_store_is_the_table(tmp_path):
    table = write_ranking_table(tmp_path / "t", ranking_table(2, requests="contiguous"))
    count = replay(table, str(tmp_path / "log"))
    store = open_store(str(tmp_path / "store"), names=Names(("like", "share"), ("watch",)))
    found = records_of(tmp_path / "log")
    assert len(found) == count and all(x.stamp == 1000 * x.record.time for x in found)
    store.append([x.record for x in sorted(found, key=lambda x: x.stamp)])
    read = open_table(table, values=["watch"], requests=True)
    known = dict(histories(read))
    assert set(store) == set(known)
    for user, history in known.items():
        own = store.history(user)
        for name in ("items", "times", "actions"):
            assert getattr(own, name).tolist() == getattr(history, name).tolist()
        np.testing.assert_array_equal(own.values, history.values)
        same = [np.unique(x.requests, return_inverse=True)[1] for x in (own, history)]
        first, second = ((x[:, None] == x).tolist() for x in same)
        assert first == second
    store.close()


def test_a_log_played_again_trains_the_same(tmp_path):
    from runs import untrained_run
    from tables import random_users, tiny_config

    users = random_users(20, items=15, longest=12, actions=2)
    run = untrained_run(
        tiny_config(write_table(tmp_path / "t", users, items=15, actions=["like", "share"])), tmp_path / "r"
    )
    log = write_log(tmp_path / "log", [*arrivals(users), shown("r", 100, START + 99_999, [1001])])
    replay(log, str(tmp_path / "again"))
    learnt(run, log, tmp_path / "a")
    learnt(run, tmp_path / "again", tmp_path / "b")
    assert [row["loss"] for row in rows(tmp_path / "a")] == [row["loss"] for row in rows(tmp_path / "b")]


def test_a_pace_is_kept_and_times_can_be_moved(tmp_path):
    log = write_log(tmp_path / "log", arrivals([[]] + [[t] for t in [*map(token, (0, 100, 400))]]))
    waited = []
    replay(log, str(tmp_path / "paced"), speed=100, start=START + 10**6, sleep=waited.append)
    assert [x.record.time for x in sorted(records_of(tmp_path / "paced"), key=lambda x: x.stamp)] == [
        START + 10**6 + second for second in (0, 100, 400)
    ]
    assert [round(x) for x in waited] == [0, 1, 4]


def token(time):
    from tables import Token

    return Token(1, time)


def test_what_cannot_be_played_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither a sequence table nor an event log"):
        replay(tmp_path, str(tmp_path / "log"))
    table = write_table(tmp_path / "t", arrivals([]), items=3, has_times=False)
    with pytest.raises(InputError, match="has no times"):
        replay(table, str(tmp_path / "log"))
    log = write_log(tmp_path / "log", arrivals([[token(0)]]))
    with pytest.raises(InputError, match="is an event log already"):
        replay(log, str(log))
