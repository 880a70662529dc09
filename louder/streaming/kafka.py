"""A log that is a topic of Kafka, behind the same reader and writer as a folder: kafka://HOST:PORT/TOPIC.

Places are Kafka's partitions and offsets, and stamps its times of the append. Where a reader stands is its own to keep:
offsets that are committed to a broker are no part of what a checkpoint brings back, so none are.
"""

import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from louder.errors import InputError, missing_extra
from louder.streaming.dead_letters import DeadLetter, DeadLetters
from louder.streaming.partition import EXPIRED
from louder.streaming.reader import Logged, Position, checked
from louder.streaming.records import BadRecord, LogRecord, pack, partition_of, unpack
from louder.streaming.writer import PARTITIONS, LogGone, Place

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError as error:
    raise missing_extra("confluent-kafka", "kafka") from error

TIMEOUT_S = 10.0  # for a broker's answer
QUIET = {"log_level": 2}  # of librdkafka, which would write to standard error


class Topic(NamedTuple):
    """`id` is that of the cluster and the topic: a topic that is made again under its name has another."""

    servers: str
    name: str
    id: str
    partitions: int


def open_topic(url: str, partitions: int | None = None) -> Topic:
    """A topic, which is made when `partitions` are given and it is not there. Raises InputError where it is not there, and
    for what is no address, LogGone if no broker answers."""
    found = re.fullmatch(r"kafka://([^/\s]+)/([A-Za-z0-9._-]{1,249})", url)
    if not found:
        raise InputError(f"{url} is no address of a topic. Give kafka://HOST:PORT/TOPIC.")
    servers, name = found.groups()
    admin = AdminClient({"bootstrap.servers": servers, **QUIET})
    try:
        cluster = admin.list_topics(timeout=TIMEOUT_S)
        if name not in cluster.topics and partitions is not None:
            made = admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=-1)])
            try:
                made[name].result(TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        elif name not in cluster.topics:
            raise InputError(f"There is no topic {name} at {servers}. Write to it first, or give another: {url}.")
        told = admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)[name].result(TIMEOUT_S)
    except KafkaException as error:
        raise gone(servers, error) from error
    return Topic(servers, name, f"{cluster.cluster_id}/{told.topic_id}", len(told.partitions))


def gone(servers: str, error: KafkaException) -> LogGone:
    return LogGone(f"The broker of Kafka at {servers} cannot be used ({error.args[0].str()}).")


