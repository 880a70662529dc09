"""What a stream makes of bad input: each has an outcome, a sentence and a count, and none ends it but what names a remedy."""

from dataclasses import replace

import pytest
from runs import untrained_run
from tables import events, random_users, tiny_config, write_table

from louder.errors import InputError
from louder.histories import Arrival
from louder.online import config as settings_of
from louder.online.config import StreamConfig, seconds_of
from louder.online.stream import Trainer
from louder.streaming import DeadLetters, LogGone, LogWriter
from louder.streaming.records import Deletion
from tests.online.streams import FAST, START, arrivals, learnt, rows, write_log

HOUR = replace(FAST, window_s=3_600)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("faults")
    table = write_table(
        place / "t", random_users(20, items=15, longest=12, actions=2), items=15, actions=["like", "share"]
    )
    return untrained_run(tiny_config(table), place / "run")


def event(number, second, user=100, item=1001, **more):
    return Arrival(user, f"{user}-{number}", item, START + second, **more)


def test_records_that_cannot_be_used_are_put_aside_with_a_reason(run, tmp_path):
    good = [event(0, 0), event(1, 10, item=1002)]
    bad = [
        event(2, 20, item="film"),
        event(3, 20, user="anna"),
        event(7, 20, item=1 << 70),
        replace(event(8, 0), time=-(1 << 70)),
        event(9, 20, values={"watch": 1e300}),
        replace(event(4, 0), time=START + 20 + 90_000),
        replace(event(5, 20), values={"odd": 1.0}, actions=("odd", "like")),  # what the model does not know is left out
    ]
    log = write_log(tmp_path / "log", [*good, *bad, event(6, 30)], stamps=[START + n for n in (0, 10, *[20] * 7, 30)])
    row = learnt(run, log, tmp_path / "s")
    assert row["events"] == 4 and row["read"]["refused"] == 6
    reasons = [letter.reason for letter in DeadLetters(tmp_path / "s" / "dead.jsonl").letters()]
    assert sorted(reasons) == sorted(
        [
            "the item 'film' is not of the kind of the model's, which are integers",
            "the user 'anna' is not of the kind of the model's, which are integers",
            f"the item {1 << 70} does not fit into 64 bits",
            f"the time {-(1 << 70)} does not fit into 64 bits",
            "the value 'watch' is 1e+300, which 32 bits do not hold",
            f"its time {START + 90_020} is more than a day after it came, at {START + 20}",
        ]
    )


def test_damaged_bytes_are_one_dead_letter(run, tmp_path):
    log = write_log(tmp_path / "log", [event(n, n) for n in range(40)], partitions=1)
    (segment,) = log.rglob("*.log")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(bytes(data))
    row = learnt(run, log, tmp_path / "s")
    assert row["events"] == 39 and row["read"]["poison"] == 1


def test_windows_in_which_nothing_happened_are_passed_over(run, tmp_path):
    log = write_log(tmp_path / "log", [event(0, 0), event(1, 10), event(2, 100 * 3_600 + 100)])
    learnt(run, log, tmp_path / "s", HOUR)
    first, last = rows(tmp_path / "s")
    assert (first["window"], last["window"]) == (1, 2) and last["empty_windows"] == 99
    assert last["upto"] == START + 100 * 3_600 + 100


def test_a_clock_that_jumps_makes_what_comes_late_and_loses_nothing_within_the_horizon(run, tmp_path):
    seconds = [0, 10, 20, 30, 40, 4_000, 8_000]
    stamps = [
        0,
        10,
        7_500,
        7_500,
        7_500,
        7_500,
        8_000,
    ]  # at the third the writer's clock is two hours ahead, until it has caught up
    log = write_log(
        tmp_path / "log",
        [event(n, at) for n, at in enumerate(seconds)],
        stamps=[START + x for x in stamps],
        partitions=1,
    )
    learnt(run, log, tmp_path / "s", HOUR)
    found = rows(tmp_path / "s")
    assert sum(row["events"] for row in found) == len(seconds)
    assert found[-1]["joined"]["late"] > 0 and "too_late" not in found[-1]["joined"]
    again = write_log(
        tmp_path / "day",
        [event(n, at) for n, at in enumerate(seconds)],
        stamps=[START + x + 200_000 * (x > 10) for x in stamps],
        partitions=1,
    )
    learnt(run, again, tmp_path / "lost", HOUR)
    assert rows(tmp_path / "lost")[-1]["joined"]["too_late"] > 0


def test_an_event_that_comes_late_is_in_its_place_in_the_history(run, tmp_path):
    late = [event(0, 0), event(1, 100, item=1002), event(2, 4_000, item=1003), event(3, 50, item=1004), event(4, 8_000)]
    stamps = [START + x for x in (0, 100, 4_000, 4_000, 8_000)]
    learnt(run, write_log(tmp_path / "log", late, stamps=stamps, partitions=1), tmp_path / "s", HOUR)
    found = rows(tmp_path / "s")
    assert found[-1]["joined"]["late"] == 1 and sum(row["events"] for row in found) == 5
    with opened(tmp_path / "s", run, tmp_path / "log") as trainer:
        assert trainer.histories.history(100).items.tolist()[-5:] == [1001, 1004, 1002, 1003, 1001]


