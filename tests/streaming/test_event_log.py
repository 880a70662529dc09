"""A log gives back what was put in, from any place on."""

import threading

import pytest

from louder.errors import InputError
from louder.histories import Arrival
from louder.streaming import Deletion, LogGone, LogWriter, Shown
from louder.streaming.records import BadRecord, pack, partition_of, unpack
from louder.streaming.segments import segments
from tests.streaming.records_of import done, items, reader_of

SHOWN = Shown("r-1", "ann", 1_700_000_000, (3, "b"), (0.5, -1.25), (1.0, 0.1), "m1")


@pytest.mark.parametrize(
    "record",
    [
        Arrival("ünï", "a-1", 17, 1_700_000_000, ("like", "share"), {"watch": 31.5}, "r-1"),
        Arrival(-(1 << 63), "", (1 << 63) - 1, -5),
        SHOWN,
        Shown("r-2", 4, 0, (), (), (), ""),
        Deletion(7, 1_700_000_000),
        Deletion("7", 1_700_000_000, id="a-1"),
    ],
)
def test_a_record_is_read_as_it_was_written(record):
    back = unpack(pack(record))
    assert back == record and type(back) is type(record)
    assert type(back.user) is type(record.user)


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", "poison", "0 bytes"),
        (b"\x01\x01{", "poison", "Invalid JSON"),
        (b'\x01\x01{"user": 1}', "poison", "id"),
        (b'\x01\x01{"user": 1, "id": "a", "item": 1.5, "time": 1}', "poison", "item"),
        (pack(SHOWN).replace(b"[1.0,0.1]", b"[1.0]"), "poison", "differ in number"),
        (b"\x00\x01{}", "poison", "schema 0"),
        (b"\x02\x01{}", "newer", "schema 2"),
        (b"\x01\x09{}", "newer", "kind 9"),
    ],
)
def test_a_record_that_makes_no_sense_says_why(body, kind, says):
    with pytest.raises(BadRecord, match=says) as caught:
        unpack(body)
    assert caught.value.kind == kind


def test_a_field_of_a_newer_louder_is_passed_over():
    assert unpack(pack(done(3)).replace(b"{", b'{"mood":1,', 1)) == done(3)


def test_what_cannot_be_written_is_refused():
    with pytest.raises(InputError, match="UTF-8"):
        pack(Arrival("\ud800", "a", 1, 1))
    with pytest.raises(InputError, match="8 MiB"):
        pack(Arrival(1, "a" * (8 << 20), 1, 1))


def test_every_reader_finds_all_and_goes_on_where_it_stopped(tmp_path):
    with LogWriter(tmp_path / "log", partitions=3, segment_bytes=500) as log:
        places = [place for n in range(40) for place in log.append([done(n, user=n % 5)])]
        assert [place.partition for place in places] == [partition_of(n % 5, 3) for n in range(40)]
        reader = reader_of(tmp_path / "log")
        found = reader.read(11)
        assert len(found) == 11 and reader.lag() == 29
        resumed, _ = items(tmp_path / "log", reader.position)
        assert sorted([x.record.item for x in found] + resumed) == list(range(40))
        # a user's records are in order
        everything = [x for _ in range(9) for x in reader_of(tmp_path / "log").read(100)]
        for user in range(5):
            assert [x.record.item for x in everything if x.record.user == user][:8] == list(range(user, 40, 5))
        # what comes later is found by a reader that was at the end
        while reader.read(11):
            pass
        log.append([done(40)])
        assert [x.record.item for x in reader.read()] == [40] and reader.read() == [] and reader.lag() == 0
        assert reader.counts == {"records": 41}
        assert sum(end for _, end in reader.bounds().values()) == 41
    assert max(len(segments(tmp_path / "log" / f"{n:03d}")) for n in range(3)) > 2


def test_offsets_count_the_records_of_a_partition_also_over_restarts(tmp_path):
    for round in range(3):
        with LogWriter(tmp_path / "log", partitions=1) as log:
            assert [place.offset for place in log.append([done(n) for n in range(4)])] == list(
                range(4 * round, 4 * round + 4)
            )
            assert log.ends() == {0: 4 * round + 4}
    assert len(segments(tmp_path / "log" / "000")) == 1


def test_threads_share_a_sync(tmp_path):
    with LogWriter(tmp_path / "log", partitions=2) as log:
        begin = threading.Barrier(8)

        def append(user):
            begin.wait()
            for n in range(20):
                log.append([done(n, user)])

        threads = [threading.Thread(target=append, args=(user,)) for user in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.counts["records"] == 160 and log.counts["syncs"] < 160
    reader = reader_of(tmp_path / "log")
    found = reader.read(200)
    assert all([x.record.item for x in found if x.record.user == user] == list(range(20)) for user in range(8))


def test_a_log_that_is_closed_writes_what_it_took_and_takes_no_more(tmp_path):
    log = LogWriter(tmp_path / "log", partitions=1)
    waiting = [log.submit([done(n)]) for n in range(30)]
    log.close()
    log.close()
    assert all(future.done() for future in waiting)
    assert items(tmp_path / "log")[0] == list(range(30))
    with pytest.raises(LogGone, match="closed"):
        log.append([done(1)])


def test_stamps_never_go_back_though_the_clock_does(tmp_path):
    times = iter([0, 5_000, 2_000, 7_000])
    with LogWriter(tmp_path / "log", partitions=1, clock=lambda: next(times)) as log:
        for n in range(3):
            log.append([done(n)])
    assert [x.stamp for x in reader_of(tmp_path / "log").read()] == [5_000_000, 5_000_000, 7_000_000]
    with LogWriter(tmp_path / "log", clock=lambda: 1) as log:  # nor over a restart
        log.append([done(4)])
    assert reader_of(tmp_path / "log").read()[-1].stamp == 7_000_000


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something other than an event log"):
        LogWriter(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="There is no event log"):
        reader_of(tmp_path / "nothing")


def test_the_number_of_partitions_stays(tmp_path):
    LogWriter(tmp_path / "log", partitions=3).close()
    with LogWriter(tmp_path / "log") as log:
        assert len(log.ends()) == 3
    with pytest.raises(InputError, match="has 3 partitions"):
        LogWriter(tmp_path / "log", partitions=2)
