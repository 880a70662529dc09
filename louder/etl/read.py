"""Raw log -> cleaned log: which columns are used, what they hold, and why a row cannot be used."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

import ibis
import ibis.expr.types as ir

from louder import schema
from louder.errors import InputError
from louder.etl import clean
from louder.etl.clean import ACTIONS, ITEM, MICROS_COLUMN, POSITION, REASON, REQUEST, USER, Checked
from louder.etl.engines import RAW_POSITION, EtlEngine
from louder.etl.probe import YEAR_1990, id_kind, next_kind, odd_times, read_time_unit, refuse_implausible_times
from louder.etl.sources.source import LogSource
from louder.etl.spec import LogSpec, Rule

SAMPLE_ROWS = 20_000
ODD = "odd"  # whether a value or an action of the row is read from what may be no number
Report = Callable[[str], None]


@dataclass
class CleanLog:
    """A table of all rows that could be split, with a reason code where one cannot be used."""

    source: LogSource
    table: ir.Table
    kinds: dict[str, str]  # of the ids of users and items: "integer" or "string"
    latest: float  # the last plausible moment, in seconds since 1970
    rows: int
    usable: int  # of them
    dropped: dict[str, int]
    left_out: list[str]  # columns that are not used
    notes: dict[str, int]  # what else was counted
    warnings: list[str]  # sentences about what is odd


def read_log(engine: EtlEngine, source: LogSource, report: Report) -> CleanLog:
    """Clean the columns of a fetched log, all rows at once, and store them. Raises InputError if no row can be used."""
    spec, shown, found = source.spec, source.shown, source.log.columns
    latest = time.time() + 86_400
    raw = source.log.load(engine, spec.used)
    for column in spec.used:
        if column in source.log.nested or raw[column].type().is_nested():
            raise InputError(
                f"The column {column!r} of {shown} holds lists or objects, but one value an event is needed. "
                f"Write a row for each event, or name another column: {spec.flag_of(column)}."
            )
    sample = engine.save("sample", raw.limit(SAMPLE_ROWS))
    kinds = {word: id_kind(sample[spec.column(word)], spec.ids, source.typed) for word in (schema.USER, schema.ITEM)}
    clock = spec.column(schema.TIME)
    unit = read_time_unit(sample[clock], spec.time_unit, shown) if spec.has_times else "none"
    report(f"reading (times in {unit})" if spec.has_times else "reading")
    while True:
        checks = [clean.raw_id(raw[spec.column(word)], kind, word) for word, kind in kinds.items()]
        if spec.has_times:
            checks.append(clean.microseconds(raw[clock], unit, latest, engine.epoch_us, strptime=engine.strptime))
        table, seen, dropped = save_with_reasons(engine, "log", raw, cleaned(raw, spec, checks), checks)
        rows, usable = seen.rows, seen.usable
        # the sample looked like integers, but the rest does not
        others = [word for word in kinds if dropped.get(f"{word} not an integer")]
        if not others or spec.ids != "auto":
            break
        kinds |= {word: next_kind(kinds[word]) for word in others}

    dropped = source.log.rejected | dropped
    total = rows + sum(source.log.rejected.values())
    if total == 0:
        raise InputError(f"{shown} is empty: it has no events. Give a file that holds at least one event.")
    warnings: list[str] = []
    if spec.has_times:
        refuse_implausible_times(raw[clock], unit, rows, dropped, seen.early, shown)
        warnings += odd_times(seen.first, seen.last, usable, seen.early, unit) if usable else []
    if not usable:
        raise InputError(
            f"None of the {total} rows of {shown} can be used: {listed(dropped)}. "
            f"Pass the columns that hold ids and times: --column {schema.USER}=NAME --column {schema.ITEM}=NAME --column {schema.TIME}=NAME."
        )
    notes: dict[str, int] = {}
    if ODD in table.columns:
        if seen.odd:
            notes, said = unreadable_texts(raw.filter(reduce(and_, (check.good for check in checks))), spec)
            warnings += said
        table = table.drop(ODD)
    left_out = [column for column in found if column not in spec.used]
    return CleanLog(source, table, kinds, latest, total, usable, dropped, left_out, notes, warnings)


def doubtful(raw: ir.Table, spec: LogSpec) -> dict[str, tuple[str, ir.BooleanValue]]:
    """What may be unreadable: how it is called -> its column, and where it is."""
    asked: list[tuple[str, str, Rule | None]] = [
        (f"value {name}", column, None) for name, column in spec.values.items()
    ]
    asked += [(f"action {name}", rule.column, rule) for name, rule in spec.rules().items()]
    wrong = {what: (column, clean.unreadable(raw[column], rule)) for what, column, rule in asked}
    return {what: (column, where) for what, (column, where) in wrong.items() if where is not None}


def unreadable_texts(used: ir.Table, spec: LogSpec) -> tuple[dict[str, int], list[str]]:
    """Of the values and actions of the rows that are used, how many texts could not be read, and sentences about them."""
    asked = doubtful(used, spec)
    counts = used.aggregate(**{what: where.sum() for what, (_, where) in asked.items()}).to_pyarrow().to_pylist()[0]
    notes, said = {}, []
    for what, (column, where) in asked.items():
        if count := counts[what]:
            notes[f"{what}: not readable"] = count
            example = used.filter(where).select(column).limit(1).to_pyarrow().column(0)[0].as_py()
            then = "is missing" if what.startswith("value") else "did not happen"
            said.append(
                f"The {what} is read from {column}, which is no number in {count:,} rows, such as {example!r}: there it {then}."
            )
    return notes, said


def cleaned(raw: ir.Table, spec: LogSpec, checks: Sequence[Checked]) -> dict[str, ir.Value]:
    """The columns of the cleaned log; `checks` are of the user, the item and, where there is a clock, the time."""
    user, item, *clock = (check.value for check in checks)
    micros = clock[0] if clock else ibis.literal(0, "int64")
    found: dict[str, ir.Value] = {USER: user, ITEM: item, MICROS_COLUMN: micros, POSITION: raw[RAW_POSITION]}
    if spec.actions:
        found[ACTIONS] = clean.action_bits(raw, spec.rules())
    for name, column in spec.values.items():
        found[f"value.{name}"] = clean.number(raw[column]).cast("float32")
    # whether one of them is no number is nearly for nothing here; what it is then is worked out for such logs alone
    odd = [
        raw[column].try_cast("float64").isnull() for column in {column for column, _ in doubtful(raw, spec).values()}
    ]
    if odd:
        found[ODD] = reduce(or_, odd)
    texts = {f"series.{name}": column for name, column in spec.log_series.items()}
    if schema.REQUEST in spec.columns:
        texts[REQUEST] = spec.column(schema.REQUEST)
    for name, column in texts.items():
        found[name] = ibis.ifelse(clean.is_missing(raw[column]), None, raw[column].cast("string"))
    return found


@dataclass
class Seen:
    """Of a cleaned log: its rows, and of those that can be used how many, the first and the last time in microseconds, how
    many lie before 1990, and whether one has a value that may be no number."""

    rows: int
    usable: int = 0
    first: int = 0
    last: int = 0
    early: int = 0
    odd: bool = False


def save_with_reasons(
    engine: EtlEngine, name: str, raw: ir.Table, columns: Mapping[str, ir.Value], checks: Sequence[Checked]
) -> tuple[ir.Table, Seen, dict[str, int]]:
    """Columns of `raw`, saved with a reason code; what was seen, and how many rows cannot be used for each reason."""
    reason, reasons = clean.reason_code(checks)
    table = engine.save(name, raw.select(**columns, **{REASON: reason}))
    micros = table[MICROS_COLUMN]
    found = {"first": micros.min(), "last": micros.max(), "early": (micros < YEAR_1990 * 10**6).sum()}
    if ODD in table.columns:
        found["odd"] = table[ODD].any()
    counted = table.group_by(REASON).aggregate(usable=table.count(), **found).to_pyarrow().to_pylist()
    of = {row.pop(REASON): row for row in counted}
    dropped = {text: of[code]["usable"] for code, text in enumerate(reasons, 1) if code in of}
    return table, Seen(sum(row["usable"] for row in of.values()), **of.get(0, {})), dropped


def listed(dropped: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
