"""Ids that come and go: raw id -> slot, within a budget.

    unseen -> counted -> admitted, with a slot -> evicted -> counted again, as new

An id is counted where it is first observed, and admitted once it has been seen often enough. It is evicted when it was not
seen for long, or when the budget is used up and another is worth more. All times are event times, so that the same
observations and updates give the same slots, on any machine.

The index is in C++ (cpu.cpp), where there is a compiler, and else in NumPy (naive.py): the same results, to the bit. Who is
admitted and who leaves is decided here, once for both.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from louder.ops.id_table.places import Places

NEW = -1  # the slot of an id that has none
POLICIES = "least_recent", "least_frequent", "never"


@dataclass(frozen=True, kw_only=True)
class IdSettings:
    """How ids of one vocabulary come and go. Raises ValueError for what makes no sense."""

    budget: int  # slots at most
    segment: int = 1 << 16  # slots that are added at a time, as they are needed
    admit_at: float = 1.0  # an id is admitted when its count is that
    half_life_s: int = 0  # counts halve at the end of each period of so many seconds; 0: never
    evict: str = "least_recent"  # or "least_frequent": who leaves when slots are short; "never": then nobody comes
    max_age_s: int = 0  # who was not seen for longer leaves, admitted or counted; 0: nobody for that reason
    counted: int = (
        1 << 20
    )  # ids that are counted before they are admitted, at most; then those worth least are forgotten

    def __post_init__(self) -> None:
        for name, least in ("budget", 1), ("segment", 1), ("half_life_s", 0), ("max_age_s", 0), ("counted", 1):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but it must be at least {least}")
        if not self.admit_at > 0:
            raise ValueError(f"admit_at is {self.admit_at}, but it must be above 0")
        if self.evict not in POLICIES:
            raise ValueError(f"evict is {self.evict!r}, but it must be one of {', '.join(POLICIES)}")


class Tenants(NamedTuple):
    """Slots, the ids that came to them or left them, and the generation of the slot that these ids had: all [n] int64."""

    slots: Tensor
    ids: Tensor
    generations: Tensor


class Changes(NamedTuple):
    """What `update` did. A slot may be in both: somebody left it, and then somebody else came."""

    evicted: Tenants
    admitted: Tenants
    capacity: int  # slots that there are now


class IdTable:
    """Ids (int64; of texts their 64-bit hashes) in slots 0 .. capacity - 1.

        slots = table.observe(ids, times)             # of what happened; NEW for ids that are not admitted
        changes = table.update(now, in_flight=slots)  # once a window: who left, who came
        slots = table.find(ids)                       # for what is looked up

    Slots are given from the lowest that is free, to whoever is worth most first.
    """

    def __init__(self, settings: IdSettings, *, compiled: bool = True) -> None:
        """`compiled` False: the NumPy index, also where there is a compiler."""
        self.settings = settings
        first = min(settings.segment, settings.budget)
        self.slots = Places(first, settings.half_life_s, compiled)
        self.waiting = Places(min(1024, settings.counted), settings.half_life_s, compiled)
        self.generations = torch.zeros(first, dtype=torch.int32)
        self.latest = 0  # the latest time observed, in seconds

    def __len__(self) -> int:
        """Ids that are admitted."""
        return self.slots.used

    @property
    def capacity(self) -> int:
        return self.slots.capacity

    def find(self, ids: Tensor) -> Tensor:
        """ids [...] int64 -> [...] int64 slots, NEW of those that are not admitted. Changes nothing."""
        return self.slots.find(ids.flatten().contiguous()).view(ids.shape)

    def knows(self, ids: Tensor) -> Tensor:
        """[n] bool: which ids are admitted, or counted"""
        return (self.slots.find(ids) >= 0) | (self.waiting.find(ids) >= 0)

    def observe(self, ids: Tensor, times: Tensor) -> Tensor:
        """Occurrences of ids [n] at times [n] int64 seconds, in any order -> [n] slots, NEW of ids that are not admitted.

        Nobody comes or goes by it. Only a count so large that float32 can't hold it beside a small share of 1, of a much
        earlier period, depends on how occurrences were batched.
        """
        ids, times = ids.contiguous(), times.contiguous()
        found = self.slots.count(ids, times)
        unknown = found < 0
        if len(times):
            self.latest = max(self.latest, int(times.max()))
        if unknown.any():
            self.wait(ids[unknown], times[unknown])
        return found

    def wait(self, ids: Tensor, times: Tensor) -> None:
        """Count ids that have no slot."""
        waiting = self.waiting
        missing = waiting.find(ids) < 0
        if missing.any():
            new, first = np.unique(ids[missing].numpy(), return_index=True)
            if len(new) > self.settings.counted:  # the first ones
                new = new[np.argsort(first, kind="stable")][: self.settings.counted]
            self.make_room(len(new))
            since = np.full(len(new), int(times.min()))
            waiting.put(waiting.free(len(new)), new, np.zeros(len(new), dtype=np.float32), since)
        waiting.count(ids, times)

    def make_room(self, count: int) -> None:
        """Places for `count` more to wait in: of the others the best stay."""
        waiting, most = self.waiting, self.settings.counted
        if (surplus := waiting.used + count - most) > 0:
            places = waiting.taken()
            waiting.remove(places[self.best_first(waiting, places, self.latest)][len(places) - surplus :])
        if waiting.used + count > waiting.capacity:
            waiting.grow(min(most, max(2 * waiting.capacity, waiting.used + count)))

    def update(self, now: int, *, in_flight: Tensor | None = None) -> Changes:
        """Let go and admit, by what was observed up to `now` (event time, seconds).

        in_flight  slots [n] that must not leave (NEW is nobody): those of histories that are read now, and of what is pinned

        First whoever was not seen for max_age_s leaves. Then ids that were seen often enough come, those worth most first:
        into free slots, new segments, and beyond the budget into the slots of those worth less than they are.
        """
        slots, waiting, settings = self.slots, self.waiting, self.settings
        tenants = slots.taken()
        held = np.zeros(slots.capacity, dtype=bool)
        if in_flight is not None:
            held[in_flight[in_flight >= 0].numpy()] = True
        gone = np.zeros(0, dtype=np.int64)
        if settings.max_age_s:
            old = slots.lasts.numpy()[tenants] < now - settings.max_age_s
            gone, tenants = tenants[old & ~held[tenants]], tenants[~old | held[tenants]]
            places = waiting.taken()
            waiting.remove(places[waiting.lasts.numpy()[places] < now - settings.max_age_s])
        places = waiting.taken()
        due = places[waiting.worth(places, now) >= settings.admit_at]
        due = due[self.best_first(waiting, due, now)]
        room = settings.budget - len(tenants)  # below 0 where the budget was made smaller
        if len(due) > room and settings.evict != "never":
            movable = tenants[~held[tenants]]
            worst = movable[self.best_first(slots, movable, now)[::-1]]
            over, worse = max(-room, 0), worst[max(-room, 0) :]
            rivals = due[max(room, 0) :][: len(worse)]
            better = self.value(waiting, rivals, now) > self.value(slots, worse[: len(rivals)], now)
            swapped = worst[: over + (len(better) if better.all() else int(better.argmin()))]
            gone, room = np.concatenate([gone, swapped]), room + len(swapped)
        due = due[: max(room, 0)]
        evicted = self.leave(gone)
        came = waiting.keys.numpy()[due], waiting.counts.numpy()[due], waiting.lasts.numpy()[due]
        waiting.remove(due)
        return Changes(evicted, self.enter(*came), self.capacity)

    def best_first(self, table: Places, places: np.ndarray, now: int) -> np.ndarray:
        """[n] the order of these places by worth; of equals the lower id is first."""
        last, worth = table.lasts.numpy()[places], table.worth(places, now)
        first, second = (worth, last) if self.settings.evict == "least_frequent" else (last, worth)
        return np.lexsort((table.keys.numpy()[places], -second, -first))

    def value(self, table: Places, places: np.ndarray, now: int) -> np.ndarray:
        """[n] what one has to exceed to take another's slot"""
        if self.settings.evict == "least_frequent":
            return table.worth(places, now)
        return table.lasts.numpy()[places]

    def admit(self, ids: Tensor, now: int) -> Tenants:
        """At once, and in their order: ids [n] that are all different and have no slot, as seen once at `now`; those of a
        table that was trained before, for instance. Raises ValueError where that is not so, or the budget is too small."""
        new = ids.numpy()
        if len(np.unique(new)) != len(new) or (self.find(ids) >= 0).any():
            raise ValueError("ids to admit must be all different, and not be admitted yet")
        if len(self) + len(new) > self.settings.budget:
            raise ValueError(
                f"{len(new):,} more ids than {len(self):,} are beyond the budget of {self.settings.budget:,}"
            )
        places = self.waiting.find(ids)
        self.waiting.remove(places[places >= 0].numpy())
        self.latest = max(self.latest, now)
        return self.enter(new, np.full(len(new), self.settings.admit_at, np.float32), np.full(len(new), now))

    def evict(self, slots: Tensor) -> Tenants:
        """At once: whoever has these slots leaves, an item that was deleted for instance. Free slots, NEW among them, stay
        so."""
        wanted = np.unique(slots[slots >= 0].numpy())
        return self.leave(wanted[self.slots.counts.numpy()[wanted] >= 0])

    def leave(self, slots: np.ndarray) -> Tenants:
        left = Tenants(*(torch.from_numpy(x) for x in (slots, self.slots.keys.numpy()[slots], self.generation(slots))))
        self.slots.remove(slots)
        return left

    def enter(self, ids: np.ndarray, counts: np.ndarray, lasts: np.ndarray) -> Tenants:
        needed, segment = len(self) + len(ids), self.settings.segment
        if needed > self.capacity:
            self.grow(min(self.settings.budget, -(-needed // segment) * segment))
        slots = self.slots.free(len(ids))
        self.slots.put(slots, ids, counts, lasts)
        self.generations.numpy()[slots] += 1
        return Tenants(*(torch.from_numpy(x) for x in (slots, ids, self.generation(slots))))

    def grow(self, capacity: int) -> None:
        self.generations = torch.cat([self.generations, self.generations.new_zeros(capacity - self.capacity)])
        self.slots.grow(capacity)

    def generation(self, slots: np.ndarray) -> np.ndarray:
        return self.generations.numpy()[slots].astype(np.int64)

    def is_current(self, slots: Tensor, generations: Tensor) -> Tensor:
        """[n] bool: whether each slot still has the tenant that it had in this generation."""
        there = (slots >= 0) & (slots < self.capacity)
        own = slots.clamp(0, self.capacity - 1)
        return there & (self.generations[own] == generations) & (self.slots.counts[own] >= 0)

    def catalogue(self) -> Tensor:
        """[A] int64, the slots that somebody has, ascending"""
        return torch.from_numpy(self.slots.taken())

    def ids(self, slots: Tensor) -> Tensor:
        """[n] int64, the ids that have these slots. Of a free one it means nothing."""
        return self.slots.keys[slots]

    def state(self) -> dict[str, Tensor]:
        """Copies of all that it is, for a checkpoint: about 24 bytes a slot and 20 an id that is counted."""
        waiting, places = self.waiting, self.waiting.taken()
        return {
            **{name: getattr(self.slots, name).clone() for name in ("keys", "counts", "lasts")},
            "generations": self.generations.clone(),
            **{f"waiting.{name}": getattr(waiting, name)[places] for name in ("keys", "counts", "lasts")},
            "latest": torch.tensor(self.latest),
        }

    @classmethod
    def from_state(cls, settings: IdSettings, state: dict[str, Tensor], *, compiled: bool = True) -> "IdTable":
        """The table as it was. The settings may be others: a smaller budget holds from the next `update` on."""
        table = cls(settings, compiled=compiled)
        table.latest = int(state["latest"])
        slots, waiting = table.slots, table.waiting
        slots.keys, slots.counts, slots.lasts = (state[name].clone() for name in ("keys", "counts", "lasts"))
        table.generations = state["generations"].clone()
        slots.make_index()
        keys, counts, lasts = (state[f"waiting.{name}"].numpy() for name in ("keys", "counts", "lasts"))
        waiting.grow(max(waiting.capacity, len(keys)))
        waiting.put(waiting.free(len(keys)), keys, counts, lasts)
        return table

    def bytes(self) -> int:
        """Memory of the slots and their ids, and of ids that are counted."""
        return self.slots.bytes() + self.generations.numel() * 4 + self.waiting.bytes()
