"""The settings of a stream."""

import re
from dataclasses import dataclass

from louder.config import require_above_zero, require_at_least, require_one_of
from louder.errors import InputError
from louder.ops.id_table import POLICIES

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Times are seconds, of events."""

    window_s: int = 900
    wait_s: int = 600  # after which an item that was shown and left alone counts as a negative
    lateness_s: int = 60  # for so long after it happened an event may come and not be late
    idle_s: int = 300  # a partition with nothing new for so long, while another has some, is not waited for
    horizon_s: int = 86_400  # for so long what was shown can be joined with what is done
    keep: int = 1_000  # latest events of a user that are kept
    most_events: int = 10_000  # of one user in one window; of more the latest are trained on
    dense_rate: float = 1.0  # the rate of weights that are no rows of tables, as a share of the rows'
    item_budget: int = 0  # items at most, with which items come and go; 0: those of the run, for good
    item_admit_at: float = 2.0  # events of an item, with which it comes
    item_half_life_s: int = 0  # counts of items halve at the end of each period of so many seconds; 0: never
    item_evict: str = (
        "least_frequent"  # or least_recent: who leaves for others beyond the budget; never: nobody comes then
    )
    item_max_age_s: int = 0  # an item without an event for longer leaves; 0: none for that reason

    def __post_init__(self) -> None:
        require_at_least(1, "stream", self, "window_s", "keep", "most_events", "horizon_s")
        require_at_least(0, "stream", self, "wait_s", "lateness_s", "idle_s")
        require_at_least(0, "stream", self, "item_budget", "item_half_life_s", "item_max_age_s")
        require_above_zero("stream", self, "dense_rate", "item_admit_at")
        require_one_of("stream", self, item_evict=POLICIES)
        if self.wait_s > self.horizon_s:
            raise InputError(
                f"stream.wait_s is {self.wait_s}, but what was shown is forgotten after stream.horizon_s, "
                f"{self.horizon_s}: --set stream.horizon_s={self.wait_s}."
            )


def seconds_of(text: str, option: str) -> int:
    """90, 90s, 15m, 2h or 1d. Raises InputError for anything else."""
    found = re.fullmatch(r"(\d+)\s*([smhd]?)", text.strip())
    if not found:
        raise InputError(f"{option} is {text!r}, but must be a time such as 30s, 15m, 2h or 1d.")
    return int(found[1]) * UNITS[found[2]]


def said(seconds: int) -> str:
    """The time as it is typed."""
    unit = next(
        name for name, size in reversed(UNITS.items()) if (seconds % size == 0 and seconds >= size) or size == 1
    )
    return f"{seconds // UNITS[unit]}{unit or 's'}"
