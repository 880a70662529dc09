"""Auxiliary series: slowly changing categories of a user, from a column of the log or from a file of their own."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from louder.errors import InputError
from louder.etl import clean
from louder.etl.clean import MICROS_COLUMN, POSITION, USER
from louder.etl.engine import save
from louder.etl.numbering import RAW
from louder.etl.probe import read_time_unit, refuse_implausible_times
from louder.etl.side import open_side_file
from louder.etl.spec import SideFile
from louder.etl.tables import RAW_POSITION
from louder.schema import require_columns


@dataclass
class Series:
    """Entries of one series: columns user, micros, position, value (text), runs of equal values already compressed."""

    name: str
    table: ir.Table
    notes: dict[str, int] = field(default_factory=dict)


def open_series(con: Any, log: Any, valid: ir.Table, users: ir.Table, work: Path) -> Iterator[Series]:
    """The series of a log, in the order of its spec, for the users that are kept."""
    spec = log.source.spec
    if spec.series and not spec.has_times:
        raise InputError("Series are merged with events by time, but this log has no times. Leave the series out.")
    for index, (name, where) in enumerate(spec.series.items()):
        notes: dict[str, int] = {}
        if isinstance(where, SideFile):
            entries = read_file(con, where, name, index, log, notes, work)
        else:
            column = valid[f"series.{name}"]
            entries = valid.select(USER, MICROS_COLUMN, POSITION, value=column).filter(column.notnull())
        entries = entries.semi_join(users, entries[USER] == users[RAW])
        before = entries.count().to_pyarrow().as_py()
        table = save(con, f"series_{index}", changes(entries))
        notes[f"series {name}: entries equal to the one before"] = before - table.count().to_pyarrow().as_py()
        yield Series(name, table, notes)


def changes(entries: ir.Table) -> ir.Table:
    """The earliest entry of every run of equal consecutive values of a user."""
    window = ibis.window(group_by=USER, order_by=[MICROS_COLUMN, POSITION])
    marked = entries.mutate(before=entries["value"].lag().over(window))
    return marked.filter(marked.before.isnull() | (marked.before != marked["value"])).drop("before")


def read_file(con: Any, side: SideFile, name: str, index: int, log: Any, notes: dict[str, int], work: Path) -> ir.Table:
    opened, shown = open_side_file(con, side, f"raw_series_{index}", [side.user_id, side.timestamp, side.value], work)
    for column in (side.user_id, side.timestamp, side.value):
        if column not in opened.columns:
            try:
                require_columns(shown, opened.columns, [column])
            except InputError as error:
                sentence = str(error).split(" Say ")[0]
                raise InputError(
                    f"{sentence} Say in the schema which of them holds it: "
                    f"series: {{{name}: {{file: ..., user_id: NAME, timestamp: NAME, value: NAME}}}}."
                ) from None
    raw = opened.load(con, [side.user_id, side.timestamp, side.value])
    unit = read_time_unit(raw[side.timestamp].as_table().limit(20_000)[side.timestamp], side.time_unit, shown)
    user = clean.raw_id(raw[side.user_id], log.user_kind, "user_id")
    moment = clean.microseconds(raw[side.timestamp], unit, log.latest)
    missing = clean.is_missing(raw[side.value])
    value = clean.Checked(raw[side.value].cast("string"), ~missing, {"value missing": missing})
    reason, reasons = clean.reason_code([user, moment, value])
    columns = {
        USER: user.value,
        MICROS_COLUMN: moment.value,
        "value": value.value,
        POSITION: raw[RAW_POSITION],
        clean.REASON: reason,
    }
    table = save(con, f"series_log_{index}", raw.select(**columns))
    counted = table.group_by(clean.REASON).aggregate(n=table.count()).to_pyarrow().to_pylist()
    by_code = {row[clean.REASON]: row["n"] for row in counted}
    dropped = {text: by_code[code] for code, text in enumerate(reasons, 1) if by_code.get(code)}
    refuse_implausible_times(raw[side.timestamp], unit, sum(by_code.values()), dropped, shown)
    notes.update({f"series {name}: {reason}": count for reason, count in dropped.items()})
    return table.filter(table[clean.REASON] == 0).drop(clean.REASON)
