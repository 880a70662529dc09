"""The items of a run: raw ids, titles and attributes, which of them a filter leaves, and how popular each is."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from louder.data.attributes import UNKNOWN, Attribute, encode
from louder.data.table import Table, open_table, ranges
from louder.errors import InputError
from louder.histories.items import ItemFacts
from louder.ids import IdMap, RawId
from louder.inference.index import Exact
from louder.inference.limits import MOST_VALUES
from louder.inference.request import Request
from louder.inference.run import Run
from louder.inference.search import DotProductSearch
from louder.inference.updates import Updates
from louder.schema import ENGAGEMENT

KEPT = 10_000  # items whose attributes are
IMAGES = "image", "poster"  # columns with the address of a picture, the first that is there


class Catalogue:
    """`table_path` is where popularity is counted, by raw ids where these `went_on` after it; items are known without it.
    `updates` is what was told of items since the training, and counts before what the training knew.

    trained           item -> its raw id and title, as the log had them
    trained_matching  attribute and values -> [I] bool, the items that had one of them in the training

    Their caches hold functions of columns, not methods: an object that holds a cache of its own methods is freed by a
    garbage collection alone, and the service has what it was started with frozen out of these.
    """

    def __init__(self, run: Run, table_path: Path, went_on: bool = False) -> None:
        self.item_ids, self.table_path, self.columns = run.item_ids, table_path, run.items
        self.went_on = went_on
        self.updates = Updates(self.item_ids)
        self.trained = lru_cache(maxsize=100_000)(partial(described, run.item_ids, run.items))
        self.shown: dict[
            int, dict[str, list[str]]
        ] = {}  # attributes of the training, of items that were answered lately
        self.encoded: dict[str, Attribute] = {}

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def trained_matching(self) -> Callable[[str, frozenset[str]], np.ndarray]:
        return lru_cache(maxsize=200)(partial(matched, self.attributes, len(self)))

    def describe(self, item: int) -> tuple[RawId, str]:
        """Raw id and title, "" where there is none."""
        raw, title = self.trained(item)
        told = self.updates.facts.get(raw)
        return raw, title if told is None or told.title is None else told.title

    def describe_any(self, raw: RawId, item: int) -> tuple[RawId, str]:
        """Likewise of an item that the model may not know, whose id is then -1."""
        return self.describe(item) if item >= 0 else (raw, self.updates.facts.get(raw, ItemFacts()).title or "")

    def titles(self, raws: Sequence[RawId]) -> list[str]:
        return [self.describe_any(raw, item)[1] for raw, item in zip(raws, self.item_ids.ids(raws).tolist())]

    def text(self, item: int, column: str) -> str:
        """An attribute for people to read; "" where there is none."""
        return ", ".join(values_of(self.columns, item, column) or [])

    def image_of(self, item: int) -> str:
        """The address of an item's picture; "" where there is none, or where it does not come over HTTPS."""
        address = self.text(item, self.image_column) if self.image_column is not None else ""
        return address if address.startswith("https://") else ""

    @cached_property
    def image_column(self) -> str | None:
        names = self.columns.column_names if self.columns is not None else []
        return next((name for name in IMAGES if name in names), None)

    def attributes_of(self, item: int) -> dict[str, list[str]]:
        """Of those that items can be filtered by, what this one has."""
        shown = self.shown.get(item)
        if shown is None:
            if len(self.shown) >= KEPT:
                self.shown.clear()
            found = {name: values_of(self.columns, item, name) for name in self.attributes}
            shown = self.shown[item] = {name: values for name, values in found.items() if values is not None}
        return shown | {name: list(own[item]) for name, own in self.updates.told.items() if item in own}

    @cached_property
    def attributes(self) -> dict[str, Attribute]:
        """Those with few enough values to filter by."""
        found = {}
        for name in self.categories:
            try:
                attribute = self.attribute(name)
            except InputError:
                continue  # a vector, or numbers
            if attribute.size <= MOST_VALUES:
                found[name] = attribute
        return found

    @cached_property
    def categories(self) -> list[str]:
        """Columns that may be attributes."""
        names = self.columns.column_names if self.columns is not None else []
        return [name for name in names if name not in ("title", self.image_column) and not name.startswith("_")]

    def attribute(self, name: str) -> Attribute:
        """One of the training, of any number of values. Raises InputError where there is none, or where it is no category."""
        if name not in self.categories:
            have = ", ".join(self.categories) or "none"
            raise InputError(f"There is no attribute {name!r}; items have these: {have}.")
        if name not in self.encoded:
            (self.encoded[name],) = encode(self.columns, (name,))
        return self.encoded[name]

    def require_attribute(self, name: str) -> None:
        if not self.updates.told.get(name):
            self.attribute(name)

    def labels_of(self, item: int, name: str) -> Sequence[str]:
        """The values of an attribute that an item has."""
        told = self.updates.told.get(name, {})
        if item in told:
            return told[item]
        if told and name not in self.categories:
            return ()
        attribute = self.attribute(name)
        start, end = attribute.offsets[item : item + 2].tolist()
        return [attribute.labels[code] for code in attribute.codes[start:end].tolist() if code != UNKNOWN]

    @property
    def labels(self) -> dict[str, list[str]]:
        """The values of each attribute that items can be filtered by."""
        found = {name: [text for text in attribute.labels if text] for name, attribute in self.attributes.items()}
        for name in list(self.updates.told):
            known = found.get(name, [])
            found[name] = [*known, *sorted(self.updates.labels(name).difference(known))][:MOST_VALUES]
        return {name: texts for name, texts in found.items() if texts or name in self.attributes}

    @cached_property
    def popularity(self) -> np.ndarray | None:
        """[I] float32 events of each item in the table; None where that is not there."""
        return None if self.log is None else self.log[0]

    @cached_property
    def first_times(self) -> np.ndarray | None:
        """[I] int64 seconds, when each item had its first event in the table, 0 without one; None where that is not there."""
        return None if self.log is None else self.log[1]

    @cached_property
    def log(self) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.table_path.is_dir():
            return None
        table = open_table(self.table_path)
        if self.went_on:
            return renumbered(
                counted(table, table.kinds == ENGAGEMENT), self.item_ids.ids(table.item_ids.raw), len(self)
            )
        if not table.item_ids.raw.equals(self.item_ids.raw):
            return None
        return counted(table, table.kinds == ENGAGEMENT)

    def then(self, run: Run) -> "Catalogue":
        """Of the same run with other items: what was counted stays, and `updates` are the same."""
        new = Catalogue(run, self.table_path, self.went_on)
        new.__dict__["log"] = self.log and renumbered(self.log, run.item_ids.ids(self.item_ids.raw), len(new))
        return new

    @cached_property
    def popular(self) -> DotProductSearch | None:
        """Finds what is most popular, whoever asks."""
        if self.popularity is None:
            return None
        counts = torch.from_numpy(self.popularity)[:, None]
        return DotProductSearch(Exact(counts), counts)

    def allowed(self, request: Request) -> np.ndarray | None:
        """[I] bool: what is to be had, and the filters of a request leave; None where that is all. Without filters it is
        the same array for all requests."""
        if request.allow is None and not request.deny and not request.where:
            return self.updates.available
        mask = np.full(len(self), request.allow is None)
        if request.allow is not None:
            mask[self.known(request.allow)] = True
        mask[self.known(request.deny)] = False
        for name, values in request.where.items():
            mask &= self.matching(name, frozenset(map(str, values)))
        return mask if self.updates.available is None else mask & self.updates.available

    def having(self, where: Mapping[str, Sequence[RawId]], items: np.ndarray) -> np.ndarray:
        """[n] bool: which of the items [n] have, of each attribute, one of the values; reads these items alone. Raises
        InputError for an attribute that items do not have."""
        mask = np.ones(len(items), dtype=bool)
        for name, values in where.items():
            self.require_filterable(name)
            texts, own = frozenset(map(str, values)), np.zeros(len(items), dtype=bool)
            if (attribute := self.attributes.get(name)) is not None:
                wanted = np.array([label in texts for label in attribute.labels], dtype=bool)
                offsets = attribute.offsets.numpy()
                starts, lengths = offsets[items], offsets[items + 1] - offsets[items]
                hits = wanted[attribute.codes.numpy()[ranges(starts, lengths)]]
                own[np.repeat(np.arange(len(items)), lengths)[hits]] = True
            if told := self.updates.told.get(name):
                for place, item in enumerate(items.tolist()):
                    if (labels := told.get(item)) is not None:
                        own[place] = not texts.isdisjoint(labels)
            mask &= own
        return mask

    def known(self, items: Sequence[RawId]) -> np.ndarray:
        """Ids of those that the model knows."""
        ids = self.item_ids.ids(list(items))
        return ids[ids >= 0]

    def matching(self, name: str, values: frozenset[str]) -> np.ndarray:
        """[I] bool: the items of which attribute `name` is, or holds, one of the values. Raises InputError for an attribute
        that items do not have."""
        self.require_filterable(name)
        known = name in self.attributes
        trained = self.trained_matching(name, values) if known else np.zeros(len(self), dtype=bool)
        return self.updates.matching(name, values, trained)

    def require_filterable(self, name: str) -> None:
        if name not in self.attributes and not self.updates.told.get(name):
            told = [other for other, own in list(self.updates.told.items()) if own]
            have = ", ".join(dict.fromkeys([*self.attributes, *told])) or "none"
            raise InputError(f"The filter names the attribute {name!r}, but items have these: {have}.")


