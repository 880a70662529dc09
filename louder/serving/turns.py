"""Batches, and what changes the model between two of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """One at a time. Who changes the model is next, however many batches wait."""

    def __init__(self) -> None:
        self.next, self.busy = threading.Lock(), threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        with self.next:  # held by a change that waits for the batch before this one to end
            self.busy.acquire()
        try:
            yield
        finally:
            self.busy.release()

    @contextmanager
    def between(self) -> Iterator[None]:
        with self.next, self.busy:
            yield
