"""Times of events and requests are seconds since 1970. Nothing has happened later than now, but for clocks that differ."""

import numpy as np

MARGIN_S = 86_400  # that a client's clock may be ahead: a day, since some count their own zone's hours
LONG_AGO = 100_000_000  # in 1973: nobody's milliseconds are from before
UNITS = {"milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}


def wrong_time(time: int, now: float) -> str:
    """What is wrong with a time that a client sent; "" if nothing."""
    if time <= now + MARGIN_S:
        return ""
    for unit, count in UNITS.items():
        if LONG_AGO <= time // count <= now + MARGIN_S:
            return f"The time {time} looks like {unit}, but times are seconds since 1970: divide it by {count:,}."
    return f"The time {time} is more than a day after now, which is {int(now)}. Send seconds since 1970, in UTC."


def request_time(times: np.ndarray, now: int) -> int:
    """The time of a request that comes now, after events [T] at `times`: what is stored has happened, also where the clock
    of who sent it is ahead. Later times than such a clock may tell are mistakes, and say nothing."""
    past = int(np.searchsorted(times, now + MARGIN_S, side="right"))
    return max(now, int(times[past - 1])) if past else now
