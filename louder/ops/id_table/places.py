"""Places for ids, with a count and a latest time each: an open-addressing table whose memory is a few tensors."""

import numpy as np
import torch
from torch import Tensor

from louder.ops import build
from louder.ops.id_table import naive

FREE = -1.0  # the count of a place that nobody has
ENTRIES = 5, 3  # entries of the index for so many places: it is three fifths full at most
MOST = 1 << 30  # places: an entry of the index has 31 bits, one of them for the hash


class Places:
    """Ids in `capacity` places.

    keys [C] int64, counts [C] float32 (FREE where nobody is), lasts [C] int64 seconds; index [P] int32
    """

    def __init__(self, capacity: int, half_life_s: int = 0, compiled: bool = True) -> None:
        """`compiled` False: in NumPy, also where there is a compiler"""
        self.half_life_s = half_life_s
        self.compiled = compiled and build.load("id_table", build.source_of("id_table"))
        self.keys, self.counts = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        self.lasts = torch.zeros(0, dtype=torch.int64)
        self.used = 0
        self.grow(capacity)

    @property
    def capacity(self) -> int:
        return len(self.keys)

    def grow(self, capacity: int) -> None:
        """More places at the end; who has one keeps it."""
        if capacity >= MOST:
            raise ValueError(f"{capacity:,} places are too many: at most {MOST - 1:,}")
        more = capacity - self.capacity
        self.keys = torch.cat([self.keys, self.keys.new_zeros(more)])
        self.counts = torch.cat([self.counts, self.counts.new_full((more,), FREE)])
        self.lasts = torch.cat([self.lasts, self.lasts.new_zeros(more)])
        self.make_index()

    def make_index(self) -> None:
        over, under = ENTRIES
        self.index = torch.full((self.capacity * over // under + 1,), -1, dtype=torch.int32)
        taken = self.taken()
        self.used = len(taken)
        self.enter(taken)

    def taken(self) -> np.ndarray:
        """[U] the places that somebody has, ascending"""
        return np.flatnonzero(self.counts.numpy() >= 0)

    def free(self, count: int) -> np.ndarray:
        """The `count` lowest places that nobody has."""
        return np.flatnonzero(self.counts.numpy() < 0)[:count]

    def find(self, ids: Tensor) -> Tensor:
        """ids [n] int64 -> [n] int64 places, -1 of those that have none"""
        if self.compiled:
            return torch.ops.louder_cpu.id_find(self.index, self.keys, ids)
        return torch.from_numpy(naive.find(self.index.numpy(), self.keys.numpy(), ids.numpy()))

    def count(self, ids: Tensor, times: Tensor) -> Tensor:
        """find, and each occurrence counts. See naive.count."""
        index, keys, counts, lasts = self.index, self.keys, self.counts, self.lasts
        if self.compiled:
            return torch.ops.louder_cpu.id_count(index, keys, counts, lasts, ids, times, self.half_life_s)
        arrays = index.numpy(), keys.numpy(), counts.numpy(), lasts.numpy()
        return torch.from_numpy(naive.count(*arrays, ids.numpy(), times.numpy(), self.half_life_s))

    def put(self, places: np.ndarray, ids: np.ndarray, counts: np.ndarray, lasts: np.ndarray) -> None:
        """Distinct ids [n] that have no place get these free ones."""
        for held, given in (self.keys, ids), (self.counts, counts), (self.lasts, lasts):
            held.numpy()[places] = given
        self.used += len(places)
        self.enter(places)

    def remove(self, places: np.ndarray) -> None:
        if self.compiled:
            torch.ops.louder_cpu.id_remove(self.index, self.keys, torch.from_numpy(places))
        else:
            naive.remove(self.index.numpy(), self.keys.numpy(), places)
        self.counts.numpy()[places] = FREE
        self.used -= len(places)

    def enter(self, places: np.ndarray) -> None:
        if self.compiled:
            torch.ops.louder_cpu.id_put(self.index, self.keys, torch.from_numpy(places))
        else:
            naive.put(self.index.numpy(), self.keys.numpy(), places)

    def worth(self, places: np.ndarray, now: int) -> np.ndarray:
        """[n] float32, what their counts are worth `now`"""
        then = self.lasts.numpy()[places]
        return self.counts.numpy()[places] * naive.halved(np.maximum(then, now), then, self.half_life_s)

    def bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in (self.keys, self.counts, self.lasts, self.index))
