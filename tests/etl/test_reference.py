"""The engine beside a reference implementation in plain Python, on random logs with ties, repeats, bad rows, filters and series."""

import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from conftest import read_sequences
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.errors import InputError
from louder.etl import LogSpec, SideFile, build_table

EXAMPLES = settings(max_examples=15, deadline=None)
FEW = settings(max_examples=8, deadline=None)

ids = st.sampled_from(["1", "2", "3", "4", "5", "6", "10", "", "-3"])
times = st.sampled_from(["100", "100", "101", "102", "5000000000", "", "soon"])
rows = st.tuples(ids, ids, times, st.sampled_from("123"), st.sampled_from(["Rome", "Oslo", ""]))
logs = st.lists(rows, min_size=1, max_size=60)
filters = st.sampled_from(
    [
        {},
        {"k_core": 2},
        {"k_core": 3},
        {"min_user_events": 3},
        {"min_item_events": 2},
        {"min_user_events": 2, "min_item_events": 3},
    ]
)


def usable(row) -> str | None:
    """Why a row is dropped, or None."""
    for word, text in ("user_id", row[0]), ("item_id", row[1]):
        if text == "":
            return f"{word} missing"
    if row[2] == "":
        return "timestamp missing"
    if row[2] == "soon":
        return "timestamp not readable"
    return "timestamp in the future" if int(row[2]) > 4_000_000_000 else None


def filtered(events, min_user_events=0, min_item_events=0, k_core=0):
    if k_core:
        while True:
            users, items = Counter(e[0] for e in events), Counter(e[1] for e in events)
            kept = [e for e in events if users[e[0]] >= k_core and items[e[1]] >= k_core]
            if len(kept) == len(events):
                return kept
            events = kept
    users, items = Counter(e[0] for e in events), Counter(e[1] for e in events)
    kept = [e for e in events if users[e[0]] >= min_user_events and items[e[1]] >= min_item_events]
    left = Counter(e[0] for e in kept)
    return [e for e in kept if left[e[0]] >= min_user_events]


def changes(entries):
    """The first of every run of equal values; entries are (time, value) in order."""
    return [next(run) for _, run in groupby(entries, key=lambda entry: entry[1])]


def reference(log, drop_duplicates, filter_by):
    events = [(int(u), int(i), int(t), float(r), city) for u, i, t, r, city in log if usable((u, i, t)) is None]
    if drop_duplicates:
        events = list(dict.fromkeys(events))
    valid = [(int(u), int(i), int(t), float(r), city) for u, i, t, r, city in log if usable((u, i, t)) is None]
    kept = filtered(events, **filter_by)
    result = {}
    for user in {event[0] for event in kept}:
        order = sorted((event for event in valid if event[0] == user and event[4]), key=lambda event: event[2])
        cities = [(time, 0, (1, city, time)) for time, city in changes([(event[2], event[4]) for event in order])]
        engaged = [(event[2], 1, (0, event[1], event[2])) for event in kept if event[0] == user]
        result[user] = [token for _, _, token in sorted(cities + engaged, key=lambda entry: entry[:2])]
    return result, len(kept)


@EXAMPLES
@given(logs, filters, st.booleans(), st.integers(1, 20))
def test_the_same_sequences_as_the_reference(log, filter_by, drop_duplicates, events_per_part):
    expected, events = reference(log, drop_duplicates, filter_by)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log.csv").write_text(
            "user_id,item_id,timestamp,stars,city\n" + "".join(",".join(row) + "\n" for row in log)
        )
        spec = LogSpec(values={"stars": "stars"}, series={"city": "city"}, ids="integer", time_unit="s")

        def build():
            return build_table(
                folder / "log.csv",
                folder / "table",
                spec=spec,
                drop_duplicates=drop_duplicates,
                events_per_part=events_per_part,
                threads=2,
                **filter_by,
            )

        far = sum(usable(row) == "timestamp in the future" for row in log)
        odd = sum(usable(row) == "timestamp not readable" for row in log)
        if events == 0 or max(far, odd) * 2 > len(log):
            with pytest.raises(InputError):
                build()
            assert [entry.name for entry in folder.iterdir()] == ["log.csv"]
            return
        manifest = build()
        found = read_sequences(folder / "table")
        assert {user: [token[:3] for token in tokens] for user, tokens in found.items()} == expected
        reasons = Counter(filter(None, (usable(row) for row in log)))
        assert {key: manifest.dropped[key] for key in reasons} == reasons
        assert manifest.counts["rows read"] == len(log) == manifest.events + sum(manifest.dropped.values())
        assert manifest.events == events
        assert manifest.counts["users with one event"] == sum(
            sum(token[0] == 0 for token in tokens) == 1 for tokens in expected.values()
        )


