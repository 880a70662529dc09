"""Open a sequence table: its lists, laid end to end in memory.

pyarrow is imported where a file is read, so that training can be imported where only torch and numpy are installed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from louder.errors import InputError
from louder.schema import ENGAGEMENT, Manifest

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from louder.ids import IdMap


@dataclass(frozen=True, kw_only=True)
class Table:
    """U users, ordered by id, with T tokens end to end; user u owns rows offsets[u] to offsets[u + 1].

    offsets [U + 1] int64    kinds [T] uint8    ids [T] int64    times [T] int64 seconds
    actions [T] int64 bitmask, or None if the log has no actions
    values: name -> [T] float32, NaN where absent; only those that were asked for
    requests [T] int64, number of the request that showed an item or -1; None if not asked for, or if the log has none
    """

    path: Path
    manifest: Manifest
    offsets: np.ndarray
    kinds: np.ndarray
    ids: np.ndarray
    times: np.ndarray
    actions: np.ndarray | None
    values: dict[str, np.ndarray] = field(default_factory=dict)
    requests: np.ndarray | None = None

    @property
    def users(self) -> int:
        return len(self.offsets) - 1

    @property
    def items(self) -> int:
        return self.manifest.items

    @cached_property
    def user_ids(self) -> "IdMap":
        from louder.ids import IdMap

        return IdMap.read(self.path / "vocabulary" / "user.parquet")

    @cached_property
    def item_ids(self) -> "IdMap":
        from louder.ids import IdMap

        return IdMap.read(self.path / "vocabulary" / "item.parquet")

    def action_mask(self, names: tuple[str, ...]) -> int:
        """Bitmask of the named actions. Raises InputError for a name the table does not have."""
        known = self.manifest.actions
        for name in names:
            if name not in known:
                have = f"its actions are {', '.join(known)}" if known else "it has no actions"
                raise InputError(f"{self.path} has no action {name!r}; {have}.")
        return sum(1 << known.index(name) for name in names)

    def request_rows(self) -> np.ndarray:
        """[T] int64, the row of the first event that the same request showed to the same user; without a request its own."""
        if self.requests is None:
            assert not self.manifest.has_requests, "the table was opened without requests=True"
            return np.arange(len(self.ids), dtype=np.int64)
        # a log may number the requests of each user from 0, so users are told apart as well
        return request_heads(self.requests, np.repeat(np.arange(self.users), np.diff(self.offsets)))

    def taken(self, rows: np.ndarray | slice, offsets: np.ndarray) -> "Table":
        """The table with these rows alone, in their order, and the users' new offsets; a slice is not copied."""
        return replace(
            self,
            offsets=offsets,
            kinds=self.kinds[rows],
            ids=self.ids[rows],
            times=self.times[rows],
            actions=None if self.actions is None else self.actions[rows],
            values={name: column[rows] for name, column in self.values.items()},
            requests=None if self.requests is None else self.requests[rows],
        )

    def engagements(self) -> tuple["Table", np.ndarray]:
        """The table without the tokens of auxiliary series, and the row of each that stays."""
        rows = np.flatnonzero(self.kinds == ENGAGEMENT)
        return self.taken(rows, np.searchsorted(rows, self.offsets)), rows

    def of_user(self, user: int, at: int | None = None, tokens: int | None = None) -> "Table":
        """One user's tokens up to a time, or the first so many, as a table of one user; nothing is copied."""
        start, end = int(self.offsets[user]), int(self.offsets[user + 1])
        if tokens is not None:
            end = min(end, start + tokens)
        if at is not None:
            end = start + int(np.searchsorted(self.times[start:end], at, side="right"))
        return self.taken(slice(start, end), np.array([0, end - start]))


