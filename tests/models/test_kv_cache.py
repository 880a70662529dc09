"""Tokens that come in parts, over cached keys and values, get the states that one pass gives."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from louder.models.kv_cache import BatchedKVCache, Branch, KVCache
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


def branches(model, known):
    """Users with so many of 12 events cached, and the event after these as vectors."""
    found = []
    for seed, n in enumerate(known):
        user, cache = history(12, seed), KVCache(2)
        list(model.extend(x, new, cache) for x, new in parts(model, user, cache, [0, n] if n else []))
        found.append((user, cache))
    return found


@every_config
@torch.no_grad()
def test_branches_see_what_is_cached_and_themselves_alone(config):
    """Of three users one, several and no rows, each after other tokens; one asks with a time of its own."""
    model, vectors = model_of(config, VOCABULARY), torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
    users = branches(model, (4, 0, 11))
    asked = [Branch(cache, n, rows, 12_000 + n, 13_000) for (_, cache), n, rows in zip(users, (4, 0, 11), (1, 5, 0))]
    before = [(cache.keys.clone() if cache.keys is not None else None, cache.length) for _, cache in users]
    expected = []
    for (user, _), own, x in zip(users, asked, vectors.split([1, 5, 0])):
        for row in x:
            batch = batch_of({name: value[: own.seen + 1] for name, value in user.items()})
            batch = replace(batch, timestamps=batch.timestamps.clone(), query_timestamps=batch.query_timestamps.clone())
            batch.timestamps[-1], batch.query_timestamps[-1] = own.time, own.query_time
            tokens = torch.cat([model.events(batch_of(user))[: own.seen], row[None]])
            expected.append(model.transduce(tokens, batch)[-1])
    for branch in model.branch, model.ready():
        torch.testing.assert_close(branch(vectors, asked), torch.stack(expected), atol=1e-5, rtol=1e-4)
    for (keys, length), (_, cache) in zip(before, users):
        assert cache.length == length
        assert keys is None or torch.equal(cache.keys[:, :length], keys[:, :length])


@every_config
@torch.no_grad()
def test_what_is_kept_of_a_branch_is_seen_by_the_next_one(config):
    model, x = model_of(config, VOCABULARY), torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    states = []
    for at_once in False, True:
        (_, one), (_, two) = branches(model, (9, 3))
        branch = model.ready() if at_once else model.branch
        first = branch(x[:2], [Branch(one, 9, 1, 12_000, 12_500), Branch(two, 3, 1, 12_100, 12_600)], keep=True)
        second = branch(x[2:], [Branch(one, 10, 1, 13_000, 13_000), Branch(two, 3, 1, 13_000, 13_000)])
        assert (one.length, two.length) == (9, 3)
        states.append(torch.cat([first, second]))
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-4)
    unkept = model.branch(x[2:3], [Branch(one, 9, 1, 13_000, 13_000)])
    assert not torch.allclose(unkept[0], states[0][2], atol=1e-3)


@torch.no_grad()
def test_many_rows_after_many_tokens_at_once():
    """More of each than a tile of the kernel has, widths that fill no vector, and requests that were shown together."""
    config = replace(MODELS["hstu"], layers=2, heads=3, width=20, qk_width=7, v_width=9, max_len=64, window=90)
    config = replace(config, global_prefix=5)
    model = model_of(config, VOCABULARY)
    draw, cache, n = torch.Generator().manual_seed(5), KVCache(2), 230
    times = torch.randint(0, 10_000_000, (n,), generator=draw).sort().values
    prefix_lengths = torch.arange(n) // 3 * 3
    model.extend(torch.randn(n, 20, generator=draw), cache.allocate(times, times, prefix_lengths), cache)
    x, asked = torch.randn(300, 20, generator=draw), [Branch(cache, n, 300, 11_000_000, 11_000_000)]
    expected = model.branch(x, asked)
    torch.testing.assert_close(model.ready()(x, asked), expected, atol=1e-5, rtol=1e-4)
    few = model.ready()(x[:7], [Branch(cache, n, 7, 11_000_000, 11_000_000)])
    torch.testing.assert_close(few, expected[:7], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_scores_far_from_zero_at_once():
    """Weights of scores from -1,000 to 1,000, of which SiLU leaves nothing, or all."""
    model, (_, cache) = model_of(MODELS["hstu"], VOCABULARY), *branches(model_of(MODELS["hstu"], VOCABULARY), (11,))
    cache.keys.copy_(torch.linspace(-300, 300, cache.keys.numel()).view_as(cache.keys))
    x = 3 * torch.randn(60, 8, generator=torch.Generator().manual_seed(4))
    asked = [Branch(cache, 11, 60, 2_000_000, 2_000_000)]
    torch.testing.assert_close(model.ready()(x, asked), model.branch(x, asked), atol=1e-4, rtol=1e-4)
