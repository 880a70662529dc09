"""Every impression-level ranker keeps the same promises: it sees one exposure alone, never what was done with it, and it
learns what it is shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import torch
import torch.nn.functional as F
from exposures import ATTRIBUTES, VOCABULARY, batch_of, exposure
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.errors import InputError
from louder.models import Vocabulary
from louder.models.dlrm import DLRM, DLRMConfig
from louder.models.embeddings import StaticTable, VectorMap
from louder.models.features import RunningNorm, TargetAttention, mean_of
from louder.models.wukong import Wukong, WukongConfig

SHAPE = dict(width=4, history=5, unit_hidden=6, counter_vectors=2, counter_hidden=8, dropout=0.0)
MODELS = {
    "dlrm": (DLRM, DLRMConfig(**SHAPE, cross_layers=2, experts=2, expert_hidden=(8, 6), tower_hidden=5)),
    "wukong": (Wukong, WukongConfig(**SHAPE, layers=2, fmb=3, lcb=2, rank=3, fmb_hidden=(8,), hidden=(8,))),
}
every_model = pytest.mark.parametrize("name", MODELS)


def model_of(name, vocabulary=VOCABULARY, attributes=ATTRIBUTES, large=True):
    torch.manual_seed(1)
    kind, config = MODELS[name]
    model = kind(config, vocabulary, attributes)
    if large:  # so large that a wrong connection shows
        with torch.no_grad():
            for table in model.modules():
                if isinstance(table, StaticTable | torch.nn.Embedding | torch.nn.EmbeddingBag | VectorMap):
                    table.weight.normal_(std=0.5)
            model.features.everybody.normal_(std=0.5)
    return model.eval()


def loss_of(model, batch):
    logits, numbers = model(batch)
    return F.binary_cross_entropy_with_logits(logits, batch.labels) + (numbers - batch.value_targets).square().mean()


def assert_same(found, expected):
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def differ(found, expected):
    return all((a - b).abs().max() > 1e-4 for a, b in zip(found, expected))


sizes = st.integers(0, 3)


@every_model
@settings(max_examples=30)
@given(data=st.data())
def test_outputs_and_gradients_are_finite_and_of_the_promised_shapes(name, data):
    vocabulary = Vocabulary(
        items=data.draw(st.integers(1, 9)),
        actions=data.draw(st.integers(1, 3)),
        values=data.draw(sizes),
        users=data.draw(sizes),
        counters=data.draw(sizes),
        series=tuple(data.draw(st.lists(st.integers(1, 3), max_size=2))),
        context=tuple(data.draw(st.lists(st.integers(1, 3), max_size=2))),
    )
    lengths = data.draw(st.lists(st.integers(0, 8), max_size=4))
    exposures = [exposure(length, seed, vocabulary) for seed, length in enumerate(lengths)]
    batch = batch_of(*exposures, vocabulary=vocabulary)
    model = model_of(name, vocabulary, ATTRIBUTES[: data.draw(st.integers(0, 3))]).train()
    logits, numbers = model(batch)
    assert logits.shape == (len(lengths), vocabulary.actions) and logits.dtype == torch.float32
    assert numbers.shape == (len(lengths), vocabulary.values) and numbers.dtype == torch.float32
    (logits.sum() + numbers.sum()).backward()
    assert logits.isfinite().all() and numbers.isfinite().all()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@every_model
def test_gradients_reach_every_parameter(name):
    model = model_of(name).train()
    batch = batch_of(*(exposure(8, seed) for seed in range(60)))
    loss_of(model, batch).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


@every_model
def test_an_exposure_does_not_depend_on_the_others_of_its_batch(name):
    model = model_of(name)
    exposures = [exposure(length, seed) for seed, length in enumerate([3, 0, 8, 1, 0])]
    together = model(batch_of(*exposures))
    for row, alone in enumerate(exposures):
        assert_same(model(batch_of(alone)), [x[row : row + 1] for x in together])


@every_model
def test_what_was_done_with_the_exposure_is_not_seen(name):
    model, shown = model_of(name), exposure(6)
    expected = model(batch_of(shown))
    changed = {x: shown[x].clone() for x in ("actions", "values")}
    changed["actions"][-1] ^= 7
    changed["values"][-1] += 1
    changed |= {"labels": 1 - shown["labels"], "value_targets": shown["value_targets"] + 1}
    for a, b in zip(model(batch_of(shown | changed)), expected):
        assert torch.equal(a, b)


@every_model
def test_every_feature_is_seen(name):
    model = model_of(name)
    shown = exposure(6) | {"kinds": torch.tensor([0, 1, 2, 0, 0, 0, 0], dtype=torch.uint8)}
    shown["ids"] = torch.tensor([5, 3, 0, 6, 7, 8, 2])
    expected = model(batch_of(shown))
    for field, change in {
        "ids": {-1: 1, -2: 1, 1: 2, 2: 1},  # the item, an event of the history, the entries of the series
        "timestamps": {-1: int(shown["timestamps"][-1]) + 5 * 3600},
        "actions": {-2: int(shown["actions"][-2]) ^ 1},
        "context": {0: (int(shown["context"][0]) + 1) % 3, 1: (int(shown["context"][1]) + 1) % 5},
        "counters": {2: 3.0},
    }.items():
        for place, value in change.items():
            other = shown[field].clone()
            other[place] = value
            assert differ(model(batch_of(shown | {field: other})), expected), (field, place)
    assert differ(model(batch_of(shown | {"user": (shown["user"] + 1) % 6})), expected)


@every_model
def test_the_history_is_a_set_of_the_latest_events(name):
    model = model_of(name)
    shown = exposure(9) | {"kinds": torch.tensor([0, 0, 0, 1, 0, 0, 2, 0, 0, 0], dtype=torch.uint8)}
    shown["ids"] = torch.tensor([7, 8, 6, 3, 5, 4, 1, 3, 2, 0])
    expected = model(batch_of(shown))
    order = torch.tensor([0, 1, 8, 3, 5, 2, 6, 4, 7, 9])  # the latest five events: 2, 4, 5, 7, 8
    assert_same(model(batch_of(shown | {x: shown[x][order] for x in ("ids", "actions", "values")})), expected)
    older = shown["ids"].clone()
    older[:2] = 0
    assert_same(model(batch_of(shown | {"ids": older})), expected)


@every_model
def test_only_the_latest_entry_of_a_series_is_a_feature(name):
    model = model_of(name)
    shown = exposure(4) | {"kinds": torch.tensor([1, 1, 0, 0, 0], dtype=torch.uint8)}
    shown["ids"] = torch.tensor([3, 2, 5, 6, 7])
    expected = model(batch_of(shown))
    shown["ids"][0] = 0
    assert_same(model(batch_of(shown)), expected)
    without = {x: shown[x][1:] for x in ("ids", "timestamps", "actions", "kinds", "values")}
    assert_same(model(batch_of(shown | without)), expected)


@every_model
def test_hour_and_weekday_are_those_of_the_request_in_utc(name):
    """Hour h has row h; a week begins on the day of 1970-01-01, a Thursday."""
    features, shown = model_of(name).features, exposure(2)
    hour, weekday = len(ATTRIBUTES) + 4, len(ATTRIBUTES) + 5  # after item and user, attributes, and two of context
    for hours in range(0, 16 * 24, 7):
        moment = datetime(2024, 2, 26, 0, 59, 59, tzinfo=UTC) + timedelta(hours=hours)
        times = torch.tensor([0, 60, int(moment.timestamp())])
        (x,) = features(batch_of(shown | {"timestamps": times}))
        torch.testing.assert_close(x[hour], features.hours.weight[moment.hour])
        torch.testing.assert_close(x[weekday], features.weekdays.weight[(moment.weekday() - 3) % 7])


@every_model
def test_the_features_stand_in_the_order_of_their_description(name):
    """and each is the row of its own table"""
    features = model_of(name).features
    shown = exposure(3) | {"kinds": torch.tensor([1, 0, 2, 0], dtype=torch.uint8), "user": 4}
    shown["ids"] = torch.tensor([3, 7, 1, 6])
    (x,) = features(batch_of(shown))
    author, tags, text = (part[0] for part in features.attributes(torch.tensor([6])))
    first, second = shown["context"].tolist()
    expected = [features.items.weight[6], features.everybody + features.users.weight[4], author, tags, text]
    expected += [features.context[0].weight[first], features.context[1].weight[second]]
    torch.testing.assert_close(x[: len(expected)], torch.stack(expected))
    series = [features.series[0].weight[3], features.series[1].weight[1]]
    torch.testing.assert_close(x[len(expected) + 2 :][:2], torch.stack(series))
    (event,) = features.events(batch_of(shown).sequences, torch.tensor([1]))
    torch.testing.assert_close(x[len(expected) + 5], event)  # the mean of a history of one
    assert len(x) == features.count == len(expected) + 2 + 2 + 2 + features.config.counter_vectors


@every_model
def test_a_series_without_an_entry_is_zeros(name):
    features = model_of(name).features
    first = len(ATTRIBUTES) + 6  # after item and user, attributes, two of context, hour and weekday
    with_none, without = exposure(2), exposure(3)
    with_none |= {"kinds": torch.tensor([0, 2, 0], dtype=torch.uint8), "ids": torch.tensor([5, 1, 6])}
    without |= {"kinds": torch.zeros(4, dtype=torch.uint8), "ids": torch.tensor([1, 2, 3, 4])}
    x = features(batch_of(with_none, without))
    assert not x[0, first].any() and not x[1, first : first + 2].any()
    torch.testing.assert_close(x[0, first + 1], features.series[1].weight[1])


@every_model
def test_an_event_is_its_item_its_actions_and_its_values_on_their_scale(name):
    model = model_of(name)
    features, shown = model.features, exposure(3)
    model.set_value_scale(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 4.0]))
    shown |= {"kinds": torch.zeros(4, dtype=torch.uint8), "ids": torch.tensor([5, 6, 7, 0])}
    shown |= {"actions": torch.tensor([0b101, 0, 0b010, 0])}
    shown |= {"values": torch.tensor([[5.0, 1.0], [torch.nan, 9.0], [-1e9, 1.0], [0.0, 0.0]])}
    items, (a, b, c) = features.items.weight, features.actions.weight
    of_watch, of_rating = features.values.weight.T
    expected = [items[5] + a + c + of_watch, items[6] + 2 * of_rating, items[7] + b - 5 * of_watch]
    found = features.events(batch_of(shown).sequences, torch.arange(3))
    torch.testing.assert_close(found, torch.stack(expected))


@every_model
def test_users_who_were_never_trained_on_are_all_alike(name):
    model = model_of(name, large=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    for step in range(5):
        optimizer.zero_grad()
        loss_of(model, batch_of(*(exposure(4, 9 * step + i) | {"user": i % 4} for i in range(8)))).backward()
        optimizer.step()
    model.eval()
    warm, other, cold, colder = (model(batch_of(exposure(4) | {"user": user})) for user in (0, 1, 4, 5))
    assert not torch.equal(warm[0], cold[0]) and not torch.equal(warm[0], other[0])
    assert_same(cold, colder)


@every_model
def test_a_tiny_batch_is_learnt_by_heart(name):
    model = model_of(name, large=False).train()
    batch = batch_of(*(exposure(seed % 6, seed) for seed in range(12)))
    model.set_value_scale(batch.value_targets.mean(0), batch.value_targets.std(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = loss_of(model, batch).item()
    for _ in range(300):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
    assert first > 1 and loss.item() < 0.05


@every_model
def test_values_are_given_on_their_own_scale(name):
    model = model_of(name)
    batch = batch_of(exposure(3))
    logits, numbers = model(batch)
    mean, scale = torch.tensor([10.0, -3.0]), torch.tensor([2.0, 5.0])
    model.set_value_scale(mean, scale)
    batch = replace(batch, sequences=replace(batch.sequences, values=batch.sequences.values * scale + mean))
    assert_same(model(batch), (logits, numbers * scale + mean))


@every_model
def test_bfloat16_is_near_float32(name):
    model = model_of(name)
    batch = batch_of(*(exposure(5, seed) for seed in range(20)))
    expected, _ = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = model(batch)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()


@every_model
def test_a_batch_that_asks_for_several_rows_of_a_sequence_is_refused(name):
    batch = batch_of(exposure(3), exposure(2))
    with pytest.raises(InputError, match=r"has 3 targets in 2 sequences.*one_pass=False"):
        model_of(name)(replace(batch, target_positions=torch.tensor([2, 3, 6])))


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (DLRMConfig(), {"history": 0}, "model.history must be at least 1, but it is 0"),
        (DLRMConfig(), {"cross_layers": 0}, "model.cross_layers must be at least 1"),
        (DLRMConfig(), {"expert_hidden": ()}, "model.expert_hidden must have at least one size"),
        (DLRMConfig(), {"dropout": 1.0}, r"model.dropout must be in \[0, 1\)"),
        (WukongConfig(), {"rank": 0}, "model.rank must be at least 1"),
        (WukongConfig(), {"fmb_hidden": (8, 0)}, r"model.fmb_hidden must be at least 1, but it is \(8, 0\)"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(config, changes, message):
    with pytest.raises(InputError, match=message):
        replace(config, **changes)


def test_target_attention_is_a_unit_on_h_t_their_difference_and_their_product():
    torch.manual_seed(0)
    attention, events, target = TargetAttention(4, 6), torch.randn(5, 4), torch.randn(3, 4)
    owner = torch.tensor([0, 0, 0, 2, 2])
    # the paper's matrix on [h, t, h - t, h * t], of which the part of h - t can be any
    h, t, product = attention.event.weight, attention.target.weight, attention.product.weight
    difference = torch.randn(6, 4)
    matrix = torch.cat([h - difference, t + difference, difference, product], dim=1)
    expected = torch.zeros(3, 4)
    for event, exposure_number in zip(events, owner.tolist()):
        aim = target[exposure_number]
        unit = matrix @ torch.cat([event, aim, event - aim, event * aim]) + attention.target.bias
        unit = torch.where(unit > 0, unit, attention.activation.weight * unit)
        expected[exposure_number] += (attention.weight.weight[0] @ unit + attention.weight.bias[0]) * event
    torch.testing.assert_close(attention(events, target, owner), expected, atol=1e-5, rtol=1e-4)


def test_the_mean_of_no_events_is_zero():
    events = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]])
    expected = torch.tensor([[0.0, 0.0], [2.0, 4.0], [5.0, 5.0]])
    torch.testing.assert_close(mean_of(events, torch.tensor([1, 1, 2]), 3), expected)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any))
def test_counters_are_scaled_by_all_rows_seen_in_training(lengths):
    norm, rows = RunningNorm(3), torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(0)) * 4 + 7
    for part in rows.split(lengths):
        norm(part)
    norm.eval()
    expected = (rows - rows.mean(0)) / (rows.std(0, correction=0) + 1e-6)
    torch.testing.assert_close(norm(rows), expected.clamp(-10, 10), atol=1e-3, rtol=1e-3)
    assert int(norm.rows) == sum(lengths)
    assert norm(torch.full((1, 3), 1e9)).tolist() == [[10.0] * 3]
