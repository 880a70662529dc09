"""Raw ids of a vocabulary that changes <-> slots of an id table.

An id table knows numbers of 64 bits. An integer is one itself, and of a text it is the hash that stores of histories know it
by (`ids.keys_of`). Texts are kept beside while they are counted or admitted, since answers name them: so a text whose hash is
another's is noticed. It stays new for good, and is counted.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from louder.ids import IdMap, RawId, cast_or_none, int64s, key_of_text
from louder.ops.id_table import NEW, Changes, IdSettings, IdTable

TEXTS, ENDS = "texts", "ends"  # in a state, beside the id table's


class Slots:
    """Raw ids, of one type, in the slots of a `table`.

    collisions  occurrences of texts whose hash is another text's
    """

    def __init__(self, table: IdTable, raw_type: pa.DataType) -> None:
        self.table, self.raw_type = table, raw_type
        self.is_text = not pa.types.is_integer(raw_type)
        self.keys: dict[str, int] = {}  # of texts that are counted or admitted
        self.texts: dict[int, str] = {}  # and back
        self.collisions = 0

    @classmethod
    def of(cls, ids: IdMap, settings: IdSettings, now: int) -> "Slots":
        """Those of a run, whose ids get the slots of their numbers. Raises ValueError where the budget is too small, or where
        some number is nobody's."""
        if not ids.there.all():
            raise ValueError("some numbers of these ids are nobody's, so others would get their slots")
        slots = cls(IdTable(settings), ids.raw.type)
        keys, _ = slots.learn(ids.raw.to_pylist())
        slots.table.admit(torch.from_numpy(keys), now)
        return slots

    def find(self, raw: Sequence[RawId] | np.ndarray) -> np.ndarray:
        """Raw ids -> int64 [n] slots, NEW of those that have none"""
        keys, known = self.keys_of(raw)
        found = np.full(len(keys), NEW)
        found[known] = self.table.find(torch.from_numpy(keys[known])).numpy()
        return found

    def observe(self, raw: Sequence[RawId] | np.ndarray, times: np.ndarray) -> np.ndarray:
        """Occurrences [n] at event times [n] int64 seconds -> [n] slots, NEW of those that have none. See IdTable.observe."""
        keys, usable = self.learn(raw)
        found = np.full(len(keys), NEW)
        own, when = torch.from_numpy(keys[usable]), torch.from_numpy(np.asarray(times, np.int64)[usable])
        found[usable] = self.table.observe(own, when).numpy()
        return found

    def update(self, now: int, *, in_flight: np.ndarray | None = None) -> Changes:
        """See IdTable.update; the texts of ids that are neither admitted nor counted any more are forgotten."""
        changes = self.table.update(now, in_flight=None if in_flight is None else torch.from_numpy(in_flight))
        if len(self.texts) > len(self.table) + self.table.waiting.used:
            keys = np.fromiter(self.texts, np.int64, len(self.texts))
            for key in keys[~self.table.knows(torch.from_numpy(keys)).numpy()].tolist():
                del self.keys[self.texts.pop(key)]
        return changes

    def raws(self, slots: np.ndarray | Tensor) -> list[RawId]:
        """Of slots that somebody has, or of the ids that `update` gave: see `named`."""
        return self.named(self.table.ids(torch.as_tensor(slots)).numpy())

    def named(self, keys: np.ndarray) -> list[RawId]:
        """The raw ids of 64-bit ones, such as Changes.admitted.ids."""
        return [self.texts[key] for key in keys.tolist()] if self.is_text else keys.tolist()

    def id_map(self) -> IdMap:
        """As inference and published versions know a vocabulary: null where a slot is nobody's."""
        free = np.ones(self.table.capacity, dtype=bool)
        taken = self.table.catalogue()
        free[taken.numpy()] = False
        if not self.is_text:
            return IdMap(pa.array(self.table.slots.keys.numpy(), mask=free).cast(self.raw_type))
        texts: list[RawId | None] = [None] * len(free)
        for slot, text in zip(taken.tolist(), self.raws(taken)):
            texts[slot] = text
        return IdMap(pa.array(texts, self.raw_type))

    def keys_of(self, raw: Sequence[RawId] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[n] int64 that the table may know these by, and [n] bool whether it may"""
        if not self.is_text:
            return self.integers(raw)
        found = [self.keys.get(str(text)) for text in raw]
        known = np.array([key is not None for key in found], dtype=bool)
        return np.array([key or 0 for key in found], dtype=np.int64), known

    def learn(self, raw: Sequence[RawId] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Likewise of ids that are about to be counted."""
        if not self.is_text:
            return self.integers(raw)
        found = list(self.learned(raw))
        usable = np.array([key is not None for key in found], dtype=bool)
        return np.array([key or 0 for key in found], dtype=np.int64), usable

    def learned(self, raw: Sequence[RawId] | np.ndarray) -> Iterator[int | None]:
        for text in map(str, raw):
            key = self.keys.get(text)
            if key is None:
                key = key_of_text(text)
                if self.texts.setdefault(key, text) != text:
                    self.collisions += 1
                    yield None
                    continue
                self.keys[text] = key
            yield key

    def integers(self, raw: Sequence[RawId] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if (integers := int64s(raw)) is not None:
            return integers, np.ones(len(integers), dtype=bool)
        found = [cast_or_none(value, self.raw_type) for value in raw]
        usable = np.array([value is not None for value in found], dtype=bool)
        return np.array([value or 0 for value in found], dtype=np.int64), usable

    def state(self) -> dict[str, Tensor]:
        """As tensors, for a checkpoint: IdTable.state, and the texts end to end."""
        state = self.table.state()
        if self.is_text:
            encoded = [text.encode("utf-8", "surrogatepass") for text in self.keys]
            state[TEXTS] = torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy())
            state[ENDS] = torch.tensor([len(text) for text in encoded], dtype=torch.int64).cumsum(0)
        return state

    @classmethod
    def from_state(cls, settings: IdSettings, raw_type: pa.DataType, state: dict[str, Tensor]) -> "Slots":
        slots = cls(IdTable.from_state(settings, state), raw_type)
        if slots.is_text:
            data, ends = state[TEXTS].numpy().tobytes(), state[ENDS].tolist()
            slots.learn([data[a:b].decode("utf-8", "surrogatepass") for a, b in zip([0, *ends], ends)])
        return slots
