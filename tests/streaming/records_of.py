"""Records for the tests of the log."""

from louder.histories import Arrival
from louder.streaming import LogReader

OPENED = []  # readers, which are closed after each test


def done(number, user=1, request=None):
    return Arrival(
        user=user, id=f"{user}-{number}", item=number, time=1_700_000_000 + number, actions=("like",), request=request
    )


def reader_of(*given, **options):
    OPENED.append(LogReader(*given, **options))
    return OPENED[-1]


def items(folder, position=None, **options):
    """The items of all events that a new reader finds, in each partition in order; and the reader, which is at the end."""
    reader = reader_of(folder, position, tell=lambda _: None, **options)
    found = []
    while got := reader.read(7):
        found += got
    return [logged.record.item for logged in found], reader
