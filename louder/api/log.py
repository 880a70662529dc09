"""A frame or a file -> a sequence table on disk, with a handle on it."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa

from louder.api import facts
from louder.api.frames import (
    ArrowStream,
    column_names,
    default_kind,
    index_hint,
    is_frame,
    kind_of,
    to_arrow,
)
from louder.api.words import in_python, speaking_python, warn
from louder.errors import InputError
from louder.etl import LogSpec, SideFile, build_table, read_spec
from louder.folders import new_folder, require_free
from louder.progress import steps
from louder.schema import ITEM, RATING, REQUEST, TABLE_FOLDER, TIME, USER, Manifest

Source = ArrowStream | str | os.PathLike[str]
Names = Mapping[str, str] | Iterable[str]  # a list of columns keeps their names
KEYWORDS = {USER: "user", ITEM: "item", TIME: "time", REQUEST: "request"}


@dataclass(eq=False, repr=False)
class Log:
    """A sequence table on disk: one history a user.

    path       its folder
    frame      the kind of frames that answers about it come in: pandas, polars or arrow
    temporary  whether the folder goes when Python ends
    """

    path: Path
    frame: str = field(default_factory=default_kind)
    temporary: bool = False

    def __post_init__(self) -> None:
        if self.temporary:
            weakref.finalize(self, discard, self.path)

    @cached_property
    def manifest(self) -> Manifest:
        """What the table holds, and what it was made from."""
        return Manifest.read(self.path)

    @property
    def users(self) -> int:
        """How many there are."""
        return self.manifest.users

    @property
    def items(self) -> int:
        """Of the catalogue, those that nobody touched included."""
        return self.manifest.items

    @property
    def events(self) -> int:
        """How many are kept."""
        return self.manifest.events

    @property
    def actions(self) -> dict[str, int]:
        """How often each action happened."""
        return {name: self.manifest.counts.get(f"action {name}", 0) for name in self.manifest.actions}

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> rows that were left out."""
        return dict(self.manifest.dropped)

    @property
    def warnings(self) -> list[str]:
        """Sentences about what is odd."""
        return [in_python(sentence) for sentence in self.manifest.warnings]

    def __repr__(self) -> str:
        return facts.lines(facts.title(self.manifest, self.path), self.facts, self.notes)

    def _repr_html_(self) -> str:
        return facts.html(facts.title(self.manifest, self.path), self.facts, self.notes)

    @property
    def facts(self) -> list[facts.Fact]:
        return [*facts.of_table(self.manifest), *facts.of_dropped(self.manifest)]

    @property
    def notes(self) -> list[str]:
        gone = ["The folder is temporary: it goes when Python ends. Keep it: log.keep('tables/NAME')."]
        return [*self.warnings, *gone * self.temporary]

    @speaking_python
    def keep(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> "Log":
        """A copy of the table that stays. Raises InputError where something is at `folder` already."""
        target = Path(folder)
        with new_folder(target, TABLE_FOLDER, overwrite=overwrite, keep=[self.path]) as temporary:
            shutil.copytree(self.path, temporary, dirs_exist_ok=True)
        return Log(target, self.frame)


@speaking_python
def log(
    source: Source | Sequence[str | os.PathLike[str]],
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | Literal[False] | None = None,
    request: str | None = None,
    actions: Names = (),
    values: Names = (),
    series: Names = (),
    items: Source | None = None,
    users: Source | None = None,
    time_unit: str = "auto",
    string_ids: bool = False,
    min_user_events: int = 0,
    min_item_events: int = 0,
    k_core: int = 0,
    drop_duplicates: bool | None = None,
    schema: str | os.PathLike[str] | None = None,
    format: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    quote: str | None = None,
    name: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Log:
    """Make a sequence table of a log: a row an event, with a user, an item and, if there is one, a time.

        log = louder.log(df, user="customer", item="sku", time="bought_at", actions={"liked": "stars >= 4"})

    source   a frame of pandas, polars or Arrow; or what `louder etl` reads: a file, a folder, an archive, several files; or
             the folder of a table, which is opened
    user, item, time, request
             the columns, unless they are called user_id, item_id, timestamp and request_id. time=False: there is no clock,
             the order of the rows counts
    actions  what the user did: name -> a column of flags, or a rule such as "rating >= 4"; or a list of columns
    values   numbers of an event, such as watched seconds: name -> column, or a list of columns
    series   categories that change now and then, such as a city: name -> column, or a list of columns
    items, users
             attributes: a frame or a file whose column of ids is called as in the log, or "id". A column `title` is shown;
             items that nobody touched join the catalogue
    time_unit
             of numbers: s, ms, us, ns; of texts: iso, or their form as strptime has it; dates are seen
    string_ids
             ids are texts, even if all look like numbers. Those of a frame are what its column holds
    min_user_events, min_item_events, k_core, drop_duplicates
             which events stay, see build_table
    schema, format, delimiter, encoding, quote
             of a file, as for `louder etl`
    folder   where the table is made; None: in a temporary folder, which goes when Python ends

    Rows without a user, an item or a time are left out, counted in `dropped`, and warned of. Raises InputError, one
    sentence, for columns that are not there or of a wrong type, and for whatever else cannot be read.
    """
    frame = kind_of(source) if is_frame(source) else default_kind()
    columns = {word: given for word, given in ((USER, user), (ITEM, item), (REQUEST, request)) if given is not None}
    if time is not None and time is not False:
        columns[TIME] = time
    spec = (read_spec(Path(schema)) if schema else LogSpec()).merged(
        columns=columns,
        format=format,
        delimiter=delimiter,
        encoding=encoding,
        quote=quote,
        time_unit=time_unit if time_unit != "auto" else None,
        has_times=False if time is False else None,
        ids="string" if string_ids else None,
        actions=named(actions),
        values=named(values),
        series=named(series),
        items=side(items, "items", item),
        users=side(users, "users", user),
    )
    filtered = min_user_events or min_item_events or k_core or drop_duplicates
    if (opened := existing(source)) is not None:
        if filtered or folder is not None or spec != LogSpec():
            raise InputError(
                f"{opened} is a sequence table already, which is opened as it is: louder.log({str(opened)!r}). Give the log "
                "it was made from, or leave out what its columns mean, filters and folder."
            )
        return Log(opened, frame)
    read = needed(source, spec) if is_frame(source) else paths(source)
    target = Path(folder) if folder is not None else Path(tempfile.mkdtemp(prefix="louder-")) / "log"
    require_free(target, overwrite)
    with steps() as report:
        try:
            build_table(
                read,
                target,
                spec=spec,
                min_user_events=min_user_events,
                min_item_events=min_item_events,
                k_core=k_core,
                drop_duplicates=drop_duplicates,
                name=name,
                overwrite=overwrite,
                report=report,
            )
        except BaseException:
            if folder is None:
                shutil.rmtree(target.parent, ignore_errors=True)
            raise
    made = Log(target, frame, temporary=folder is None)
    tell(made, filtered)
    return made


def discard(path: Path) -> None:
    """A table in a temporary folder of its own."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.parent.rmdir()


def existing(source: object) -> Path | None:
    """The folder of a table that is there already."""
    if isinstance(source, str | os.PathLike) and (Path(source) / "manifest.json").is_file():
        return Path(source)
    return None


def named(columns: Names) -> dict[str, str]:
    if isinstance(columns, str):
        return {columns: columns}
    return dict(columns) if isinstance(columns, Mapping) else {column: column for column in columns}


def side(source: Source | None, what: str, key: str | None) -> SideFile | None:
    """Attributes, in a file or a frame."""
    if source is None or not is_frame(source):
        return None if source is None else SideFile(file=os.fspath(source))  # type: ignore[arg-type]
    names = column_names(source)
    own = next((name for name in (key, ITEM if what == "items" else USER, "id") if name in names), None)
    if own is None:
        called = key or "id"
        raise InputError(
            f"The frame of {what} has no column {called!r}; its columns are {', '.join(names)}. Rename the one that holds "
            f"the ids to {called!r}."
        )
    return SideFile(file=to_arrow(source, what=f"The frame of {what}"), id=own)


def needed(frame: ArrowStream, spec: LogSpec) -> pa.Table:
    """The columns of a frame that are read, as Arrow. Raises InputError for one that is not there."""
    there = column_names(frame)
    for column in spec.used:
        if column not in there:
            raise InputError(missing(frame, column, spec))
    unasked = [column for column in (RATING, REQUEST) if column in there]
    return to_arrow(frame, [*spec.used, *unasked])


def missing(frame: ArrowStream, column: str, spec: LogSpec) -> str:
    flag = spec.flag_of(column)
    no_clock = ", or time=False if there is none" if column == spec.column(TIME) else ""
    hint = index_hint(frame, column) or f" Name the right one: {flag}{no_clock}."
    return f"The frame has no column {column!r}; its columns are {', '.join(column_names(frame))}.{hint}"


def paths(source: object) -> str | list[str]:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, list | tuple) and source and all(isinstance(entry, str | os.PathLike) for entry in source):
        return [os.fspath(entry) for entry in source]
    collect = " Collect it first: frame.collect()." if hasattr(source, "collect") else ""
    raise InputError(
        f"A log is a frame of pandas, polars or Arrow, or the path of a file, but this is {type(source).__name__}.{collect}"
    )


def tell(made: Log, filtered: object) -> None:
    """Of what is odd, and of rows that were left out without being asked for."""
    sentences = list(made.manifest.warnings)
    lost = {reason: count for reason, count in made.dropped.items() if not (filtered and is_filter(reason))}
    if lost:
        read, reasons = made.manifest.counts["rows read"], ", ".join(f"{why}: {n:,}" for why, n in lost.items())
        sentences.insert(0, f"{sum(lost.values()):,} of the {read:,} rows were left out ({reasons}).")
    for sentence in sentences:
        warn(sentence)


def is_filter(reason: str) -> bool:
    return "fewer than" in reason or reason.startswith(("outside the", "exact duplicate"))
