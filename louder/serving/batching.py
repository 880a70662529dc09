"""Dynamic batching: requests that are there together are answered together, and more than can be answered in time are
turned away."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Overloaded(Exception):
    """`seconds` until it is worth to ask again"""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Batcher(Generic[Job, Answer]):
    """Gives jobs to one thread, all that are there at once.

    work               jobs -> answers, in order; an exception among them is raised to who asked. One that it raises itself
                       is not expected of any job, so it is asked again for each job alone
    max_batch          jobs of one batch
    window_s           the batch window: how long a batch waits for requests that are `arriving`, such as those whose history
                       is being read. Where none is, nothing waits: a lone request is answered at once
    max_queue_delay_s  a job that would have to wait longer than this for its turn is turned away
    """

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Answer | Exception]],
        *,
        max_batch: int = 32,
        window_s: float = 0.005,
        max_queue_delay_s: float = 0.2,
    ) -> None:
        self.work, self.max_batch, self.window_s, self.max_queue_delay_s = work, max_batch, window_s, max_queue_delay_s
        self.queue: deque[tuple[Job, asyncio.Future[Answer]]] = deque()
        self.changed = threading.Condition()
        self.expected = self.busy = 0  # requests that are arriving, and jobs that are computed
        self.each_s = 0.005  # of a job, averaged over the latest batches
        self.closing = False
        self.thread = threading.Thread(target=self.run, name="model", daemon=True)
        self.thread.start()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """A request is on its way: submit its job before this ends."""
        with self.changed:
            self.expected += 1
        try:
            yield
        finally:
            with self.changed:
                self.expected -= 1
                self.changed.notify()

    def wait_s(self) -> float:
        """How long a job that came now would wait for its turn."""
        return (len(self.queue) + self.busy) * self.each_s

    def admit(self) -> None:
        """Raises Overloaded if a job that came now would have to wait too long."""
        if (wait := self.wait_s()) > self.max_queue_delay_s:
            raise Overloaded(wait)

    def submit(self, job: Job) -> asyncio.Future[Answer]:
        """Called in an event loop. Raises Overloaded, also when the service is about to end."""
        self.admit()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        with self.changed:
            if self.closing:
                raise Overloaded(1.0)
            self.queue.append((job, future))
            self.changed.notify()
        return future

    def run(self) -> None:
        while True:
            with self.changed:
                while not self.queue and not self.closing:
                    self.changed.wait()
                if not self.queue:
                    return
                until = time.monotonic() + self.window_s
                while self.expected > 0 and len(self.queue) < self.max_batch:
                    left = until - time.monotonic()
                    if left <= 0 or not self.changed.wait(left):
                        break
                batch = [self.queue.popleft() for _ in range(min(self.max_batch, len(self.queue)))]
                self.busy = len(batch)
            began = time.perf_counter()
            answers = self.answers([job for job, _ in batch])
            took = time.perf_counter() - began
            # by how much it tells: a lone job that was slow says little of those that will share a pass
            self.each_s += len(batch) / (len(batch) + 50) * (took / len(batch) - self.each_s)
            self.busy = 0
            for (_, future), answer in zip(batch, answers):
                with suppress(RuntimeError):  # the loop of who asked has ended
                    future.get_loop().call_soon_threadsafe(settle, future, answer)

    def answers(self, jobs: Sequence[Job]) -> Sequence[Answer | Exception]:
        """A mistake of ours is the answer of who came upon it, and never the end: after one, each job is done alone."""
        try:
            return self.work(jobs)
        except Exception as error:
            return [error] if len(jobs) == 1 else [self.answers([job])[0] for job in jobs]

    def close(self) -> None:
        """What was accepted is answered; then the thread ends."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join(timeout=30)


def settle(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():
        return  # who asked has gone
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
