"""What was told of items since the training, over what the training knew."""

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from louder.data.attributes import label
from louder.histories.items import AttributeValue, ItemFacts
from louder.ids import IdMap, RawId

MOST_MASKS = 200

Told = dict[int, tuple[str, ...]]  # the values of one attribute, by id


class Titles(NamedTuple):
    """Titles that were told: raw ids, ids of the model or -1 for items that it does not know, and the texts, one each."""

    raws: list[RawId]
    items: np.ndarray
    texts: pa.Array


class Updates:
    """Of the items of one model. One thread may `take` while others ask.

    facts      all that was told, by raw id, also of items that the model does not know
    available  [I] bool: which items are to be had; None: all
    told       of each attribute the items whose values were told, and what they are now
    """

    def __init__(self, item_ids: IdMap) -> None:
        self.item_ids, self.lock = item_ids, threading.Lock()
        self.facts: dict[RawId, ItemFacts] = {}
        self.available: np.ndarray | None = None if item_ids.there.all() else item_ids.there
        self.told: dict[str, Told] = {}
        self.masks: dict[tuple[str, frozenset[str]], np.ndarray] = {}
        self.own_titles: Titles | None = None

    def take(self, facts: Mapping[RawId, ItemFacts]) -> None:
        """All that is known of some items now."""
        numbers = self.item_ids.ids(list(facts))
        known = iter(self.item_ids.raws(numbers[numbers >= 0]))
        with self.lock:
            available = (self.item_ids.there if self.available is None else self.available).copy()
            touched: set[str] = set()
            for (given, new), number in zip(facts.items(), numbers.tolist()):
                raw = next(known) if number >= 0 else given
                old, self.facts[raw] = self.facts.get(raw, ItemFacts()), new
                if number >= 0:
                    available[number] = new.available
                    self.tell(number, old.attributes, new.attributes)
                    touched |= {*old.attributes, *new.attributes}
            self.available = None if available.all() else available
            self.own_titles = None
            self.masks = {key: mask for key, mask in self.masks.items() if key[0] not in touched}

    def renumber(self, item_ids: IdMap) -> None:
        """The numbers of items are others now; what was told of them stays."""
        with self.lock:
            self.item_ids, self.available = item_ids, None if item_ids.there.all() else item_ids.there
            self.told, self.masks, self.own_titles = {}, {}, None
            facts = dict(self.facts)
        self.take(facts)

    def tell(self, number: int, old: Mapping[str, AttributeValue], new: Mapping[str, AttributeValue]) -> None:
        for name in old:
            self.told.get(name, {}).pop(number, None)
        for name, value in new.items():
            if not is_vector(value):
                self.told.setdefault(name, {})[number] = labels_of(value)

    def matching(self, name: str, values: frozenset[str], trained: np.ndarray) -> np.ndarray:
        """[I] bool: `trained`, the items that had one of the values in the training, by what was told since"""
        if not self.told.get(name):
            return trained
        with self.lock:
            mask = self.masks.get((name, values))
            if mask is None:
                mask = trained.copy()
                for number, own in self.told[name].items():
                    mask[number] = not values.isdisjoint(own)
                if len(self.masks) >= MOST_MASKS:
                    self.masks.clear()
                self.masks[name, values] = mask
        return mask

    @property
    def titles(self) -> Titles:
        with self.lock:
            if self.own_titles is None:
                told = {raw: facts.title for raw, facts in self.facts.items() if facts.title is not None}
                raws = list(told)
                self.own_titles = Titles(raws, self.item_ids.ids(raws), pa.array(told.values(), pa.string()))
            return self.own_titles

    def attributes_of(self, raw: RawId) -> dict[str, list[str]]:
        """What was told of an item, vectors apart."""
        told = self.facts.get(raw, ItemFacts()).attributes
        return {name: list(labels_of(value)) for name, value in told.items() if not is_vector(value)}

    def is_available(self, raw: RawId, number: int) -> bool:
        """Of an item that the model may not know, by raw id and id."""
        if number >= 0:
            return self.available is None or bool(self.available[number])
        return self.facts.get(raw, ItemFacts()).available

    def labels(self, name: str) -> set[str]:
        """Values of an attribute that were told of any item."""
        with self.lock:
            return {text for own in self.told.get(name, {}).values() for text in own}


def is_vector(value: AttributeValue) -> bool:
    """Fractional numbers in a list are no categories, as in the items file of a table."""
    return isinstance(value, list | tuple) and any(isinstance(one, float) and not one.is_integer() for one in value)


def labels_of(value: AttributeValue) -> tuple[str, ...]:
    if value is None:
        return ()
    values = [value] if isinstance(value, str | float | int) else value
    return tuple(text for one in values if (text := label(one)))
