"""Columns of a raw log, typed or text -> user, item, time and actions, with a reason where a row cannot be used.

Only Ibis expressions: nothing runs here.
"""

import operator as op
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from louder.etl.spec import MISSING, Rule

OPERATORS = {">=": op.ge, "<=": op.le, "==": op.eq, "!=": op.ne, ">": op.gt, "<": op.lt}
MICROS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}  # microseconds in one unit

DAY = 86_400e6
EXCEL_1970 = 25_569  # the number of 1970-01-01 in a spreadsheet, which counts days

EpochMicros = Callable[[ir.TimestampValue], ir.IntegerValue]  # EtlEngine.epoch_us
Strptime = Callable[[ir.Value, str], ir.TimestampValue]  # EtlEngine.strptime
TRUE, FALSE = ("true", "t", "yes", "y"), ("false", "f", "no", "n")

# the log table, after cleaning
USER, ITEM, MICROS_COLUMN, POSITION = "user", "item", "micros", "position"
ACTIONS, REQUEST, REASON = "actions", "request", "reason"


@dataclass(frozen=True)
class Checked:
    """A column made ready, when a row is good, and the reasons why it is not, in order."""

    value: ir.Value
    good: ir.BooleanValue
    reasons: Mapping[str, ir.BooleanValue]


def is_missing(column: ir.Value) -> ir.BooleanValue:
    if column.type().is_string():
        return column.isnull() | column.isin(MISSING)
    if column.type().is_floating():
        return column.isnull() | column.isnan()
    return column.isnull()


def raw_id(column: ir.Value, kind: str, what: str) -> Checked:
    """A raw id as int64 or, of the kind "string", as text without the blanks around it. An "integer" is written as integers
    are; one that is "padded" may have blanks around it or end in .0, as whole numbers do that were fractions once."""
    if column.type().is_string() and kind != "integer":
        column = column.strip()
    missing = is_missing(column)
    if kind == "string":
        return Checked(column.cast("string"), ~missing, {f"{what} missing": missing})
    number = column.try_cast("int64")
    # a cast alone would round 12.7 and read 007 as 7, which are two ids in the log
    whole = number.notnull() if column.type().is_integer() else number.cast(column.type()) == column
    if kind == "padded" and column.type().is_string():
        whole = whole | (number.cast("string") + ".0" == column)
    whole = whole.fill_null(False)
    return Checked(number, whole, {f"{what} missing": missing, f"{what} not an integer": ~whole})


def microseconds(
    column: ir.Value,
    unit: str,
    latest: float,
    epoch_us: EpochMicros,
    what: str = "timestamp",
    strptime: Strptime | None = None,
) -> Checked:
    """A time as microseconds since 1970, UTC. `latest` is the last plausible moment, in seconds since 1970. A unit with a %
    is the form of dates, several of them with a | between, which `strptime` reads.

    Microseconds order the events; the table keeps whole seconds.
    """
    missing = is_missing(column)
    if unit == "iso" or "%" in unit:
        if "%" in unit:
            assert strptime is not None
            texts = column.cast("string")
            micros = epoch_us(ibis.coalesce(*(strptime(texts, form) for form in unit.split("|"))))
        else:
            micros = epoch_us(moment(column))
        unreadable = micros.isnull()
        early, late = micros < 0, micros > int(latest * 1e6)
        good = (micros >= 0) & ~late
    else:
        number = column.try_cast("float64")
        # a fraction of a day is seldom exact, and a spreadsheet knows milliseconds
        number = ((number - EXCEL_1970) * (DAY / 1e3)).round(0) * 1e3 if unit == "excel" else number * MICROS[unit]
        unreadable = number.isnull() | number.isnan()
        early, late = number < 0, number > latest * 1e6
        good = (number >= 0) & (number <= latest * 1e6)  # not so for a NaN, which is above all numbers
        micros = ibis.ifelse(good, number.floor(), None).try_cast("int64")
    return Checked(
        micros,
        good,
        {
            f"{what} missing": missing,
            f"{what} not readable": unreadable,
            f"{what} before 1970": early,
            f"{what} in the future": late,
        },
    )


def moment(column: ir.Value) -> ir.TimestampValue:
    """A column of dates, timestamps or texts of them -> timestamps."""
    if column.type().is_string():
        return column.try_cast("timestamp('UTC')")
    return column.cast("timestamp") if column.type().is_date() else column


def number(column: ir.Value) -> ir.FloatingValue:
    return column.cast("float64") if column.type().is_boolean() else column.try_cast("float64")


def unreadable(column: ir.Value, rule: Rule | None = None) -> ir.BooleanValue | None:
    """Whether a text is there, but is no number (and, for a flag, no word for true or false); None where that cannot be."""
    if not column.type().is_string() or (rule is not None and isinstance(rule.value, str)):
        return None
    text = column.strip()
    word = text.lower().isin(TRUE + FALSE) if rule is not None and not rule.operator else ibis.literal(False)
    # nearly all are numbers, so that is asked first: an engine works out the rest for the others only
    return ibis.ifelse(column.isnull() | column.try_cast("float64").notnull(), False, ~(text.isin(MISSING) | word))


def happened(column: ir.Value, rule: Rule) -> ir.BooleanValue:
    """Whether an action happened; never null: what is missing or unreadable did not."""
    if not rule.operator:
        if column.type().is_boolean():
            flag = column
        else:
            flag = number(column) != 0
            if column.type().is_string():
                flag = ibis.ifelse(column.try_cast("float64").notnull(), flag, column.strip().lower().isin(TRUE))
    else:
        left = number(column)
        if isinstance(rule.value, str):
            left = column.strip() if column.type().is_string() else column.cast("string")
        flag = OPERATORS[rule.operator](left, rule.value)
    return flag.fill_null(False)


def action_bits(table: ir.Table, rules: Mapping[str, Rule]) -> ir.IntegerValue:
    """Bit j is set where the j-th action happened."""
    bits: ir.Value = ibis.literal(0, "int64")
    for j, rule in enumerate(rules.values()):
        bits = bits + ibis.ifelse(happened(table[rule.column], rule), 1 << j, 0).cast("int64")
    return bits


def reason_code(checks: Sequence[Checked]) -> tuple[ir.IntegerValue, list[str]]:
    """0 where a row can be used, else 1 + the index of the first reason that holds; and the reasons.

    Nearly all rows are good, so that is asked first: the reasons are then worked out for the others only.
    """
    reasons = {text: condition for check in checks for text, condition in check.reasons.items()}
    good = checks[0].good
    for check in checks[1:]:
        good = good & check.good
    cases = [(condition.fill_null(False), code) for code, condition in enumerate(reasons.values(), 1)]
    return ibis.cases((good.fill_null(False), 0), *cases, else_=0).cast("uint8"), list(reasons)
