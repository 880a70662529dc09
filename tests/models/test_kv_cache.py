"""Tokens that come in parts, over cached keys and values, get the states that one pass gives."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from louder.models.kv_cache import BatchedKVCache, KVCache
from tests.models.test_models import MODELS, VOCABULARY, batch_of, history, model_of

WINDOW = dict(window=3, global_prefix=2)
CONFIGS = {
    name + (" with a window" if windowed else ""): replace(MODELS[name], **(WINDOW if windowed else {}))
    for name in ("hstu", "hstu without bias", "hstu without gating", "transformer")
    for windowed in (False, True)
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
REQUESTS = torch.tensor([0, 1, 2, 2, 2, 5, 6, 6, 8, 9, 10, 10])


def one_pass(model, user, prefix_lengths=None):
    batch = replace(batch_of(user), prefix_lengths=prefix_lengths)
    return model.transduce(model.events(batch), batch)


def parts(model, user, cache, ends, prefix_lengths=None):
    """What each part asks of its cache, and its vectors."""
    x = model.events(batch_of(user))
    for start, end in pairwise(ends):
        rows = slice(start, end)
        own = None if prefix_lengths is None else prefix_lengths[rows]
        yield x[rows], cache.allocate(user["timestamps"][rows], user["query_timestamps"][rows], own)
        cache.length += end - start


@every_config
@pytest.mark.parametrize("prefix_lengths", [None, REQUESTS], ids=["", "requests"])
@torch.no_grad()
def test_parts_equal_one_pass(config, prefix_lengths):
    model, user, cache = model_of(config, VOCABULARY), history(12), KVCache(2)
    states = [model.extend(x, new, cache) for x, new in parts(model, user, cache, [0, 5, 6, 12], prefix_lengths)]
    torch.testing.assert_close(torch.cat(states), one_pass(model, user, prefix_lengths), atol=1e-5, rtol=1e-4)


@every_config
@torch.no_grad()
def test_candidates_equal_one_pass_and_leave_nothing_behind(config):
    model, user, cache = model_of(config, VOCABULARY), history(12), KVCache(2)
    whole = one_pass(model, user, torch.arange(12).clamp(max=8))
    x = model.events(batch_of(user))
    list(model.extend(x, new, cache) for x, new in parts(model, user, cache, [0, 8]))
    for first, last in (8, 10), (10, 12):
        rows = slice(first, last)
        new = cache.allocate(user["timestamps"][rows], user["query_timestamps"][rows], None, candidates=2)
        torch.testing.assert_close(model.extend(x[rows], new, cache), whole[rows], atol=1e-5, rtol=1e-4)
    states = [model.extend(x, new, cache) for x, new in parts(model, user, cache, [8, 12])]
    torch.testing.assert_close(states[0], one_pass(model, user)[8:], atol=1e-5, rtol=1e-4)


@every_config
@torch.no_grad()
def test_users_together_equal_each_alone(config):
    model, users, caches = model_of(config, VOCABULARY), [history(12, seed) for seed in range(3)], []
    for user, known in zip(users, (4, 0, 11)):
        caches.append(KVCache(2))
        for x, new in parts(model, user, caches[-1], [0, known] if known else []):
            model.extend(x, new, caches[-1])
    rest = [next(parts(model, user, cache, [cache.length, 12])) for user, cache in zip(users, caches)]
    together = BatchedKVCache(caches, [new for _, new in rest])
    states = model.extend(torch.cat([x for x, _ in rest]), together.new, together).split([8, 12, 1])
    for own, user, known in zip(states, users, (4, 0, 11)):
        torch.testing.assert_close(own, one_pass(model, user)[known:], atol=1e-5, rtol=1e-4)
