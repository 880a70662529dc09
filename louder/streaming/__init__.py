"""What happened, as a stream: a log of events and answers, read from any place on, and who was shown what they then did.

with LogWriter("events") as log:
    log.append([Arrival(user=42, id="a-1", item=17, time=1_700_000_000)])   # returns when it is on the disk
with LogReader("events") as log:
    for logged in log.read():
        print(logged.partition, logged.offset, logged.record)
"""

from louder.streaming.dead_letters import DeadLetter, DeadLetters
from louder.streaming.following import FollowingStore
from louder.streaming.joiner import Exposure, Joiner, Outcome
from louder.streaming.reader import Logged, LogReader, Position
from louder.streaming.records import Deletion, LogRecord, Shown
from louder.streaming.watermark import Watermark
from louder.streaming.writer import LogGone, LogWriter, Place

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "Deletion",
    "Exposure",
    "FollowingStore",
    "Joiner",
    "LogGone",
    "LogReader",
    "LogRecord",
    "LogWriter",
    "Logged",
    "Outcome",
    "Place",
    "Position",
    "Shown",
    "Watermark",
]
