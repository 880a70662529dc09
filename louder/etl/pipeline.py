"""Raw log -> sequence table: read, clean, filter, number, sort, write."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl import clean, filters
from louder.etl.clean import ACTIONS, ITEM, MICROS_COLUMN, POSITION, REASON, REQUEST, USER
from louder.etl.engine import Background, connect, save, sentences
from louder.etl.files import describe, open_input
from louder.etl.numbering import attributes_by_id, cast_ids, numbered, vocabulary
from louder.etl.probe import id_kind, read_time_unit, refuse_implausible_times
from louder.etl.sequences import BUCKET, EVENTS_PER_PART, ID, KIND, USER_ID, write_parts
from louder.etl.series import open_series
from louder.etl.side import open_attributes
from louder.etl.sources import Source, open_source
from louder.etl.spec import LogSpec
from louder.etl.tables import RAW_POSITION
from louder.folders import new_folder
from louder.schema import ITEM as ITEM_WORD
from louder.schema import REQUEST as REQUEST_WORD
from louder.schema import TIME, Manifest, require_columns
from louder.schema import USER as USER_WORD
from louder.version import __version__

Report = Callable[[str], None]


def silent(text: str) -> None:
    pass


@dataclass
class Log:
    """The cleaned log: a table of all rows that could be split, with a reason code where one cannot be used."""

    source: Source
    table: ir.Table
    user_kind: str
    item_kind: str
    latest: float
    rows: int
    dropped: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def build_table(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    spec: LogSpec | None = None,
    min_user_events: int = 0,
    min_item_events: int = 0,
    k_core: int = 0,
    drop_duplicates: bool | None = None,
    name: str | None = None,
    overwrite: bool = False,
    memory_bytes: int | None = None,
    threads: int | None = None,
    events_per_part: int = EVENTS_PER_PART,
    report: Report = silent,
) -> Manifest:
    """Make a sequence table from a raw log, and return its manifest.

    source           a file, a folder, an archive, `archive.zip::member`, or several files
    out              the folder to make; it appears only when it is whole
    spec             what the columns mean; None: recognised, or columns user_id, item_id, timestamp
    min_user_events, min_item_events
                     one pass, as in the official Books preprocessing: both counted before anything is dropped;
                     when both are given, users left with fewer than min_user_events go too
    k_core           users and items with fewer events are dropped again and again until none is left
    drop_duplicates  rows that are equal in every column that is used are kept once; None: in KuaiRand, elsewhere they stay
    memory_bytes     for the engine; what does not fit is spilled beside the table
    report           called with a line of text when a step begins

    With a filter on items the catalogue is the items that pass it; without, also those that only the attributes name.
    Raises InputError for anything wrong with the source, the spec or the disk; then no folder is left.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    check_numbers(min_user_events, min_item_events, k_core)
    if not sources:
        raise InputError("There is no source. Give the log to read: louder etl SOURCE -o TABLE.")
    out = Path(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already. Choose another name, or add --overwrite to replace it.")
    for entry in sources:
        open_input(entry, Path())  # a mistyped name fails before any folder is made
    settings = {
        "min_user_events": min_user_events,
        "min_item_events": min_item_events,
        "k_core": k_core,
        "drop_duplicates": drop_duplicates,
    }
    with new_folder(out, overwrite=overwrite) as folder:
        work = folder / ".work"
        work.mkdir()
        files = Background(
            lambda: [entry for path in sources for entry in describe(Path(str(path).partition("::")[0]))]
        )
        with sentences(str(sources[0]), out), connect(work, memory_bytes=memory_bytes, threads=threads) as con:
            report("reading")
            inputs = [open_input(entry, work) for entry in sources]
            opened = open_source(con, inputs, spec or LogSpec(), work)
            log = read_log(con, opened, report)
            manifest = transform(con, log, folder, settings, events_per_part, report)
        manifest = replace(manifest, name=name or opened.name, sources=files.result(), command=command())
        shutil.rmtree(work)
        manifest.write(folder)
    return manifest


def check_numbers(min_user_events: int, min_item_events: int, k_core: int) -> None:
    for flag, value in ("min-user-events", min_user_events), ("min-item-events", min_item_events), ("k-core", k_core):
        if value < 0:
            raise InputError(f"--{flag} is {value}, but it must be 0 (no filter) or more.")
    if k_core and (min_user_events or min_item_events):
        raise InputError(
            "--k-core repeats its filter until it holds; --min-user-events and --min-item-events run once. Give one kind."
        )


def command() -> str:
    return shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])


