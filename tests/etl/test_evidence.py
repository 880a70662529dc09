"""What a log seems to say and does not: times in another unit, values that are no numbers, ids that match nothing."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from louder.errors import InputError
from louder.etl import LogSpec, SideFile, build_table, clean
from louder.etl.probe import date_forms, odd_times, other_unit
from louder.etl.sources.attributes import typed_attributes
from louder.etl.spec import Rule
from louder.etl.transform import matched, user_hash

HEADER = "user_id,item_id,timestamp\n"
NOW = 1_714_557_600  # 2024-05-01 10:00


@pytest.fixture
def build(tmp_path):
    """A table of rows `user,item,time...` -> its manifest."""

    def make(rows, header="user_id,item_id,timestamp", spec=None, **options):
        (tmp_path / "log.csv").write_text(header + "\n" + "".join(f"{row}\n" for row in rows))
        return build_table(tmp_path / "log.csv", tmp_path / "t", spec=spec, overwrite=True, **options)

    return make


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "unit", "expected"),
    [
        ([NOW, NOW + 1], "ms", "s"),
        ([NOW, NOW + 1], "us", "s"),
        ([NOW * 1000], "us", "ms"),
        ([NOW * 1000], "s", "ms"),
        ([NOW * 10**6], "s", "us"),
        ([NOW * 10**9], "s", "ns"),
        ([NOW * 10**9], "ms", "ns"),
        ([20240501, 20231231], "s", "%Y%m%d"),
        ([20240501], "ms", "%Y%m%d"),
        ([20240501100000], "s", "%Y%m%d%H%M%S"),
        ([45413.5, 45414], "s", "excel"),
        ([45413], "ms", "excel"),
        ([20241301], "s", None),  # there is no month 13
        ([20240501, 5], "s", None),
        ([1, 2, 300], "s", None),
        ([100_000], "s", None),
        ([45413, 3], "s", None),
    ],
)
def test_numbers_look_like_times_of_another_unit(numbers, unit, expected):
    found = other_unit(numbers, unit)
    assert (found and found[1]) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["05/01/2024", "12/31/2024"], ["%m/%d/%Y"]),
        (["31/12/2024", "01/05/2024"], ["%d/%m/%Y"]),
        (["05/01/2024", "06/02/2024"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (["01.05.2024 10:00", "31.12.2024 23:59"], ["%d.%m.%Y %H:%M"]),
        (["12/31/2024", "05/01/2024 10:00"], ["%m/%d/%Y|%m/%d/%Y %H:%M"]),
        (["05/31/2024 01:30 PM"], ["%m/%d/%Y %I:%M %p"]),
        (["31-12-2024 10:00:01"], ["%d-%m-%Y %H:%M:%S"]),
        (["2024/05/01"], ["%Y/%m/%d"]),
        (["1 May 2024"], ["%d %b %Y"]),
        (["May 1, 2024"], ["%b %d, %Y"]),
        (["soon"], []),
        (["05/01/2024", "soon"], []),
        (["05/01/1024"], []),
    ],
)
def test_the_form_of_dates_is_seen(texts, expected):
    assert date_forms(texts) == expected


@pytest.mark.parametrize(
    ("texts", "form", "expected"),
    [
        (["05/01/2024 10:00"], "%m/%d/%Y %H:%M", [NOW]),
        (["01/05/2024 10:00"], "%d/%m/%Y %H:%M", [NOW]),
        (["05/01/2024 10:00", "05/01/2024"], "%m/%d/%Y %H:%M|%m/%d/%Y", [NOW, NOW - 36_000]),
        (["20240501"], "%Y%m%d", [NOW - 36_000]),
        (["2024-05-01 12:00 +0200"], "%Y-%m-%d %H:%M %z", [NOW]),
        ([20240501], "%Y%m%d", [NOW - 36_000]),
        ([45413.416666666664], "excel", [NOW]),
        ([45413 + (36_000 - second) / 86_400 for second in range(5)], "excel", [NOW - second for second in range(5)]),
        (["45413"], "excel", [NOW - 36_000]),
    ],
)
def test_times_of_a_form(in_engine, engine, texts, form, expected):
    column = in_engine(pa.table({"x": texts}))["x"]
    checked = clean.microseconds(column, form, 4e9, engine.epoch_us, strptime=engine.strptime)
    micros = checked.value.as_table().to_pyarrow().column(0).to_pylist()
    assert [value // 10**6 for value in micros] == expected


def test_a_time_of_another_form_is_not_readable(in_engine, engine):
    column = in_engine(pa.table({"x": ["2024-05-01", "13/13/2024", "", None, "01/05/2024"]}))["x"]
    checked = clean.microseconds(column, "%d/%m/%Y", 4e9, engine.epoch_us, strptime=engine.strptime)
    code, reasons = clean.reason_code([checked])
    found = [reasons[c - 1] if c else None for c in code.as_table().to_pyarrow().column(0).to_pylist()]
    assert found == ["timestamp not readable"] * 2 + ["timestamp missing"] * 2 + [None]


@pytest.mark.parametrize(
    ("times", "unit", "words"),
    [
        (["20240501", "20240502"], "auto", "look like dates that are written as numbers. Pass --time-format '%Y%m%d'."),
        (["45413.5", "45414"], "auto", "look like the days of a spreadsheet. Pass --time-unit excel."),
        ([NOW, NOW + 1], "ms", "look like seconds. Pass --time-unit s."),
        (["05/01/2024 10:00", "12/31/2024"], "auto", "look like dates: --time-format '%m/%d/%Y %H:%M|%m/%d/%Y'."),
        (["05/01/2024"], "auto", "--time-format '%d/%m/%Y' or --time-format '%m/%d/%Y'."),
    ],
)
def test_what_is_no_time_says_what_to_type(build, times, unit, words):
    with pytest.raises(InputError) as caught:
        build([f"1,{n},{time}" for n, time in enumerate(times)], spec=LogSpec(time_unit=unit))
    assert words in str(caught.value)


DAY = 86_400 * 10**6


@pytest.mark.parametrize(
    ("first", "last", "events", "early", "words"),
    [
        (0, 300 * 10**6, 3, 3, ["All events lie between 1970-01-01 00:00:00 and 1970-01-01 00:05:00", "--no-times"]),
        (0, NOW * 10**6, 5000, 2, ["2 events lie before 1990, the first at 1970-01-01 00:00:00"]),
        (NOW * 10**6, NOW * 10**6 + 5 * 10**6, 5000, 0, ["All 5,000 events lie within 5 seconds", "--time-unit"]),
        (NOW * 10**6, NOW * 10**6 + 5 * 10**6, 500, 0, []),
        (NOW * 10**6, NOW * 10**6 + DAY, 5000, 0, []),
    ],
)
def test_odd_times_are_told(first, last, events, early, words):
    found = odd_times(first, last, events, early, "s")
    assert len(found) == bool(words)
    for word in words:
        assert word in found[0]


def test_the_time_unit_of_the_schema_holds_for_its_series(tmp_path, sequences):
    (tmp_path / "log.csv").write_text(HEADER + f"a,x,{NOW}000\na,y,{NOW + 9}000\n")
    (tmp_path / "ages.csv").write_text(f"user_id,timestamp,value\na,{NOW - 5}000,20\n")
    ages = SideFile(file=str(tmp_path / "ages.csv"))
    build_table(tmp_path / "log.csv", tmp_path / "t", spec=LogSpec(time_unit="ms", series={"age": ages}))
    assert sequences(tmp_path / "t") == {"a": [(1, "20", NOW - 5), (0, "x", NOW), (0, "y", NOW + 9)]}
    other = SideFile(file=str(tmp_path / "ages.csv"), time_unit="s")
    with pytest.raises(InputError, match=r"Pass it in the schema: series: \{age: \{file: \.\.\., time_unit: 'ms'\}\}"):
        build_table(tmp_path / "log.csv", tmp_path / "t2", spec=LogSpec(time_unit="ms", series={"age": other}))


# --- values and actions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "rule", "expected"),
    [
        (["4,5", "1,200.50", "$5", "12s", "5", "-1e3", " 7 ", "", "NULL", None, " "], None, 4),
        (["4,5", "5", "good", ""], "x >= 4", 2),
        (["1", "0", "true", "No", "f", "Y", "", "click"], "x", 1),
        (["purchase", "view", ""], "x == purchase", 0),
        (["4", "x"], "x == 4", 1),
    ],
)
def test_texts_that_are_no_numbers_are_seen(in_engine, texts, rule, expected):
    column = in_engine(pa.table({"x": pa.array(texts, pa.string())}))["x"]
    where = clean.unreadable(column, rule and Rule.parse(rule))
    found = 0 if where is None else sum(where.fill_null(False).as_table().to_pyarrow().column(0).to_pylist())
    assert found == expected


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.bool_()])
def test_numbers_are_readable(in_engine, kind):
    assert clean.unreadable(in_engine(pa.table({"x": pa.array([1, 0, None]).cast(kind)}))["x"]) is None


def test_what_cannot_be_read_and_what_never_happens_is_told(build):
    rows = ["1;2;100;4,5;view", "1;3;200;5,0;buy", "1;4;300;5;view", ";4;300;6,6;view"]
    actions = {"like": "rating >= 4", "buy": "event == purchase", "seen": "event"}
    manifest = build(rows, "user_id;item_id;timestamp;rating;event", LogSpec(actions=actions))
    counts = manifest.counts
    assert (counts["action like"], counts["action buy"], counts["action seen"]) == (1, 0, 0)
    assert counts["value rating: not readable"] == counts["action like: not readable"] == 2  # of rows that are used
    assert counts["action seen: not readable"] == 3
    said = " ".join(manifest.warnings)
    assert "no number in 2 rows, such as '4,5': there it is missing." in said
    assert "The action buy never happened: event == purchase." in said
    assert "The action like never happened" not in said


def test_positives_are_counted_over_parts(build):
    rows = [f"{user},{item},{NOW + item},{item % 2},{item % 3 == 0:d}" for user in range(7) for item in range(10)]
    spec = LogSpec(actions={"odd": "a", "third": "b", "never": "a == 7"})
    manifest = build(rows, "user_id,item_id,timestamp,a,b", spec, events_per_part=20)
    assert [manifest.counts[f"action {name}"] for name in ("odd", "third", "never")] == [35, 28, 0]


def test_ties_are_of_events_alone(build):
    rows = [f"1,{item},{NOW + item},{'AB'[item % 2]}" for item in range(4)]
    manifest = build(rows, "user_id,item_id,timestamp,city", LogSpec(series={"city": "city"}))
    assert manifest.counts["events that share their time with another of the user"] == 0
    rows.append(f"1,9,{NOW + 3},B")
    manifest = build(rows, "user_id,item_id,timestamp,city", LogSpec(series={"city": "city"}))
    assert manifest.counts["events that share their time with another of the user"] == 2


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["-8872349872337526663", "8872349872325180985", "0"], [-8872349872337526663, 0, 8872349872325180985]),
        (["1", "2", "guest"], ["1", "2", "guest"]),
        (["1", " 2", "100"], [1, 2, 100]),
        (["12.0", "3.0"], [3, 12]),
        (["12.0", "3"], [3, 12]),
        (["a", " a", "b "], ["a", "b"]),
        (["07", "7"], ["07", "7"]),
        (["18446744073709551615", "1"], ["1", "18446744073709551615"]),
        (["1.5", "2.5"], ["1.5", "2.5"]),
        (["-1", "1"], [-1, 1]),
    ],
)
@pytest.mark.parametrize("word", ["user", "item"])
def test_ids_are_what_the_log_says(build, tmp_path, ids, expected, word):
    rows = [f"{raw},7,{NOW}" if word == "user" else f"7,{raw},{NOW}" for raw in ids]
    manifest = build(rows)
    assert manifest.dropped == {}
    assert pq.read_table(tmp_path / "t" / "vocabulary" / f"{word}.parquet")["raw"].to_pylist() == expected


def test_the_hash_of_a_user_is_never_negative_and_stays_what_it_was(in_engine):
    raws = [0, 1, 42, 2_147_483_647, 10**18, -1, -(2**63), 2**63 - 1]
    found = user_hash(in_engine(pa.table({"x": raws}))["x"]).as_table().to_pyarrow().column(0).to_pylist()
    assert min(found) >= 0
    assert found[:5] == [raw % 2_147_483_647 * 2_654_435_761 % 4_294_967_296 // 65_536 for raw in raws[:5]]


MET = pa.array([2, 3, 100])


@pytest.mark.parametrize(
    ("ids", "found"),
    [(["2.0", "3.0", "7.0"], 2), ([" 2", "3 "], 2), (["2", "2", "9"], 1), ([2.0, 9.0], 1), ([2, 3, 100], 3)],
)
def test_the_ids_of_a_file_that_are_in_the_log_are_counted(ids, found):
    notes = matched(SideFile(file="items.csv"), pa.table({"raw": ids}), MET, "items")
    assert list(notes.values()) == [len(set(ids)), found]


@pytest.mark.parametrize(
    ("ids", "met"),
    [
        (["02", "03"], MET),
        (["2.5", "x"], MET),
        ([7, 8], MET),
        ([2, 3], pa.array(["A2", "A3"])),
        (["a"], pa.array(["A"])),
    ],
)
def test_a_file_of_which_no_id_is_in_the_log_is_refused(ids, met):
    with pytest.raises(
        InputError, match=r"None of the \d ids of items\.csv, such as .*items: \{file: items\.csv, id: NAME\}"
    ):
        matched(SideFile(file="items.csv"), pa.table({"raw": ids}), met, "items")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "2", ""], [1, 2, None]),
        (["1.5", "2"], [1.5, 2.0]),
        (["01", "2"], ["01", "2"]),
        (["-01", "2"], ["-01", "2"]),
        (["0.5", "0"], [0.5, 0.0]),
        (["Drama|Comedy", "Comedy", "Drama"], [["Drama", "Comedy"], ["Comedy"], ["Drama"]]),
        (["Drama|Comedy", "Comedy|Drama", ""], [["Drama", "Comedy"], ["Comedy", "Drama"], None]),
        (["a|b", "c|d"], ["a|b", "c|d"]),  # no part comes twice
        (["[1, 2]", "[]"], [[1, 2], []]),
        (["x", "[1]"], ["x", "[1]"]),
    ],
)
def test_the_type_of_an_attribute_is_that_of_all_its_values(texts, expected):
    table = typed_attributes(pa.table({"id": [str(n) for n in range(len(texts))], "x": texts}), "id")
    assert table["x"].to_pylist() == expected


def test_titles_stay_texts_and_a_column_called_raw_is_one_of_them(build, tmp_path, louder):
    (tmp_path / "items.csv").write_text("item_id,title,raw,name\n7,1901,5,12\n8,1902,6,13\n")
    spec = LogSpec(items=SideFile(file=str(tmp_path / "items.csv")))
    manifest = build([f"1,7,{NOW}"], spec=spec)
    found = pq.read_table(tmp_path / "t" / "items.parquet").to_pylist()
    assert found == [
        {"title": "1901", "raw_2": 5, "name": "12"},
        {"title": "1902", "raw_2": 6, "name": "13"},
    ]
    assert manifest.counts["ids in the file of items that are in the log"] == 1
    code, out, err = louder("data", "inspect", tmp_path / "t", "--json")
    assert (code, json.loads(out)["items"], err) == (0, 2, "")
