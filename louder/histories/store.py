"""What all stores do alike. A store itself only has to read and replace bytes under sorted keys."""

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from louder.errors import InputError
from louder.histories.arrivals import Arrival, by_user, columns, event_ids
from louder.histories.history import History, Names, empty_history
from louder.histories.identity import DataSet, claimed
from louder.histories.keys import EVERYTHING, key_of, ranges, user_of
from louder.histories.merging import Deleted, Stored, added, filled, forgotten, without
from louder.histories.packing import pack, unpack
from louder.histories.record import Record, packed_ids, record_of
from louder.histories.settings import TEXT, StoreSettings, opened, require_kind, settled
from louder.ids import RawId, key_of_text

KEEP = 1_000  # latest events of a user that stay, unless told otherwise
FILL_USERS = 500  # written at once
PAGE = 1_000  # users read at once

Change = Callable[[Record], tuple[Record, Stored]]


class Parts(NamedTuple):
    """A record as bytes, each part under a key of its own; None: it is not there."""

    events: bytes | None
    ids: bytes | None
    since: bytes | None


class HistoryStore(ABC):
    """All methods may be called from several threads; `append` returns when the events survive a crash.

    The latest `keep` events of each user are kept; a store opened with a smaller number drops what is beyond it from the
    users it writes.

    A store holds one kind of user ids and one of item ids, integers or texts: those that came first. The other kind is
    refused with an InputError, also where it is only asked for.

    An event is stored once per user and id; ids of the latest 2,000 events of each user are kept. Events that come late
    are put in their place by time, and those of the same time stay in the order of their arrival.

    What was deleted stays deleted: an event that is sent again after that, or only then for the first time, is not stored.
    """

    place: str  # for messages, without a password; a child sets it

    def __init__(self, names: Names | None, keep: int) -> None:
        self.keep = keep
        try:
            self.settings = self._change_settings(lambda old: opened(old, names))
        except BaseException:
            self.close()
            raise
        self.names = self.settings.names

    @property
    def at_hand(self) -> bool:
        """Whether a history is read from memory, without waiting for anything."""
        return False

    def claim(self, data: DataSet, adopt: bool = False) -> bool:
        """Say that the store is of a data set; whether that is said for the first time, although there are histories.
        Raises InputError if it is of another one, unless it is to be adopted."""
        before = self._change_settings(lambda old: old or self.settings)
        self.settings = self._change_settings(
            lambda old: replace(old or before, data=claimed((old or before).data, data, self.place, adopt))
        )
        return before.data is None and (before.filled or before.users is not None)

    def history(self, user: RawId) -> History:
        """Empty for a user whom nobody knows."""
        return self._unpacked(self._packed(self._key(user)))

    def append(self, events: Sequence[Arrival]) -> Stored:
        """Raises InputError for an unknown action or value, or a time that is not yet; then none of the events is stored."""
        if not events:
            return Stored(0, 0)
        users, keys = self._checked(events)

        def adding(own: Sequence[Arrival]) -> Change:
            arrived, ids = columns(own, self.names), event_ids(own)
            return lambda record: added(record, arrived, ids, self.keep)

        return self._update({keys[user]: adding(own) for user, own in users.items()})

    def check(self, events: Sequence[Arrival]) -> None:
        """Raise what `append` would, and store nothing."""
        if events:
            self._checked(events)

    def _checked(self, events: Sequence[Arrival]) -> tuple[dict[RawId, list[Arrival]], dict[RawId, bytes]]:
        """The events by user, and the users' keys."""
        users = by_user(events, self.names, self.settings, time.time())
        keys = {user: key_of(user) for user in users}
        if self._settle(events[0].user, events[0].item):
            # another process may have been first, with another kind
            by_user(events, self.names, self.settings, time.time())
        return users, keys

    def delete_user(self, user: RawId, at: int | None = None) -> int:
        """Delete all that is known of a user; how many events there were.

        With a time `at`, in seconds since 1970, to which the user was deleted already, what came since is left alone: so what
        a log says may be done twice.

        What stays is a digest of the id and the time: events from before that come late are not stored, and filling
        brings nothing back. Later ones begin a new history.
        """
        count = 0

        def deleting(record: Record) -> tuple[Record, Stored]:
            nonlocal count
            if at is not None and record.since is not None and record.since >= at:
                count = 0
                return record, Stored(0, 0)
            count = record.history.total
            return forgotten(record, int(time.time()) if at is None else at), Stored(0, 0)

        self._update({self._key(user): deleting})
        return count

    def delete_event(self, user: RawId, id: str) -> Deleted:
        """Delete the event of this id, if it is among the latest 2,000 that were appended to the user's history. Those that
        came when the store was filled have no id."""
        found, hashed = Deleted(False, False), key_of_text(id)

        def deleting(record: Record) -> tuple[Record, Stored]:
            nonlocal found
            after, found = without(record, hashed)
            return after, Stored(0, 0)

        self._update({self._key(user): deleting})
        return found

    def fill(self, histories: Iterable[tuple[RawId, History]]) -> int:
        """Write the first contents of each user, as from a table, under what was appended already; the number of users.

        Until all is written, `filled` stays false; filling again then starts over, and loses nothing appended since."""
        if self.filled():
            raise InputError("The store is filled already. Choose another place to fill a new one.")

        def filling(events: History) -> Change:
            first = replace(events, total=max(events.total, len(events)))
            return lambda record: (filled(record, first, self.keep), Stored(1, 0))

        count, changes = 0, dict[bytes, Change]()
        for user, events in histories:
            if not len(events):
                continue
            assert events.values.shape[1] == len(self.names.values), "a history must have the values of the store"
            self._settle(user, events.items[0])
            require_kind("user", user, self.settings.users)
            require_kind("item", events.items[0], self.settings.items)
            changes[key_of(user)] = filling(events)
            count += 1
            if len(changes) == FILL_USERS:
                self._update(changes)
                changes = {}
        self._update(changes)
        self.settings = self._change_settings(lambda old: replace(old or self.settings, filled=True))
        return count

    def filled(self) -> bool:
        return self._current().filled

    def followed(self, log: str) -> dict[int, int]:
        """What was told to `follow` of a log last: of each partition the offset up to which the store has it."""
        known = self.settings
        self.settings = self._change_settings(lambda old: old or known)
        return dict((self.settings.followed or {}).get(log, {}))

    def follow(self, log: str, offsets: Mapping[int, int]) -> None:
        """Keep the offsets up to which the store has a log."""
        known = self.settings
        self.settings = self._change_settings(
            lambda old: replace(old or known, followed={**((old or known).followed or {}), log: dict(offsets)})
        )

    def user_in(self, text: str) -> RawId:
        """A user's id that came as a text, such as in an address: a number, unless the users of this store are texts."""
        is_number = re.fullmatch("0|-?[1-9][0-9]{0,18}", text)
        return int(text) if is_number and self._current().users != TEXT else text

    def users(self, prefix: str = "", limit: int = 20) -> list[RawId]:
        texts, found = self._current().users == TEXT, list[bytes]()
        for low, high in ranges(prefix, texts):
            if len(found) < limit:
                found += self._keys(low, high, limit - len(found))
        return [user_of(key, texts) for key in found]

    def __iter__(self) -> Iterator[RawId]:
        """All users, in order. Read by pages, so that no transaction stays open: users that come meanwhile may be in it."""
        low, high = EVERYTHING
        while keys := self._keys(low, high, PAGE):
            texts = self._current().users == TEXT
            yield from (user_of(key, texts) for key in keys)
            low = keys[-1] + b"\0"

    def _current(self) -> StoreSettings:
        """The settings, read again as long as others may change them."""
        known = self.settings
        if not (known.filled and known.users and known.items):
            self.settings = self._change_settings(lambda old: old or known)
        return self.settings

    def _settle(self, user: RawId, item: RawId) -> bool:
        """Fix the kinds of ids, if these are the first; true if they were not known before."""
        if self.settings.users and self.settings.items:
            return False
        self.settings = self._change_settings(lambda old: settled(old or self.settings, user, item))
        return True

    def _key(self, user: RawId) -> bytes:
        kind = self.settings.users or self._current().users
        require_kind("user", user, kind)
        return key_of(user)

    def _unpacked(self, packed: bytes | memoryview | None) -> History:
        if packed is None:
            return empty_history(self.names, texts=self.settings.items == TEXT)
        return unpack(packed, self.names)

    def _record(self, found: Sequence[bytes | memoryview | None]) -> Record:
        """Of the parts found, in the order of Parts."""
        events, ids, since = found
        return record_of(self._unpacked(events), ids, None if since is None else int.from_bytes(since, "little"))

    @abstractmethod
    def durability(self) -> str:
        """A sentence: what an acknowledged event survives."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _packed(self, key: bytes) -> bytes | None:
        """The packed events under a key."""

    @abstractmethod
    def _keys(self, low: bytes, high: bytes, limit: int) -> list[bytes]:
        """The first keys from `low` to before `high`, in order."""

    @abstractmethod
    def _update(self, changes: Mapping[bytes, Change]) -> Stored:
        """Replace the record of each user by what its change makes of it, each atomically; the sum of what they count.

        A change may be called again on a newer record, and the last call counts.
        """

    @abstractmethod
    def _change_settings(self, change: Callable[[StoreSettings | None], StoreSettings]) -> StoreSettings:
        """Replace the settings by what `change` makes of them, atomically."""


def parts_of(record: Record) -> Parts:
    """What is left of a deleted user is the time alone."""
    since = None if record.since is None else record.since.to_bytes(8, "little")
    if since and not record.history.total and not len(record.ids):
        return Parts(None, None, since)
    return Parts(pack(record.history), packed_ids(record) if len(record.ids) else None, since)


def digest_of(key: bytes) -> bytes:
    """What a deleted user is remembered by."""
    return hashlib.blake2b(key, digest_size=16).digest()
