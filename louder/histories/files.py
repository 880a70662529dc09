"""A store in a folder: LMDB, for any number of processes on one machine.

A write is one transaction and is on the disk before it returns. Readers never wait for writers. Open the store after a
fork, not before, and once in a process: its threads share it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from louder.errors import InputError, missing_extra
from louder.histories.errors import StoreGone
from louder.histories.history import Names
from louder.histories.merging import Stored, total
from louder.histories.settings import StoreSettings, read, written
from louder.histories.store import Change, HistoryStore, digest_of, parts_of

try:
    import lmdb
except ImportError as error:
    raise missing_extra("lmdb", "serve") from error

T = TypeVar("T")

MAP_BYTES = 64 << 20  # at first; doubled whenever it is full
SETTINGS = b"settings"


class FileStore(HistoryStore):
    def __init__(
        self, folder: Path | str, *, names: Names | None = None, keep: int, map_bytes: int = MAP_BYTES
    ) -> None:
        self.folder, self.place = Path(folder), str(folder)
        is_store = (self.folder / "data.mdb").exists()
        if self.folder.exists() and not is_store and not (self.folder.is_dir() and not any(self.folder.iterdir())):
            raise InputError(f"{folder} holds something other than a history store. Choose a new folder for the store.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lmdb = lmdb.open(str(self.folder), map_size=map_bytes, max_dbs=4, max_readers=512)
            self._lmdb.reader_check()  # forget readers that were killed, whose pages could not be used again
            self._quiet, self._running, self._resizing = threading.Condition(), 0, False
            self._parts = [self._lmdb.open_db(name) for name in (b"events", b"seen", b"deleted")]  # as in Parts
            self._events, self._about = self._parts[0], self._lmdb.open_db(b"about")
        except (lmdb.Error, OSError) as error:
            raise InputError(
                f"The history store {folder} cannot be opened ({error}). Choose another folder for the store."
            ) from error
        super().__init__(names, keep)

    @property
    def at_hand(self) -> bool:
        """The file is mapped into memory, and mapped anew when it has grown."""
        return not self._resizing

    def durability(self) -> str:
        return "An acknowledged event is on the disk, and survives a crash of the service and of the machine."

    def close(self) -> None:
        with self._alone():
            self._lmdb.close()

    def _packed(self, key: bytes) -> bytes | None:
        return self._run(lambda txn: whole(txn.get(key, db=self._events)))

    def _keys(self, low: bytes, high: bytes, limit: int) -> list[bytes]:
        def walk(txn: lmdb.Transaction) -> list[bytes]:
            found: list[bytes] = []
            cursor = txn.cursor(db=self._events)
            there = cursor.set_range(low) if low else cursor.first()
            while there and len(found) < limit and (key := bytes(cursor.key())) < high:
                found.append(key)
                there = cursor.next()
            return found

        return self._run(walk)

    def _update(self, changes: Mapping[bytes, Change]) -> Stored:
        def write(txn: lmdb.Transaction) -> Stored:
            counts = list[Stored]()
            for key, change in changes.items():
                keys = key, key, digest_of(key)
                before = self._record([txn.get(own, db=part) for own, part in zip(keys, self._parts)])
                after, count = change(before)
                if after is not before:
                    for own, part, value in zip(keys, self._parts, parts_of(after)):
                        if value is None:
                            txn.delete(own, db=part)
                        else:
                            txn.put(own, value, db=part)
                counts.append(count)
            return total(counts)

        return self._run(write, write=True)

    def _change_settings(self, change: Callable[[StoreSettings | None], StoreSettings]) -> StoreSettings:
        def look(txn: lmdb.Transaction) -> tuple[StoreSettings | None, StoreSettings]:
            old = read(whole(txn.get(SETTINGS, db=self._about)))
            return old, change(old)

        def write(txn: lmdb.Transaction) -> StoreSettings:
            old, new = look(txn)
            if new != old:
                txn.put(SETTINGS, written(new), db=self._about)
            return new

        old, new = self._run(look)  # mostly nothing changes, and then nobody need wait for the writers
        return new if new == old else self._run(write, write=True)

    def _run(self, work: Callable[[lmdb.Transaction], T], write: bool = False) -> T:
        """Do something in a transaction; from the start again when the map is too small for it."""
        while True:
            size = self._lmdb.info()["map_size"]
            try:
                with self._transaction(write) as txn:
                    return work(txn)
            except lmdb.MapFullError:
                self._resize(2 * size)
            except lmdb.MapResizedError:
                self._resize(0)  # to what another process made it
            except (lmdb.DiskError, lmdb.ReadersFullError) as error:
                raise StoreGone(f"The history store {self.folder} cannot be used: {error}.") from error

    @contextmanager
    def _transaction(self, write: bool) -> Iterator[lmdb.Transaction]:
        with self._quiet:
            self._quiet.wait_for(lambda: not self._resizing)
            self._running += 1
        try:
            with self._lmdb.begin(write=write, buffers=True) as txn:
                yield txn
        finally:
            with self._quiet:
                self._running -= 1
                self._quiet.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no thread of this process is in a transaction, and let none begin."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._resizing)
            self._resizing = True
            self._quiet.wait_for(lambda: self._running == 0)
            try:
                yield
            finally:
                self._resizing = False
                self._quiet.notify_all()

    def _resize(self, size: int) -> None:
        with self._alone():
            if not size or size > self._lmdb.info()["map_size"]:  # else another thread was faster
                self._lmdb.set_mapsize(size)


def whole(found: bytes | memoryview | None) -> bytes | None:
    """A copy that is still there when the transaction is over."""
    return None if found is None else bytes(found)
