"""Up to which time of events all has come, as the stamps of the log tell it: no clock is read, so a replay tells the same.

Stamps are the log's own and never go back, so neither an event from the future nor one from long ago moves it.
"""

from collections.abc import Collection

from louder.streaming.reader import Logged


class Watermark:
    """partitions  that are read
    lateness_s  for so long after it happened an event may come and not be late
    idle_s      a partition in which nothing came for so long, while something came in another, is not waited for
    """

    def __init__(self, partitions: int, *, lateness_s: int = 60, idle_s: int = 300) -> None:
        self.partitions, self.lateness_s, self.idle_s = partitions, lateness_s, idle_s
        self.stamps = dict[int, int]()  # the latest of each partition, in milliseconds
        self.began: int | None = None
        self.time: int | None = None  # seconds since 1970; None: nothing is known yet

    def see(self, logged: Logged) -> None:
        self.began = logged.stamp if self.began is None else min(self.began, logged.stamp)
        self.stamps[logged.partition] = max(logged.stamp, self.stamps.get(logged.partition, 0))

    def idle(self) -> list[int]:
        """Partitions that are not waited for."""
        newest = max(self.stamps.values(), default=0)
        return [n for n in range(self.partitions) if newest - self.stamp(n) > 1000 * self.idle_s]

    def advance(self, unread: Collection[int] = ()) -> int | None:
        """The time now; it never goes back.

        unread  partitions that hold more than was read, which are waited for however far behind they seem: who reads an old
                log meets hours of one partition before the others
        """
        if self.began is not None:
            live = set(range(self.partitions)) - (set(self.idle()) - set(unread))
            now = min(map(self.stamp, live)) // 1000 - self.lateness_s
            self.time = now if self.time is None else max(self.time, now)
        return self.time

    def stamp(self, partition: int) -> int:
        return self.stamps.get(partition, self.began or 0)
