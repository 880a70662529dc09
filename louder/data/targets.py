"""Which events are history and which are to be predicted."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from louder.config import require_one_of
from louder.data.table import Table
from louder.errors import InputError
from louder.schema import ENGAGEMENT


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How events are divided.

    leave_last_out  of every user the last target is for testing and the one before for validation
    time            events from `validation_from` on are for validation, from `test_from` on for testing; a user's
                    one target is the first after the cut, predicted from everything before the cut
    users           the last `test_users` of them (a share), by raw id, for testing, as many before for validation; a
                    held-out user's last target is predicted
    """

    kind: str = "leave_last_out"
    validation_from: int | None = None  # seconds since 1970; YAML and --set also take dates, such as 2024-05-01
    test_from: int | None = None
    test_users: float = 0.1

    def __post_init__(self) -> None:
        require_one_of("data.split", self, kind=("leave_last_out", "time", "users"))
        if self.kind == "time":
            if self.validation_from is None or self.test_from is None:
                both = "data.split.validation_from and data.split.test_from"
                raise InputError(f"data.split.kind=time needs {both}: seconds since 1970, or dates such as 2024-05-01.")
            if self.validation_from >= self.test_from:
                raise InputError(
                    f"data.split.validation_from is {self.validation_from}; it must be before test_from, {self.test_from}."
                )
        if not 0 < self.test_users < 0.5:
            raise InputError(f"data.split.test_users must be between 0 and 0.5, but it is {self.test_users}.")

    @property
    def divides_by(self) -> tuple[object, ...]:
        """What two splits must have in common to be the same one; each kind has settings that the others do not read."""
        own = {"time": (self.validation_from, self.test_from), "users": (self.test_users,)}
        return self.kind, *own.get(self.kind, ())


class Spans(NamedTuple):
    """Of each of S users one span of the table's rows [S]: from the start of the history to the latest target."""

    users: np.ndarray
    starts: np.ndarray
    lasts: np.ndarray  # above starts


def target_rows(table: Table, positive: int = 0) -> np.ndarray:
    """[T] bool: rows that may be predicted. `positive` is a mask of actions, any of which makes an engagement
    positive; 0 takes every engagement. Entries of auxiliary series are never targets."""
    rows = table.kinds == ENGAGEMENT
    if positive:
        assert table.actions is not None
        rows &= (table.actions & positive) != 0
    return rows


def near(table: Table, before: np.ndarray, target: np.ndarray, max_gap: int | None) -> np.ndarray:
    """[N] bool: which of the `target` rows [N] come at most `max_gap` seconds after the rows `before` them [N]; None: all.
    Raises InputError for a log without times."""
    if max_gap is None:
        return np.ones(len(target), dtype=bool)
    if not table.manifest.has_times:
        raise InputError(f"data.max_gap is {max_gap} seconds, but {table.path} has no times: --set data.max_gap=null.")
    found: np.ndarray = table.times[target] - table.times[before] <= max_gap
    return found


def split(table: Table, part: str, config: SplitConfig, *, held_out: int, positive: int = 0) -> Spans:
    """The spans of "train", "validation" or "test".

    `held_out` is 2 where validation is kept from training (protocol `validated`), 1 where only the test is (`official`:
    "train" then reaches up to the test target, and there is no validation part). Every row of a train span predicts the
    next (see RetrievalLoader). Users without history before a target have no span.
    """
    assert part in ("train", "validation", "test")
    assert held_out in (1, 2)
    begin, end = table.offsets[:-1], table.offsets[1:]
    rows = np.flatnonzero(target_rows(table, positive))
    before, upto = np.searchsorted(rows, begin), np.searchsorted(rows, end)  # each user's targets: rows[before:upto]
    if config.kind == "time":
        lasts = time_lasts(table, part, config, rows, held_out)
    else:
        by_user = config.kind == "users"
        at = upto - (1 if by_user else {"test": 1, "validation": 2, "train": held_out + 1}[part])
        lasts = np.full(table.users, -1, dtype=np.int64)  # of users with fewer targets
        there = (at >= before) & (not by_user or users_in(part, config, table.users, held_out))
        lasts[there] = rows[at[there]]
    users = np.flatnonzero(lasts > begin)
    return Spans(users, begin[users], lasts[users])


def users_in(part: str, config: SplitConfig, users: int, held_out: int) -> np.ndarray:
    """[U] bool: the users of a part, where whole users are held out."""
    share = max(1, round(users * config.test_users))
    test = users - share
    validation = test - share if held_out == 2 else test
    low, high = {"train": (0, validation), "validation": (validation, test), "test": (test, users)}[part]
    index = np.arange(users)
    return (index >= low) & (index < high)


def time_lasts(table: Table, part: str, config: SplitConfig, rows: np.ndarray, held_out: int) -> np.ndarray:
    """[U] by a global cut, so that no user is trained on events later than another's test."""
    inside = in_time(table.times[rows], part, config, held_out)
    user, rows = np.searchsorted(table.offsets[1:], rows[inside], side="right"), rows[inside]
    if part != "train":
        user, rows = user[::-1], rows[::-1]
    lasts = np.full(table.users, -1, dtype=np.int64)
    lasts[user] = rows  # the last assignment wins: in training the last before the cut, else the first after it
    return lasts


def in_time(times: np.ndarray, part: str, config: SplitConfig, held_out: int) -> np.ndarray:
    """Which of the times are in a part, where it is time that divides."""
    assert config.validation_from is not None
    assert config.test_from is not None
    if part == "train":
        return times < (config.validation_from if held_out == 2 else config.test_from)
    after = times >= config.test_from
    return after if part == "test" else (times >= config.validation_from) & ~after


def part_rows(table: Table, part: str, config: SplitConfig, *, held_out: int) -> np.ndarray:
    """[T] bool: the engagements of "train", "validation" or "test". A request is in one part as a whole.

    time            by the time of the request
    leave_last_out  the last request of each user is for testing, the one before for validation
    users           whole users, as in split
    """
    engaged, heads = table.kinds == ENGAGEMENT, table.request_rows()
    if config.kind == "time":
        return engaged & in_time(table.times[heads], part, config, held_out) & (part != "validation" or held_out == 2)
    owner = np.repeat(np.arange(table.users), np.diff(table.offsets))
    if config.kind == "users":
        return engaged & users_in(part, config, table.users, held_out)[owner]
    rows = np.flatnonzero(engaged)
    number = np.unique(heads[rows], return_inverse=True)[1]  # of the request, over all users
    latest = np.zeros(table.users, dtype=np.int64)
    np.maximum.at(latest, owner[rows], number)
    back = latest[owner[rows]] - number  # 0 = the user's last request
    wanted = {"test": back == 0, "validation": (back == 1) & (held_out == 2), "train": back >= held_out}[part]
    result = np.zeros(len(table.ids), dtype=bool)
    result[rows[wanted]] = True
    return result
