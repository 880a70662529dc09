"""Each thing that can be wrong with a log has one outcome, a sentence and a counter."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import zlib

import pytest

from louder.errors import InputError
from louder.histories import StoreGone
from louder.streaming import LogGone, LogWriter, Position
from louder.streaming.segments import RECORD, SEGMENT, SEGMENT_MAGIC, framed, segment_path, segments, write_end
from tests.streaming import log_appender
from tests.streaming.records_of import done, items, reader_of

SMALL = 500  # bytes of a segment: about four records


@pytest.fixture
def log(tmp_path):
    """A log of 20 events in one partition, in several segments."""
    with LogWriter(tmp_path / "log", partitions=1, segment_bytes=SMALL) as writer:
        for n in range(20):
            writer.append([done(n)])
    return tmp_path / "log"


def places(log):
    """Of each segment: its path, its first offset and the number of its records."""
    firsts = segments(log / "000")
    return [(segment_path(log / "000", a), a, b - a) for a, b in zip(firsts, [*firsts[1:], 20])]


def test_kills_lose_nothing_that_was_acknowledged(tmp_path):
    acknowledged, folder = [], tmp_path / "log"
    for kills in range(4):
        words = [sys.executable, "-m", log_appender.__name__, str(folder), str(1_000_000 * kills)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(9)]
        process.kill()
        acknowledged += [int(line) for line in [*lines, *process.communicate()[0].splitlines()] if line.strip()]
        found, reader = items(folder)
        # of each kill one more may be there, that nobody was told of
        assert set(acknowledged) <= set(found) and len(set(found)) == len(found) <= len(acknowledged) + kills + 1
        assert set(reader.counts) <= {"records"}


def test_what_a_crash_left_unfinished_is_cut_off_and_was_never_read(log):
    path, *_ = places(log)[-1]
    whole = framed(b"\x01\x01{}", 0, 20)
    with open(path, "ab") as file:
        file.write(whole + whole[:9])  # one was written and not acknowledged, of the next one a part
    assert items(log)[0] == list(range(20))
    with LogWriter(log) as writer:
        assert writer.counts["torn"] == 9
        assert writer.append([done(21)])[0].offset == 21
    found, reader = items(log)
    assert found == [*range(20), 21] and reader.counts["poison"] == 1  # {} is no event


def test_a_crash_while_a_segment_is_made(log):
    segment_path(log / "000", 20).write_bytes(SEGMENT_MAGIC)
    with LogWriter(log, segment_bytes=SMALL) as writer:
        writer.append([done(20)])
    assert items(log)[0] == list(range(21))


def test_a_segment_cut_short(log):
    path, first, count = places(log)[1]
    os.truncate(path, SEGMENT.size + RECORD.size + 20)  # in the middle of its first record
    found, reader = items(log, dead=log / "dead.jsonl")
    assert found == [*range(first), *range(first + count, 20)]
    assert reader.counts["cut"] == count
    (letter,) = reader.dead.letters()
    assert (letter.kind, letter.offset, letter.end) == ("cut", first, first + count)
    assert str(letter).startswith(f"The records {first} to {first + count - 1} of partition 0 cannot be read")


def test_a_segment_that_has_gone(log):
    path, first, count = places(log)[1]
    path.unlink()
    found, reader = items(log)
    assert found == [*range(first), *range(first + count, 20)] and reader.counts["cut"] == count


def test_acknowledged_records_that_are_missing_at_the_end_keep_their_offsets(log):
    path, *_ = places(log)[-1]
    os.truncate(path, path.stat().st_size - 5)
    found, reader = items(log)  # also while nobody writes
    assert found == list(range(19)) and reader.counts["cut"] == 1
    with LogWriter(log, segment_bytes=SMALL) as writer:
        assert writer.counts["cut"] == 1
        assert writer.append([done(20)])[0].offset == 20
    assert [x.record.item for x in reader.read()] == [20]  # who had passed the gap goes on
    found, reader = items(log)
    assert found == [*range(19), 20] and reader.counts["cut"] == 1


def test_all_segments_have_gone(log):
    for path, *_ in places(log):
        path.unlink()
    with LogWriter(log) as writer:
        assert writer.counts["cut"] == 20 and writer.append([done(20)])[0].offset == 20
    assert items(log)[0] == [20]
    found, reader = items(log, Position(reader_of(log).log.id, {0: 3}))
    assert found == [20] and reader.counts["expired"] == 17


@pytest.mark.parametrize(
    "byte", [0, 5, 9, 13, 25, RECORD.size + 8], ids=["magic", "length", "check", "stamp", "offset", "body"]
)
def test_a_damaged_record_is_put_aside_and_its_neighbours_are_read(log, byte):
    path, first, _ = places(log)[1]
    data = bytearray(path.read_bytes())
    data[SEGMENT.size + byte] ^= 0x41
    path.write_bytes(data)
    found, reader = items(log, dead=log / "dead.jsonl")
    assert found == [n for n in range(20) if n != first] and reader.counts == {"records": 19, "poison": 1}
    (letter,) = reader.dead.letters()
    assert (letter.offset, letter.end) == (first, first + 1) and letter.body[: RECORD.size] == bytes(
        data[SEGMENT.size : SEGMENT.size + RECORD.size]
    )


def test_a_record_that_makes_no_sense_goes_to_the_dead_letters_once(log, tmp_path):
    path, *_ = places(log)[-1]
    bodies = [b"\x01\x01[]", b"\x07\x01{}", b"\x01\x01" + b'{"user":1,"id":"x","item":99,"time":1}']
    with open(path, "ab") as file:
        file.write(b"".join(framed(body, 0, 20 + n) for n, body in enumerate(bodies)))
    write_end(log / "000", 23)
    told, dead = [], tmp_path / "dead.jsonl"
    for _ in range(2):
        reader = reader_of(log, dead=dead, tell=told.append)
        assert [x.record.item for x in reader.read()] == [*range(20), 99]
        assert reader.counts == {"records": 21, "poison": 1, "newer": 1}
    letters = reader.dead.letters()
    assert [(x.kind, x.offset, x.body) for x in letters] == [("poison", 20, bodies[0]), ("newer", 21, bodies[1])]
    assert told[1] == (
        "The record 21 of partition 0 cannot be read: it is of schema 7 and kind 1, and this Louder reads schema 1."
    )


def test_dead_letters_that_cannot_be_written_are_counted(log, tmp_path):
    places(log)[0][0].unlink()
    found, reader = items(log, Position(reader_of(log).log.id, {0: 0}), dead=tmp_path / "nowhere" / "dead.jsonl")
    assert found and reader.counts["expired"] == 20 - len(found) and reader.dead.letters() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: Position("0" * 32, p.offsets), "it was replaced"),
        (lambda p: Position(p.log, {0: 21}), "ends at 20, but was read up to 21"),
        (lambda p: Position(p.log, {0: 20, 1: 0}), "number 1 of those that were read before is not there"),
    ],
)
def test_a_position_that_the_log_does_not_have_is_refused(log, change, says):
    _, reader = items(log)
    with pytest.raises(InputError, match=says):
        reader_of(log, change(reader.position))
    assert reader_of(log, reader.position).read() == []


def test_a_partition_that_has_gone_is_refused(tmp_path):
    LogWriter(tmp_path / "log", partitions=2).close()
    reader = reader_of(tmp_path / "log")
    shutil.rmtree(tmp_path / "log" / "001")
    for open_it in (lambda log: reader_of(log).lag(), LogWriter, lambda _: reader.read()):
        with pytest.raises(InputError, match="001 of the event log has gone"):
            open_it(tmp_path / "log")


def test_formats_of_a_newer_louder_are_refused(log):
    path, *_ = places(log)[0]
    data = bytearray(path.read_bytes())
    data[8] = 9
    data[SEGMENT.size - 4 : SEGMENT.size] = zlib.crc32(data[: SEGMENT.size - 4]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="has format 9, but this Louder reads format 1"):
        reader_of(log).read()
    (log / "log.json").write_text(json.dumps({"format": 2, "id": "0" * 32, "partitions": 1}))
    with pytest.raises(InputError, match="has format 2"):
        reader_of(log)


def test_a_reader_that_is_slower_than_retention(tmp_path):
    now = [1_000.0]
    with LogWriter(tmp_path / "log", partitions=1, keep_s=80, clock=lambda: now[0]) as writer:
        writer.append([done(n) for n in range(3)])
        slow = reader_of(tmp_path / "log", tell=lambda _: None)
        assert len(slow.read(2)) == 2
        for n in range(3, 23):
            now[0] += 10
            writer.append([done(n)])
    ((first, end),) = slow.bounds().values()
    assert (first, end) == (14, 23) and writer.counts["dropped"] == 12  # 80 s are the latest nine
    # the segment that it holds open is read to its end
    assert [x.record.item for x in slow.read(100)] == [2, *range(14, 23)]
    assert slow.counts == {"records": 12, "expired": 11}
    found, reader = items(tmp_path / "log")
    assert found == list(range(14, 23)) and set(reader.counts) == {"records"}
    found, reader = items(tmp_path / "log", Position(reader.position.log, {0: 1}))
    assert found == list(range(14, 23)) and reader.counts["expired"] == 13


def test_a_log_keeps_to_its_bytes(tmp_path):
    with LogWriter(tmp_path / "log", partitions=2, segment_bytes=SMALL, keep_bytes=3 * SMALL) as writer:
        for n in range(60):
            writer.append([done(n, user=n)])
        assert writer.counts["dropped"] > 5
    size = sum(file.stat().st_size for file in (tmp_path / "log").rglob("*.log"))
    assert size < 3 * SMALL + 2 * 200  # the two that are written may have one more record each
    found, _ = items(tmp_path / "log")
    assert {58, 59} <= set(found)  # the oldest go first


def test_retention_holds_over_a_restart(tmp_path):
    now, options = [1_000.0], {"partitions": 1, "segment_bytes": SMALL, "keep_s": 80.0}
    for n in range(16):
        with LogWriter(tmp_path / "log", clock=lambda: now[0], **options) as writer:
            writer.append([done(n)])
        now[0] += 10
    found, _ = items(tmp_path / "log")
    assert 8 <= len(found) <= 12 and found[-1] == 15


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    real, room = os.write, [0]

    def write(file, data):
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = bytes(data[: room[0]])
        room[0] -= len(part)
        return real(file, part)

    with LogWriter(tmp_path / "log", partitions=1) as writer:
        writer.append([done(0)])
        with monkeypatch.context() as patch:
            room[0] = 50  # a part of a record
            patch.setattr("louder.streaming.tail.os.write", write)
            with pytest.raises(
                LogGone, match=r"cannot be written \(No space left on device\). Free some space"
            ) as caught:
                writer.append([done(1), done(2)])
            assert isinstance(caught.value, StoreGone) and writer.counts["refused"] == 2
            assert items(tmp_path / "log")[0] == [0]
        assert writer.append([done(3)])[0].offset == 1
    found, reader = items(tmp_path / "log")
    assert found == [0, 3] and set(reader.counts) == {"records"}


def test_a_disk_that_fails_while_it_takes_back_ends_the_writing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with LogWriter(tmp_path / "log", partitions=1) as writer:
        writer.append([done(0)])
        with monkeypatch.context() as patch:
            patch.setattr("louder.streaming.tail.sync_data", fail)
            patch.setattr("louder.streaming.tail.os.ftruncate", fail)
            with pytest.raises(LogGone, match="Input/output error"):
                writer.append([done(1)])
        with pytest.raises(LogGone, match="Start the service again"):
            writer.append([done(2)])
    assert items(tmp_path / "log")[0] == [0]
    with LogWriter(tmp_path / "log") as writer:
        writer.append([done(3)])
    assert items(tmp_path / "log")[0] in ([0, 3], [0, 1, 3])


def test_a_disk_that_is_too_slow_refuses_more(tmp_path, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr("louder.streaming.writer.WAITING_BYTES", 300)
    monkeypatch.setattr("louder.streaming.tail.sync_data", lambda file: go_on.wait(30))
    with LogWriter(tmp_path / "log", partitions=1) as writer:
        waiting = [writer.submit([done(0)]), writer.submit([done(1)])]
        with pytest.raises(LogGone, match="more slowly than events come"):
            waiting += [writer.submit([done(n)]) for n in range(2, 9)]
        go_on.set()
        assert all(future.result() for future in waiting) and writer.counts["refused"] == 1
        assert writer.append([done(99)])


def test_two_writers(tmp_path):
    with LogWriter(tmp_path / "log") as writer:
        with pytest.raises(InputError, match=f"is being written by process {os.getpid()}"):
            LogWriter(tmp_path / "log")
        writer.append([done(1)])
    with LogWriter(tmp_path / "log") as writer:
        writer.append([done(2)])
    assert sorted(items(tmp_path / "log")[0]) == [1, 2]


def test_what_is_not_acknowledged_yet_is_not_read_and_may_become_something_else(tmp_path):
    """A reader that has other bytes in its buffer already reads those that were acknowledged."""
    with LogWriter(tmp_path / "log", partitions=1) as writer:
        writer.append([done(0)])
        reader = reader_of(tmp_path / "log")
        path = segment_path(tmp_path / "log" / "000", 0)
        size = path.stat().st_size
        with open(path, "ab") as file:
            file.write(framed(b"\x01\x01not this", 0, 1))
        assert len(reader.read()) == 1 and reader.read() == []
        os.truncate(path, size)
        writer.append([done(1)])
        assert [x.record.item for x in reader.read()] == [1] and set(reader.counts) == {"records"}


def test_behind_a_damaged_record_neither_more_nor_less_is_read(tmp_path):
    """The last one is damaged: what comes behind it, in the same segment, is read when it is acknowledged."""
    with LogWriter(tmp_path / "log", partitions=1) as writer:
        writer.append([done(0)])
        writer.append([done(1)])
        path = segment_path(tmp_path / "log" / "000", 0)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + b"?")
        reader = reader_of(tmp_path / "log", tell=lambda _: None)
        with open(path, "ab") as file:
            file.write(framed(b"not yet", 0, 2))
        assert [x.record.item for x in reader.read()] == [0] and reader.read() == []
        assert reader.counts == {"records": 1, "poison": 1}
        os.truncate(path, len(data))
        writer.append([done(2)])
        assert [x.record.item for x in reader.read()] == [2] and reader.lag() == 0
        assert sum(reader.counts.values()) == 3


def test_behind_a_segment_that_was_cut_while_it_is_written(tmp_path):
    with LogWriter(tmp_path / "log", partitions=1) as writer:
        for n in range(3):
            writer.append([done(n)])
        path = segment_path(tmp_path / "log" / "000", 0)
        os.truncate(path, path.stat().st_size - 5)
        reader = reader_of(tmp_path / "log", tell=lambda _: None)
        assert [x.record.item for x in reader.read()] == [0, 1] and reader.counts["cut"] == 1
        writer.append([done(3)])
        assert [x.record.item for x in reader.read()] == [3] and reader.counts == {"records": 3, "cut": 1}


def test_what_is_being_written_is_never_dropped(tmp_path):
    with LogWriter(tmp_path / "log", partitions=1, segment_bytes=SMALL, keep_bytes=1) as writer:
        for n in range(10):
            writer.append([done(n)])
    with LogWriter(tmp_path / "log", keep_bytes=1) as writer:
        writer.append([done(10)])
    assert items(tmp_path / "log")[0] == [8, 9, 10]
