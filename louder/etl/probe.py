"""Looks at the first rows of a log: are ids integers, in which unit are the times?"""

from datetime import UTC, datetime

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from louder.errors import InputError
from louder.etl import clean

INTEGERS_AT_LEAST = 0.99  # of the ids that are there; the others are dropped and counted
YEAR_2000 = 946_684_800
YEAR_2100 = 4_102_444_800


def id_kind(column: ir.Column, wanted: str) -> str:
    """ "integer" or "string" for a column of raw ids."""
    if wanted != "auto":
        return wanted
    kind = column.type()
    if kind.is_integer():
        return "integer"
    if not (kind.is_string() or kind.is_numeric()):
        return "string"
    checked = clean.raw_id(column, "integer", "id")
    wrong = checked.reasons["id not an integer"] & ~checked.reasons["id missing"]
    table = column.as_table().mutate(wrong=wrong.fill_null(False), there=~checked.reasons["id missing"])
    row = table.aggregate(wrong=table.wrong.sum(), there=table.there.sum()).to_pyarrow().to_pylist()[0]
    there, wrong_rows = row["there"] or 0, row["wrong"] or 0
    return "integer" if wrong_rows <= (1 - INTEGERS_AT_LEAST) * there else "string"


def read_time_unit(column: ir.Column, wanted: str, shown: str) -> str:
    """The unit of a time column: dates are seen, numbers are seconds unless the caller says otherwise."""
    kind = column.type()
    if kind.is_timestamp() or kind.is_date():
        return "iso"
    if wanted != "auto":
        if wanted == "iso" and not kind.is_string():
            raise InputError(f"The times of {shown} are numbers, not texts of dates. Pass their unit: --time-unit s.")
        return wanted
    if not kind.is_string():
        return "s"
    values = [value for value in column.to_pyarrow().to_pylist() if value not in (None, *clean.MISSING)]
    numbers = sum(is_number(value) for value in values)
    return "s" if numbers * 2 >= len(values) else "iso"


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def refuse_implausible_times(column: ir.Column, unit: str, rows: int, dropped: dict[str, int], shown: str) -> None:
    """Raise InputError if most times lie in the future: then the unit is wrong, not the rows."""
    late = dropped.get("timestamp in the future", 0)
    if late * 2 <= rows:
        return
    example = column.as_table().limit(1000).to_pyarrow().column(0)
    if unit == "iso":
        raise InputError(
            f"{late} of the {rows} times of {shown} lie in the future (such as {example[0]}). "
            "Give a column of past events: --column timestamp=NAME."
        )
    values = (
        pc.cast(example, pa.float64(), safe=False)
        if not pa.types.is_string(example.type)
        else pa.array([float(value) for value in example.to_pylist() if value and is_number(value)], pa.float64())
    )
    value = pc.max(values).as_py()
    seconds = value * clean.MICROS[unit] / 1e6
    for other, words in ("ms", "milliseconds"), ("us", "microseconds"), ("ns", "nanoseconds"):
        guess = value * clean.MICROS[other] / 1e6
        if clean.MICROS[other] < clean.MICROS[unit] and YEAR_2000 < guess < datetime.now(UTC).timestamp() + 86_400:
            raise InputError(
                f"The times of {shown}, such as {value:.0f}, would lie {when(seconds)} if they were in {unit}; "
                f"they look like {words}. Pass --time-unit {other}."
            )
    raise InputError(
        f"{late} of the {rows} times of {shown}, such as {value:.0f}, lie in the future ({when(seconds)}). "
        "Pass their unit (--time-unit s, ms, us, ns or iso), or another column: --column timestamp=NAME."
    )


def when(seconds: float) -> str:
    return "after the year 2100" if seconds > YEAR_2100 else f"in {datetime.fromtimestamp(seconds, UTC).year}"
