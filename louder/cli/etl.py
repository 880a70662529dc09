"""louder etl: raw log -> sequence table."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from louder.errors import InputError

if TYPE_CHECKING:
    from louder.schema import Manifest

Text = str | None
Texts = list[str] | None
Meaning = partial(typer.Option, rich_help_panel="What the log means")
Filter = partial(typer.Option, rich_help_panel="What stays")
Machine = partial(typer.Option, rich_help_panel="How it runs")

SOURCES = "A file, a folder, an archive, `archive.zip::member`, or several files."
COLUMN = "Which column holds user_id, item_id, timestamp, rating or request_id. Repeatable."
ACTION = "An action: a flag column (click=is_click) or a rule ('like=rating >= 4'). Repeatable."
SERIES = "A category that changes now and then (city=city): its changes become tokens. Repeatable."
DUPLICATES = "Keep rows that are equal in every used column once; by default in KuaiRand alone."
FORMAT = (
    "movielens, kuairand, amazon-ratings, leave-one-out, sequences, csv, parquet or jsonl; by default it is recognised."
)
UNIT = (
    "s, ms, us, ns, excel (days of a spreadsheet) or iso (texts such as 2024-05-01 10:00:00, UTC unless they say otherwise). "
    "By default dates are seen and numbers are seconds."
)
FORM = "How times are written, as strptime has it: '%d/%m/%Y %H:%M'; several with | between them."


def etl(
    source: Annotated[list[str], typer.Argument(help=SOURCES, show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.", show_default=False)],
    schema: Annotated[Path | None, Meaning(help="A YAML file that says what the columns mean.")] = None,
    column: Annotated[Texts, Meaning(metavar="WORD=NAME", help=COLUMN)] = None,
    format: Annotated[Text, Meaning(help=FORMAT)] = None,
    delimiter: Annotated[Text, Meaning(help="Between the columns of a CSV: ',', ';', tab, space, '::' ...")] = None,
    encoding: Annotated[Text, Meaning(help="Of a CSV, such as cp1252 or latin-1; by default UTF-8.")] = None,
    quote: Annotated[Text, Meaning(help="Of a CSV: '\"', or none where quotes mean nothing.")] = None,
    time_unit: Annotated[Text, Meaning(help=UNIT)] = None,
    time_format: Annotated[Text, Meaning(metavar="FORM", help=FORM)] = None,
    no_times: Annotated[bool, Meaning("--no-times", help="There is no clock: the order of the log counts.")] = False,
    string_ids: Annotated[bool, Meaning("--string-ids", help="Ids are texts, even if all look like numbers.")] = False,
    action: Annotated[Texts, Meaning(metavar="NAME=RULE", help=ACTION)] = None,
    value: Annotated[
        Texts, Meaning(metavar="NAME=COLUMN", help="A number of each event, such as watch=play_time_ms. Repeatable.")
    ] = None,
    series: Annotated[Texts, Meaning(metavar="NAME=COLUMN", help=SERIES)] = None,
    items: Annotated[Text, Meaning(metavar="FILE", help="Attributes of items; all of them join the catalogue.")] = None,
    users: Annotated[Text, Meaning(metavar="FILE", help="Attributes of users.")] = None,
    min_user_events: Annotated[int, Filter(help="One pass: drop users with fewer events in the log.")] = 0,
    min_item_events: Annotated[int, Filter(help="One pass: drop items with fewer events in the log.")] = 0,
    k_core: Annotated[int, Filter(help="Drop users and items with fewer events, until all have as many.")] = 0,
    drop_duplicates: Annotated[bool | None, Filter("--drop-duplicates/--keep-duplicates", help=DUPLICATES)] = None,
    name: Annotated[Text, typer.Option(help="Name of the data set; by default that of the source.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table if it exists.")] = False,
    memory: Annotated[Text, Machine(metavar="SIZE", help="Memory of the engine before it spills to disk: 4GB.")] = None,
    threads: Annotated[int | None, Machine(min=1, help="Threads of the engine; by default one a core.")] = None,
    as_json: Annotated[bool, Machine("--json", help="Print the manifest as JSON on standard output.")] = False,
) -> None:
    """Make a sequence table from a raw log.

    MovieLens and KuaiRand archives (zip, tar.gz or unpacked), Amazon ratings, ordered sequences, CSV, Parquet and JSON lines are recognised.
    Rows that cannot be used are counted by reason; nothing is left behind if the run fails. Examples:

        louder etl ml-1m.zip -o tables/ml-1m

        louder etl ratings_Books.csv -o tables/books --min-user-events 5 --min-item-events 5

        louder etl log.csv -o tables/log --column user_id=member --column item_id=sku --column timestamp=ts --time-unit ms

        louder etl logs/ -o tables/log --action click=is_click --action 'like=rating >= 4' --value watch=seconds

        louder etl KuaiRand-Pure.tar.gz -o tables/kuairand

        louder etl logs.zip::may.csv -o tables/may --schema may.yaml

    A schema file holds the same settings, and more:

        columns: {user_id: member, item_id: sku, timestamp: ts, request_id: session}

        time_unit: ms

        actions: {click: is_click, like: "rating >= 4"}

        values: {watch: play_time}

        series: {city: city, age: {file: ages.csv, user_id: member, timestamp: ts, value: band}}

        items: {file: products.csv, id: sku}

        users: {file: members.csv, id: member}
    """
    from louder.etl import LogSpec, SideFile, build_table, read_spec
    from louder.progress import steps

    spec = read_spec(schema) if schema else LogSpec()
    spec = spec.merged(
        columns=pairs(column, "--column", "timestamp=ts"),
        format=format,
        delimiter=delimiter,
        encoding=encoding,
        quote=quote,
        time_unit=time_format or time_unit,
        has_times=False if no_times else None,
        ids="string" if string_ids else None,
        actions=pairs(action, "--action", "click=is_click"),
        values=pairs(value, "--value", "watch=play_time"),
        series=pairs(series, "--series", "city=city"),
        items=SideFile(file=items) if items else None,
        users=SideFile(file=users) if users else None,
    )
    with steps(partial(print, file=sys.stderr)) as report:
        manifest = build_table(
            list(source),
            output,
            spec=spec,
            min_user_events=min_user_events,
            min_item_events=min_item_events,
            k_core=k_core,
            drop_duplicates=drop_duplicates,
            name=name,
            overwrite=overwrite,
            memory_bytes=byte_count(memory) if memory else None,
            threads=threads,
            report=report,
        )
    if as_json:
        print(json.dumps(asdict(manifest), indent=1))
    summary(manifest, output)


@contextmanager
def options_apart(log: str, then: str) -> Iterator[None]:
    """Around a table that another command makes, which has none of the options here: where one would help, says so."""
    try:
        yield
    except InputError as error:
        if "--" not in str(error):
            raise
        raise InputError(
            f"{error} Options are for louder etl: louder etl {log} -o TABLE, then {then} TABLE."
        ) from error


def pairs(entries: list[str] | None, flag: str, example: str) -> dict[str, str]:
    """`["timestamp=ts"]` -> `{"timestamp": "ts"}`. Only the first "=" parts, so that rules may hold others."""
    result = {}
    for entry in entries or []:
        name, equals, value = entry.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise InputError(
                f"{flag} is {entry!r}, but it must be a name, '=' and what it stands for: {flag} {example}."
            )
        result[name.strip()] = value.strip()
    return result


def byte_count(text: str, option: str = "--memory") -> int:
    """`4GB`, `512MiB` or `2g` in bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError(f"{option} is {text!r}, but it must be a size such as 4GB or 512MB.")
    base = 1024 if match[3] else 1000
    size = int(float(match[1]) * base ** " kmgt".index(match[2].lower() or " "))
    if size < 64_000_000:
        raise InputError(f"{option} is {text!r}, but at least 64MB are needed. Write it with its unit: {option} 4GB.")
    return size


def summary(manifest: "Manifest", output: Path) -> None:
    """What the table holds and what was left out, on standard error."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from louder.api import facts

    console = Console(stderr=True, highlight=False)
    table = Table(title=escape(facts.title(manifest, output)), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for text, value in facts.of_table(manifest):
        table.add_row(escape(text), escape(facts.shown(value)))
    if manifest.dropped:
        table.add_section()
        for reason, count in facts.of_dropped(manifest):
            table.add_row(f"[yellow]{escape(reason)}[/yellow]", facts.shown(count))
    console.print(table)
    for warning in manifest.warnings:
        console.print(f"[yellow]{escape(warning)}[/yellow]", soft_wrap=True)
    numbers = manifest.left_out_numbers
    if numbers:
        # as in the paper: the events themselves tell a model what a counter of them would
        why = "Numerical columns and counters have no place in a sequence (a label is named: --value NAME=COLUMN)"
        console.print(escape(f"{why}: {', '.join(numbers)}."), soft_wrap=True)
    if others := [column for column in manifest.left_out if column not in numbers]:
        console.print(escape(f"Columns of the log that are not used: {', '.join(others)}."), soft_wrap=True)
