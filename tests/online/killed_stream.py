"""python killed_stream.py RUN LOG STREAM KILLS SECONDS: a stream that is killed so often, each time within so many seconds,
and then goes on to the end. It is forked, so that a kill costs no imports; nothing is computed before."""

import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.online.streams import learnt


def attempt(arguments: list[str], within: float | None, draw: random.Random) -> bool:
    """Whether it came to the end."""
    child = os.fork()
    if not child:
        begin, log, output = map(Path, arguments)
        learnt(begin, log, output)
        os._exit(0)
    if within is not None:
        time.sleep(draw.uniform(0.0, within))
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    import torch._dynamo  # noqa: F401 (an optimizer loads it when it is made, which takes longer than all else here)

    *names, kills, within = sys.argv[1:]
    draw, done = random.Random(0), 0
    for _ in range(int(kills)):
        done += not attempt(names, float(within), draw)
    assert attempt(names, None, draw)
    print(done)
