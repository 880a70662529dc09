"""What was told of items, as the store has it, for every model that answers or is about to."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from weakref import WeakSet

from louder.histories import StoreGone
from louder.histories.items import ItemFacts, ItemStore, ItemUpdate
from louder.ids import RawId
from louder.inference.engine import Engine
from louder.inference.updates import Updates

EVERY_S = 0.1  # what another process was told is known to this one so much later


class ItemBook:
    """A thread looks for what changed, until `close`."""

    def __init__(self, store: ItemStore) -> None:
        self.store, self.version, self.lock = store, 0, threading.Lock()
        self.facts: dict[RawId, ItemFacts] = {}
        self.readers: WeakSet[Updates] = WeakSet()
        self.stop = threading.Event()
        self.refresh()
        self.thread = threading.Thread(target=self.look_on, name="items", daemon=True)
        self.thread.start()

    def attach(self, model: Engine) -> None:
        """Let a model know all that was told, and all that will be."""
        updates = model.catalogue.updates
        with self.lock:
            updates.take(self.facts)
            self.readers.add(updates)

    def update(self, updates: Sequence[ItemUpdate]) -> None:
        """Returns when it is kept, and when this process answers by it. Raises StoreGone."""
        self.store.update(updates)
        self.refresh()

    def refresh(self) -> None:
        with self.lock:
            self.version, changed = self.store.since(self.version)
            if changed:
                self.facts |= changed
                for updates in self.readers:
                    updates.take(changed)

    def look_on(self) -> None:
        while not self.stop.wait(EVERY_S):
            with suppress(StoreGone):
                self.refresh()

    def close(self) -> None:
        self.stop.set()
        self.thread.join(timeout=5)
        self.store.close()
