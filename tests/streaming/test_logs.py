"""What every log does: a folder, and a topic of a real broker."""

import shutil
from itertools import count

import pytest

from louder.errors import InputError
from louder.streaming import LogReader, LogWriter, Position
from louder.streaming.records import pack, partition_of
from louder.streaming.segments import framed, read_end, segment_path, write_end
from tests.streaming.broker import BINARY, Broker
from tests.streaming.records_of import done

pytest.importorskip("confluent_kafka")
needs_broker = pytest.mark.skipif(BINARY is None, reason="there is no broker")
NAMES = count()


@pytest.fixture(scope="module")
def broker():
    broker = Broker()
    yield broker
    broker.stop()


class Folder:
    def __init__(self, path):
        self.path = path

    def writer(self, **how):
        return LogWriter(self.path, **how)

    def reader(self, position=None, **how):
        return LogReader(self.path, position, **how)

    def put(self, body):
        """Bytes that are no record, into partition 0."""
        folder = self.path / "000"
        with open(segment_path(folder, 0), "ab") as file:
            file.write(framed(body, 5, read_end(folder)))
        write_end(folder, read_end(folder) + 1)

    def remove(self):
        shutil.rmtree(self.path)


class InKafka:
    def __init__(self, broker):
        self.url = broker.url(f"events-{next(NAMES)}")

    def writer(self, **how):
        from louder.streaming.kafka import KafkaWriter

        return KafkaWriter(self.url, **how)

    def reader(self, position=None, **how):
        from louder.streaming.kafka import KafkaReader

        return KafkaReader(self.url, position, **how)

    def put(self, body):
        with self.writer() as writer:
            writer.producer.produce(writer.log.name, body, partition=0)
            writer.producer.flush()

    def remove(self):
        from confluent_kafka.admin import AdminClient

        with self.reader() as reader:
            servers, name = reader.log.servers, reader.log.name
        admin = AdminClient({"bootstrap.servers": servers})
        admin.delete_topics([name])[name].result(10)


@pytest.fixture(params=["folder", pytest.param("kafka", marks=needs_broker)])
def log(request, tmp_path):
    return Folder(tmp_path / "log") if request.param == "folder" else InKafka(request.getfixturevalue("broker"))


def read(reader, records):
    """So many records, of which a broker may give some at a time."""
    found = []
    for _ in range(100):
        if len(found) < records:
            found += reader.read(records - len(found))
    return found


def test_every_reader_finds_all_in_the_order_of_its_partition_and_goes_on(log):
    with log.writer(partitions=2, clock=lambda: 10) as writer:
        places = writer.append([done(n, user=n % 5) for n in range(9)])
        assert [place.partition for place in places] == [partition_of(n % 5, 2) for n in range(9)]
        with log.reader() as reader:
            found = read(reader, 5)
            position = reader.position
        with log.reader(position) as reader:
            rest = read(reader, 4)
            assert reader.read() == []
            assert sum(reader.position.offsets.values()) == 9 and reader.counts == {"records": 9 - len(found)}
            before = sum(place.partition == partition_of(1, 2) for place in places)
            assert 0 < before < 9 and [place.offset for place in writer.append([done(9)])] == [before]
            assert [x.record for x in read(reader, 1)] == [done(9)]
    assert sorted(x.record.item for x in found + rest) == list(range(9))
    for x in found + rest:
        assert (x.partition, x.offset) == places[x.record.item] and x.stamp == 10_000
    for user in range(5):
        assert [x.record.item for x in found + rest if x.record.user == user] == list(range(user, 9, 5))


def test_a_record_that_makes_no_sense_is_put_aside(log, tmp_path):
    with log.writer(partitions=1) as writer:
        writer.append([done(0)])
    log.put(b"\x01\x01{}")
    log.put(b"\x09\x01{}")
    log.put(pack(done(3)))
    told = []
    with log.reader(dead=tmp_path / "dead.jsonl", tell=told.append) as reader:
        assert [x.record for x in read(reader, 2)] == [done(0), done(3)]
        assert reader.counts == {"records": 2, "poison": 1, "newer": 1} and len(told) == 2
        assert [(x.offset, x.body) for x in reader.dead.letters()] == [(1, b"\x01\x01{}"), (2, b"\x09\x01{}")]


def test_a_position_that_the_log_does_not_have_is_refused(log):
    with log.writer(partitions=1) as writer:
        writer.append([done(n) for n in range(5)])
    with log.reader() as reader:
        read(reader, 5)
        position = reader.position
    for wrong, says in (
        (Position("another", {0: 1}), "it was replaced"),
        (Position(position.log, {0: 8}), "but was read up to 8: it was cut or replaced"),
        (Position(position.log, {0: 5, 3: 0}), "number 3 of those that were read before is not there"),
    ):
        with pytest.raises(InputError, match=says):
            log.reader(wrong)
    with log.reader(position) as reader:
        assert reader.read() == [] and reader.lag() == 0


def test_a_log_that_was_made_again_is_another(log):
    with log.writer(partitions=1) as writer:
        writer.append([done(0)])
    with log.reader() as reader:
        read(reader, 1)
        position = reader.position
    log.remove()
    with log.writer(partitions=1) as writer:
        writer.append([done(1)])
    with pytest.raises(InputError, match="it was replaced"):
        log.reader(position)
    with log.reader() as reader:
        assert [x.record for x in read(reader, 1)] == [done(1)]


def test_there_is_no_log_before_somebody_writes(log):
    with pytest.raises(InputError, match="There is no"):
        log.reader()
