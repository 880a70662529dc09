"""What one user did: raw ids, so that any model can read it, whatever it was trained on."""

from dataclasses import dataclass, field, replace

import numpy as np

COLUMNS = ("items", "times", "actions", "values", "requests")
MOST_OLDER = 10_000  # items of which it is known for good that the user has met them, beside those of the events kept


@dataclass(frozen=True)
class Names:
    """What the bits of actions and the columns of values mean."""

    actions: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """Events of one user, oldest first (ties in the order of their arrival)."""

    items: np.ndarray  # T raw ids: int64, or an object array of texts
    times: np.ndarray  # [T] int64 seconds
    actions: np.ndarray  # [T] int64 bits, by names.actions
    values: np.ndarray  # [T, V] float32, by names.values; NaN where absent
    requests: np.ndarray  # [T] int64, the same number for items of one request; -1 = none
    names: Names = Names()
    version: int = 0  # grows with every event that is stored or deleted, until the user is deleted
    total: int = 0  # events ever stored of the user, of which the latest are here
    # [at most MOST_OLDER] int64, different keys of items (louder.ids.keys_of) of events that are not here any more, in the
    # order of their latest one
    older: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.times)

    @property
    def dropped(self) -> int:
        """Events of the user before these."""
        return max(self.total - len(self), 0)

    def select(self, rows: np.ndarray | slice) -> "History":
        """Some of the events, in the order of `rows`."""
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})


def empty_history(names: Names = Names(), *, texts: bool = False) -> History:
    """Of a user who did nothing yet; `texts`: the kind of the item ids."""
    none = np.empty(0, np.int64)
    values = np.empty((0, len(names.values)), np.float32)
    return History(none.astype(object) if texts else none, none, none, values, none, names)
