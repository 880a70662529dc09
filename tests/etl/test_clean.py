"""Columns of a raw log, one cell at a time: ids, times, actions, values, and the reason why a row is dropped."""

import math
import re
from datetime import UTC, date, datetime, timedelta, timezone

import ibis.expr.types as ir
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.etl import clean
from louder.etl.clean import Checked
from louder.etl.numbering import cast_ids
from louder.etl.probe import id_kind, read_time_unit
from louder.etl.spec import Rule

EXAMPLES = settings(max_examples=30, deadline=None)
LATEST = 2_000_000_000.0


@pytest.fixture(scope="module")
def column(in_engine):
    """Values as a column of the engine."""
    return lambda values, kind=None: in_engine(pa.table({"x": pa.array(values, kind)}))["x"]


def read(expression: ir.Value) -> list:
    return expression.as_table().to_pyarrow().column(0).to_pylist()


def outcome(checked: Checked) -> list[tuple]:
    """(value, None) of a good cell, (None, reason) of another."""
    code, reasons = clean.reason_code([checked])
    pairs = zip(read(checked.value), read(code), strict=True)
    return [(None, reasons[code - 1]) if code else (value, None) for value, code in pairs]


# --- ids -------------------------------------------------------------------------------------------------------------


def as_integer(text: str | None) -> tuple:
    """A text is an integer only if it is written as integers are written: anything else would merge two ids."""
    if text in (None, *clean.MISSING):
        return None, "id missing"
    if not re.fullmatch(r"0|-?[1-9][0-9]*", text) or not -(2**63) <= int(text) < 2**63:
        return None, "id not an integer"
    return int(text), None


