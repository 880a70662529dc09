"""Dynamic batching: requests that are there together are answered together, each client in its turn, and more than can be
answered in time are turned away."""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")

CLIENT: ContextVar[str] = ContextVar("client", default="")  # who asks: token and address; the middleware knows
REQUEST: ContextVar[str] = ContextVar("request", default="")  # the id of the request
VARIANT: ContextVar[str] = ContextVar("variant", default="")  # which answered it, where several do

RETURN_S = 0.002  # a batch waits so long after the one before it for as many jobs as that had
YIELDING = 8  # rows of another client that go before one of a job that yields
AFTER_OTHERS_S = 0.01  # what yields does not begin sooner after an answer to others: who was answered may ask again

OVERDUE = 5  # queue delays, after which a job is not overtaken any more
LONGEST_RETRY_S = 30.0  # nobody is told to come back later than this
REFUSALS_A_SECOND = 200  # told at once; more than these are told one after another
LONGEST_HOLD_S = 1.0  # and none later than this


class Overloaded(Exception):
    """`seconds` until it is worth to ask again. The answer is to be held for `hold_s`: who asks again at once, whatever
    they are told, would otherwise take the processor from those who are answered."""

    def __init__(self, seconds: float, hold_s: float = 0.0) -> None:
        super().__init__(f"More requests are waiting than can be answered in time. Ask again in {seconds:.0f} s.")
        self.seconds, self.hold_s = seconds, hold_s


@dataclass(frozen=True)
class Queued(Generic[Job, Answer]):
    """A job in the queue: `turn` is its place, and when it is `overdue` (time.monotonic) it goes before all that are not."""

    job: Job
    future: asyncio.Future[Answer]
    client: str
    rows: int
    yields: bool
    turn: int
    overdue: float