def request_heads(requests: np.ndarray, users: np.ndarray | None = None) -> np.ndarray:
    """[T] int64: the first row with the same of `requests` [T], and of `users` [T] if given. Each -1 stands alone."""
    rows = np.arange(len(requests), dtype=np.int64)
    known = np.flatnonzero(requests >= 0)
    if not len(known):
        return rows
    user, request = np.zeros_like(known) if users is None else users[known], requests[known]
    order = np.lexsort([request, user])  # stable: the rows of one request stay in their order
    user, request, known = user[order], request[order], known[order]
    first = np.ones(len(known), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (request[1:] != request[:-1])
    rows[known] = known[first][np.cumsum(first) - 1]
    return rows


def open_table(path: Path | str, *, values: Sequence[str] = (), requests: bool = False) -> Table:
    """Read a table into memory: 17 to 25 bytes a token, 4 more for each of the `values` named, 8 for `requests`.

    Raises InputError if it is no table, is damaged, or has no such value.
    """
    import pyarrow.compute as pc

    path = Path(path)
    manifest = Manifest.read(path)
    for name in values:
        if name not in manifest.values:
            have = f"its values are {', '.join(manifest.values)}" if manifest.values else "it has no values"
            make = f"Make it with one: louder etl SOURCE --value {name}=COLUMN."
            raise InputError(f"{path} has no value {name!r}; {have}. {make}")
    requests = requests and manifest.has_requests
    columns = ["user", "kind", "id", "time"] + ["actions"] * bool(manifest.actions)
    columns += [f"value.{name}" for name in values] + ["request"] * requests
    read = read_parts(path, manifest, columns)
    order = np.argsort(read["user"].to_numpy(), kind="stable")
    lengths = pc.list_value_length(read["id"]).to_numpy()
    starts = np.cumsum(lengths) - lengths
    in_order = (order == np.arange(len(order))).all()
    rows_in_order = None if in_order else ranges(starts[order], lengths[order])

    def flat(column: str) -> np.ndarray:
        values = pc.list_flatten(read[column]).to_numpy()
        return values if rows_in_order is None else values[rows_in_order]

    return Table(
        path=path,
        manifest=manifest,
        offsets=np.concatenate([[0], np.cumsum(lengths[order])]),
        kinds=flat("kind"),
        ids=flat("id"),
        times=flat("time"),
        actions=flat("actions") if manifest.actions else None,
        values={name: flat(f"value.{name}") for name in values},
        requests=flat("request") if requests else None,
    )


def read_parts(path: Path, manifest: Manifest, columns: list[str]) -> "pa.Table":
    """The files of a table, one after the other. Raises InputError if one is damaged or missing."""
    import pyarrow as pa

    parts = []
    for file in part_files(path):
        with open_part(file, columns) as part:
            parts.append(part.read(columns))
    rows = sum(len(part) for part in parts)
    if rows != manifest.users or not parts:
        raise damaged(path, f"{path} has {rows} users, but its manifest says {manifest.users}")
    return pa.concat_tables(parts)


def part_files(path: Path) -> list[Path]:
    return sorted((path / "sequences").glob("part-*.parquet"))


@contextmanager
def open_part(file: Path, columns: list[str]) -> Iterator["pq.ParquetFile"]:
    """One of a table's files. Raises InputError if it lacks a column, or turns out to be damaged while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = file.parents[1]
    try:
        with pq.ParquetFile(file) as part:
            for name in columns:
                if name not in part.schema_arrow.names:
                    raise damaged(table, f"{file} has no column {name!r}, which its manifest speaks of")
            yield part
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(table, f"{file} cannot be read ({str(error).splitlines()[0]})") from error


def damaged(table: Path, what: str) -> InputError:
    return InputError(f"{what}. Make the table again: louder etl SOURCE -o {table} --overwrite.")


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[starts[0], starts[0] + 1, ... lengths[0] of them, starts[1], ...] as int64"""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum(), dtype=np.int64) + np.repeat(starts - before, lengths)


def read_attributes(folder: Path, name: str) -> "pa.Table | None":
    """items.parquet or users.parquet of a table or a checkpoint, a row for each id; None if the log had none."""
    file = folder / f"{name}.parquet"
    import pyarrow.parquet as pq

    if not file.is_file():
        return None
    with pq.ParquetFile(file) as opened:  # read_table imports pandas where there is one
        return opened.read()
