"""What is Kafka's alone. Retention is shown against a consumer that is made up, since the broker of the tests has none."""

import os
import signal
import time

import pytest

pytest.importorskip("confluent_kafka")

from confluent_kafka import KafkaError

from louder.errors import InputError
from louder.histories import Names, Stored, open_store
from louder.streaming import FollowingStore, LogGone
from louder.streaming.kafka import KafkaReader, KafkaWriter, Topic
from tests.streaming.broker import BINARY, Broker
from tests.streaming.records_of import done

needs_broker = pytest.mark.skipif(BINARY is None, reason="there is no broker")


@pytest.mark.parametrize("url", ["kafka://host", "kafka:///topic", "kafka://host:1/a b", "redis://host/topic"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="is no address of a topic"):
        KafkaReader(url)


@needs_broker
def test_a_broker_that_is_away_for_a_while_loses_nothing():
    broker = Broker()
    try:
        with KafkaWriter(broker.url("events"), partitions=1, timeout_s=20) as writer:
            writer.append([done(0)])
            broker.process.send_signal(signal.SIGSTOP)
            os.waitpid(broker.process.pid, os.WUNTRACED)  # until it has stopped
            waiting = [writer.submit([done(n)]) for n in range(1, 4)]
            with pytest.raises(TimeoutError):
                waiting[0].result(0.5)
            broker.process.send_signal(signal.SIGCONT)
            assert [future.result(30)[0].offset for future in waiting] == [1, 2, 3]
            with KafkaReader(broker.url("events")) as reader:
                found = []
                for _ in range(50):
                    found += reader.read() if len(found) < 4 else []
                assert [x.record.item for x in found] == [0, 1, 2, 3]
    finally:
        broker.stop()


@needs_broker
def test_a_broker_that_is_away_for_long_refuses():
    broker = Broker()
    try:
        with KafkaWriter(broker.url("events"), partitions=1, timeout_s=4) as writer:
            writer.append([done(0)])
            broker.stop()
            with pytest.raises(LogGone, match="cannot be used"):
                writer.append([done(1)])
            assert writer.counts == {"records": 1, "refused": 1}
        with pytest.raises(LogGone):
            writer.append([done(2)])
    finally:
        broker.stop()


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr("louder.streaming.kafka.TIMEOUT_S", 0.5)
    with pytest.raises(LogGone, match=r"at 127\.0\.0\.1:9 cannot be used"):
        KafkaReader("kafka://127.0.0.1:9/events")


class Passed:
    """A consumer whose partition 0 has lost what is before offset 7, once a record was read."""

    def __init__(self, settings):
        assert settings["enable.auto.commit"] is False and settings["auto.offset.reset"] == "error"
        self.low, self.sought = 0, []

    def assign(self, parts):
        self.assigned = [(part.partition, part.offset) for part in parts]

    def get_watermark_offsets(self, part, timeout):
        return (self.low, 9) if part.partition == 0 else (0, 4)

    def consume(self, limit, timeout):
        if not self.low:
            return []
        return [Wrong(KafkaError(KafkaError._AUTO_OFFSET_RESET)), Wrong(KafkaError(KafkaError._TRANSPORT))]

    def seek(self, part):
        self.sought.append((part.partition, part.offset))

    def close(self):
        pass


class Wrong:
    def __init__(self, error):
        self.error = lambda: error


def test_a_reader_that_is_slower_than_retention_goes_on_behind_it(monkeypatch):
    monkeypatch.setattr("louder.streaming.kafka.Consumer", Passed)
    monkeypatch.setattr("louder.streaming.kafka.open_topic", lambda url: Topic("host", "events", "id", 2))
    reader = KafkaReader("kafka://host/events", tell=lambda _: None)
    assert reader.consumer.assigned == [(0, 0), (1, 0)] and reader.read() == []
    reader.consumer.low = 7
    assert reader.read() == [] and reader.consumer.sought == [(0, 7)]
    assert reader.counts["expired"] == 7 and reader.position.offsets == {0: 7, 1: 0} and reader.lag() == 6


@needs_broker
def test_stores_of_two_services_follow_one_topic(tmp_path):
    """As replicas would, whose stores are not even shared."""
    broker, told = Broker(), []
    stores = [open_store(str(tmp_path / name), names=Names(("like",))) for name in "ab"]

    def follow(number):
        return FollowingStore(stores[number], broker.url("events"), every_s=0.05, tell=told.append)

    def items(number):
        return stores[number].history(1).items.tolist()

    try:
        one, two = follow(0), follow(1)
        assert one.append([done(0)]) == Stored(1, 0) and two.append([done(1)]) == Stored(1, 0)
        until(lambda: items(0) == items(1) == [0, 1])
        two.close()
        one.append([done(n) for n in range(2, 6)])
        assert one.delete_event(1, "1-4").deleted
        two = follow(1)
        assert items(1) == [0, 1, 2, 3, 5] and two.lag() == 0
        assert two.append([done(5)]) == Stored(0, 1)
        assert two.delete_user(1) == 5
        until(lambda: not items(0))
        one.close()
        two.close()
        assert told == []
    finally:
        for store in stores:
            store.close()
        broker.stop()


def until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
