"""Which events stay: duplicates, rare users and items. Ibis expressions; each step is computed once."""

import itertools

import ibis
import ibis.expr.types as ir

from louder.etl.clean import ITEM, POSITION, REASON, USER
from louder.etl.engines import EtlEngine


def drop_duplicates(engine: EtlEngine, events: ir.Table) -> ir.Table:
    """Keep the first of rows that are equal in every column that is used."""
    columns = [name for name in events.columns if name not in (POSITION, REASON)]
    window = ibis.window(group_by=columns, order_by=POSITION)
    numbered = events.mutate(repeat=ibis.row_number().over(window))
    return engine.save("distinct_events", numbered.filter(numbered.repeat == 0).drop("repeat"))


def one_pass(
    engine: EtlEngine, events: ir.Table, min_user_events: int, min_item_events: int, dropped: dict[str, int]
) -> tuple[ir.Table, ir.Table]:
    """The filter of the official Books preprocessing.

    A row stays if its item has at least `min_item_events` and its user at least `min_user_events`, both counted before
    anything is dropped. Then users left with fewer than `min_user_events` go. Returns the events, and the items of the
    first step: they are the catalogue, as official item ids are given before the last step.
    """
    before = count(events)
    by_item, by_user = frequent(events, ITEM, min_item_events), frequent(events, USER, min_user_events)
    after_items = events.semi_join(by_item, ITEM) if min_item_events > 1 else events
    kept = engine.save("frequent", after_items.semi_join(by_user, USER) if min_user_events > 1 else after_items)
    if min_item_events > 1:
        rare = before - count(after_items)
        note(dropped, f"item with fewer than {min_item_events} events", rare)
        before -= rare
    note(dropped, f"user with fewer than {min_user_events} events", before - count(kept))
    catalogue = kept.select(ITEM).distinct()
    if min_user_events > 1 and min_item_events > 1:
        rest = kept.semi_join(frequent(kept, USER, min_user_events), USER)
        left = count(rest)
        note(dropped, f"user left with fewer than {min_user_events} events", count(kept) - left)
        if left < count(kept):
            catalogue = engine.save("catalogue_events", catalogue)
            kept = engine.save("frequent_users", rest)
    return kept, catalogue


def k_core(engine: EtlEngine, events: ir.Table, k: int, dropped: dict[str, int]) -> ir.Table:
    """Drop users and items with fewer than k events, again and again until all that are left have k."""
    start = left = count(events)
    for turn in itertools.count():
        kept = events.semi_join(frequent(events, USER, k), USER)
        kept = kept.semi_join(frequent(kept, ITEM, k), ITEM)
        # two names in turn: a table cannot be replaced while it is read
        events = engine.save(f"core_{turn % 2}", kept)
        before, left = left, count(events)
        if left == before:
            break
    note(dropped, f"outside the {k}-core", start - left)
    return events


def frequent(events: ir.Table, column: str, at_least: int) -> ir.Table:
    counts = events.group_by(column).aggregate(n=events.count())
    return counts.filter(counts.n >= at_least).select(column)


def count(table: ir.Table) -> int:
    return int(table.count().to_pyarrow().as_py())


def note(dropped: dict[str, int], reason: str, rows: int) -> None:
    if rows:
        dropped[reason] = dropped.get(reason, 0) + rows
