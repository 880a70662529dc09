"""What a table and its manifest hold: ties, times, duplicates, values, series, requests, parts."""

import pyarrow.parquet as pq
import pytest

from louder.errors import InputError
from louder.etl import LogSpec, SideFile, build_table

SHARED, REPEATED = "events that share their time with another of the user", "exact duplicates kept"


@pytest.fixture
def built(tmp_path, sequences):
    """A log of rows `user,item,time...` -> (manifest, sequences)."""

    def build(rows, header="user_id,item_id,timestamp", spec=None, **options):
        (tmp_path / "log.csv").write_text("\n".join([header, *rows]) + "\n")
        manifest = build_table(tmp_path / "log.csv", tmp_path / "table", spec=spec, overwrite=True, **options)
        return manifest, sequences(tmp_path / "table")

    return build


def test_events_of_one_second_are_ordered_by_their_microseconds_and_told_as_ties(built):
    spec = LogSpec(time_unit="ms")
    manifest, found = built(["1,5,2900", "1,6,2100", "1,7,3000", "1,8,2900", "2,5,2100", "2,5,9000"], spec=spec)
    assert found == {1: [(0, 6, 2), (0, 5, 2), (0, 8, 2), (0, 7, 3)], 2: [(0, 5, 2), (0, 5, 9)]}
    assert (manifest.counts[SHARED], manifest.counts["users with one event"]) == (3, 0)
    assert (manifest.first_time, manifest.last_time) == (2, 9)


def test_first_and_last_time_are_those_of_all_parts(built):
    rows = [f"u{n},1,{1000 + n}" for n in range(40)]
    manifest, _ = built(rows, events_per_part=5)
    assert (manifest.first_time, manifest.last_time) == (1000, 1039)
    assert (manifest.users, manifest.events, manifest.tokens) == (40, 40, 40)
    assert manifest.counts["users with one event"] == 40


def test_a_repeat_is_equal_in_every_column(built):
    header = "user_id,item_id,timestamp,seen,watch,session"
    spec = LogSpec(
        columns={"request_id": "session"}, actions={"seen": "seen"}, values={"watch": "watch"}, ids="integer"
    )
    once = ["1,5,9,1,2.5,a", "1,6,9,1,2.5,a", "1,5,9,0,2.5,a", "1,5,9,1,2.0,a", "1,5,9,1,2.5,b", "1,5,9,1,,a"]
    manifest, _ = built([*once, "2,5,9,1,2.5,a", "1,5,8,1,2.5,a"], header, spec)
    assert (manifest.counts[SHARED], manifest.counts[REPEATED]) == (6, 0)
    manifest, _ = built([*once, "1,5,9,1,2.5,a", "1,5,9,1,,a", "1,5,9,1,2.5,a"], header, spec)
    assert (manifest.counts[SHARED], manifest.counts[REPEATED]) == (9, 3)
    manifest, found = built([*once, "1,5,9,1,2.5,a", "1,5,9,1,,a"], header, spec, drop_duplicates=True)
    assert manifest.dropped == {"exact duplicate": 2}
    assert (manifest.counts[REPEATED], len(found[1])) == (0, 6)


def test_nothing_is_told_of_ties_where_there_is_no_clock(built):
    spec = LogSpec(has_times=False)
    manifest, found = built(["1,5", "2,5", "1,4", "1,5"], "user_id,item_id", spec)
    assert found == {1: [(0, 5, 0), (0, 4, 1), (0, 5, 2)], 2: [(0, 5, 0)]}
    assert (manifest.first_time, manifest.last_time, manifest.has_times) == (0, 2, False)
    assert manifest.counts == {"rows read": 4, "users with one event": 1}


def test_the_last_time_without_a_clock_is_that_of_the_longest_user(built):
    rows = [f"{user},{n}" for user in range(30) for n in range(user + 1)]
    manifest, _ = built(rows, "user_id,item_id", LogSpec(has_times=False), events_per_part=40)
    assert manifest.last_time == 29


def test_several_values_keep_their_columns(built):
    header = "user_id,item_id,timestamp,a,b"
    spec = LogSpec(values={"second": "b", "first": "a"})
    manifest, found = built(["1,5,2,1,10", "1,6,1,3,", "1,7,3,x,0.1"], header, spec)
    assert manifest.values == ["second", "first"]
    none = pytest.approx(float("nan"), nan_ok=True)
    assert found[1] == [(0, 6, 1, none, 3.0), (0, 5, 2, 10.0, 1.0), (0, 7, 3, pytest.approx(0.1), none)]


def test_requests_are_numbered_and_absent_ones_are_minus_one(built):
    header = "user_id,item_id,timestamp,request_id"
    manifest, found = built(["1,5,1,b", "1,6,2,a", "2,7,3,b", "2,8,4,", "2,9,5,NULL"], header)
    assert manifest.has_requests
    assert [row[3] for row in found[1] + found[2]] == [1, 0, 1, -1, -1]


def test_a_rating_is_a_value_without_being_asked_for(built):
    manifest, found = built(["1,5,1,4.5"], "user_id,item_id,timestamp,rating")
    assert (manifest.values, found[1]) == (["rating"], [(0, 5, 1, 4.5)])
    spec = LogSpec(values={"stars": "rating"})
    assert built(["1,5,1,4.5"], "user_id,item_id,timestamp,rating", spec)[0].values == ["stars"]
    spec = LogSpec(columns={"rating": "stars"})
    assert built(["1,5,1,4.5"], "user_id,item_id,timestamp,stars", spec)[0].values == ["rating"]


SERIES = "user_id,item_id,timestamp,city,band"


