"""A retriever's states are those of the whole model, whatever is cached and whoever else is in the pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.batch import SequenceBatch
from louder.inference.retriever import Retriever
from louder.models import HSTUConfig, TransformerConfig, Vocabulary, build

MODELS = {
    "hstu": HSTUConfig(layers=2, heads=2, width=8, qk_width=4, v_width=4, max_len=32),
    "transformer": TransformerConfig(layers=2, heads=2, width=8, hidden=16, max_len=32),
}


def model_of(kind):
    torch.manual_seed(1)
    model = build(MODELS[kind], Vocabulary(items=20, actions=2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def history(length, seed, at):
    draw = torch.Generator().manual_seed(seed)
    times = torch.randint(9_000, (length,), generator=draw).sort().values
    return SequenceBatch(
        ids=torch.randint(20, (length,), generator=draw),
        timestamps=times,
        query_timestamps=torch.cat([times[1:], torch.tensor([at])]),
        offsets=torch.tensor([0, length]),
        actions=torch.randint(4, (length,), generator=draw),
    )


def first(events, length, at):
    parts = {name: getattr(events, name)[:length].clone() for name in ("ids", "timestamps", "actions")}
    asked = torch.cat([events.timestamps[1:length], torch.tensor([at])])
    return SequenceBatch(**parts, query_timestamps=asked, offsets=torch.tensor([0, length]))


def states(retriever, histories):
    prefilled = retriever.prefill(histories)
    found = retriever.next_item_states(prefilled)
    retriever.release(prefilled)
    return found


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(list(MODELS)),
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_states_are_the_models_own(kind, lengths, seed):
    model = model_of(kind)
    retriever = Retriever(model)
    events = [history(length + more, seed + n, 9_999) for n, (length, more) in enumerate(lengths)]
    rounds = [
        [first(h, length, 9_500) for h, (length, _) in zip(events, lengths)],
        events,  # some events later
        events,
    ]
    for now in rounds:
        found = states(retriever, [(h, n) for n, h in enumerate(now)])
        for own, h in zip(found, now):
            torch.testing.assert_close(own, model(h)[-1], atol=1e-5, rtol=1e-5)
    assert retriever.cache.hits == 2 * len(lengths)


def test_a_history_that_changed_is_computed_anew():
    model = model_of("hstu")
    retriever = Retriever(model)
    for seed in 1, 2:
        events = history(6, seed, 9_999)
        (found,) = states(retriever, [(events, "me")])
        torch.testing.assert_close(found, model(events)[-1], atol=1e-5, rtol=1e-5)
    assert (retriever.cache.hits, retriever.cache.misses) == (0, 2)


@pytest.mark.parametrize("room", [0, 20_000])
def test_memory_is_bounded(room):
    retriever = Retriever(model_of("hstu"), cache_bytes=room)
    for user in range(30):
        states(retriever, [(history(9, user, 9_999), user)])
    assert retriever.cache.bytes <= room and (len(retriever.cache) > 2) == (room > 0)