class KafkaWriter:
    """All methods may be called from several threads, and a topic may have any number of writers.

    partitions  of a topic that is new
    clock       as of LogWriter
    timeout_s   for an acknowledgement; a broker that is away for longer makes `append` raise LogGone
    """

    def __init__(
        self,
        url: str,
        *,
        partitions: int = PARTITIONS,
        clock: Callable[[], float] = time.time,
        timeout_s: float = 30.0,
    ) -> None:
        self.log, self.clock, self.counts = open_topic(url, partitions), clock, Counter[str]()
        self.stamp, self.lock, self.closed = 0, threading.Lock(), False
        self.last = dict.fromkeys(range(self.log.partitions), 0)  # the offset after the last one that was acknowledged
        timeout = {"delivery.timeout.ms": int(1000 * timeout_s), "linger.ms": 2}
        safe = {"enable.idempotence": True, "acks": "all"}
        self.producer = Producer({"bootstrap.servers": self.log.servers, **safe, **timeout, **QUIET})
        self.thread = threading.Thread(target=self.run, name="kafka", daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def append(self, records: Sequence[LogRecord], stamps: Sequence[int] | None = None) -> list[Place]:
        """Returns when the broker has acknowledged them, as its topic is set up to. Raises LogGone; then some of them may be
        in the log, and to send them again is right. `stamps` as of LogWriter."""
        return self.submit(records, stamps).result()

    def submit(self, records: Sequence[LogRecord], stamps: Sequence[int] | None = None) -> Future[list[Place]]:
        """`append` without waiting. Raises LogGone where too much waits already."""
        bodies = [(partition_of(record.user, self.log.partitions), pack(record)) for record in records]
        done: Future[list[Place]] = Future()
        done.set_running_or_notify_cancel()
        places, left, failed = [Place(part, -1) for part, _ in bodies], len(bodies), list[KafkaError]()

        def delivered(error: KafkaError | None, message: Message, place: int) -> None:
            nonlocal left
            with self.lock:
                left -= 1
                if error is not None:
                    failed.append(error)
                else:
                    part, offset = message.partition() or 0, message.offset() or 0
                    places[place] = Place(part, offset)
                    self.last[part] = max(self.last[part], offset + 1)
                self.counts["refused" if error is not None else "records"] += 1
                finished = left == 0
            if finished and failed:
                done.set_exception(gone(self.log.servers, KafkaException(failed[0])))
            elif finished:
                done.set_result(places)

        with self.lock:
            if self.closed:
                raise LogGone(f"The event log {self.log.name} is closed.")
            if stamps is None:
                self.stamp = max(self.stamp, int(1000 * self.clock()))
                stamps = [self.stamp] * len(bodies)
        if not bodies:
            done.set_result([])
        for place, ((part, body), stamp) in enumerate(zip(bodies, stamps, strict=True)):
            try:
                told = partial(delivered, place=place)
                self.producer.produce(self.log.name, body, partition=part, timestamp=stamp, on_delivery=told)
            except BufferError as error:
                self.counts["refused"] += 1
                raise LogGone(f"The event log {self.log.name} is written more slowly than events come.") from error
        return done

    def ends(self) -> dict[int, int]:
        """The offset after the last record of each partition that was acknowledged here."""
        with self.lock:
            return dict(self.last)

    def run(self) -> None:
        while not self.closed:
            self.producer.poll(0.1)

    def close(self) -> None:
        """What was submitted is written, as long as the broker answers within the timeout."""
        with self.lock:
            self.closed = True
        self.thread.join()
        self.producer.flush(30)


class KafkaReader:
    """As LogReader, of a topic. An empty `read` may also mean that the broker is slow; `lag` tells.

    wait_s  for so long `read` waits for the first record
    """

    def __init__(
        self,
        url: str,
        position: Position | None = None,
        *,
        dead: Path | None = None,
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
        wait_s: float = 0.2,
    ) -> None:
        self.tell, self.counts, self.wait_s = tell, Counter[str](), wait_s
        self.dead = None if dead is None else DeadLetters(dead)
        self.log = open_topic(url)
        own = {"group.id": "louder", "enable.auto.commit": False, "auto.offset.reset": "error"}
        self.consumer = Consumer({"bootstrap.servers": self.log.servers, **own, **QUIET})
        try:
            self.offsets = self.starts(url, position)
            self.consumer.assign([TopicPartition(self.log.name, *place) for place in self.offsets.items()])
        except BaseException:
            self.consumer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def starts(self, url: str, position: Position | None) -> dict[int, int]:
        """Where each partition is read from. A consumer that begins beyond the end waits there without a word."""
        bounds = self.bounds()
        first = {number: low for number, (low, _) in bounds.items()}
        if position is None:
            return first
        # an end may be told too low while it moves; that a record before the position is there tells better
        ends = {n: (low, self.end(n, position.offsets.get(n, 0), high)) for n, (low, high) in bounds.items()}
        told = checked(position, url, self.log.id, ends)
        return {n: self.not_expired(n, told.get(n, low), low) for n, low in first.items()}

    def end(self, number: int, offset: int, high: int) -> int:
        """`high`, or the offset if the record before it is there."""
        if offset <= high:
            return high
        self.consumer.assign([TopicPartition(self.log.name, number, offset - 1)])
        found = self.consumer.consume(1, timeout=2.0)
        self.consumer.unassign()
        return offset if found and found[0].error() is None and found[0].offset() == offset - 1 else high

    def not_expired(self, number: int, offset: int, low: int) -> int:
        if offset < low:
            self.bury(DeadLetter("expired", EXPIRED, number, offset, low))
        return max(offset, low)

    def read(self, limit: int = 1_000) -> list[Logged]:
        """What has come, at most `limit` records, those of a partition in order. Raises LogGone while the broker is away."""
        found: list[Logged] = []
        for message in self.consumer.consume(limit, timeout=self.wait_s):
            if (error := message.error()) is not None:
                self.mind(error)
                continue
            number, offset, body = message.partition() or 0, message.offset() or 0, message.value() or b""
            self.offsets[number] = offset + 1
            try:
                body = body.encode() if isinstance(body, str) else body
                found.append(Logged(number, offset, message.timestamp()[1], unpack(body)))
            except BadRecord as wrong:
                self.bury(DeadLetter(wrong.kind, str(wrong), number, offset, offset + 1, body))
        self.counts["records"] += len(found)
        return found

    def mind(self, error: KafkaError) -> None:
        """Of a message that is none: retention has passed the reader, or the broker is away."""
        if error.code() not in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
            if error.retriable() or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                return  # the client connects again by itself
            raise gone(self.log.servers, KafkaException(error))
        for number, (low, _) in self.bounds().items():
            if self.offsets[number] < low:
                self.offsets[number] = self.not_expired(number, self.offsets[number], low)
                self.consumer.seek(TopicPartition(self.log.name, number, low))

    @property
    def position(self) -> Position:
        return Position(self.log.id, dict(self.offsets))

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Of each partition the offset of the first record that is kept, and the one after the last."""
        parts = {n: TopicPartition(self.log.name, n) for n in range(self.log.partitions)}
        try:
            return {n: self.consumer.get_watermark_offsets(x, timeout=TIMEOUT_S) for n, x in parts.items()}
        except KafkaException as error:
            raise gone(self.log.servers, error) from error

    def lag(self) -> int:
        """Records that were not read yet, as far as the broker tells."""
        return sum(max(0, high - self.offsets[number]) for number, (_, high) in self.bounds().items())

    def bury(self, letter: DeadLetter) -> None:
        self.counts[letter.kind] += letter.count
        self.tell(str(letter))
        if self.dead is not None:
            self.dead.add(letter)

    def close(self) -> None:
        self.consumer.close()
