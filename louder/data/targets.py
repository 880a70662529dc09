"""Which events are history and which are to be predicted."""

from dataclasses import dataclass

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
    users           whole users: the last `test_users` of them (a share) for testing, as many before for validation.
                    Users are in the order of their raw ids; a held-out user's last target is predicted
    """

    kind: str = "leave_last_out"
    validation_from: int | None = None  # seconds since 1970
    test_from: int | None = None
    test_users: float = 0.1

    def __post_init__(self) -> None:
        require_one_of("data.split", self, kind=("leave_last_out", "time", "users"))
        if self.kind == "time":
            if self.validation_from is None or self.test_from is None:
                raise InputError(
                    "data.split.kind=time needs data.split.validation_from and data.split.test_from, in seconds."
                )
            if self.validation_from >= self.test_from:
                raise InputError(
                    f"data.split.validation_from is {self.validation_from}; it must be before test_from, {self.test_from}."
                )
        if not 0 < self.test_users < 0.5:
            raise InputError(f"data.split.test_users must be between 0 and 0.5, but it is {self.test_users}.")


@dataclass(frozen=True)
class Spans:
    """One span of the table's rows for each of S users: its last row is the latest target, the rows before are history.

    users [S]    starts [S]    lasts [S] row of the latest target; starts < lasts
    """

    users: np.ndarray
    starts: np.ndarray
    lasts: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def taken(self, kept: np.ndarray) -> "Spans":
        """Those of some users: `kept` [S] bool."""
        return Spans(self.users[kept], self.starts[kept], self.lasts[kept])


def target_rows(table: Table, positive: int = 0) -> np.ndarray:
    """[T] bool: rows that may be predicted. `positive` is a mask of actions, any of which makes an engagement
    positive; 0 takes every engagement. Entries of auxiliary series are never targets."""
    rows = table.kinds == ENGAGEMENT
    if positive:
        assert table.actions is not None
        rows &= (table.actions & positive) != 0
    return rows


def split(table: Table, part: str, config: SplitConfig, *, held_out: int, positive: int = 0) -> Spans:
    """The spans of "train", "validation" or "test".

    `held_out` is 2 where validation is kept from training (protocol `validated`), 1 where only the test is
    (protocol `official`: "train" then reaches up to the test target, and there is no validation part).
    Train spans end at the latest trainable target; every row in them predicts the next (see RetrievalLoader).
    Users without history before a target have no span: nothing can be predicted from nothing.
    """
    assert part in ("train", "validation", "test")
    assert held_out in (1, 2)
    begin, end = table.offsets[:-1], table.offsets[1:]
    rows = np.flatnonzero(target_rows(table, positive))
    before, upto = np.searchsorted(rows, begin), np.searchsorted(rows, end)  # each user's targets: rows[before:upto]
    if config.kind == "time":
        lasts = time_lasts(table, part, config, rows, held_out)
    elif config.kind == "users":
        lasts = users_lasts(part, config, rows, before, upto, held_out)
    else:
        back = {"test": 1, "validation": 2, "train": held_out + 1}[part]
        lasts = nth_from(rows, before, upto, back)
    users = np.flatnonzero(lasts > begin)
    return Spans(users, begin[users], lasts[users])


def nth_from(rows: np.ndarray, before: np.ndarray, upto: np.ndarray, back: int) -> np.ndarray:
    """[U] each user's `back`-th target counted from the end; -1 where there are fewer."""
    at = upto - back
    return np.where(at >= before, rows[np.clip(at, 0, max(len(rows) - 1, 0))] if len(rows) else -1, -1)


def users_lasts(
    part: str, config: SplitConfig, rows: np.ndarray, before: np.ndarray, upto: np.ndarray, held_out: int
) -> np.ndarray:
    users = len(before)
    share = max(1, round(users * config.test_users))
    first_test = users - share
    first_validation = first_test - share if held_out == 2 else first_test
    bounds = {"train": (0, first_validation), "validation": (first_validation, first_test), "test": (first_test, users)}
    low, high = bounds[part]
    lasts = nth_from(rows, before, upto, 1)
    index = np.arange(users)
    return np.where((index >= low) & (index < high), lasts, -1)


def time_lasts(table: Table, part: str, config: SplitConfig, rows: np.ndarray, held_out: int) -> np.ndarray:
    """[U] by a global cut, so that no user is trained on events later than another's test."""
    assert config.validation_from is not None
    assert config.test_from is not None
    begin, end = table.offsets[:-1], table.offsets[1:]
    times = table.times[rows]
    user = np.searchsorted(end, rows, side="right")
    lasts = np.full(len(begin), -1, dtype=np.int64)
    if part == "train":
        cut = config.validation_from if held_out == 2 else config.test_from
        inside = times < cut
        lasts[user[inside]] = rows[inside]  # rows ascend, so the last assignment of a user wins
        return lasts
    low, high = (config.validation_from, config.test_from) if part == "validation" else (config.test_from, None)
    inside = (times >= low) & (times < high) if high is not None else times >= low
    lasts[user[inside][::-1]] = rows[inside][::-1]  # reversed: the first after the cut wins
    return lasts


def part_rows(table: Table, part: str, config: SplitConfig, *, held_out: int) -> np.ndarray:
    """[T] bool: the engagements of "train", "validation" or "test". A request is in one part as a whole.

    time            by the time of the request
    leave_last_out  the last request of each user is for testing, the one before for validation
    users           whole users, as in split
    """
    engaged, heads = table.kinds == ENGAGEMENT, table.request_rows()
    if config.kind == "time":
        assert config.validation_from is not None
        assert config.test_from is not None
        times = table.times[heads]
        after, upto = times >= config.validation_from, times < config.test_from
        if held_out == 1:
            after = ~upto
        return engaged & {"train": ~after, "validation": after & upto, "test": ~upto}[part]
    owner = np.repeat(np.arange(table.users), np.diff(table.offsets))
    if config.kind == "users":
        share = max(1, round(table.users * config.test_users))
        test = table.users - share
        validation = test - share if held_out == 2 else test
        low, high = {"train": (0, validation), "validation": (validation, test), "test": (test, table.users)}[part]
        return engaged & (owner >= low) & (owner < high)
    rows = np.flatnonzero(engaged)
    number = np.unique(heads[rows], return_inverse=True)[1]  # of the request, over all users
    latest = np.zeros(table.users, dtype=np.int64)
    np.maximum.at(latest, owner[rows], number)
    back = latest[owner[rows]] - number  # 0 = the user's last request
    wanted = {"test": back == 0, "validation": (back == 1) & (held_out == 2), "train": back >= held_out}[part]
    result = np.zeros(len(table.ids), dtype=bool)
    result[rows[wanted]] = True
    return result
