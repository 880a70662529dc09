"""Statistics of a table small enough to count by hand. Its page: tests/reports/test_table_page.py."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from louder.data import inspect
from louder.errors import InputError
from louder.schema import Manifest

NAN = float("nan")
MANIFEST = Manifest(
    louder="0",
    command="louder etl log.csv",
    name="<log> & co",
    sources=[],
    users=3,
    items=5,
    events=7,
    tokens=8,
    has_times=True,
    first_time=50,
    last_time=90_000,
    dropped={"no user": 2, "no item": 0},
    filters={},
    actions=["like", "share"],
    values=["rating"],
    series={"city": 4},
)
# user, kind, id, time, actions, rating
ROWS = [
    (0, [0, 0, 0, 0], [0, 1, 0, 2], [100, 100, 160, 4_000], [1, 0, 3, 0], [5.0, NAN, 3.0, 4.0]),
    (1, [0], [1], [50], [1], [2.0]),
    (2, [1, 0, 0], [3, 2, 2], [200, 90_000, 90_000], [0, 2, 2], [NAN, NAN, NAN]),
]


def write(folder, manifest=MANIFEST, rows=ROWS, parts=2):
    (folder / "sequences").mkdir(parents=True)
    manifest.write(folder)
    types = {
        "kind": pa.uint8(),
        "id": pa.int64(),
        "time": pa.int64(),
        "actions": pa.int64(),
        "value.rating": pa.float32(),
    }
    for part in range(parts):
        user, *lists = zip(*rows[part::parts])
        columns = {name: pa.array(list(values), pa.list_(kind)) for (name, kind), values in zip(types.items(), lists)}
        pq.write_table(pa.table({"user": user, **columns}), folder / "sequences" / f"part-{part:05d}.parquet")
    return folder


def describe(folder):
    return inspect.summary(inspect.count(folder))


@pytest.fixture
def table(tmp_path):
    return write(tmp_path / "table")


def test_numbers_are_those_counted_by_hand(table):
    found = describe(table)
    assert (found["users"], found["items"], found["events"], found["tokens"]) == (3, 5, 7, 8)
    # lengths 1, 2, 4; the 90th percentile lies 0.8 of the way from 2 to 4
    assert found["lengths"] == {"min": 1, "median": 2.0, "mean": 7 / 3, "p90": pytest.approx(2 + 0.8 * 2), "max": 4}
    assert found["time"] == {"first": "1970-01-01T00:00:50Z", "last": "1970-01-02T01:00:00Z", "days": 89_950 / 86_400}
    assert found["ties"] == {"events": 4, "share": 4 / 7}  # two of user 0, two of user 2; users' ends do not meet
    assert found["repeats"] == {"events": 2, "share": 2 / 7}  # item 0 of user 0, item 2 of user 2
    assert found["cold_items"] == {"items": 2, "share_of_items": 2 / 5}  # 4, and 3, which is only a city's number
    assert found["one_event_users"] == {"users": 1, "share_of_users": 1 / 3}
    assert found["popularity"] == {"top_1_percent": 3 / 7, "top_10_percent": 3 / 7, "top_50_percent": 7 / 7}
    assert found["actions"] == {"like": {"events": 3, "share": 3 / 7}, "share": {"events": 3, "share": 3 / 7}}
    assert found["values"] == {"rating": {"mean": 14 / 4, "min": 2.0, "max": 5.0, "missing": 3}}
    assert found["dropped"] == {"no user": 2, "no item": 0}
    json.dumps(found)


def test_parts_and_batches_change_nothing(tmp_path, table, monkeypatch):
    expected = describe(table)
    assert describe(write(tmp_path / "one", parts=1)) == expected
    monkeypatch.setattr(inspect, "USERS_AT_ONCE", 1)
    assert describe(table) == expected


def test_pauses_and_lengths_in_bins(table):
    counts = inspect.count(table)
    pauses = dict(zip(inspect.PAUSES, counts.pauses.tolist()))
    assert pauses["same second"] == 2
    assert pauses["under an hour"] == 1  # 60 s
    assert pauses["under a day"] == 1  # 3,840 s
    assert counts.pauses.sum() == 4
    assert counts.gap_counts.sum() == 2
    assert counts.time_counts.sum() == 7
    starts, users = inspect.length_bins(counts.lengths)
    assert (starts.tolist(), users.tolist()) == ([1, 2, 4], [1, 1, 1])


def test_a_log_without_a_clock_has_neither_ties_nor_pauses(tmp_path):
    table = write(tmp_path / "table", replace(MANIFEST, has_times=False))
    found = describe(table)
    assert found["time"] is None
    assert found["ties"] is None
    assert ("time", "none") in [row[:2] for row in inspect.rows(found)]


def test_users_without_events_and_without_values(tmp_path):
    rows = [(0, [1], [3], [200], [0], [NAN]), (1, [1], [1], [200], [0], [NAN])]
    manifest = replace(MANIFEST, users=2, events=0, tokens=2, first_time=200, last_time=200)
    table = write(tmp_path / "table", manifest, rows)
    found = describe(table)
    assert found["lengths"]["max"] == 0
    assert found["values"]["rating"] == {"mean": None, "min": None, "max": None, "missing": 0}
    assert ("value rating", "none", "0 missing") in inspect.rows(found)


def test_rows_say_what_each_number_is(table):
    said = {name: (number, remark) for name, number, remark in inspect.rows(describe(table))}
    assert said["users"] == ("3", "1 of them (33.3 %) with one event")
    assert said["items"] == ("5", "2 of them (40 %) cold: never touched")
    assert said["events"] == ("7", "and 1 entries of series")
    assert said["events a user"] == ("2", "median; least 1, mean 2.3, 90 % up to 4, most 4")
    assert said["top 1 % of items"] == ("42.9 %", "of events; top 10 %: 42.9 %")
    assert said["repeats"] == ("28.6 %", "2 events on an item the user had met before")
    assert said["ties"] == ("57.1 %", "4 events at the same second as another of the user")
    assert said["time"] == ("1.0 days", "1970-01-01 to 1970-01-02 (UTC)")
    assert said["action share"] == ("42.9 %", "3 events")
    assert said["value rating"] == ("3.5", "mean; 2 to 5; 3 missing")
    assert said["series city"] == ("4", "different values")
    assert said["dropped: no user"] == ("2", "rows of the log")
    assert "dropped: no item" not in said


def test_what_is_no_table_is_refused(tmp_path, table):
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        describe(tmp_path)
    part = table / "sequences" / "part-00001.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"part-00001\.parquet cannot be read .*--overwrite"):
        describe(table)
    part.unlink()
    with pytest.raises(InputError, match="2 users and its manifest says 3"):
        describe(table)
    pq.write_table(pq.read_table(pa.BufferReader(whole)).drop_columns("actions"), part)
    with pytest.raises(InputError, match="no column 'actions'"):
        describe(table)


def test_the_command_prints_writes_and_speaks_json(table, tmp_path):
    from typer.testing import CliRunner

    from louder.cli.data import app

    page = tmp_path / "table.html"
    done = CliRunner().invoke(app, ["inspect", str(table), "--html", str(page)])
    assert done.exit_code == 0, done.output
    for words in "events a user", "57.1 %", "dropped: no user", "under a day", "action like":
        assert words in done.output
    assert page.stat().st_size > 1_000_000
    done = CliRunner().invoke(app, ["inspect", str(table), "--json"])
    assert json.loads(done.output) == describe(table)
