"""What is held out of a log that is tried."""

import numpy as np

from louder.data.table import Table
from louder.data.targets import SplitConfig, split, target_rows

SHARES = 0.8, 0.9  # of the events: from there on validation, from there on the test
ENOUGH = 100  # people who have to come back after either cut


def choose_split(table: Table, positive: int = 0, enough: int = ENOUGH) -> tuple[SplitConfig, str]:
    """By time, if `enough` users have events on both sides of either cut; else the last events of each user. And a sentence
    about it. `positive` is a mask of actions, see louder.data.targets."""
    last = SplitConfig()
    if not table.manifest.has_times:
        return last, "The log has no times, so of each user the last event is held out."
    times = np.sort(table.times[target_rows(table, positive)])
    validation, test = (int(times[min(len(times) - 1, int(share * len(times)))]) for share in SHARES)
    if validation < test:
        by_time = SplitConfig(kind="time", validation_from=validation, test_from=test)
        parts = [split(table, part, by_time, held_out=2, positive=positive) for part in ("validation", "test")]
        if min(len(part.users) for part in parts) >= enough:
            return by_time, (
                "Everything is trained on the first 80 % of the events. The next 10 % choose settings and epochs, and "
                "each user's first event in the last 10 % is what has to be found. Nothing later than a question is known."
            )
    return last, (
        f"Fewer than {enough:,} people come back after a cut in time, so of each user the last event is held out. Training "
        "knows what others did later, which is kinder than life."
    )
