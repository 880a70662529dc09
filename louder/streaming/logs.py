"""A log by its name: a folder, or kafka://HOST:PORT/TOPIC."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from louder.errors import InputError
from louder.streaming.reader import LogReader, Position
from louder.streaming.writer import LogWriter

if TYPE_CHECKING:
    from louder.streaming.kafka import KafkaReader, KafkaWriter

Writer: TypeAlias = "LogWriter | KafkaWriter"
Reader: TypeAlias = "LogReader | KafkaReader"


def in_kafka(name: str) -> bool:
    """Whether a log is a topic; its writers may be many. Raises InputError for a kind of log that there is not."""
    scheme, found, _ = name.partition("://")
    if found and scheme != "kafka":
        raise InputError(f"There is no event log for {scheme}://. Give a folder, or kafka://HOST:PORT/TOPIC.")
    return bool(found)


def open_writer(name: str, clock: Callable[[], float] = time.time) -> Writer:
    """`clock` stamps the records of a folder; a topic stamps its own."""
    if in_kafka(name):
        from louder.streaming.kafka import KafkaWriter

        return KafkaWriter(name)
    return LogWriter(name, clock=clock)


def open_reader(
    name: str,
    position: Position | None = None,
    *,
    dead: Path | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Reader:
    if in_kafka(name):
        from louder.streaming.kafka import KafkaReader

        return KafkaReader(name, position, dead=dead, tell=tell)
    return LogReader(name, position, dead=dead, tell=tell)
