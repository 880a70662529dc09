"""What is told of items, in Redis beside histories.

louder:items          hash: item -> JSON
louder:items:changes  sorted set of the items by the version of their latest change
"""

from collections.abc import Callable, Sequence
from typing import Any

from louder.histories.errors import StoreGone
from louder.histories.items import ItemStore
from louder.histories.redis import SYNC_MS, RedisStore

ITEMS, CHANGES = b"louder:items", b"louder:items:changes"


class RedisItems(ItemStore):
    """By the connections of a store of histories."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def close(self) -> None:
        """The connections are the other store's."""

    def _replace(self, keys: Sequence[str], change: Callable[[str, str | None], str]) -> None:
        def work(pipe: Any) -> None:
            version, old = newest(pipe) + 1, pipe.hmget(ITEMS, keys)
            new = {key: change(key, text and text.decode()) for key, text in zip(keys, old)}
            pipe.multi()
            pipe.hset(ITEMS, mapping=new)
            pipe.zadd(CHANGES, dict.fromkeys(keys, version))

        store = self._store
        with store._reached():
            store._writer.transaction(work, CHANGES)  # again, if another process was first
            if store._syncs:
                with store._writer.pipeline(transaction=False) as pipe:
                    pipe.set(b"louder:sync", 1)
                    pipe.execute_command("WAITAOF", 1, 0, SYNC_MS)
                    written = pipe.execute()[1][0]
        if store._syncs and not written:
            raise StoreGone(f"Redis at {store.place} did not write the items to its disk within {SYNC_MS} ms.")

    def _since(self, version: int) -> tuple[int, list[tuple[str, str]]]:
        reader = self._store._reader
        with self._store._reached():
            latest = newest(reader)
            if latest == version:
                return latest, []
            keys = reader.zrangebyscore(CHANGES, f"({version}", "+inf")
            texts = reader.hmget(ITEMS, keys) if keys else []
        # what changed meanwhile is here already, and will be asked for once more
        return latest, [(key.decode(), text.decode()) for key, text in zip(keys, texts)]


def newest(client: Any) -> int:
    found = client.zrange(CHANGES, -1, -1, withscores=True)
    return int(found[0][1]) if found else 0
