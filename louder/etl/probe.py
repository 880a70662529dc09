"""Looks at the first rows of a log: are ids integers, in which unit are the times?"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import ibis.expr.types as ir

from louder.errors import InputError
from louder.etl import clean
from louder.etl.spec import MISSING

YEAR_1990, YEAR_2000, YEAR_2100 = 631_152_000, 946_684_800, 4_102_444_800
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
SHORT_SPAN_S, MANY_EVENTS = 60, 1000


def id_kind(column: ir.Column, wanted: str, typed: bool = False) -> str:
    """ "integer", "padded" or "string" for a column of raw ids, as clean.raw_id takes them: integers if all are. Where
    columns are `typed`, texts stay texts."""
    if wanted != "auto":
        return "padded" if wanted == "integer" else wanted
    kind = column.type()
    if kind.is_integer():
        return "integer"
    if not (kind.is_string() or kind.is_numeric()) or (typed and kind.is_string()):
        return "string"
    for attempt in ("integer", "padded"):
        wrong = clean.raw_id(column, attempt, "id").reasons
        odd = wrong["id not an integer"] & ~wrong["id missing"]
        if not column.as_table().mutate(odd=odd.fill_null(False)).odd.any().to_pyarrow().as_py():
            return attempt
    return "string"


def next_kind(kind: str) -> str:
    """What ids are if not all are of this kind after all."""
    return "padded" if kind == "integer" else "string"


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
    values = [value for value in column.to_pyarrow().to_pylist() if value not in (None, *MISSING)]
    numbers = sum(is_number(value) for value in values)
    return "s" if numbers * 2 >= len(values) else "iso"


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def time_flag(unit: str) -> str:
    """What to type for the unit of a log's times."""
    return f"--time-format '{unit}'" if "%" in unit else f"--time-unit {unit}"


def refuse_implausible_times(
    column: ir.Column,
    unit: str,
    rows: int,
    dropped: dict[str, int],
    early: int,
    shown: str,
    typed: Callable[[str], str] = time_flag,
) -> None:
    """Raise InputError if most times cannot be read, lie in the future, or are `early`, before 1990, and would be those of
    our days if they were something else: then the unit is wrong, not the rows. `typed` says what to type for a unit."""
    late, odd = (dropped.get(f"timestamp {reason}", 0) for reason in ("in the future", "not readable"))
    if max(late, odd, early) * 2 <= rows:
        return
    sample = column.as_table().limit(1000).to_pyarrow().column(0).to_pylist()
    texts = [str(value).strip() for value in sample if value is not None and str(value).strip() not in MISSING]
    if odd * 2 > rows:
        forms = " or ".join(map(typed, date_forms(texts)))
        said = (
            f"They look like dates: {forms}."
            if forms
            else f"Say what form they have ({typed('%d/%m/%Y %H:%M')}), or name another column: --column timestamp=NAME."
        )
        raise InputError(
            f"{odd:,} of the {rows:,} times of {shown}, such as {texts[0]!r}, cannot be read as {named(unit)}. {said}"
        )
    numbers = [float(text) for text in texts if is_number(text)]
    if unit == "iso" or "%" in unit or not numbers:
        if late * 2 > rows:
            raise InputError(
                f"{late:,} of the {rows:,} times of {shown} lie in the future (such as {texts[0]}). "
                "Give a column of past events: --column timestamp=NAME."
            )
        return
    value = max(numbers)
    if other := other_unit(numbers, unit):
        words, meant = other
        raise InputError(
            f"The times of {shown}, such as {value:.15g}, would lie {when(value, unit)} if they were in {named(unit)}; "
            f"they look like {words}. Pass {typed(meant)}."
        )
    if late * 2 > rows:
        raise InputError(
            f"{late:,} of the {rows:,} times of {shown}, such as {value:.15g}, lie in the future ({when(value, unit)}). "
            f"Pass their unit ({typed('ms')}, us, ns or iso), or another column: --column timestamp=NAME."
        )


def other_unit(numbers: Sequence[float], unit: str) -> tuple[str, str] | None:
    """What numbers look like that are implausible in `unit`, in words and as a flag has it; None where they look like nothing."""
    now, value = datetime.now(UTC).timestamp() + 86_400, max(numbers)
    for form, digits in ("%Y%m%d", 8), ("%Y%m%d%H%M%S", 14):
        if all(len(f"{number:.0f}") == digits and matches(f"{number:.0f}", form) for number in numbers):
            return "dates that are written as numbers", form
    for other, words in WORDS.items():
        if other != unit and YEAR_2000 < value * clean.MICROS[other] / 1e6 < now:
            return words, other
    days = [(number - clean.EXCEL_1970) * 86_400 for number in numbers]
    if unit != "excel" and min(days) > YEAR_1990 and max(days) < now:
        return "the days of a spreadsheet", "excel"
    return None


def date_forms(texts: Sequence[str]) -> list[str]:
    """The forms, as strptime has them, that dates of these texts have; two where the day may come first or second."""
    found: dict[str, list[str]] = {"day": [], "month": []}
    for first, names in ("day", "%d{0}%m{0}%Y"), ("month", "%m{0}%d{0}%Y"):
        forms = [
            names.format(separator) + time for separator in "/.-" for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
        ]
        forms += ["%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y.%m.%d", "%d %b %Y", "%b %d, %Y", "%Y%m%d"]
        for text in texts:
            fits = next((form for form in forms if matches(text, form)), "")
            if not fits:
                found[first] = []
                break
            if fits not in found[first]:
                found[first].append(fits)
    return list(dict.fromkeys("|".join(forms) for forms in found.values() if forms))


def matches(text: str, form: str) -> bool:
    try:
        return 1990 <= datetime.strptime(text, form).year <= 2100
    except ValueError:
        return False


def named(unit: str) -> str:
    if "%" in unit:
        return f"times of the form {unit}"
    return {"iso": "dates (2024-05-01 10:00:00)", "excel": "days of a spreadsheet"}.get(unit, unit)


def when(value: float, unit: str) -> str:
    micros = (value - clean.EXCEL_1970) * clean.DAY if unit == "excel" else value * clean.MICROS[unit]
    seconds = micros / 1e6
    if seconds > YEAR_2100:
        return "after the year 2100"
    return f"in {(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=max(seconds, -6e10))).year}"


def odd_times(first: int, last: int, events: int, early: int, unit: str) -> list[str]:
    """What is odd about the times of a log, `first` and `last` in microseconds, of which `early` events lie before 1990."""
    span = (last - first) / 1e6
    between = " and ".join(f"{datetime.fromtimestamp(x // 10**6, UTC):%Y-%m-%d %H:%M:%S}" for x in (first, last))
    found = []
    if early == events:
        found.append(
            f"All events lie between {between}. If their times are in another unit than {named(unit)}, say so "
            "(--time-unit); if they only say which came first: --no-times."
        )
    elif early:
        found.append(
            f"{early:,} events lie before 1990, the first at {between[:19]}. Is that a time that was not known?"
        )
    if events >= MANY_EVENTS and span < SHORT_SPAN_S and not found:
        found.append(
            f"All {events:,} events lie within {span:.3g} seconds, between {between}. If their times are in another unit "
            f"than {named(unit)}, say so: --time-unit."
        )
    return found