events_of_one_time = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=400)


@FEW
@given(events_of_one_time, st.sampled_from(["csv", "jsonl"]))
def test_ties_keep_the_order_of_the_log(events, kind):
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / f"log.{kind}"
        if kind == "csv":
            log.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},7\n" for u, i in events))
        else:
            log.write_text("".join(f'{{"user_id": {u}, "item_id": {i}, "timestamp": 7}}\n' for u, i in events))
        build_table(log, Path(name) / "table")
        found = read_sequences(Path(name) / "table")
    for user in found:
        assert [item for _, item, _ in found[user]] == [i for u, i in events if u == user]


def test_ties_of_a_large_log_keep_its_order(tmp_path, sequences):
    """Large enough for several threads and row groups to share it."""
    count = 400_000
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"{n % 3},{n},7\n" for n in range(count)))
    build_table(tmp_path / "log.csv", tmp_path / "table", threads=2)
    for user, tokens in sequences(tmp_path / "table").items():
        assert [item for _, item, _ in tokens] == list(range(user, count, 3))


@FEW
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.sampled_from("abc")), min_size=1, max_size=30))
def test_a_series_of_its_own_is_compressed_and_merged(entries):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"{u},8,{5 + u}\n" for u in range(3)))
        (folder / "bands.csv").write_text(
            "user_id,timestamp,value\n" + "".join(f"{u},{t},{value}\n" for u, t, value in entries)
        )
        spec = LogSpec(series={"band": SideFile(file=str(folder / "bands.csv"))})
        manifest = build_table(folder / "log.csv", folder / "table", spec=spec)
        found = read_sequences(folder / "table")
    for user in range(3):
        mine = sorted(((t, value) for u, t, value in entries if u == user), key=lambda entry: entry[0])
        merged = [(t, 0, (1, value, t)) for t, value in changes(mine)] + [(5 + user, 1, (0, 8, 5 + user))]
        assert found[user] == [token for _, _, token in sorted(merged, key=lambda entry: entry[:2])]
    assert manifest.tokens == sum(len(tokens) for tokens in found.values())


def test_the_one_pass_filter_is_that_of_the_official_books(tmp_path):
    """Users and items are counted before; items keep their number when the users they are left with go."""
    #        user a: 3 events, 1 of them on a rare item -> left with 2; user b: 3; user c: 1
    log = [("a", "x"), ("a", "y"), ("a", "rare"), ("b", "x"), ("b", "y"), ("b", "x"), ("c", "y"), ("a2", "z")]
    log += [("d", "z"), ("d", "z"), ("d", "rare2")]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},9\n" for u, i in log))
    manifest = build_table(tmp_path / "log.csv", tmp_path / "table", min_user_events=3, min_item_events=3)
    assert set(read_sequences(tmp_path / "table")) == {"b"}
    assert manifest.items == 3  # x, y, and z, whose only frequent user is left with two events
    assert manifest.dropped == {
        "item with fewer than 3 events": 2,
        "user with fewer than 3 events": 2,
        "user left with fewer than 3 events": 4,
    }


def test_duplicates_are_counted_and_dropped_only_when_asked(tmp_path, sequences):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,5,9\n1,6,9\n1,5,9\n1,5,9\n2,5,9\n")
    manifest = build_table(tmp_path / "log.csv", tmp_path / "kept")
    assert (manifest.events, manifest.counts["exact duplicates kept"]) == (5, 2)
    assert sequences(tmp_path / "kept")[1] == [(0, 5, 9), (0, 6, 9), (0, 5, 9), (0, 5, 9)]
    manifest = build_table(tmp_path / "log.csv", tmp_path / "dropped", drop_duplicates=True)
    assert manifest.dropped == {"exact duplicate": 2}
    assert sequences(tmp_path / "dropped")[1] == [(0, 5, 9), (0, 6, 9)]


def test_vocabularies_are_sorted_and_parts_hold_whole_users(tmp_path):
    import pyarrow.parquet as pq

    (tmp_path / "log.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u{n % 50},{100 - n % 9},{n}\n" for n in range(500))
    )
    build_table(tmp_path / "log.csv", tmp_path / "table", events_per_part=60)
    parts = sorted((tmp_path / "table" / "sequences").iterdir())
    assert len(parts) > 4
    assert len(read_sequences(tmp_path / "table")) == 50
    for name in "user", "item":
        raw = pq.read_table(tmp_path / "table" / "vocabulary" / f"{name}.parquet")["raw"].to_pylist()
        assert raw == sorted(set(raw))
    schema = pq.read_schema(parts[0])
    assert [str(schema.field(name).type.value_type) for name in ("kind", "id", "time")] == ["uint8", "int64", "int64"]