def read_log(con: Any, source: Source, report: Report = silent) -> Log:
    """Clean the columns that are used, all rows at once, and store them. Raises InputError if no row can be used."""
    spec, found = source.spec, source.log.columns
    needed = [spec.column(USER_WORD), spec.column(ITEM_WORD)]
    used = {USER_WORD: needed[0], ITEM_WORD: needed[1]}
    if spec.has_times:
        used[TIME] = spec.column(TIME)
    for word, column in used.items():
        if column not in found:
            # a name that was given and is not there, or a word that nobody said a name for
            require_columns(source.shown, found, [word if column == word else column])
    rules = spec.rules()
    request = spec.columns.get(REQUEST_WORD) or (REQUEST_WORD if REQUEST_WORD in found else None)
    series_columns = {name: column for name, column in spec.series.items() if isinstance(column, str)}
    others = [*(rule.column for rule in rules.values()), *spec.values.values(), *series_columns.values()]
    if request:
        others.append(request)
    require_columns(source.shown, found, others)

    latest = time.time() + 86_400
    raw = source.log.load(con, [*used.values(), *others])
    sample = save(con, "sample", raw.limit(20_000))
    kinds = [id_kind(sample[used[word]], spec.ids) for word in (USER_WORD, ITEM_WORD)]
    unit = read_time_unit(sample[used[TIME]], spec.time_unit, source.shown) if spec.has_times else "none"
    report("reading" if unit == "none" else f"reading (times in {unit})")
    while True:
        checks = [
            clean.raw_id(raw[used[USER_WORD]], kinds[0], USER_WORD),
            clean.raw_id(raw[used[ITEM_WORD]], kinds[1], ITEM_WORD),
        ]
        if spec.has_times:
            checks.append(clean.microseconds(raw[used[TIME]], unit, latest))
        reason, reasons = clean.reason_code(checks)
        columns = {
            USER: checks[0].value,
            ITEM: checks[1].value,
            MICROS_COLUMN: checks[2].value if spec.has_times else ibis.literal(0, "int64"),
            POSITION: raw[RAW_POSITION],
            REASON: reason,
        }
        if rules:
            columns[ACTIONS] = clean.action_bits(raw, rules)
        for value, column in spec.values.items():
            columns[f"value.{value}"] = clean.number(raw[column]).cast("float32")
        if request:
            columns[REQUEST] = ibis.ifelse(clean.is_missing(raw[request]), None, raw[request].cast("string"))
        for series, column in series_columns.items():
            columns[f"series.{series}"] = ibis.ifelse(clean.is_missing(raw[column]), None, raw[column].cast("string"))
        table = save(con, "log", raw.select(**columns))
        counted = table.group_by(REASON).aggregate(n=table.count()).to_pyarrow().to_pylist()
        by_code = {row[REASON]: row["n"] for row in counted}
        rows = sum(by_code.values())
        dropped = {text: by_code[code] for code, text in enumerate(reasons, 1) if by_code.get(code)}
        # the sample looked like integers, but the rest does not: these ids are texts after all
        wrong = [
            index
            for index, word in enumerate((USER_WORD, ITEM_WORD))
            if spec.ids == "auto" and dropped.get(f"{word} not an integer", 0) > 0.01 * rows
        ]
        if not wrong:
            break
        for index in wrong:
            kinds[index] = "string"

    rejected = source.log.rejected
    if rejected:
        dropped = {"line with another number of columns": rejected, **dropped}
    if rows + rejected == 0:
        raise InputError(f"{source.shown} is empty: it has no events. Give a file that holds at least one event.")
    if spec.has_times:
        refuse_implausible_times(raw[used[TIME]], unit, rows, dropped, source.shown)
    if not by_code.get(0):
        raise InputError(
            f"None of the {rows + rejected} rows of {source.shown} can be used: {listed(dropped)}. "
            f"Say which columns hold what: --column {USER_WORD}=NAME --column {ITEM_WORD}=NAME --column {TIME}=NAME."
        )
    seen = {*used.values(), *others}
    left_out = [column for column in found if column not in seen]
    return Log(source, table, kinds[0], kinds[1], latest, rows + rejected, dropped, left_out)


