"""Requests that arrive together are answered together, and more than can be answered in time are turned away."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")


class Overloaded(Exception):
    """`seconds` until it is worth to ask again"""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass
class Waiting(Generic[Job]):
    job: Job
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Batcher(Generic[Job]):
    """Gives jobs to one thread, all that are there at once.

    work        jobs -> results, in order; an exception among them is raised to who asked. One that it raises itself is not
                expected of any job, so it is asked again for each job alone
    most        jobs of one batch
    company_s   how long a batch waits for requests whose arrival was announced (`arriving`), such as those whose history
                is being read. Where none is on its way nothing waits: a lone request is answered at once
    patience_s  a job that would have to wait longer than this for its turn is turned away
    """

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Any]],
        *,
        most: int = 32,
        company_s: float = 0.005,
        patience_s: float = 0.2,
    ) -> None:
        self.work, self.most, self.company_s, self.patience_s = work, most, company_s, patience_s
        self.queue: deque[Waiting[Job]] = deque()
        self.changed = threading.Condition()
        self.arriving = self.busy = 0
        self.each_s = 0.005  # of a job, averaged over the latest batches
        self.batch_began = 0.0
        self.closing = False
        self.thread = threading.Thread(target=self.run, name="model", daemon=True)
        self.thread.start()

    def announce(self, change: int) -> None:
        """A request comes (1), or is queued or has failed (-1): once for each that came, and not before it is queued."""
        with self.changed:
            self.arriving += change
            if change < 0:
                self.changed.notify()

    def wait_s(self) -> float:
        """How long a job that came now would wait for its turn."""
        return (len(self.queue) + self.busy) * self.each_s

    def admit(self) -> None:
        """Raises Overloaded if a job that came now would have to wait too long."""
        if (wait := self.wait_s()) > self.patience_s:
            raise Overloaded(wait)

    def submit(self, job: Job) -> "asyncio.Future[Any]":
        """Called in an event loop. Raises Overloaded, also when the service is about to end."""
        self.admit()
        loop = asyncio.get_running_loop()
        waiting = Waiting(job, loop.create_future(), loop)
        with self.changed:
            if self.closing:
                raise Overloaded(1.0)
            self.queue.append(waiting)
            self.changed.notify()
        return waiting.future

    def run(self) -> None:
        while True:
            with self.changed:
                while not self.queue and not self.closing:
                    self.changed.wait()
                if not self.queue:
                    return
                until = time.monotonic() + self.company_s
                while self.arriving > 0 and len(self.queue) < self.most:
                    left = until - time.monotonic()
                    if left <= 0 or not self.changed.wait(left):
                        break
                batch = [self.queue.popleft() for _ in range(min(self.most, len(self.queue)))]
                self.busy = len(batch)
            began = time.perf_counter()
            results = self.results([x.job for x in batch])
            took = time.perf_counter() - began
            # by how much it tells: a lone job that was slow says little of those that will share a pass
            self.each_s += len(batch) / (len(batch) + 50) * (took / len(batch) - self.each_s)
            self.busy = 0
            for waiting, result in zip(batch, results):
                with suppress(RuntimeError):  # the loop of who asked has ended
                    waiting.loop.call_soon_threadsafe(settle, waiting.future, result)

    def results(self, jobs: Sequence[Job]) -> Sequence[Any]:
        """A mistake of ours is the answer of who came upon it, and never the end: after one, each job is done alone."""
        try:
            return self.work(jobs)
        except Exception as error:
            return [error] if len(jobs) == 1 else [self.results([job])[0] for job in jobs]

    def close(self) -> None:
        """What was accepted is answered; then the thread ends."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join(timeout=30)


def settle(future: "asyncio.Future[Any]", result: Any) -> None:
    if future.done():  # who asked has gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
