"""A store in Redis, for services on several machines. One Redis server or a primary with replicas, not a cluster.

    louder:events:KEY      packed events of a user
    louder:seen:KEY        ids of events that were appended
    louder:deleted:DIGEST  when a user was deleted
    louder:users           sorted set of the keys
    louder:settings        JSON

A history is read, changed here and written back by a script that looks whether it is still the one that was read; if
not, this user is done again. So histories change atomically, and of several writers one always gets on.

What an acknowledged event survives is up to the server. With `appendfsync always` it is on the disk. With `everysec` a
crash of the machine takes up to a second of events along; Redis 7.2 is therefore asked to wait (WAITAOF) until they are
on the disk. Without `appendonly yes`, a crash of Redis takes all since its last snapshot.

A server that is full must say so, and not make room: with a maxmemory-policy that evicts any key it is refused. Policies
that evict what expires are as good as none, since nothing here does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from louder.errors import InputError, missing_extra
from louder.histories.errors import StoreGone
from louder.histories.history import Names
from louder.histories.merging import Stored, total
from louder.histories.packing import CHECKSUM, HEAD, mark
from louder.histories.settings import StoreSettings, read, written
from louder.histories.store import Change, HistoryStore, digest_of, parts_of

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as error:
    raise missing_extra("redis", "serve") from error

CONNECT_S, READ_S, WRITE_S = 0.5, 1.0, 3.0
SYNC_MS = 2_000  # that WAITAOF may take; Redis syncs every second
USERS = 200  # changed at once

EVENTS, SEEN, DELETED = b"louder:events:", b"louder:seen:", b"louder:deleted:"
ALL_USERS, SETTINGS = b"louder:users", b"louder:settings"

REPLACE = f"""
local mark = redis.call('GETRANGE', KEYS[1], 0, {HEAD - 1}) .. redis.call('GETRANGE', KEYS[1], -{CHECKSUM.size}, -1)
if mark ~= ARGV[1] or (redis.call('GET', KEYS[3]) or '') ~= ARGV[2] then return 0 end
for part = 1, 3 do
    if ARGV[part + 2] == '' then redis.call('DEL', KEYS[part]) else redis.call('SET', KEYS[part], ARGV[part + 2]) end
end
if ARGV[3] == '' then redis.call('ZREM', KEYS[4], ARGV[6]) else redis.call('ZADD', KEYS[4], 0, ARGV[6]) end
return 1
"""


class RedisStore(HistoryStore):
    def __init__(self, url: str, *, names: Names | None = None, keep: int) -> None:
        try:
            self._reader, self._writer = connect(url, READ_S), connect(url, WRITE_S)
        except ValueError as error:
            raise InputError(f"The address of the store is wrong ({error}). Give redis://HOST:PORT/NUMBER.") from error
        facts = self._reader.connection_pool.connection_kwargs
        self.place = facts.get("path") or f"{facts.get('host', 'localhost')}:{facts.get('port', 6379)}"
        with self._reached():
            self._require_no_eviction()
        super().__init__(names, keep)
        with self._reached():
            self._syncs = self._can_sync()

    def durability(self) -> str:
        with self._reached():
            if not self._reader.info("persistence").get("aof_enabled"):
                return "Redis has appendonly off: a crash of it loses the events since its last snapshot."
            try:
                policy = self._reader.config_get("appendfsync").get("appendfsync", "unknown")
            except redis.ResponseError:  # the server may forbid to ask
                policy = "unknown"
        if self._syncs or policy == "always":
            return "An acknowledged event is on the disk of Redis, and survives a crash of it and of its machine."
        return f"Redis has appendfsync {policy}: a crash of its machine may lose the latest events."

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _packed(self, key: bytes) -> bytes | None:
        with self._reached():
            return self._reader.get(EVENTS + key)

    def _keys(self, low: bytes, high: bytes, limit: int) -> list[bytes]:
        with self._reached():
            return self._reader.zrangebylex(ALL_USERS, b"[" + low, b"(" + high, start=0, num=limit)

    def _update(self, changes: Mapping[bytes, Change]) -> Stored:
        waiting, counts = iter(changes.items()), list[Stored]()
        while some := dict(islice(waiting, USERS)):
            while some:
                done = self._try(some)
                counts += done.values()
                some = {key: change for key, change in some.items() if key not in done}
        return total(counts)

    def _try(self, changes: Mapping[bytes, Change]) -> dict[bytes, Stored]:
        """Change those users whom no other writer changes at the same time."""
        places = [(EVENTS + key, SEEN + key, DELETED + digest_of(key)) for key in changes]
        with self._reached():
            found = self._writer.mget([place for own in places for place in own])
        counts, asked = {}, []
        with self._writer.pipeline(transaction=False) as pipe:
            for key, own, parts in zip(changes, places, zip(*[iter(found)] * 3)):
                before = self._record(parts)
                after, counts[key] = changes[key](before)
                if after is not before:
                    asked.append(key)
                    arguments = mark(parts[0] or b""), parts[2] or b"", *(part or b"" for part in parts_of(after))
                    pipe.eval(REPLACE, 4, *own, ALL_USERS, *arguments, key)
            if self._syncs:
                # for duplicates as well: what stored them may have been cut off before they were on the disk
                pipe.set(b"louder:sync", 1)
                pipe.execute_command("WAITAOF", 1, 0, SYNC_MS)
            with self._reached():
                replies = pipe.execute()
        if self._syncs and not replies.pop()[0]:
            raise StoreGone(f"Redis at {self.place} did not write the events to its disk within {SYNC_MS} ms.")
        lost = {key for key, replaced in zip(asked, replies) if not replaced}
        return {key: count for key, count in counts.items() if key not in lost}

    def _change_settings(self, change: Callable[[StoreSettings | None], StoreSettings]) -> StoreSettings:
        def work(pipe: Any) -> StoreSettings:
            old = read(pipe.get(SETTINGS))
            new = change(old)
            pipe.multi()
            if new != old:
                pipe.set(SETTINGS, written(new))
            return new

        with self._reached():
            return self._writer.transaction(work, SETTINGS, value_from_callable=True)

    def _require_no_eviction(self) -> None:
        """Raises InputError for a server that drops keys when its memory is full: histories would vanish without a word."""
        policy = self._reader.info("memory").get("maxmemory_policy", "noeviction")  # also where CONFIG is forbidden
        if policy.startswith("allkeys-"):
            self.close()
            raise InputError(
                f"Redis at {self.place} has maxmemory-policy {policy}, so it drops histories when its memory is full. Give "
                "histories a server that refuses new ones instead: redis-cli config set maxmemory-policy noeviction."
            )

    def _can_sync(self) -> bool:
        """Whether WAITAOF is there and the server has a log to write to."""
        version = str(self._reader.info("server")["redis_version"]).split(".")
        has_log = self._reader.info("persistence").get("aof_enabled")
        return bool(has_log) and [int(part) for part in version[:2]] >= [7, 2]

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn every error of Redis into StoreGone; a server that is out of memory or read-only is as good as gone."""
        try:
            yield
        except redis.RedisError as error:
            raise StoreGone(f"Redis at {self.place} cannot be used: {error}") from error


def connect(url: str, timeout_s: float) -> Any:
    """A pool of connections; one that the server closed, as when it started again, is made anew at once."""
    once_more = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return redis.Redis.from_url(url, socket_connect_timeout=CONNECT_S, socket_timeout=timeout_s, retry=once_more)
