"""Auxiliary series: slowly changing categories of a user, from a column of the log or from a file of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir

from louder import schema
from louder.errors import InputError
from louder.etl import clean, filters
from louder.etl.clean import MICROS_COLUMN, POSITION, REASON, USER
from louder.etl.engines import RAW_POSITION, EtlEngine
from louder.etl.numbering import RAW, numbered, vocabulary
from louder.etl.probe import read_time_unit, refuse_implausible_times
from louder.etl.read import SAMPLE_ROWS, CleanLog, save_with_reasons
from louder.etl.sequences import ID
from louder.etl.sources.attributes import open_side_file
from louder.etl.spec import SideFile
from louder.ids import IdMap

VALUE = "value"


@dataclass
class AuxiliarySeries:
    """entries   columns user, micros, position and id: the value's number; runs of equal values already compressed."""

    name: str
    kind: int  # of its tokens: 1 is the first series
    entries: ir.Table
    ids: IdMap  # of its values, which are texts
    notes: dict[str, int]


def open_series(
    engine: EtlEngine, log: CleanLog, valid: ir.Table, users: ir.Table, work: Path
) -> Iterator[AuxiliarySeries]:
    """The series of a log, in the order of its spec, for the users that are kept."""
    spec = log.source.spec
    if spec.series and not spec.has_times:
        raise InputError("Series are merged with events by time, but this log has no times. Leave the series out.")
    for kind, (name, where) in enumerate(spec.series.items(), 1):
        notes: dict[str, int] = {}
        if isinstance(where, SideFile):
            entries, notes = read_file(engine, where, name, kind, log, work)
        else:
            column = valid[f"series.{name}"]
            entries = valid.select(USER, MICROS_COLUMN, POSITION, value=column).filter(column.notnull())
        entries = entries.semi_join(users, entries[USER] == users[RAW])
        kept = engine.save(f"series_{kind}", changes(entries))
        notes[f"series {name}: entries equal to the one before"] = filters.count(entries) - filters.count(kept)
        values, ids = vocabulary(engine, f"series_{kind}", kept.select(VALUE))
        yield AuxiliarySeries(name, kind, numbered(kept, VALUE, values, ID), ids, notes)


def changes(entries: ir.Table) -> ir.Table:
    """The earliest entry of every run of equal consecutive values of a user."""
    window = ibis.window(group_by=USER, order_by=[MICROS_COLUMN, POSITION])
    marked = entries.mutate(before=entries[VALUE].lag().over(window))
    return marked.filter(marked.before.isnull() | (marked.before != marked[VALUE])).drop("before")


def read_file(
    engine: EtlEngine, side: SideFile, name: str, kind: int, log: CleanLog, work: Path
) -> tuple[ir.Table, dict[str, int]]:
    """The entries of a file, cleaned as a log is, and how many could not be used, by reason."""
    wanted = [side.user_id, side.timestamp, side.value]
    opened, shown = open_side_file(side, f"raw_series_{kind}", wanted, work, log.source.spec.text, f"the series {name}")
    form = "{file: ..., user_id: NAME, timestamp: NAME, value: NAME}"
    schema.require_columns(shown, opened.columns, wanted, f"Name it in the schema: series: {{{name}: {form}}}.")
    raw = opened.load(engine, wanted)
    sample = raw[side.timestamp].as_table().limit(SAMPLE_ROWS)[side.timestamp]
    wanted_unit = side.time_unit if side.time_unit != "auto" else log.source.spec.time_unit
    unit = read_time_unit(
        sample, "auto" if wanted_unit == "iso" and not sample.type().is_string() else wanted_unit, shown
    )
    user = clean.raw_id(raw[side.user_id], log.kinds[schema.USER], schema.USER)
    moment = clean.microseconds(raw[side.timestamp], unit, log.latest, engine.epoch_us, schema.TIME, engine.strptime)
    missing = clean.is_missing(raw[side.value])
    value = clean.Checked(raw[side.value].cast("string"), ~missing, {"value missing": missing})
    columns = {USER: user.value, MICROS_COLUMN: moment.value, VALUE: value.value, POSITION: raw[RAW_POSITION]}
    table, seen, dropped = save_with_reasons(engine, f"series_log_{kind}", raw, columns, [user, moment, value])
    good = table.filter(table[REASON] == 0)
    refuse_implausible_times(
        raw[side.timestamp],
        unit,
        seen.rows,
        dropped,
        seen.early,
        shown,
        lambda unit: f"it in the schema: series: {{{name}: {{file: ..., time_unit: {unit!r}}}}}",
    )
    notes = {f"series {name}: {reason}": count for reason, count in dropped.items()}
    return good.drop(REASON), notes