def test_series_are_merged_in_their_order_before_the_engagement(built):
    spec = LogSpec(series={"band": "band", "city": "city"})
    rows = ["1,5,1,Rome,young", "1,6,2,Rome,old", "1,7,3,,old", "1,8,4,Oslo,", "1,9,5,Rome,old"]
    manifest, found = built(rows, SERIES, spec)
    assert found[1] == [
        (1, "young", 1),
        (2, "Rome", 1),
        (0, 5, 1),
        (1, "old", 2),
        (0, 6, 2),
        (0, 7, 3),
        (2, "Oslo", 4),
        (0, 8, 4),
        (2, "Rome", 5),
        (0, 9, 5),
    ]
    assert manifest.series == {"band": 2, "city": 2}
    assert manifest.counts["series band: entries equal to the one before"] == 2
    assert manifest.counts["series city: entries equal to the one before"] == 1
    assert (manifest.events, manifest.tokens) == (5, 10)


def test_a_series_knows_the_events_that_a_filter_drops_but_not_their_users(built):
    spec = LogSpec(series={"city": "city"})
    rows = ["1,5,1,Rome,", "1,99,2,Oslo,", "1,5,3,Rome,", "2,5,1,Bern,", "2,98,4,Bern,"]
    manifest, found = built(rows, SERIES, spec, min_item_events=2, min_user_events=2)
    assert found == {1: [(1, "Rome", 1), (0, 5, 1), (1, "Oslo", 2), (1, "Rome", 3), (0, 5, 3)]}
    assert manifest.series == {"city": 2}


def test_rows_of_a_series_file_that_cannot_be_used_are_counted(built, tmp_path):
    bands = ["1,5,a", "1,5,a", ",5,a", "1,x,a", "1,7,", "zz,8,b", "1,-4,b", "2,6,b"]
    (tmp_path / "bands.csv").write_text("\n".join(["who,at,is", *bands]) + "\n")
    side = SideFile(file=str(tmp_path / "bands.csv"), user_id="who", timestamp="at", value="is")
    manifest, found = built(["1,5,9", "2,5,9"], spec=LogSpec(series={"band": side}, ids="integer"))
    assert found == {1: [(1, "a", 5), (0, 5, 9)], 2: [(1, "b", 6), (0, 5, 9)]}
    told = {key: count for key, count in manifest.counts.items() if key.startswith("series")}
    assert told == {
        "series band: user_id missing": 1,
        "series band: user_id not an integer": 1,
        "series band: timestamp not readable": 1,
        "series band: timestamp before 1970": 1,
        "series band: value missing": 1,
        "series band: entries equal to the one before": 1,
    }


def test_a_series_file_without_its_columns_or_with_another_unit_is_refused(built, tmp_path):
    (tmp_path / "bands.csv").write_text("who,timestamp,value\n1,5000000000000,a\n")
    file = str(tmp_path / "bands.csv")
    with pytest.raises(InputError, match=r"no column 'user_id'.*series: \{band: \{file: .*user_id: NAME"):
        built(["1,5,9"], spec=LogSpec(series={"band": SideFile(file=file)}))
    with pytest.raises(InputError, match=r"times of .*bands\.csv, such as 5000000000000"):
        built(["1,5,9"], spec=LogSpec(series={"band": SideFile(file=file, user_id="who")}))
    with pytest.raises(InputError, match="Series are merged with events by time"):
        built(["1,5,9,Rome,old"], SERIES, LogSpec(series={"city": "city"}, has_times=False))


def test_attributes_of_users_follow_the_ids(built, tmp_path):
    (tmp_path / "people.csv").write_text("id,age\n2,20\n9,90\n1,10\n")
    spec = LogSpec(users=SideFile(file=str(tmp_path / "people.csv")))
    manifest, _ = built(["1,5,9", "3,5,9", "2,5,9"], spec=spec)
    assert pq.read_table(tmp_path / "table" / "users.parquet")["age"].to_pylist() == [10, 20, None]
    assert manifest.users == 3


def test_items_of_attributes_join_the_catalogue_unless_items_are_filtered(built, tmp_path):
    (tmp_path / "films.csv").write_text("item_id,title\n5,five\n6,six\n7,seven\n")
    spec = LogSpec(items=SideFile(file=str(tmp_path / "films.csv")))
    rows = ["1,5,9", "2,5,9", "2,6,10"]
    assert built(rows, spec=spec)[0].items == 3
    assert built(rows, spec=spec, min_user_events=2)[0].items == 3
    assert built(rows, spec=spec, min_item_events=2)[0].items == 1
    assert built(rows, spec=spec, k_core=1)[0].items == 3
    assert pq.read_table(tmp_path / "table" / "items.parquet")["title"].to_pylist() == ["five", "six", "seven"]


def test_the_manifest_tells_what_was_asked_for(built):
    rows = ["1,5,1", "1,6,2", "2,5,1", "2,6,2"]
    manifest, _ = built(rows, k_core=2, name="mine")
    assert manifest.filters == {"min_user_events": 0, "min_item_events": 0, "k_core": 2, "drop_duplicates": False}
    assert manifest.name == "mine"
    assert built(rows, drop_duplicates=True, min_user_events=1)[0].filters["drop_duplicates"] is True


def test_as_many_parts_as_the_events_need(built, tmp_path):
    rows = [f"{n},5,9" for n in range(100)]
    for events_per_part, parts in (100, 1), (99, 2), (50, 2):
        built(rows, events_per_part=events_per_part)
        names = sorted(file.name for file in (tmp_path / "table" / "sequences").iterdir())
        assert names == [f"part-{part:05d}.parquet" for part in range(parts)]
