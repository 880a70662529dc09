"""Cleaned log -> numbered events: what stays, the vocabularies, series merged in, users dealt to parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from louder import schema
from louder.errors import InputError
from louder.etl import filters
from louder.etl.clean import ACTIONS, ITEM, MICROS_COLUMN, POSITION, REASON, REQUEST, USER
from louder.etl.engines import EtlEngine
from louder.etl.event_filters import EventFilters
from louder.etl.numbering import cast_ids, numbered, vocabulary
from louder.etl.read import CleanLog, Report, listed
from louder.etl.sequences import BUCKET, ID, KIND, USER_ID
from louder.etl.series import AuxiliarySeries, open_series
from louder.etl.sources.attributes import open_attributes
from louder.etl.spec import SideFile
from louder.ids import IdMap


@dataclass
class NumberedLog:
    """Everything that a table holds, before it is written."""

    # columns bucket, user_id, kind, id, micros, position; actions, value.X and request where the log has them
    events: ir.Table
    parts: int  # buckets
    kept: int  # engagements among the events
    users: IdMap
    items: IdMap
    series: list[AuxiliarySeries]
    user_attributes: pa.Table | None
    item_attributes: pa.Table | None
    filters: EventFilters
    dropped: dict[str, int]
    notes: dict[str, int]  # what else was counted

    @property
    def vocabularies(self) -> dict[str, IdMap]:
        """Of items, of users and of each series, by the names of their files."""
        return {"item": self.items, "user": self.users} | {entry.name: entry.ids for entry in self.series}


def transform(
    engine: EtlEngine, log: CleanLog, keep: EventFilters, events_per_part: int, work: Path, report: Report
) -> NumberedLog:
    """Raises InputError if nothing is left, and for attributes and series that cannot be read."""
    spec = log.source.spec
    if keep.drop_duplicates is None:
        keep = replace(keep, drop_duplicates=not log.source.repeats)
    valid = log.table.filter(log.table[REASON] == 0).drop(REASON)
    events, catalogue, dropped = filtered(engine, valid, keep, dict(log.dropped), report)
    report("numbering")
    kept = filters.count(events) if keep.any else log.usable
    if not kept:
        raise InputError(
            f"Nothing is left of the {log.rows} rows of {log.source.shown} after the filters: {listed(dropped)}. "
            "Lower --k-core, --min-user-events or --min-item-events."
        )
    items, users = log.source.items, log.source.users
    if spec.items:
        items = open_attributes(engine, spec.items, "items", spec, schema.ITEM, work)
    if spec.users:
        users = open_attributes(engine, spec.users, "users", spec, schema.USER, work)
    user_table, user_ids = vocabulary(engine, "user", events.select(USER))
    notes = matched(spec.users, users, user_ids.raw, "users")
    if items is not None:
        catalogue = engine.save("catalogue", catalogue.distinct())
        met = catalogue[ITEM].to_pyarrow()
        notes |= matched(spec.items, items, met, "items")
        if max(keep.k_core, keep.min_item_events) <= 1:
            catalogue = catalogue.union(attribute_ids(engine, items, met.type, work))
    item_table, item_ids = vocabulary(engine, "item", catalogue)
    series = list(open_series(engine, log, valid, user_table, work))
    parts = max(1, -(-kept // events_per_part))
    tokens = with_series(engagements(engine, events, item_table), series)
    dealt = deal(tokens, user_table, parts)
    if parts > 1:  # else it is read once
        dealt = engine.save("numbered", dealt)
    return NumberedLog(dealt, parts, kept, user_ids, item_ids, series, users, items, keep, dropped, notes)


def filtered(
    engine: EtlEngine, events: ir.Table, keep: EventFilters, dropped: dict[str, int], report: Report
) -> tuple[ir.Table, ir.Table, dict[str, int]]:
    """The events that stay, the items of the catalogue (some of them more than once), and `dropped` with what went."""
    if keep.drop_duplicates:
        report("dropping exact duplicates")
        before = filters.count(events)
        events = filters.drop_duplicates(engine, events)
        filters.note(dropped, "exact duplicate", before - filters.count(events))
    if keep.k_core > 1:
        report(f"filtering to the {keep.k_core}-core")
        events = filters.k_core(engine, events, keep.k_core, dropped)
    elif keep.min_user_events > 1 or keep.min_item_events > 1:
        report("filtering rare users and items")
        events, catalogue = filters.one_pass(engine, events, keep.min_user_events, keep.min_item_events, dropped)
        return events, catalogue, dropped
    return events, events.select(ITEM), dropped


def matched(side: SideFile | None, attributes: pa.Table | None, met: pa.Array, what: str) -> dict[str, int]:
    """How many ids of an attribute file there are, and how many of them are among those `met` in the log. Raises
    InputError if none is."""
    if side is None or attributes is None or not len(attributes):
        return {}
    raw = attributes.column("raw")
    found = pc.sum(pc.is_in(pc.unique(cast_ids(raw, met.type)), value_set=met)).as_py() or 0
    ids = pc.count_distinct(raw).as_py()
    if not found:
        raise InputError(
            f"None of the {ids:,} ids of {side.shown(what)}, such as {raw[0].as_py()!r}, is in the log, which has such as "
            f"{met[0].as_py()!r}. Write them as the log does, or {side.hint(what)}"
        )
    return {f"ids in the file of {what}": ids, f"ids in the file of {what} that are in the log": found}


def attribute_ids(engine: EtlEngine, attributes: pa.Table, kind: pa.DataType, work: Path) -> ir.Table:
    """The raw ids of an attribute file, of the kind of the log's, as a table of the engine."""
    raw = cast_ids(attributes.column("raw"), kind)
    path = work / "attribute_ids.parquet"
    pq.write_table(pa.table({ITEM: raw}), path)
    ids = engine.read_parquet("attribute_ids", [path], [ITEM]).select(ITEM)
    return ids.filter(ids[ITEM].notnull())


