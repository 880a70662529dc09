"""The lists that were shown, as a system beside the others: would the item that came next have been in the list?"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from louder.data.table import Table
from louder.errors import InputError
from louder.trial.systems import Held

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = "user", "item", "position"
MOST = 10  # places of a list that count
FORM = "It must be a CSV or Parquet file with the columns user, item and position (1 the first), and may have a timestamp (seconds)."


@dataclass(frozen=True)
class Shown:
    """Lists as ranks.

    asked    [A] those of the U held-out users who were shown a list: their places among them
    ranks    [A] of the target in the user's list, infinite where it is not in it
    longest  places of the longest list, at most MOST
    unknown  rows of users or items that the log does not have
    timed    whether it is known when a list was shown; else each user has one
    """

    asked: np.ndarray
    ranks: np.ndarray
    longest: int
    rows: int
    unknown: int
    timed: bool


def read_shown(path: Path, table: Table, held: Held) -> Shown:
    """The list of each held-out user: the latest that was shown before the target, where the file has times.

    Raises InputError if the file is missing, is none of lists, or has a list of nobody who is asked about.
    """
    lists = read_lists(path)
    users = table.user_ids.ids(lists.column("user").to_pylist())
    items = table.item_ids.ids(lists.column("item").to_pylist())
    positions = lists.column("position").to_numpy(zero_copy_only=False).astype(float)
    timed = "timestamp" in lists.column_names and table.manifest.has_times
    times = lists.column("timestamp").to_numpy(zero_copy_only=False).astype(float) if timed else np.zeros(len(users))
    place = np.full(table.users + 1, -1)  # the last is that of users whom the log does not have
    place[held.users] = np.arange(len(held.users))
    at = place[users]
    moment = table.times[held.rows] if timed else np.ones(len(held.rows))
    fits = (at >= 0) & (times <= moment[at])
    latest = np.full(len(held.users), -np.inf)
    np.maximum.at(latest, at[fits], times[fits])
    fits &= times == latest[at]
    asked = np.unique(at[fits])
    if not len(asked):
        raise InputError(
            f"The lists {path} are of none of the {len(held.users):,} users who are asked about"
            f"{' before the event that was held out' if timed else ''}. Are their ids those of the log?"
        )
    ranks = np.full(len(held.users), np.inf)
    right = fits & (items == held.targets[at])
    np.minimum.at(ranks, at[right], positions[right])
    longest = int(min(MOST, positions[fits].max()))
    return Shown(asked, ranks[asked], longest, len(users), int(((users < 0) | (items < 0)).sum()), timed)


def read_lists(path: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    try:
        lists = pq.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"The lists {path} cannot be read ({str(error).splitlines()[0]}). {FORM}") from error
    for name in NEEDED:
        if name not in lists.column_names:
            raise InputError(
                f"The lists {path} have no column {name!r}; they have {', '.join(lists.column_names)}. {FORM}"
            )
    for name in {"position", "timestamp"} & {*lists.column_names}:
        kind = lists.column(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or lists.column(name).null_count:
            raise InputError(f"The column {name!r} of the lists {path} has something else than numbers. {FORM}")
    if len(lists) and pc.min(lists.column("position")).as_py() < 1:
        raise InputError(f"A position of the lists {path} is below 1, but the first place is 1. {FORM}")
    return lists
