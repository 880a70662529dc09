"""A candidate's score is the one that the whole model gives it alone, whatever the microbatch, the order and the cache."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.batch import RankingBatch, SequenceBatch
from louder.data.attributes import Attribute
from louder.errors import InputError
from louder.inference.mfalcon import MFalcon
from louder.inference.runner import end_to_end
from louder.models import HSTUConfig, RankingConfig, TransformerConfig, Vocabulary, build_ranker
from louder.ops import build

ITEMS, ACTIONS = 20, 3
COUNTERS = 5
VOCABULARY = Vocabulary(items=ITEMS, actions=ACTIONS, values=1, series=(4,), context=(3,), counters=COUNTERS)
CROSS = {"cross_layers": 2, "cross_width": 4, "item_counters": True}  # a head that reads more than the state
GENRES = Attribute(
    "genre", 4, torch.arange(2 * ITEMS) % 4, torch.arange(ITEMS + 1) * 2, ("", "drama", "war", "western")
)
BACKBONES = {
    "hstu": HSTUConfig(layers=2, heads=2, width=8, qk_width=4, v_width=4, max_len=64),
    "transformer": TransformerConfig(layers=2, heads=2, width=8, hidden=16, max_len=64),
}


def model_of(kind: str, tokens: str, seed: int = 0, *, cross: bool = False):
    torch.manual_seed(seed)
    config = RankingConfig(context=("age",), tokens=tokens, **(CROSS if cross else {}))
    model = build_ranker(BACKBONES[kind], config, VOCABULARY, [GENRES])
    for parameter in model.parameters():  # far from zero, so that every token matters
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def history(length: int, seed: int, *, requests: bool | str, at: int) -> SequenceBatch:
    """requests  items joined to the request of the event just before them; "in parts": to any earlier one, so that items
    of a request arrive before and after those of others"""
    draw = torch.Generator().manual_seed(seed)

    def integers(high: int) -> torch.Tensor:
        return torch.randint(high, (length,), generator=draw)

    kinds = (integers(4) == 0).to(torch.uint8)
    times = integers(10_000).sort().values
    prefix_lengths = None
    if requests:  # an engagement may belong to the request of the one before it
        joined = (integers(3 if requests is True else 2) == 0) & (kinds == 0)
        before, prefix_lengths = integers(max(length, 1)), torch.arange(length)
        for row in range(1, length):
            other = row - 1 if requests is True else int(before[row]) % row
            if joined[row] and kinds[other] == 0:
                prefix_lengths[row], times[row] = prefix_lengths[other], times[other]
    return SequenceBatch(
        ids=torch.where(kinds == 1, integers(4), integers(ITEMS)),
        timestamps=times,
        query_timestamps=torch.cat([times[1:], torch.tensor([at])])[:length],
        offsets=torch.tensor([0, length]),
        actions=integers(1 << ACTIONS),
        kinds=kinds,
        values=torch.where(integers(5)[:, None] == 0, torch.nan, integers(9)[:, None].float()),
        prefix_lengths=prefix_lengths,
        context=torch.tensor([[seed % 3]]),
    )


def counters_of(candidates, seed: int = 0) -> torch.Tensor:
    """[m, F] some, each item's its own"""
    table = torch.randn(ITEMS + 1, COUNTERS, generator=torch.Generator().manual_seed(seed))
    return table[torch.as_tensor(candidates, dtype=torch.int64)]