def renumbered(log: tuple[np.ndarray, np.ndarray], numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`counted` for `count` items, of which some have `numbers` [n] now, below 0 where they are gone; 0 for the others."""
    kept, found = numbers >= 0, []
    for counts in log:
        new = np.zeros(count, counts.dtype)
        new[numbers[kept]] = counts[kept]
        found.append(new)
    return found[0], found[1]


def described(item_ids: IdMap, columns: pa.Table | None, item: int) -> tuple[RawId, str]:
    (raw,) = item_ids.raws([item])
    return raw, ", ".join(values_of(columns, item, "title") or [])


def values_of(columns: pa.Table | None, item: int, name: str) -> list[str] | None:
    """An attribute for people to read; None where there is none."""
    if columns is None or name not in columns.column_names:
        return None
    value = columns.column(name)[item].as_py()
    if value is None:
        return None
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def matched(attributes: Mapping[str, Attribute], items: int, name: str, values: frozenset[str]) -> np.ndarray:
    """[I] bool; one pass, however many values there are"""
    attribute = attributes[name]
    wanted = np.array([label in values for label in attribute.labels], dtype=bool)
    if not attribute.is_list:  # one code an item
        return wanted[attribute.codes.numpy()]
    owner = np.repeat(np.arange(items), np.diff(attribute.offsets.numpy()))
    mask = np.zeros(items, dtype=bool)
    mask[owner[wanted[attribute.codes.numpy()]]] = True
    return mask


def counted(table: Table, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of some rows [T] (bool) of a table: popularity [I] float32, and first_times [I] int64."""
    first = np.full(table.items, np.iinfo(np.int64).max)
    np.minimum.at(first, table.ids[rows], table.times[rows])
    first[first == np.iinfo(np.int64).max] = 0
    return np.bincount(table.ids[rows], minlength=table.items).astype(np.float32), first
