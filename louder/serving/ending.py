"""How a process of the service ends: it says so before it stops to listen, and not later than its parent."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from louder.serving.connections import Gate


@contextmanager
def announced(gate: Gate, grace_s: float) -> Iterator[None]:
    """SIGTERM first sets `gate.ending`, and reaches who handled it before (uvicorn, which stops to listen then) after
    `grace_s` seconds, or with a second SIGTERM. A balancer has noticed by then. Called in the event loop."""
    before = signal.getsignal(signal.SIGTERM)
    if grace_s <= 0 or not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        before(signal.SIGTERM, None)

    def begin_to_end(number: int, frame: FrameType | None) -> None:
        again = gate.ending
        gate.ending = True
        loop.call_soon_threadsafe(loop.call_later, 0.0 if again else grace_s, end)

    signal.signal(signal.SIGTERM, begin_to_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with_parent() -> None:
    """In a process that another one started: SIGTERM to itself when that one has ended, however it did."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
