"""A stream from Kafka learns what a stream from a folder does, and refuses a topic that was made again."""

import pytest
from runs import untrained_run
from tables import random_users, tiny_config, write_table

pytest.importorskip("confluent_kafka")

from louder.errors import InputError
from louder.online.replay import replay
from tests.online.streams import learnt, rows
from tests.streaming.broker import BINARY, Broker

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no broker")


@pytest.fixture
def broker():
    started = Broker()
    yield started
    started.stop()


def test_a_topic_and_a_folder_are_learnt_alike(broker, tmp_path):
    table = write_table(tmp_path / "t", random_users(20, items=15, actions=2), items=15, actions=["like", "share"])
    run = untrained_run(tiny_config(table), tmp_path / "run")
    replay(table, str(tmp_path / "folder"))
    replay(table, broker.url("events"))
    learnt(run, tmp_path / "folder", tmp_path / "a")
    learnt(run, broker.url("events"), tmp_path / "b", windows=2)
    learnt(run, broker.url("events"), tmp_path / "b")  # goes on at the offsets of its checkpoint
    assert [row["loss"] for row in rows(tmp_path / "a")] == [row["loss"] for row in rows(tmp_path / "b")]
    assert [row["upto"] for row in rows(tmp_path / "a")] == [row["upto"] for row in rows(tmp_path / "b")]
    replay(table, broker.url("others"))
    with pytest.raises(InputError, match="it was replaced"):
        learnt(run, broker.url("others"), tmp_path / "b")
