"""The words every stage uses: the columns of an event log and of a sequence table.

Event log, one row per interaction: USER, ITEM, TIME, and any of action flags, action values, a request id.

Sequence table, a folder:

    manifest.json              what made it: see Manifest
    sequences/part-NNNNN.parquet
        user      int64            id, 0 .. users-1
        kind      list<uint8>      ENGAGEMENT, or k >= 1 for the k-th auxiliary series
        id        list<int64>      item id, or the value's id in that series' vocabulary
        time      list<int64>      seconds since 1970, UTC; oldest first
        actions   list<int64>      bit j set: action j of the manifest happened (only if the log has actions)
        value.X   list<float>      action value X, NaN where absent (one column per action value)
        request   list<int64>      number of the request that showed it, -1 where absent (only if the log has it)
    vocabulary/user.parquet, item.parquet, SERIES.parquet
        raw       int64 or string  row number = id
    items.parquet, users.parquet   attributes, row number = id (only if given)

The lists of a row are parallel. A user is in one part only, chosen by a hash of the raw id.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

from louder.errors import InputError
from louder.folders import FolderKind

SCHEMA_VERSION = 1
PARTS = "sequences/part-*.parquet", "vocabulary/*.parquet", "items.parquet", "users.parquet"
TABLE_FOLDER = FolderKind("a sequence table", "manifest.json", "schema_version", PARTS)

USER, ITEM, TIME, RATING, REQUEST = "user_id", "item_id", "timestamp", "rating", "request_id"
WORDS = (USER, ITEM, TIME, RATING, REQUEST)
ENGAGEMENT = 0


class SourceFile(TypedDict):
    path: str
    bytes: int
    sha256: str


@dataclass(kw_only=True)
class Manifest:
    """What a sequence table holds and what it was made from. Stored as manifest.json."""

    schema_version: int = SCHEMA_VERSION
    louder: str  # version of the code that wrote it
    command: str
    name: str  # "ml-1m", or the name of the file
    sources: list[SourceFile]
    users: int
    items: int  # catalogue size, with the items nobody touched
    events: int  # engagements kept
    tokens: int  # events and entries of auxiliary series
    has_times: bool  # False: the order is known but no clock; `time` counts 0, 1, 2 ... within a user
    first_time: int
    last_time: int
    dropped: dict[str, int]  # reason -> rows of the log that were left out
    filters: dict[str, int | bool]
    actions: list[str] = field(default_factory=list)  # bit j of `actions` is actions[j]
    values: list[str] = field(default_factory=list)
    series: dict[str, int] = field(default_factory=dict)  # auxiliary series -> vocabulary size; order gives `kind`
    vocabularies: dict[str, str] = field(default_factory=dict)  # size and hash of each: see fingerprint.py
    has_requests: bool = False
    left_out: list[str] = field(default_factory=list)  # columns of the log not used
    left_out_numbers: list[str] = field(default_factory=list)  # those of left_out that hold numbers
    tie_rule: str = "events of a user at the same time keep the order of the log"
    counts: dict[str, int] = field(default_factory=dict)  # what else was counted: rows read, exact duplicates kept, ...
    read_as: str = ""  # the form of the log's files, as it was recognised
    warnings: list[str] = field(default_factory=list)  # sentences about what is odd, with what to type

    def write(self, folder: Path) -> None:
        (folder / "manifest.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path | str) -> "Manifest":
        """Raises InputError if the folder is no sequence table, or one of another schema version."""
        file = Path(folder) / "manifest.json"
        if not file.is_file() and (Path(folder) / "config.json").is_file():
            raise InputError(
                f"{folder} is a run, and no sequence table. Its config.json says which table it was trained on."
            )
        if not file.is_file():
            raise InputError(
                f"{folder} is not a sequence table: it has no manifest.json. Make one: louder etl SOURCE -o {folder}."
            )
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            version = values["schema_version"]
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"{folder} is a sequence table of schema version {version}, but this Louder reads version {SCHEMA_VERSION}. "
                    f"Make it again: louder etl SOURCE -o {folder} --overwrite."
                )
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file} is damaged ({error}). Make the table again: louder etl SOURCE -o {folder} --overwrite."
            ) from error


def require_columns(
    path: str, found: Iterable[str], needed: Iterable[str] = (USER, ITEM, TIME), hint: str | None = None
) -> None:
    """Raise InputError naming the first needed column that is not among those found. `hint` is what to type."""
    found = list(found)
    for column in needed:
        if column not in found:
            hint = hint or (f"Pass --column {column}=NAME." if column in WORDS else "Name one of these.")
            raise InputError(f"{path} has no column {column!r}; its columns are {', '.join(found)}. {hint}")