@EXAMPLES
@given(
    st.lists(
        st.one_of(
            st.text(alphabet="0123456789+-._ eE", max_size=5),
            st.integers(-(2**65), 2**65).map(str),
            st.sampled_from(["007", "7", "7.0", "12.7", "1e3", "0x1F", " 7", "7 ", "+7", "-0", "00", "NaN", "nan", ""]),
            st.none(),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_a_text_is_an_integer_only_as_integers_are_written(column, texts):
    assert outcome(clean.raw_id(column(texts, pa.string()), "integer", "id")) == [as_integer(text) for text in texts]


def test_a_fraction_is_no_integer(column):
    values = [12.0, 12.7, 0.0, -1.0, -0.5, math.nan, None, math.inf, 1e300, 0.9999999]
    assert outcome(clean.raw_id(column(values, pa.float64()), "integer", "id")) == [
        (12, None),
        (None, "id not an integer"),
        (0, None),
        (-1, None),
        (None, "id not an integer"),
        (None, "id missing"),
        (None, "id missing"),
        (None, "id not an integer"),
        (None, "id not an integer"),
        (None, "id not an integer"),
    ]


def test_integers_of_every_width_are_ids(column):
    for kind in pa.int8(), pa.int32(), pa.int64(), pa.uint16():
        assert outcome(clean.raw_id(column([0, 7, None], kind), "integer", "id")) == [
            (0, None),
            (7, None),
            (None, "id missing"),
        ]
    unsigned = column([2**63 - 1, 2**63], pa.uint64())
    assert outcome(clean.raw_id(unsigned, "integer", "id")) == [(2**63 - 1, None), (None, "id not an integer")]


def test_blanks_and_a_fraction_of_nothing_are_padding(column):
    texts = ["12", "12.0", " 12", "12 ", " -5.0 ", "12.00", "012", "1 2", "", " ", " NULL ", "x", "12.5", None]
    found = outcome(clean.raw_id(column(texts), "padded", "id"))
    assert found[:5] == [(12, None)] * 4 + [(-5, None)]
    odd, missing = (None, "id not an integer"), (None, "id missing")
    assert found[5:] == [odd, odd, odd, missing, missing, missing, odd, odd, missing]


def test_texts_stay_as_they_are_but_for_blanks_around_them(column):
    texts = ["007", "7", " 7", "12.7", "", "NULL", "null", "None", "NaN", "nan", "\\N", None, "none"]
    found = outcome(clean.raw_id(column(texts), "string", "id"))
    assert found == [(text.strip(), None) for text in texts[:4]] + [(None, "id missing")] * 8 + [("none", None)]
    assert outcome(clean.raw_id(column([7, None]), "string", "id")) == [("7", None), (None, "id missing")]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1"] * 99 + ["x"], "string"),  # ids are what the log says
        (["1"] * 99 + ["01"], "string"),
        (["1", "-8872349872337526663"], "integer"),
        (["1", "18446744073709551615"], "string"),
        (["1.0", "2.0"], "padded"),
        (["1.0", "2.5"], "string"),
        ([" 1", "2"], "padded"),
        ([" a", "b"], "string"),
        (["x"] + [""] * 500, "string"),  # what is missing counts on neither side
        ([""], "integer"),
        ([1.0, 2.0], "integer"),
        ([1.5, 2.5], "string"),
        ([1, 2], "integer"),
        ([True], "string"),
    ],
)
def test_ids_are_integers_if_all_are(column, values, kind):
    assert id_kind(column(values), "auto") == kind
    assert id_kind(column(values), "string") == "string"
    assert id_kind(column(values), "integer") == "padded"


def test_attribute_ids_are_read_as_those_of_the_log_are():
    """An id of an attribute file must not become that of another item of the log."""
    texts = ["7", "007", "12.7", "x", "", "-3", "0", "8872349872325180985", "9999999999999999999", " 8 ", "9.0", None]
    expected = [7, None, None, None, None, -3, 0, 8872349872325180985, None, 8, 9, None]
    assert cast_ids(pa.chunked_array([texts]), pa.int64()).to_pylist() == expected
    assert cast_ids(pa.chunked_array([[7, 8]]), pa.string()).to_pylist() == ["7", "8"]
    assert cast_ids(pa.chunked_array([[7, 8]]), pa.int64()).to_pylist() == [7, 8]
    assert cast_ids(pa.chunked_array([["007", " a "]]), pa.string()).to_pylist() == ["007", "a"]
    assert cast_ids(pa.chunked_array([[7.0, 8.0]]), pa.string()).to_pylist() == ["7", "8"]


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def microseconds(column, engine):
    return lambda values, kind, unit: outcome(
        clean.microseconds(column(values, kind), unit, LATEST, engine.epoch_us, "time")
    )


@pytest.mark.parametrize(("unit", "one"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_numbers_in_each_unit(microseconds, unit, one):
    latest = int(LATEST) * one
    values = [0, one, 1_600_000_000 * one, latest, latest + one, -1, -one, None]
    expected = [(value * 10**6 // one, None) for value in values[:4]]
    expected += [(None, "time in the future"), (None, "time before 1970"), (None, "time before 1970")]
    assert microseconds(values, pa.int64(), unit) == [*expected, (None, "time missing")]
    texts = [str(value) if value is not None else None for value in values]
    assert microseconds(texts, pa.string(), unit) == [*expected, (None, "time missing")]


def test_a_fraction_of_a_second_is_kept_and_one_of_a_microsecond_is_cut_off(microseconds):
    assert microseconds([1.5, 2.9999999, 0.25], pa.float64(), "s") == [
        (1500000, None),
        (2999999, None),
        (250000, None),
    ]
    assert microseconds(["1600000000.25"], pa.string(), "s") == [(1600000000250000, None)]
    assert microseconds([1999], pa.int64(), "ns") == [(1, None)]


def test_times_that_are_no_numbers(microseconds):
    texts = ["soon", "", "NaN", "inf", "-inf", "1e3", "12:30"]
    reasons = ["not readable", "missing", "missing", "in the future", "before 1970", None, "not readable"]
    expected = [(None, f"time {reason}") if reason else (10**9, None) for reason in reasons]
    assert microseconds(texts, pa.string(), "s") == expected
    assert microseconds([math.nan, math.inf], pa.float64(), "s") == [
        (None, "time missing"),
        (None, "time in the future"),
    ]


def test_texts_of_dates_are_utc_unless_they_say_otherwise(microseconds):
    texts = [
        "1970-01-01 00:00:00",
        "2020-09-13 12:26:40",
        "2020-09-13T12:26:40Z",
        "2020-09-13T14:26:40+02:00",
        "2020-09-13 12:26:40.000001",
        "2020-09-13",
        "1969-12-31 23:59:59.999999",
        "2033-05-18 03:33:20",
        "2033-05-18 03:33:20.000001",
        "today at noon",
        "",
    ]
    moment = 1_600_000_000 * 10**6
    midnight = 1_599_955_200 * 10**6
    values = [0, moment, moment, moment, moment + 1, midnight]
    assert microseconds(texts, pa.string(), "iso") == [
        *((value, None) for value in values),
        (None, "time before 1970"),
        (int(LATEST) * 10**6, None),
        (None, "time in the future"),
        (None, "time not readable"),
        (None, "time missing"),
    ]


def test_columns_of_dates_and_timestamps(microseconds):
    moment = datetime(2020, 9, 13, 12, 26, 40, 5, tzinfo=UTC)
    micros = 1_600_000_000 * 10**6 + 5
    tokyo = moment.astimezone(timezone(timedelta(hours=9)))
    assert microseconds([moment.replace(tzinfo=None), None], pa.timestamp("us"), "iso") == [
        (micros, None),
        (None, "time missing"),
    ]
    assert microseconds([tokyo], pa.timestamp("us", tz="Asia/Tokyo"), "iso") == [(micros, None)]
    assert microseconds([date(1970, 1, 2)], pa.date32(), "iso") == [(86_400 * 10**6, None)]


@pytest.mark.parametrize(
    ("values", "kind", "unit"),
    [
        (["100", "200", "soon"], pa.string(), "s"),
        (["100", "2020-01-01"], pa.string(), "s"),  # half of them are enough
        (["100", "2020-01-01", "2020-01-02"], pa.string(), "iso"),
        (["", "2020-01-01"], pa.string(), "iso"),
        ([100], pa.int64(), "s"),
        ([1.5], pa.float64(), "s"),
        ([date(2020, 1, 1)], pa.date32(), "iso"),
        ([datetime(2020, 1, 1)], pa.timestamp("us"), "iso"),
    ],
)
def test_the_unit_of_times_is_seen(column, values, kind, unit):
    assert read_time_unit(column(values, kind), "auto", "log") == unit
    assert read_time_unit(column(values, kind), "ms", "log") == ("iso" if pa.types.is_temporal(kind) else "ms")


# --- actions and values ----------------------------------------------------------------------------------------------


def happened(column, values, kind, rule):
    return read(clean.happened(column(values, kind), Rule.parse(rule)))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("x >= 4", [False, True, True, False, False, False]),
        ("x > 4", [False, False, True, False, False, False]),
        ("x <= 4", [True, True, False, False, False, False]),
        ("x < 4", [True, False, False, False, False, False]),
        ("x == 4", [False, True, False, False, False, False]),
        ("x != 4", [True, False, True, False, False, False]),  # what is missing did not happen, whatever the rule
    ],
)
def test_rules_over_numbers(column, rule, expected):
    assert happened(column, ["3.5", "4", "5e0", "", None, "good"], pa.string(), rule) == expected
    assert happened(column, [3.5, 4.0, 5.0, None, None, None], pa.float64(), rule) == expected
    assert happened(column, [3, 4, 5], pa.int64(), rule) == expected[:3]


def test_rules_over_texts(column):
    texts = ["buy", "BUY", "view", "", None]
    assert happened(column, texts, pa.string(), "x == buy") == [True, False, False, False, False]
    assert happened(column, texts, pa.string(), "x != buy") == [False, True, True, True, False]
    assert happened(column, [3, 4], pa.int64(), "x == 'a'") == [False, False]


def test_flags(column):
    texts = ["1", "0", "2", "-1", "0.0", "true", "TRUE", "t", "yes", "Y", "false", "no", "", None, "click"]
    expected = [True, False, True, True, False, True, True, True, True, True, False, False, False, False, False]
    assert happened(column, texts, pa.string(), "x") == expected
    assert happened(column, [True, False, None], pa.bool_(), "x") == [True, False, False]
    assert happened(column, [1, 0, 3, None], pa.int64(), "x") == [True, False, True, False]


@EXAMPLES
@given(st.lists(st.lists(st.sampled_from(["0", "1", ""]), min_size=5, max_size=5), min_size=1, max_size=20))
def test_bit_j_is_the_jth_action(in_engine, rows):
    columns = {f"a{j}": [row[j] for row in rows] for j in range(5)}
    rules = {f"action {j}": Rule(f"a{j}") for j in (3, 0, 4, 1, 2)}  # in the order of the rules, not of the columns
    bits = clean.action_bits(in_engine(pa.table(columns)), rules)
    expected = [sum((row[j] == "1") << place for place, j in enumerate((3, 0, 4, 1, 2))) for row in rows]
    assert read(bits) == expected


def test_the_last_of_63_actions_has_its_bit(in_engine):
    table = in_engine(pa.table({"x": [1, 0]}))
    bits = clean.action_bits(table, {f"a{j}": Rule("x", "==", 0.0 if j == 62 else 5.0) for j in range(63)})
    assert read(bits) == [0, 1 << 62]


def test_values_are_numbers_or_none(column):
    assert read(clean.number(column(["1.5", "-2e3", "", "x", None]))) == [1.5, -2000.0, None, None, None]
    assert read(clean.number(column([True, False, None]))) == [1.0, 0.0, None]
    assert read(clean.number(column([3, None]))) == [3.0, None]


def test_the_first_reason_that_holds_counts(engine, in_engine):
    table = in_engine(pa.table({"u": ["1", "", "x", "x", "x", "1"], "t": ["5", "", "", "soon", "5", "soon"]}))
    user = clean.raw_id(table["u"], "integer", "user_id")
    time = clean.microseconds(table["t"], "s", LATEST, engine.epoch_us)
    code, reasons = clean.reason_code([user, time])
    assert [reasons[code - 1] if code else None for code in read(code)] == [
        None,
        "user_id missing",
        "user_id not an integer",
        "user_id not an integer",
        "user_id not an integer",
        "timestamp not readable",
    ]
    assert len(reasons) == len(set(reasons)) == 6