def engagements(engine: EtlEngine, events: ir.Table, items: ir.Table) -> ir.Table:
    """Events as tokens of kind 0: items and requests by their numbers."""
    extra = [name for name in events.columns if name in (ACTIONS, REQUEST) or name.startswith("value.")]
    tokens = numbered(events.select(USER, ITEM, MICROS_COLUMN, POSITION, *extra), ITEM, items, ID)
    if REQUEST in extra:
        request_table, _ = vocabulary(engine, "request", events.select(REQUEST))
        other = request_table.view()
        tokens = tokens.left_join(other, tokens[REQUEST] == other.raw)
        tokens = tokens.mutate(request=tokens.number.fill_null(-1)).drop("raw", "number")
    tokens = tokens.mutate(kind=ibis.literal(0, "uint8"))
    return tokens.select(USER, KIND, ID, MICROS_COLUMN, POSITION, *extra)


def with_series(tokens: ir.Table, series: Sequence[AuxiliarySeries]) -> ir.Table:
    """The entries of series as tokens among the others, without actions, values and requests."""
    empty = {ACTIONS: ibis.literal(0, "int64"), REQUEST: ibis.literal(-1, "int64")}
    extra = {
        name: empty.get(name, ibis.null("float32"))
        for name in tokens.columns
        if name in empty or name.startswith("value.")
    }
    for entry in series:
        rows = entry.entries.mutate(kind=ibis.literal(entry.kind, "uint8"), **extra)
        tokens = tokens.union(rows.select(*tokens.columns))
    return tokens


def deal(tokens: ir.Table, users: ir.Table, parts: int) -> ir.Table:
    """Users by their numbers, each in one bucket: a hash of the raw id."""
    other = users.mutate(bucket=(user_hash(users.raw) % parts).cast("int32")).view()
    joined = tokens.inner_join(other, tokens[USER] == other.raw)
    joined = joined.mutate(user_id=joined.number).drop(USER, "raw", "number")
    return joined.select(BUCKET, USER_ID, *(name for name in tokens.columns if name != USER))


def user_hash(raw: ir.Value) -> ir.IntegerValue:
    """A non-negative hash from plain arithmetic or md5, so that it does not change with the engine or its version."""
    if raw.type().is_integer():
        # steps of a multiplicative hash, kept below 2**63, of what is never negative
        return (
            ((((raw % 2_147_483_647) + 2_147_483_647) % 2_147_483_647) * 2_654_435_761 % 4_294_967_296 / 65_536)
            .floor()
            .cast("int64")
        )
    digest, digits = raw.hexdigest("md5"), ibis.literal("0123456789abcdef")
    bits: ir.IntegerValue = ibis.literal(0, "int64")
    for place in range(8):
        bits = bits * 16 + digits.find(digest.substr(place, 1))
    return bits
