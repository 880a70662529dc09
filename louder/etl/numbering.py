"""Raw ids -> 0 .. n-1: vocabularies sorted by raw id, and their joins."""

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from louder.etl.engines import EtlEngine
from louder.ids import IdMap

RAW, NUMBER = "raw", "number"


def vocabulary(engine: EtlEngine, name: str, raws: ir.Table) -> tuple[ir.Table, IdMap]:
    """Distinct raw ids (first column of `raws`), ascending, numbered from 0.

    Returns the table (raw, number) for joins and the same as an IdMap. Texts are ordered by their UTF-8 bytes.
    """
    column = raws[raws.columns[0]].name(RAW)
    distinct = raws.select(column).filter(column.notnull()).distinct()
    numbered = distinct.mutate(number=ibis.row_number().over(order_by=ibis.asc(distinct[RAW])))
    table = engine.save(f"vocabulary_{name}", numbered.order_by(RAW))
    raw = table.order_by(NUMBER)[RAW].to_pyarrow()
    return table, IdMap(raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw)


def numbered(events: ir.Table, column: str, table: ir.Table, into: str) -> ir.Table:
    """Replace the raw ids of `column` by their numbers, called `into`. Rows whose id has no number are left out."""
    other = table.view()
    joined = events.inner_join(other, events[column] == other[RAW])
    return joined.mutate(**{into: joined[NUMBER]}).drop(*{column, RAW, NUMBER} - {into})


def attributes_by_id(attributes: pa.Table, ids: IdMap) -> pa.Table:
    """Attributes with a column "raw" -> one row per id, nulls where an id has none."""
    raw = cast_ids(attributes.column(RAW), ids.raw.type)
    index = pc.index_in(ids.raw, value_set=raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw)
    return attributes.drop_columns([RAW]).combine_chunks().take(index)


def cast_ids(raw: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Ids as integers or texts, without the blanks around them; null where a text is no integer."""
    texts = pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type)
    raw = pc.utf8_trim_whitespace(raw) if texts else raw
    if raw.type == kind:
        return raw
    if pa.types.is_string(kind):
        return whole_numbers(raw).cast(pa.string())
    if texts:
        whole = pc.match_substring_regex(raw, r"^-?(0|[1-9][0-9]{0,18})(\.0)?$")
        raw = pc.replace_substring_regex(pc.if_else(whole, raw, None), r"\.0$", "")
        try:
            return raw.cast(pa.int64())
        except pa.ArrowInvalid:  # 19 digits may be too many
            fits = [text if text is None or -(1 << 63) <= int(text) < 1 << 63 else None for text in raw.to_pylist()]
            return pa.chunked_array([pa.array(fits, pa.string()).cast(pa.int64())])
    return whole_numbers(raw).cast(pa.int64(), safe=False)


def whole_numbers(raw: pa.ChunkedArray) -> pa.ChunkedArray:
    """Fractions that are all whole, as integers."""
    if not pa.types.is_floating(raw.type):
        return raw
    try:
        return raw.cast(pa.int64())
    except pa.ArrowInvalid:
        return raw
