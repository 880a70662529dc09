"""Lines on standard error for whoever runs the service."""

import sys
import time

OFTEN_S = 10.0  # what happens to many requests at once is told so often, and not for each of them

last: dict[str, float] = {}  # what -> when it was told


def tell(what: str, line: str, every_s: float = OFTEN_S) -> None:
    """Print a line, unless one of `what` was printed within `every_s` seconds."""
    now = time.monotonic()
    if now - last.get(what, -every_s) >= every_s:
        last[what] = now
        print(f"louder: {line}", file=sys.stderr, flush=True)
