"""What is read of a table, how it is split, and how it is packed into batches."""

from dataclasses import dataclass, field

from louder.config import require_at_least, require_one_of
from louder.data.stochastic_length import StochasticLength
from louder.data.targets import SplitConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, how it is split, and how it is packed."""

    table: str = ""  # folder of the sequence table
    split: SplitConfig = field(default_factory=SplitConfig)
    max_len: int = 200  # longest history given to a model, in tokens; the latest are kept
    windows: str = (
        "latest"  # what training sees of longer ones: their "latest" tokens, or "all", each window in its turn
    )
    users_per_batch: int = 128  # sequences
    events_per_batch: int | None = None  # if set, batches are packed up to this many tokens instead of by users
    shuffle: bool = True  # users in a new order every epoch; False keeps the table's order, for a stream
    actions: bool = True  # what the user did is part of a token, where the log has actions
    auxiliary: bool = True  # entries of auxiliary series are part of the history, where the log has them
    positive: tuple[str, ...] = ()  # actions, any of which makes an engagement a target; () takes every engagement
    max_gap: int | None = (
        None  # seconds; training predicts no next item that comes later than so long after the history
    )
    query_time: str = "request"  # rows know when the next event happens ("request", as the paper) or not ("withheld")
    stochastic_length: StochasticLength | None = None

    def __post_init__(self) -> None:
        require_at_least(1, "data", self, "max_len", "users_per_batch", "events_per_batch", "max_gap")
        require_one_of("data", self, windows=("latest", "all"), query_time=("request", "withheld"))