class opened:
    """The trainer of a stream, to look into."""

    def __init__(self, output, run, log):
        from louder.online.screen import StreamScreen

        self.screen = StreamScreen(output, quiet=True)
        self.given = output, str(log), HOUR, self.screen, None

    def __enter__(self):
        self.screen.__enter__()
        self.trainer = Trainer(*self.given)
        return self.trainer

    def __exit__(self, *error):
        self.trainer.__exit__(*error)
        self.screen.__exit__(*error)


def test_of_very_many_events_of_a_user_the_latest_are_trained_on(run, tmp_path):
    many = [event(n, n, user=500, item=1000 + n % 15) for n in range(60)]
    log = write_log(tmp_path / "log", [*many, event(0, 60)])
    row = learnt(run, log, tmp_path / "s", replace(FAST, most_events=25))
    assert (row["events"], row["left_out"], row["next_item"]["events"]) == (
        61,
        35,
        25,
    )  # 24 of the new user, one of the other


def test_long_histories_are_cut_and_each_event_is_foretold_once(run, tmp_path):
    """max_len is 12: an event sees at least 6 before it, where there are so many."""
    many = [event(n, n, user=500, item=1000 + n % 15) for n in range(60)]
    row = learnt(run, write_log(tmp_path / "log", many), tmp_path / "s")
    assert row["next_item"]["events"] == 59


def test_what_is_deleted_is_read_no_more(run, tmp_path):
    told = [event(0, 0), event(1, 10), Deletion(100, START + 20), event(2, 4_000), event(3, 4_010, item=1003)]
    learnt(run, write_log(tmp_path / "log", told), tmp_path / "s", HOUR)
    with opened(tmp_path / "s", run, tmp_path / "log") as trainer:
        assert trainer.histories.history(100).items.tolist() == [1001, 1003]


def test_a_log_that_was_cut_short_is_refused_by_name(run, tmp_path):
    log = write_log(tmp_path / "log", [event(n, n) for n in range(40)], partitions=1)
    learnt(run, log, tmp_path / "s")
    shorter = write_log(tmp_path / "again", [event(n, n) for n in range(5)], partitions=1)
    for file in (log / "000").iterdir():
        file.unlink()
    for file in (shorter / "000").iterdir():
        (log / "000" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="ends at 5, but was read up to 40"):
        learnt(run, log, tmp_path / "s")


def test_what_retention_dropped_is_counted(run, tmp_path):
    now = START
    with LogWriter(tmp_path / "log", partitions=1, clock=lambda: now, segment_bytes=1 << 10, keep_s=100) as log:
        log.append([event(0, 0), event(1, 1)])
        learnt(run, tmp_path / "log", tmp_path / "s")
        for n in range(2, 60):
            now = START + 50 * n
            log.append([event(n, 50 * n)])
    learnt(run, tmp_path / "log", tmp_path / "s")
    last = rows(tmp_path / "s")[-1]
    assert (
        last["read"]["expired"] > 30
        and last["read"]["expired"] + sum(row["events"] for row in rows(tmp_path / "s")) >= 60
    )


def test_a_broker_that_is_away_is_waited_for(run, tmp_path, monkeypatch):
    log = write_log(tmp_path / "log", arrivals([events(1, 2, 3, 4)]))
    from louder.online import feed

    monkeypatch.setattr(feed, "PAUSE_S", 0.0)
    real, calls = feed.open_reader, 0

    def flaky(*given, **named):
        reader = real(*given, **named)
        read, bounds = reader.read, reader.bounds

        def away(work):
            def maybe(*more):
                nonlocal calls
                calls += 1
                if 1 < calls < 8:
                    raise LogGone("The broker of Kafka at x cannot be used (away).")
                return work(*more)

            return maybe

        reader.read, reader.bounds = away(read), away(bounds)
        return reader

    monkeypatch.setattr(feed, "open_reader", flaky)
    row = learnt(run, log, tmp_path / "s")
    assert row["events"] == 4 and row["read"]["away"] == 6


def test_times_are_typed_with_their_units():
    assert [seconds_of(x, "--window") for x in ("90", "90s", "15m", "2h", "1d")] == [90, 90, 900, 7_200, 86_400]
    with pytest.raises(InputError, match="is 'soon', but must be a time"):
        seconds_of("soon", "--window")
    with pytest.raises(InputError, match=r"stream\.window_s"):
        StreamConfig(window_s=0)
    with pytest.raises(InputError, match=r"forgotten after stream\.horizon_s"):
        StreamConfig(wait_s=100_000)
    assert settings_of.said(900) == "15m" and settings_of.said(90) == "90s" and settings_of.said(0) == "0s"
