"""Raw log -> cleaned log: which columns are used, what they hold, and why a row cannot be used."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from louder.errors import InputError
from louder.etl import clean
from louder.etl.clean import ACTIONS, ITEM, MICROS_COLUMN, POSITION, REASON, REQUEST, USER, Checked
from louder.etl.engines import RAW_POSITION, EtlEngine
from louder.etl.probe import id_kind, read_time_unit, refuse_implausible_times
from louder.etl.sources.source import LogSource
from louder.etl.spec import Rule
from louder.schema import ITEM as ITEM_WORD
from louder.schema import REQUEST as REQUEST_WORD
from louder.schema import TIME, require_columns
from louder.schema import USER as USER_WORD

SAMPLE_ROWS = 20_000
Report = Callable[[str], None]


def silent(text: str) -> None:
    pass


@dataclass
class CleanLog:
    """A table of all rows that could be split, with a reason code where one cannot be used."""

    source: LogSource
    table: ir.Table
    user_kind: str  # "integer" or "string"
    item_kind: str
    latest: float  # the last plausible moment, in seconds since 1970
    rows: int
    dropped: dict[str, int]
    left_out: list[str]  # columns that are not used


@dataclass
class UsedColumns:
    """Columns of a log by what they mean."""

    user: str
    item: str
    time: str | None
    request: str | None
    rules: Mapping[str, Rule]
    values: Mapping[str, str]
    series: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        rules = [rule.column for rule in self.rules.values()]
        names = self.user, self.item, self.time, *rules, *self.values.values(), *self.series.values(), self.request
        return [name for name in names if name is not None]


def read_log(engine: EtlEngine, source: LogSource, report: Report) -> CleanLog:
    """Clean the columns that are used, all rows at once, and store them. Raises InputError if no row can be used."""
    spec, shown = source.spec, source.shown
    columns = used_columns(source)
    latest = time.time() + 86_400
    raw = source.log.load(engine, columns.names)
    sample = engine.save("sample", raw.limit(SAMPLE_ROWS))
    user_kind, item_kind = (id_kind(sample[column], spec.ids) for column in (columns.user, columns.item))
    unit = read_time_unit(sample[columns.time], spec.time_unit, shown) if columns.time else "none"
    report(f"reading (times in {unit})" if columns.time else "reading")
    while True:
        checks = [clean.raw_id(raw[columns.user], user_kind, USER_WORD)]
        checks.append(clean.raw_id(raw[columns.item], item_kind, ITEM_WORD))
        if columns.time:
            checks.append(clean.microseconds(raw[columns.time], unit, latest, engine.epoch_us))
        table, rows, dropped = save_with_reasons(engine, "log", raw, cleaned(raw, columns, checks), checks)
        usable = rows - sum(dropped.values())
        # the sample looked like integers, but the rest does not: these ids are texts after all
        texts = [word for word in (USER_WORD, ITEM_WORD) if dropped.get(f"{word} not an integer", 0) > 0.01 * rows]
        if not texts or spec.ids != "auto":
            break
        user_kind = "string" if USER_WORD in texts else user_kind
        item_kind = "string" if ITEM_WORD in texts else item_kind

    if source.log.rejected:
        dropped = {"line with another number of columns": source.log.rejected, **dropped}
    total = rows + source.log.rejected
    if total == 0:
        raise InputError(f"{shown} is empty: it has no events. Give a file that holds at least one event.")
    if columns.time:
        refuse_implausible_times(raw[columns.time], unit, rows, dropped, shown)
    if not usable:
        raise InputError(
            f"None of the {total} rows of {shown} can be used: {listed(dropped)}. "
            f"Pass the columns that hold ids and times: --column {USER_WORD}=NAME --column {ITEM_WORD}=NAME --column {TIME}=NAME."
        )
    left_out = [column for column in source.log.columns if column not in columns.names]
    return CleanLog(source, table, user_kind, item_kind, latest, total, dropped, left_out)


def used_columns(source: LogSource) -> UsedColumns:
    """Raises InputError for a column that the log does not have."""
    spec, found = source.spec, source.log.columns
    columns = UsedColumns(
        user=spec.column(USER_WORD),
        item=spec.column(ITEM_WORD),
        time=spec.column(TIME) if spec.has_times else None,
        request=spec.columns.get(REQUEST_WORD) or (REQUEST_WORD if REQUEST_WORD in found else None),
        rules=spec.rules(),
        values=spec.values,
        series={name: column for name, column in spec.series.items() if isinstance(column, str)},
    )
    require_columns(source.shown, found, columns.names)
    return columns


def cleaned(raw: ir.Table, columns: UsedColumns, checks: list[Checked]) -> dict[str, ir.Value]:
    """The columns of the cleaned log; `checks` are of the user, the item and, where there is a clock, the time."""
    found: dict[str, ir.Value] = {
        USER: checks[0].value,
        ITEM: checks[1].value,
        MICROS_COLUMN: checks[2].value if columns.time else ibis.literal(0, "int64"),
        POSITION: raw[RAW_POSITION],
    }
    if columns.rules:
        found[ACTIONS] = clean.action_bits(raw, columns.rules)
    for name, column in columns.values.items():
        found[f"value.{name}"] = clean.number(raw[column]).cast("float32")
    texts = {f"series.{name}": column for name, column in columns.series.items()}
    if columns.request:
        texts[REQUEST] = columns.request
    for name, column in texts.items():
        found[name] = ibis.ifelse(clean.is_missing(raw[column]), None, raw[column].cast("string"))
    return found


def save_with_reasons(
    engine: EtlEngine, name: str, raw: ir.Table, columns: Mapping[str, ir.Value], checks: Sequence[Checked]
) -> tuple[ir.Table, int, dict[str, int]]:
    """Columns of `raw`, saved with a reason code; rows in all, and how many cannot be used for each reason."""
    reason, reasons = clean.reason_code(checks)
    table = engine.save(name, raw.select(**columns, **{REASON: reason}))
    counted = table.group_by(REASON).aggregate(n=table.count()).to_pyarrow().to_pylist()
    by_code = {row[REASON]: row["n"] for row in counted}
    dropped = {text: by_code[code] for code, text in enumerate(reasons, 1) if by_code.get(code)}
    return table, sum(by_code.values()), dropped


def listed(dropped: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
