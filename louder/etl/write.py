"""Numbered events -> the files of a sequence table."""

import shlex
import sys
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from louder.etl.clean import POSITION, REQUEST
from louder.etl.engines import EtlEngine
from louder.etl.numbering import attributes_by_id
from louder.etl.read import CleanLog, Report
from louder.etl.sequences import BUCKET, PartCounts, order_of, total, write_part
from louder.etl.transform import NumberedLog
from louder.fingerprint import hash_of
from louder.schema import Manifest, SourceFile
from louder.version import __version__


def write_table(engine: EtlEngine, log: CleanLog, numbered: NumberedLog, folder: Path, report: Report) -> PartCounts:
    """Everything but the manifest: vocabularies, sequences, attributes."""
    for name, vocabulary in numbered.vocabularies.items():
        vocabulary.write(folder / "vocabulary" / f"{name}.parquet")
    counts = write_sequences(engine, log, numbered, folder / "sequences", report)
    attributes = (
        (numbered.item_attributes, numbered.items, "items.parquet"),
        (numbered.user_attributes, numbered.users, "users.parquet"),
    )
    for table, raw, name in attributes:
        if table is not None:
            pq.write_table(attributes_by_id(table, raw), folder / name, compression="zstd")
    return counts


def write_sequences(
    engine: EtlEngine, log: CleanLog, numbered: NumberedLog, folder: Path, report: Report
) -> PartCounts:
    folder.mkdir()
    spec, events = log.source.spec, numbered.events
    write = partial(write_part, folder=folder, has_times=spec.has_times, values=list(spec.values))
    order = order_of(events, spec.has_times)
    columns = [name for name in events.columns if name not in (BUCKET, POSITION)]
    counts = []
    for part, found in enumerate(engine.each_part(events, BUCKET, numbered.parts, order, columns, write), 1):
        counts.append(found)
        report(f"writing part {part} of {numbered.parts}")
    counted = total(counts)
    assert (counted.events, counted.users) == (numbered.kept, len(numbered.users)), (counted, numbered.kept)
    return counted


def describe_table(
    log: CleanLog, numbered: NumberedLog, counts: PartCounts, name: str, sources: list[SourceFile]
) -> Manifest:
    spec = log.source.spec
    first, last = counts.times or (0, 0)
    notes = log.notes | numbered.notes | {key: count for entry in numbered.series for key, count in entry.notes.items()}
    happened = {name: counts.positives.get(bit, 0) for bit, name in enumerate(spec.actions)}
    never = [
        f"The action {name} never happened: {spec.actions[name]}." for name, count in happened.items() if not count
    ]
    if log.source.log.empty:
        notes["files without a row"] = log.source.log.empty
    return Manifest(
        louder=__version__,
        command=shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]]),
        name=name,
        sources=sources,
        users=len(numbered.users),
        items=len(numbered.items),
        events=counts.events,
        tokens=counts.tokens,
        has_times=spec.has_times,
        first_time=first,
        last_time=last,
        dropped=numbered.dropped,
        filters=vars(numbered.filters),
        actions=list(spec.actions),
        values=list(spec.values),
        series={entry.name: len(entry.ids) for entry in numbered.series},
        vocabularies={name: hash_of(vocabulary.raw) for name, vocabulary in numbered.vocabularies.items()},
        has_requests=REQUEST in log.table.columns,
        left_out=log.left_out,
        left_out_numbers=[column for column in log.left_out if column in log.source.log.numbers],
        counts={
            "rows read": log.rows,
            **{f"action {name}": n for name, n in happened.items()},
            **counts.notes,
            **notes,
        },
        read_as=log.source.log.read_as,
        warnings=[*log.warnings, *never],
    )
