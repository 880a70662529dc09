"""What is kept of histories between requests, and what is taken for the same history."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from louder.batch import SequenceBatch
from louder.inference.kv_cache import HistoryCache, is_prefix


def history(length=4, **fields):
    ids = torch.arange(length) + 10
    given = {
        "ids": ids,
        "timestamps": 100 * ids,
        "query_timestamps": 100 * ids + 1,
        "offsets": torch.tensor([0, length]),
        "actions": ids % 3,
        "kinds": torch.zeros(length, dtype=torch.uint8),
        "values": torch.stack([ids / 2, torch.full((length,), torch.nan)], 1),
        "prefix_lengths": torch.tensor([0, 1, 1, 1, 4, 5])[:length],
        "context": torch.tensor([[3]]),
    }
    return SequenceBatch(**given | fields)


def test_more_events_begin_with_the_same_ones():
    held = history(4)
    assert is_prefix(held, held) and is_prefix(held, history(6)) and is_prefix(history(0), held)
    assert not is_prefix(history(6), held)
    assert is_prefix(held, replace(history(6), query_timestamps=torch.zeros(6, dtype=torch.int64)))  # of the request


@pytest.mark.parametrize("field", ["ids", "timestamps", "actions", "kinds", "values", "prefix_lengths", "context"])
def test_a_history_that_changed_anywhere_is_another(field):
    for row in 0, -1:
        changed = getattr(history(4), field).clone()
        changed[row] += 1
        if field == "values":
            changed[row, 1] = 7.0  # was absent
        assert not is_prefix(history(4), replace(history(4), **{field: changed}))
    if field not in ("ids", "timestamps"):
        without = replace(history(4), **{field: None})
        assert not is_prefix(history(4), without) and not is_prefix(without, history(4))
        assert is_prefix(without, without)


def held(size, events=None):
    return SimpleNamespace(bytes=size, events=events or history(2))


def test_the_least_recently_used_is_evicted_first():
    cache = HistoryCache(100)
    for key in "abc":
        cache.put(key, held(30))
    assert list(cache.held) == ["a", "b", "c"] and cache.bytes == 90
    cache.put("a", cache.take("a", history(3)))
    cache.put("d", held(40))
    assert list(cache.held) == ["c", "a", "d"] and cache.bytes == 100  # to the last byte
    cache.put("d", held(41))
    assert list(cache.held) == ["a", "d"] and cache.bytes == 71
    cache.put("e", held(101))
    assert list(cache.held) == ["a", "d"]  # what has no room at all drives nobody out
    cache.put(None, held(1))
    assert len(cache) == 2 and cache.bytes == 71


def test_what_is_taken_is_out_of_the_cache_and_hits_are_counted():
    cache = HistoryCache(100)
    cache.put("a", held(30))
    assert cache.take("a", history(3)).bytes == 30 and (len(cache), cache.bytes) == (0, 0)
    assert cache.take("a", history(3)) is None and (cache.hits, cache.misses) == (1, 1)
    cache.put("a", held(30))
    assert cache.take("a", history(1)) is None  # shorter than what is held, which is given up
    assert (len(cache), cache.bytes, cache.hits, cache.misses) == (0, 0, 1, 2)
    assert cache.take(None, history(1)) is None and cache.misses == 2
