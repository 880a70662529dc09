"""A log with one thing wrong at a time, and one with nothing wrong."""

from dataclasses import replace

import pytest

from louder.data import inspect
from louder.data.table import open_table
from louder.schema import Manifest
from louder.trial.findings import findings
from tests.tables import events, write_table

DAY = 86_400


def sound(users=40):
    """Events an hour and a bit apart, all users in one stretch of time."""
    return [events(*range(10), start=7_000 * user + user, gap=3_700) for user in range(users)]


def found(folder, users, items=None, has_times=True, **changes):
    table = write_table(folder, users, items=items, has_times=has_times)
    replace(Manifest.read(table), **changes).write(table)
    return findings(inspect.count(table), open_table(table))


def test_nothing_is_found_where_nothing_is_wrong(tmp_path):
    assert found(tmp_path / "t", sound()) == []


@pytest.mark.parametrize(
    ("changes", "serious", "what", "todo"),
    [
        ({"dropped": {"timestamp missing": 40}, "counts": {"rows read": 440}}, True, "Dropped rows: 40 (9.09 %), timestamp missing.", "source"),
        ({"dropped": {"item missing": 1}, "counts": {"rows read": 401}}, False, "Dropped rows: 1 ", "source"),
        ({"dropped": {"item missing": 0}, "counts": {"exact duplicates kept": 100}}, True, "Rows that are equal to another in every column: 100 (25 %)", "--drop-duplicates"),
        ({"warnings": ["All lie in 1970."]}, True, "All lie in 1970.", ""),
    ],
)  # fmt: skip
def test_rows_that_were_lost_or_doubled(tmp_path, changes, serious, what, todo):
    (one,) = found(tmp_path / "t", sound(), **changes)
    assert one.serious == serious and one.what.startswith(what) and todo in one.todo


@pytest.mark.parametrize(
    ("users", "items", "what"),
    [
        ([events(*range(9), start=DAY * user, gap=DAY) for user in range(20)], None, "Times are whole days"),
        ([events(*range(9), start=50_000 * user, gap=0) for user in range(20)], None, "100 % of the events share their second"),
        ([*sound(), *(events(0, start=9_000 * user + 5) for user in range(30))], None, "42.9 % of the users have one event"),
        ([*sound(), events(*[1] * 2_000, start=0, gap=151)], None, "Users with more than 1,000 events: 1, up to 2,000"),
        (sound(), 20, "50 % of the 20 items were never touched"),
        ([*sound(), events(*range(9), start=-10**8, gap=7_001)], None, "In 9"),
    ],
    ids=["days", "bursts", "single", "robot", "cold", "gap"],
)  # fmt: skip
def test_what_is_odd_is_told_alone(tmp_path, users, items, what):
    assert [one.what for one in found(tmp_path / "t", users, items) if one.what.startswith(what)]


def test_a_burst_is_dated(tmp_path):
    crowd = [events(*range(10), start=150_000 + user, gap=10) for user in range(200)]
    (one,) = [one for one in found(tmp_path / "t", [*sound(), *crowd]) if "as many events as usual" in one.what]
    assert "Between 1970-01-02 and 1970-01-0" in one.what


def test_a_log_without_a_clock_comes_first(tmp_path):
    first, *_ = found(tmp_path / "t", sound(), has_times=False, dropped={"item missing": 1})
    assert first.serious and "no times" in first.what