class Batcher(Generic[Job, Answer]):
    """Gives jobs to one thread, all that are there at once, up to `max_rows`.

    work               jobs -> answers, in order; an exception among them is raised to who asked. One that it raises itself
                       is not expected of any job, so it is asked again for each job alone
    max_rows           rows of one batch, a job's rows being what it costs; a job that has more is a batch of its own
    window_s           the batch window: how long a batch waits for requests that are `arriving`, such as those whose history
                       is being read. Where none is, nothing waits: a lone request is answered at once
    max_queue_delay_s  a job that would have to wait longer than this for its turn is turned away

    Turns: a job comes after as many rows as its own, times the jobs that its client has waiting already and itself. So clients
    that wait get equal shares of the rows, whatever the size and the number of their jobs, and of one client a small job
    does not wait for large ones. None is overtaken once it has waited for five times `max_queue_delay_s`. A job of which the
    future was cancelled is not computed.

    Jobs that yield, such as slices of long requests, have what others leave: all of them together an eighth of the rows that
    any client which waits has, whose ever they are and however many.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Answer | Exception]],
        *,
        max_rows: int = 32,
        window_s: float = 0.005,
        max_queue_delay_s: float = 0.2,
        row_s: float = 0.005,
    ) -> None:
        self.work, self.max_rows, self.window_s, self.max_queue_delay_s = work, max_rows, window_s, max_queue_delay_s
        self.queue: list[Queued[Job, Answer]] = []
        self.changed = threading.Condition()
        self.expected = self.busy = 0  # requests that are arriving, and rows that are computed
        self.row_s = row_s  # of a row, averaged over the latest batches
        self.job_s = row_s  # of a job
        self.answered, self.answered_at = 0, 0.0  # jobs of the latest batch, and when
        self.gathers = False  # whether the thread waits for as many again, and need not be woken for fewer
        self.turn = 0  # of the latest job that was taken
        self.quiet_at = 0.0  # when what yields may begin
        self.fewest = 0, 1, 1  # a second, the fewest rows of a job that came then, and in the second before
        self.retry_at = self.refused_at = self.told_at = 0.0
        self.abandoned = 0
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

    def turn_of(self, client: str, rows: int, yields: bool = False) -> int:
        alike = [x for x in self.queue if x.yields == yields]
        own = sum(x.client == client for x in alike)
        return self.turn + rows * (YIELDING * (1 + len(alike) + own) if yields else 1 + own)

    def wait_s(self, client: str = "", rows: int = 1, yields: bool = False) -> float:
        """How long a job that came now would wait for its turn."""
        turn = self.turn_of(client, rows, yields)
        ahead = [x for x in self.queue if x.turn <= turn and not x.future.done()]
        # between jobs that yield there will be others, as long as others come
        slower = 1 + YIELDING if yields and not all(x.yields for x in self.queue) else 1
        return (sum(x.rows * (slower if x.yields else 1) for x in ahead) + self.busy) * self.row_s

    def admit(self, client: str = "", rows: int = 1, within_s: float | None = None, *, yields: bool = False) -> None:
        """Raises Overloaded if a job that came now would have to wait too long, or could not be done within a time."""
        second = int(time.monotonic())
        latest, fewest, before = self.fewest
        if second == latest:
            self.fewest = second, min(fewest, rows), before
        else:
            self.fewest = second, rows, fewest if second == latest + 1 else rows
        self.check(client, rows, within_s, yields)

    def admit_unread(self, client: str) -> None:
        """Raises Overloaded if not even the smallest job of this second and the last could be admitted; where none came, a
        smaller one than any."""
        latest, *fewest = self.fewest
        self.check(client, min(fewest) if time.monotonic() - latest < 2 else 1, None)

    def check(self, client: str, rows: int, within_s: float | None, yields: bool = False) -> None:
        wait = self.wait_s(client, rows, yields)
        if wait > self.max_queue_delay_s or (within_s is not None and wait + rows * self.row_s > within_s):
            raise self.refusal(wait)

    def refusal(self, wait_s: float) -> Overloaded:
        """Who is refused stands in a line that begins behind what waits; it moves on with the time, and each is told when
        its own turn would come. After a second in which nobody was refused it begins anew."""
        now = time.monotonic()
        if now - self.refused_at > 1:
            self.retry_at = now + wait_s
        self.refused_at, self.retry_at = now, min(max(self.retry_at, now + wait_s) + self.job_s, now + LONGEST_RETRY_S)
        self.told_at = min(max(self.told_at + 1 / REFUSALS_A_SECOND, now), now + LONGEST_HOLD_S)
        return Overloaded(max(1.0, self.retry_at - now), self.told_at - now)

    def submit(
        self,
        job: Job,
        *,
        client: str = "",
        rows: int = 1,
        within_s: float | None = None,
        yields: bool = False,
        admitted: bool = False,
    ) -> asyncio.Future[Answer]:
        """Called in an event loop. Raises Overloaded, also when the service is about to end; of what is a part of something
        that was `admitted` only then."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        with self.changed:
            if not admitted:
                self.admit(client, rows, within_s, yields=yields)
            if self.closing:
                raise Overloaded(1.0)
            overdue = math.inf if yields else time.monotonic() + OVERDUE * self.max_queue_delay_s
            self.queue.append(Queued(job, future, client, rows, yields, self.turn_of(client, rows, yields), overdue))
            if not self.gathers or len(self.queue) >= self.answered:
                self.changed.notify()
        return future

    def run(self) -> None:
        while batch := self.take():
            began = time.perf_counter()
            answers = self.answers([x.job for x in batch])
            took, rows = time.perf_counter() - began, sum(x.rows for x in batch)
            # by how much it tells: a lone job that was slow says little of those that will share a pass
            weight = len(batch) / (len(batch) + 50)
            self.row_s += weight * (took / rows - self.row_s)
            self.job_s += weight * (took / len(batch) - self.job_s)
            self.busy, self.answered, self.answered_at = 0, len(batch), time.monotonic()
            if not all(x.yields for x in batch):
                self.quiet_at = self.answered_at + AFTER_OTHERS_S
            done = list(zip((x.future for x in batch), answers))
            for loop in {future.get_loop() for future, _ in done}:
                with suppress(RuntimeError):  # the loop of who asked has ended
                    loop.call_soon_threadsafe(settle, [x for x in done if x[0].get_loop() is loop])

    def take(self) -> list[Queued[Job, Answer]]:
        """The next batch, which is waited for; empty at the end."""
        with self.changed:
            while True:
                while not self.queue and not self.closing:
                    self.changed.wait()
                if not self.queue:
                    return []
                until = time.monotonic() + self.window_s
                while sum(x.rows for x in self.queue) < self.max_rows:
                    # who was just answered often asks again at once
                    back = 0.0 if len(self.queue) >= self.answered else self.answered_at + RETURN_S
                    left = (until if self.expected > 0 else back) - time.monotonic()
                    self.gathers = left > 0 and self.expected == 0
                    if left <= 0 or not self.changed.wait(left):
                        break
                self.gathers = False
                if (quiet_s := self.quiet_s()) > 0:
                    self.changed.wait(quiet_s)
                    continue
                if batch := self.first_of_queue():
                    return batch

    def quiet_s(self) -> float:
        """How long a queue that yields as a whole waits for others."""
        waiting = [x.yields for x in self.queue if not x.future.done()]
        if self.closing or not waiting or not all(waiting):
            return 0.0
        return self.quiet_at - time.monotonic()

    def first_of_queue(self) -> list[Queued[Job, Answer]]:
        now = time.monotonic()
        waiting = [x for x in self.queue if not x.future.done()]
        self.abandoned += len(self.queue) - len(waiting)
        waiting.sort(key=lambda x: (x.overdue > now, x.turn))
        sums = list(itertools.accumulate(x.rows for x in waiting))
        count = max(1, sum(rows <= self.max_rows for rows in sums))
        others = [place for place in range(count) if place < len(waiting) and not waiting[place].yields]
        if others:
            count = others[-1] + 1  # room in a pass is no turn: what yields would make it longer for the others
        batch, self.queue = waiting[:count], waiting[count:]
        self.busy = sum(x.rows for x in batch)
        self.turn = max([self.turn, *(x.turn for x in batch)])
        return batch

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


def settle(done: Sequence[tuple[asyncio.Future[Answer], Answer | Exception]]) -> None:
    """Called in the loop of the futures, once for all of a batch: to wake it costs more than to answer."""
    for future, answer in done:
        if future.done():
            continue  # who asked has gone
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