def alone(model, events: SequenceBatch, candidate: int, at: int):
    """The whole model, as training calls it, with the candidate as the last event."""
    length = len(events.ids)

    def with_one(x, value):
        return torch.cat([x, torch.as_tensor([value], dtype=x.dtype)])

    batch = SequenceBatch(
        ids=with_one(events.ids, candidate),
        timestamps=with_one(events.timestamps, at),
        query_timestamps=with_one(events.query_timestamps, at),
        offsets=torch.tensor([0, length + 1]),
        actions=with_one(events.actions, 0),
        kinds=with_one(events.kinds, 0),
        values=torch.cat([events.values, torch.zeros(1, 1)]),
        prefix_lengths=None if events.prefix_lengths is None else with_one(events.prefix_lengths, length),
        context=events.context,
    )
    nothing = torch.zeros(1, 0)
    asked = RankingBatch(
        sequences=batch,
        target_positions=torch.tensor([length]),
        labels=nothing,
        value_targets=nothing,
        counters=counters_of([candidate]),
        next_items=torch.full((length + 1,), -1),
        users=torch.tensor([0]),
        rows=torch.tensor([0]),
    )
    return model(asked)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(list(BACKBONES)),
    tokens=st.sampled_from(["paired", "interleaved", "added"]),
    length=st.integers(0, 12),
    candidates=st.lists(st.integers(-1, ITEMS - 1), min_size=1, max_size=9),
    microbatch=st.integers(1, 10),
    requests=st.sampled_from([False, True, "in parts"]),
    cross=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_a_score_is_that_of_the_candidate_alone(kind, tokens, length, candidates, microbatch, requests, cross, seed):
    model = model_of(kind, tokens, seed, cross=cross)
    events = history(length, seed, requests=requests if tokens != "added" else False, at=12_345)
    mfalcon = MFalcon(model, microbatch=microbatch)
    logits, numbers = mfalcon.score(events, torch.tensor(candidates), 12_345, counters=counters_of(candidates))
    expected = [alone(model, events, candidate, 12_345) for candidate in candidates]
    torch.testing.assert_close(logits, torch.cat([x for x, _ in expected]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(numbers, torch.cat([x for _, x in expected]), atol=1e-5, rtol=1e-5)


def part(events: SequenceBatch, length: int, at: int) -> SequenceBatch:
    """The first events, and the request that comes after them."""
    fields = {
        name: x[:length] for name, x in vars(events).items() if x is not None and name not in ("offsets", "context")
    }
    fields["query_timestamps"] = torch.cat([events.timestamps[1:length], torch.tensor([at])])[:length]
    return SequenceBatch(**fields, offsets=torch.tensor([0, length]), context=events.context)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(list(BACKBONES)),
    tokens=st.sampled_from(["paired", "interleaved", "added"]),
    lengths=st.lists(st.integers(0, 12), min_size=2, max_size=4),
    requests=st.sampled_from([False, True, "in parts"]),
    cross=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_a_cached_history_that_grows_gives_the_scores_of_a_new_one(kind, tokens, lengths, requests, cross, seed):
    model = model_of(kind, tokens, seed, cross=cross)
    events = history(12, seed, requests=requests if tokens != "added" else False, at=0)
    cached = MFalcon(model, microbatch=3)
    candidates = torch.arange(5)
    for number, length in enumerate(lengths):
        at = 12_345 + number
        now, counters = part(events, length, at), counters_of(candidates, number)  # these change, the cache stays
        got = cached.score(now, candidates, at, key="user", counters=counters)
        expected = MFalcon(model).score(now, candidates, at, counters=counters)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    grows = [length >= before for before, length in pairwise(lengths)]
    assert cached.cache.hits == sum(grows)
    assert cached.cache.misses == len(lengths) - sum(grows)


@pytest.mark.parametrize("kind", list(BACKBONES))
@pytest.mark.parametrize("tokens", ["paired", "interleaved"])
@torch.no_grad()
def test_the_items_of_a_request_may_arrive_in_parts_and_between_others(kind, tokens):
    """The fourth event is of the second one's request, and comes when the third one's is cached already."""
    model = model_of(kind, tokens)
    plain = history(6, 3, requests=False, at=20_000)
    heads = torch.tensor([0, 1, 2, 1, 2, 1])
    events = SequenceBatch(
        **{**vars(plain), "prefix_lengths": heads, "timestamps": plain.timestamps[heads], "kinds": plain.kinds * 0}
    )
    for lengths in (2, 4, 6), (3, 4, 5, 6), (1, 3, 6), (4, 5):
        cached = MFalcon(model)
        for length in lengths:
            now = part(events, length, 20_000)
            got = cached.score(now, torch.arange(5), 20_000, key="user")
            torch.testing.assert_close(got, MFalcon(model).score(now, torch.arange(5), 20_000), atol=1e-5, rtol=1e-5)
        assert cached.cache.hits == len(lengths) - 1


@torch.no_grad()
def test_only_new_events_are_computed_again():
    model = model_of("hstu", "interleaved")
    events = history(12, 1, requests=False, at=0)
    computed = []
    extend = model.backbone.extend
    model.backbone.extend = lambda x, new, memory: computed.append(len(x)) or extend(x, new, memory)
    mfalcon = MFalcon(model, microbatch=100)
    mfalcon.score(part(events, 10, 20_000), torch.arange(4), 20_000, key=1)
    computed.clear()
    mfalcon.score(part(events, 11, 20_000), torch.arange(4), 20_000, key=1)
    assert sum(computed) <= 4 + 2 + 1 + 1  # candidates, an event's two tokens, and those that knew the old request


@torch.no_grad()
def test_the_cache_keeps_to_its_bytes_and_forgets_the_oldest():
    model = model_of("hstu", "interleaved")
    requests = {user: history(12, user, requests=False, at=20_000) for user in range(5)}
    one = MFalcon(model)
    one.score(requests[0], torch.arange(3), 20_000, key=0)
    size = one.cache.bytes
    small = MFalcon(model, cache_bytes=2 * size + size // 2)
    cache = small.cache
    for user, events in requests.items():
        small.score(events, torch.arange(3), 20_000, key=user)
        assert cache.bytes <= cache.capacity
        assert cache.bytes == sum(held.bytes for held in cache.held.values())
    assert list(cache.held) == [3, 4]
    small.score(requests[3], torch.arange(3), 20_000, key=3)
    small.score(requests[0], torch.arange(3), 20_000, key=0)
    assert list(cache.held) == [3, 0]  # 4 was used longest ago
    none = MFalcon(model, cache_bytes=10)
    none.score(requests[0], torch.arange(3), 20_000, key=0)
    assert not none.cache and none.cache.bytes == 0


@pytest.mark.parametrize("kind", list(BACKBONES))
@torch.no_grad()
def test_candidates_take_a_quarter_of_the_cache_at_most(kind):
    model = model_of(kind, "interleaved")
    events = history(12, 1, requests=False, at=20_000)

    def bytes_after(*candidates):
        mfalcon = MFalcon(model)
        for count in candidates:
            mfalcon.score(events, torch.arange(count) % ITEMS, 20_000, key=0)
        return mfalcon.cache.bytes

    assert bytes_after(1_000, 1_000) == bytes_after(20) <= bytes_after(1, 2, 1_000) <= 1.3 * bytes_after(20)
    if kind == "hstu" and build.load("hstu_branch", build.HEADERS / "hstu_branch" / "cpu.cpp"):  # writes none of theirs
        assert bytes_after(1, 2, 1_000) == bytes_after(20)


@torch.no_grad()
def test_a_history_that_changed_is_not_taken_for_the_cached_one():
    model = model_of("hstu", "interleaved")
    events = history(10, 3, requests=False, at=20_000)
    for name in "ids", "actions", "values", "timestamps", "context":
        mfalcon = MFalcon(model)
        mfalcon.score(events, torch.arange(4), 20_000, key=0)
        changed = getattr(events, name).clone()
        changed[0] = (torch.nan_to_num(changed[0]) + 1) % 3
        other = SequenceBatch(**{**vars(events), name: changed})
        got = mfalcon.score(other, torch.arange(4), 20_000, key=0)
        torch.testing.assert_close(got, MFalcon(model).score(other, torch.arange(4), 20_000))
        assert mfalcon.cache.misses == 2


def test_a_microbatch_needs_a_candidate():
    with pytest.raises(InputError, match="microbatch must be at least 1"):
        MFalcon(model_of("hstu", "added"), microbatch=0)


@torch.no_grad()
def scores(mfalcon, events, candidates, keys=None):
    """Of several requests in one pass."""
    prefilled = mfalcon.prefill(list(zip(events, keys or range(len(events)))))
    vectors = [mfalcon.model.items(own) for own in candidates]
    counters = [counters_of(own) for own in candidates]
    found = mfalcon.score_candidates(prefilled, vectors, [12_345] * len(events), counters)
    mfalcon.release(prefilled)
    return found


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(list(BACKBONES)),
    tokens=st.sampled_from(["paired", "added"]),
    requests=st.booleans(),
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    microbatch=st.integers(1, 5),
    cross=st.booleans(),
    seed=st.integers(0, 99),
)
def test_requests_that_share_their_passes_are_answered_as_each_alone(
    kind, tokens, requests, lengths, microbatch, cross, seed
):
    model = model_of(kind, tokens, cross=cross)
    events = [
        history(length, seed + n, requests=requests if tokens != "added" else False, at=12_345)
        for n, length in enumerate(lengths)
    ]
    draw = torch.Generator().manual_seed(seed)
    wanted = [torch.randint(ITEMS, (1 + n * 3 % 7,), generator=draw) for n in range(len(lengths))]
    shared = MFalcon(model, microbatch=microbatch)
    for _ in range(2):  # cold, then cached
        found = scores(shared, events, wanted)
        for (logits, numbers), own, candidates in zip(found, events, wanted):
            one = MFalcon(model, microbatch=microbatch)
            expected, values = one.score(own, candidates, 12_345, counters=counters_of(candidates))
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(numbers, values, atol=1e-5, rtol=1e-5)
    assert shared.cache.hits == len(lengths)


def test_the_same_history_twice_in_one_pass():
    model, events = model_of("hstu", "paired"), history(9, 3, requests=False, at=12_345)
    mfalcon = MFalcon(model)
    first, second = scores(mfalcon, [events] * 2, [torch.arange(5)] * 2, ["one"] * 2)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    held = mfalcon.cache.held["one"].bytes
    assert mfalcon.cache.bytes == held and list(mfalcon.cache.held) == ["one"]


@pytest.mark.parametrize("kind", list(BACKBONES))
def test_what_a_joint_model_would_show_next_is_the_state_at_the_last_action(kind):
    model = model_of(kind, "paired")
    mfalcon = MFalcon(model)
    events = [until_engaged(history(length, 5 + length, requests=True, at=12_345)) for length in (4, 9, 12)]
    for _ in range(2):
        prefilled = mfalcon.prefill([(h, n) for n, h in enumerate(events)])
        found = mfalcon.next_item_states(prefilled)
        mfalcon.release(prefilled)
        for own, h in zip(found, events):
            tokens = model.tokens(h)
            expected = model.next_item_states(model.states(tokens), tokens.actions[-1:])[0]
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)
    assert mfalcon.cache.hits == 3


def until_engaged(events):
    """Up to the last engagement, which is asked for what comes next."""
    last = int((events.kinds == 0).nonzero().max())
    parts = {name: getattr(events, name) for name in ("ids", "timestamps", "query_timestamps", "actions", "kinds")}
    parts = {name: x[: last + 1] for name, x in parts.items()}
    parts["query_timestamps"] = torch.cat([parts["query_timestamps"][:-1], torch.tensor([12_345])])
    return SequenceBatch(
        **parts,
        offsets=torch.tensor([0, last + 1]),
        values=events.values[: last + 1],
        prefix_lengths=events.prefix_lengths[: last + 1],
        context=events.context,
    )


def test_histories_with_and_without_requests_lie_end_to_end():
    plain, shared = history(3, 1, requests=False, at=9), history(4, 2, requests=True, at=9)
    both = end_to_end([plain, shared])
    assert both.offsets.tolist() == [0, 3, 7] and both.ids.tolist() == [*plain.ids.tolist(), *shared.ids.tolist()]
    assert both.prefix_lengths.tolist() == [0, 1, 2, *shared.prefix_lengths.tolist()]
    assert end_to_end([plain, plain]).prefix_lengths is None
    assert both.context.tolist() == [*plain.context.tolist(), *shared.context.tolist()]
