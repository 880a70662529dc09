"""What a log holds, and its bytes: one byte for the schema, one for the kind, then JSON.

A field that is added does not need a new schema, since readers pass over fields that they do not know; one that changes
its meaning does.
"""

import zlib
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from louder.errors import InputError
from louder.histories import Arrival
from louder.histories.keys import key_of
from louder.ids import RawId

SCHEMA = 1
MOST_BYTES = 8 << 20  # of a record


@dataclass(frozen=True)
class Shown:
    """An answer: n items in the order of their positions, the first first.

    request        what events name that come of it
    time           seconds since 1970, of the request
    scores         [n]
    propensities   [n] the probability with which the item was put there, given those above it; 1 where nothing was drawn
    version        of the model
    variant        of an A/B test, by which the user is answered; "" where there is none
    share          of the users that have this variant
    """

    request: str
    user: RawId
    time: int
    items: tuple[RawId, ...]
    scores: tuple[float, ...]
    propensities: tuple[float, ...]
    version: str
    variant: str = ""
    share: float = 1.0

    def __post_init__(self) -> None:
        if not len(self.items) == len(self.scores) == len(self.propensities):
            raise ValueError("items, scores and propensities differ in number")


@dataclass(frozen=True)
class Deletion:
    """A user was deleted, or the event of one id, at a time in seconds since 1970."""

    user: RawId
    time: int
    id: str | None = None


LogRecord: TypeAlias = Arrival | Shown | Deletion

KINDS: dict[int, type[Arrival] | type[Shown] | type[Deletion]] = {1: Arrival, 2: Shown, 3: Deletion}
NUMBERS = {kind: number for number, kind in KINDS.items()}
ADAPTERS = {kind: TypeAdapter[LogRecord](kind) for kind in KINDS.values()}


class BadRecord(ValueError):
    """A record that cannot be read; `kind` is "poison", or "newer" where only a newer Louder can."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def pack(record: LogRecord) -> bytes:
    """Raises InputError for a text that is no UTF-8, and for a record of more than 8 MiB."""
    try:
        text = ADAPTERS[type(record)].dump_json(record)
    except PydanticSerializationError as error:
        raise InputError(f"An event cannot be written into a log ({error}). Send ids and names as UTF-8.") from error
    if len(text) + 2 > MOST_BYTES:
        raise InputError(f"An event has {len(text):,} bytes, but a log takes {MOST_BYTES >> 20} MiB. Send less of it.")
    return bytes((SCHEMA, NUMBERS[type(record)])) + text


def unpack(body: bytes) -> LogRecord:
    """Raises BadRecord."""
    if len(body) < 2:
        raise BadRecord("poison", f"it has {len(body)} bytes")
    schema, number = body[0], body[1]
    if schema > SCHEMA or (schema == SCHEMA and number not in KINDS and number > 0):
        raise BadRecord("newer", f"it is of schema {schema} and kind {number}, and this Louder reads schema {SCHEMA}")
    if schema < 1 or number not in KINDS:
        raise BadRecord("poison", f"there is no schema {schema} with a kind {number}")
    try:
        return ADAPTERS[KINDS[number]].validate_json(body[2:], strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadRecord("poison", f"{where + ': ' if where else ''}{first['msg']}") from error


def partition_of(user: RawId, partitions: int) -> int:
    """All of a user's records are in one partition, so that they stay in order."""
    return zlib.crc32(key_of(user)) % partitions