def listed(dropped: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in dropped.items())


def transform(
    con: Any, log: Log, folder: Path, settings: dict[str, Any], events_per_part: int, report: Report
) -> Manifest:
    """Filter, number and write a cleaned log. The manifest that is returned has no name, command and sources yet."""
    spec, dropped = log.source.spec, dict(log.dropped)
    table = log.table
    valid = table.filter(table[REASON] == 0).drop(REASON)
    events = valid
    if settings["drop_duplicates"] is None:
        settings = settings | {"drop_duplicates": not log.source.repeats}
    if settings["drop_duplicates"]:
        report("dropping exact duplicates")
        before = filters.count(events)
        events = filters.drop_duplicates(con, events)
        filters.note(dropped, "exact duplicate", before - filters.count(events))

    min_user, min_item, k = settings["min_user_events"], settings["min_item_events"], settings["k_core"]
    item_filter = k > 1 or min_item > 1
    catalogue = events.select(ITEM)
    if k > 1:
        report(f"filtering to the {k}-core")
        events = filters.k_core(con, events, k, dropped)
        catalogue = events.select(ITEM)
    elif min_user > 1 or min_item > 1:
        report("filtering rare users and items")
        events, catalogue = filters.one_pass(con, events, min_user, min_item, dropped)

    report("numbering")
    kept = filters.count(events)
    if not kept:
        raise InputError(
            f"Nothing is left of the {log.rows} rows of {log.source.shown} after the filters: {listed(dropped)}. "
            "Lower --k-core, --min-user-events or --min-item-events."
        )
    items = log.source.items
    users = log.source.users
    if spec.items:
        items = open_attributes(con, spec.items, "items", spec.column(ITEM_WORD), ITEM_WORD, folder / ".work")
    if spec.users:
        users = open_attributes(con, spec.users, "users", spec.column(USER_WORD), USER_WORD, folder / ".work")
    if items is not None and not item_filter:
        catalogue = catalogue.union(attribute_ids(con, items, log.item_kind, folder / ".work"))
    user_table, user_ids = vocabulary(con, "user", events.select(USER), folder / "vocabulary" / "user.parquet")
    item_table, item_ids = vocabulary(con, "item", catalogue, folder / "vocabulary" / "item.parquet")

    sizes: dict[str, int] = {}
    entries = []
    for index, series in enumerate(open_series(con, log, valid, user_table, folder / ".work"), 1):
        values_table, values_ids = vocabulary(
            con, f"series_{index}", series.table.select("value"), folder / "vocabulary" / f"{series.name}.parquet"
        )
        sizes[series.name] = len(values_ids)
        entries.append((index, series, values_table))
    parts = max(1, -(-kept // events_per_part))
    numbered_events = number_events(con, events, user_table, item_table, list(spec.values), entries, parts)

    counts = write_parts(
        numbered_events,
        parts,
        folder / "sequences",
        has_times=spec.has_times,
        values=list(spec.values),
        report=lambda part: report(f"writing part {part + 1} of {parts}"),
    )
    assert counts.events == kept and counts.users == len(user_ids), (counts.events, kept, counts.users, len(user_ids))
    if items is not None:
        pq.write_table(attributes_by_id(items, item_ids), folder / "items.parquet", compression="zstd")
    if users is not None:
        pq.write_table(attributes_by_id(users, user_ids), folder / "users.parquet", compression="zstd")
    for _, series, _ in entries:
        counts.notes.update(series.notes)
    return Manifest(
        louder=__version__,
        command="",
        name="",
        sources=[],
        users=len(user_ids),
        items=len(item_ids),
        events=counts.events,
        tokens=counts.tokens,
        has_times=spec.has_times,
        first_time=int(counts.first_time or 0),
        last_time=int(counts.last_time or 0),
        dropped=dropped,
        filters=settings,
        actions=list(spec.actions),
        values=list(spec.values),
        series=sizes,
        has_requests=REQUEST in log.table.columns,
        left_out=log.left_out,
        left_out_numbers=[column for column in log.left_out if column in log.source.log.numbers],
        counts={"rows read": log.rows, **counts.notes},
    )


def attribute_ids(con: Any, attributes: pa.Table, kind: str, work: Path) -> ir.Table:
    """The raw ids of an attribute file, of the kind of the log's, as a table of the engine."""
    raw = cast_ids(attributes.column("raw"), pa.int64() if kind == "integer" else pa.string())
    path = work / "attribute_ids.parquet"
    pq.write_table(pa.table({ITEM: raw}), path)
    con.raw_sql(
        f"CREATE OR REPLACE VIEW attribute_ids AS SELECT * FROM read_parquet('{str(path).replace(chr(39), chr(39) * 2)}')"
    )
    ids = con.table("attribute_ids")
    return ids.filter(ids[ITEM].notnull())


def number_events(
    con: Any,
    events: ir.Table,
    user_table: ir.Table,
    item_table: ir.Table,
    values: list[str],
    series: list[tuple[int, Any, ir.Table]],
    parts: int,
) -> ir.Table:
    """Engagements and entries of series in one table, numbered, each user in one bucket."""
    has_actions, has_requests = ACTIONS in events.columns, REQUEST in events.columns
    extra = [ACTIONS] * has_actions + [f"value.{name}" for name in values] + [REQUEST] * has_requests
    columns = [USER, ITEM, MICROS_COLUMN, POSITION, *extra]
    tokens = numbered(events.select(*columns), ITEM, item_table, ID)
    if has_requests:
        request_table, _ = vocabulary(con, "request", events.select(REQUEST))
        other = request_table.view()
        tokens = tokens.left_join(other, tokens[REQUEST] == other.raw)
        tokens = tokens.mutate(request=tokens.number.fill_null(-1)).drop("raw", "number")
    tokens = tokens.mutate(kind=ibis.literal(0, "uint8"))
    order = [USER, KIND, ID, MICROS_COLUMN, POSITION, *extra]
    tokens = tokens.select(*order)
    for index, entry, value_table in series:
        rows = numbered(entry.table, "value", value_table, ID)
        empty: dict[str, ir.Value] = {f"value.{name}": ibis.null("float32") for name in values}
        if has_actions:
            empty[ACTIONS] = ibis.literal(0, "int64")
        if has_requests:
            empty[REQUEST] = ibis.literal(-1, "int64")
        tokens = tokens.union(rows.mutate(kind=ibis.literal(index, "uint8"), **empty).select(*order))
    hashed = user_table.mutate(bucket=(user_hash(user_table.raw) % parts).cast("int32"))
    other = hashed.view()
    joined = tokens.inner_join(other, tokens[USER] == other.raw)
    joined = joined.mutate(user_id=joined.number).drop(USER, "raw", "number")
    return save(con, "numbered", joined.select(BUCKET, USER_ID, *order[1:]))


def user_hash(raw: ir.Value) -> ir.IntegerValue:
    """A non-negative hash from plain arithmetic or md5, so that it does not change with the engine or its version."""
    if raw.type().is_integer():
        # steps of a multiplicative hash, kept below 2**63
        return ((raw % 2_147_483_647) * 2_654_435_761 % 4_294_967_296 / 65_536).floor().cast("int64")
    digest = raw.hexdigest("md5").substr(0, 8)
    return (ibis.literal("0x") + digest).cast("int64")
