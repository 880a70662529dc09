"""Every model keeps the same promises: it sees the past alone, one user alone, and it learns a checkerboard."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tables import checkerboard, tiny_config, write_table

from louder.batch import SequenceBatch
from louder.errors import InputError
from louder.models import (
    HSTU,
    HSTUConfig,
    SASRecConfig,
    TransformerConfig,
    Vocabulary,
    build,
    config_from_dict,
)
from louder.models.transformer import rotate, rotation
from louder.training.loop import train
from louder.training.losses import LossConfig, RetrievalLoss

HSTU_TINY = HSTUConfig(layers=2, heads=2, width=8, qk_width=4, v_width=4, max_len=16, dropout=0, linear_dropout=0)
MODELS = {
    "hstu": HSTU_TINY,
    "hstu without position bias": replace(HSTU_TINY, position_bias=False),
    "hstu without time bias": replace(HSTU_TINY, time_bias=False),
    "hstu without bias": replace(HSTU_TINY, position_bias=False, time_bias=False),
    "hstu with softmax": replace(HSTU_TINY, attention="softmax"),
    "hstu with softmax, without bias": replace(HSTU_TINY, attention="softmax", position_bias=False, time_bias=False),
    "hstu without gating": replace(HSTU_TINY, gating=False),
    "hstu with a window": replace(HSTU_TINY, window=3, global_prefix=2),
    "hstu not normalised": replace(HSTU_TINY, normalised=False),
    "sasrec": SASRecConfig(layers=2, heads=2, width=8, hidden=8, max_len=16, dropout=0),
    "transformer": TransformerConfig(layers=2, heads=2, width=8, hidden=12, max_len=16, dropout=0),
}
WINDOWED = {name: replace(MODELS[name], layers=1) for name in ("hstu", "hstu with softmax", "transformer")}
VOCABULARY = Vocabulary(items=20, actions=3, series=(5,))
every_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())


def history(length, seed=0, withheld=False):
    """One user's fields, [L] each."""
    random = torch.Generator().manual_seed(seed)
    times = torch.randint(0, 10**6, (length,), generator=random).sort().values
    asked = times if withheld else torch.cat([times[1:], times[-1:] + 100]) if length else times
    kinds = (torch.rand(length, generator=random) < 0.2).to(torch.uint8)
    return {
        "ids": torch.where(
            kinds == 0,
            torch.randint(20, (length,), generator=random),
            torch.randint(5, (length,), generator=random),
        ),
        "timestamps": times,
        "query_timestamps": asked,
        "actions": torch.where(kinds == 0, torch.randint(8, (length,), generator=random), 0),
        "kinds": kinds,
    }


def batch_of(*users):
    joined = {name: torch.cat([user[name] for user in users]) for name in users[0]}
    lengths = torch.tensor([0, *(len(user["ids"]) for user in users)])
    return SequenceBatch(**joined, offsets=lengths.cumsum(0))


def model_of(config, vocabulary=VOCABULARY):
    torch.manual_seed(1)
    model = build(config, vocabulary)
    with torch.no_grad():  # large enough that a wrong connection shows
        for name, parameter in model.named_parameters():
            if "bias" in name or "events" in name or "qkv" in name:
                parameter.normal_(std=0.5)
    return model.eval()


@every_model
def test_a_later_event_does_not_change_an_earlier_state(config):
    model, user = model_of(config), history(9, withheld=True)
    before = model(batch_of(user))
    for changed in range(1, 9):
        later = {name: x.clone() for name, x in user.items()}
        later["ids"][changed] = (user["ids"][changed] + 1) % 5
        later["actions"][changed] ^= 7
        later["kinds"][changed] ^= 1
        later["timestamps"][changed:] += 5000
        later["query_timestamps"][changed:] += 5000
        after = model(batch_of(later))
        torch.testing.assert_close(after[:changed], before[:changed], atol=1e-6, rtol=1e-5)
        assert (after[changed] - before[changed]).abs().max() > 1e-3


@every_model
def test_of_a_later_event_a_row_knows_at_most_the_next_ones_time(config):
    model, user = model_of(config), history(6)
    before = model(batch_of(user))
    later = user | {"ids": user["ids"].clone(), "query_timestamps": user["query_timestamps"].clone()}
    later["ids"][4:] = (later["ids"][4:] + 1) % 5
    torch.testing.assert_close(model(batch_of(later))[:4], before[:4], atol=1e-6, rtol=1e-5)
    later["query_timestamps"][3] += 10**7
    moved = (model(batch_of(later))[3] - before[3]).abs().max() > 1e-4
    assert bool(moved) == bool(getattr(config, "time_bias", False))


@every_model
def test_a_user_does_not_depend_on_who_else_is_in_the_batch(config):
    model = model_of(config)
    users = [history(length, seed=length) for length in (3, 0, 16, 1, 7)]
    together = model(batch_of(*users)).split([len(user["ids"]) for user in users])
    for user, states in zip(users, together):
        torch.testing.assert_close(model(batch_of(user)), states, atol=1e-6, rtol=1e-5)


@every_model
def test_gradients_reach_every_parameter(config):
    model = model_of(config).train()
    # long gaps of every size, so that more than a few time buckets are reached
    states = model(batch_of(*(history(16, seed) for seed in range(8))))
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward(retain_graph=True)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if "k.bias" not in name:  # softmax does not see a constant that is added to a whole row
            assert parameter.grad.abs().max() > 0, name
    assert (model.events.items.weight.grad.abs().sum(1) > 0).sum() == 20


@every_model
def test_states_and_item_vectors_have_the_promised_shapes_and_norms(config):
    model = model_of(config)
    states, items = model(batch_of(history(5), history(3))), model.item_vectors()
    assert (states.shape, items.shape) == ((8, 8), (20, 8))
    if config.normalised:
        torch.testing.assert_close(states.norm(dim=1), torch.ones(8))
        torch.testing.assert_close(items.norm(dim=1), torch.ones(20))
    else:
        assert (items.norm(dim=1) - 1).abs().max() > 0.01


@pytest.mark.parametrize("gating", [True, False])
def test_u_gates_the_output_only_if_the_config_says_so(gating):
    model, user = model_of(replace(HSTU_TINY, gating=gating)), history(6)
    before = model(batch_of(user))
    with torch.no_grad():
        for layer in model.layers:
            layer.uvqk.weight[: layer.config.heads * layer.config.v_width].normal_()  # the rows of u
    assert bool((model(batch_of(user)) - before).abs().max() > 1e-3) == gating


@pytest.mark.parametrize("gating", [True, False], ids=["", "without gating"])
@pytest.mark.parametrize("attention", ["silu", "softmax"])
def test_a_layer_of_hstu_is_the_papers_three_equations(attention, gating):
    config = replace(HSTU_TINY, layers=1, normalised=False, attention=attention, gating=gating)
    model, user = model_of(config, Vocabulary(items=20)), history(7)
    batch = batch_of(user)
    layer, x = model.layers[0], model.events(batch) * 8**0.5 + model.positions.weight[:7]

    def norm(y):
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()

    u, v, q, k = F.silu(norm(x) @ layer.uvqk.weight.T).split(8, dim=1)  # (1), two heads of 4
    mixed = torch.zeros(7, 8)
    for head in slice(0, 4), slice(4, 8):
        for i in range(7):
            products, biases = torch.zeros(i + 1), torch.zeros(i + 1)
            for j in range(i + 1):
                gap = abs(int(user["query_timestamps"][i] - user["timestamps"][j]))
                bucket = int(math.log(max(gap, 1)) / 0.301)
                products[j] = q[i, head] @ k[j, head]
                biases[j] = layer.position_bias[i - j] + layer.time_bias[bucket]
            silu, softmax = F.silu(products + biases) / 16, (products / 4**0.5 + biases).softmax(0)
            mixed[i, head] = (silu if attention == "silu" else softmax) @ v[: i + 1, head]  # (2)
    y = norm(mixed) * u if gating else norm(mixed)
    expected = x + y @ layer.out.weight.T + layer.out.bias  # (3)
    torch.testing.assert_close(model(batch), expected, atol=1e-5, rtol=1e-4)


def sum_of_parts(out, without, part):
    """Where dropout of a half left a part out of a sum: all the rest has twice the part."""
    dropped = torch.isclose(out, without, atol=1e-6)
    torch.testing.assert_close(out, torch.where(dropped, without, without + 2 * part), atol=1e-4, rtol=1e-4)
    assert 0.4 < dropped.float().mean() < 0.6
    return dropped


@pytest.mark.parametrize("name", ["hstu", "hstu with softmax", "sasrec", "transformer"])
def test_training_drops_out_the_input(name):
    model, batch = model_of(replace(MODELS[name], dropout=0.5, normalised=False)).train(), batch_of(history(400))
    batch = replace(batch, offsets=torch.arange(0, 401, 16))  # as many users of 16 events
    model.layers, model.norm = torch.nn.ModuleList(), torch.nn.Identity()
    exact = model.eval()(batch)
    model.train()
    dropped = sum_of_parts(model(batch), torch.zeros_like(exact), exact)
    assert not torch.equal(dropped, sum_of_parts(model(batch), torch.zeros_like(exact), exact))
    torch.manual_seed(3)
    first = model(batch)
    torch.manual_seed(3)
    assert torch.equal(model(batch), first)


@pytest.mark.parametrize("changes", [{}, {"attention": "softmax"}, {"gating": False}], ids=str)
def test_training_drops_out_the_gated_result_of_each_hstu_layer(changes):
    model = model_of(replace(HSTU_TINY, layers=1, linear_dropout=0.5, normalised=False, **changes))
    batch, x = replace(batch_of(history(400)), offsets=torch.arange(0, 401, 16)), torch.randn(400, 8)
    with torch.no_grad():
        model.layers[0].out.weight.copy_(torch.eye(8)), model.layers[0].out.bias.zero_()
    start = x * 8**0.5 + model.at(batch.positions())
    exact = model.eval().transduce(x, batch) - start
    dropped = sum_of_parts(model.train().transduce(x, batch), start, exact)
    assert not torch.equal(dropped, sum_of_parts(model.transduce(x, batch), start, exact))


def test_two_layers_of_hstu_draw_their_own_dropout():
    config = replace(HSTU_TINY, layers=2, linear_dropout=0.5, normalised=False)
    model, batch = model_of(config).train(), replace(batch_of(history(400)), offsets=torch.arange(0, 401, 16))
    outs = []
    for layer in model.layers:
        with torch.no_grad():
            layer.out.weight.copy_(torch.eye(8)), layer.out.bias.zero_()
        layer.register_forward_hook(lambda _, inputs, out: outs.append(out - inputs[0]))
    model(batch)
    first, second = (out.abs() < 1e-6 for out in outs)
    assert 0.4 < (first == second).float().mean() < 0.6


@pytest.mark.parametrize("branch", ["attention", "swiglu"])
def test_training_drops_out_both_branches_of_a_transformer_layer(branch):
    model = model_of(replace(MODELS["transformer"], layers=1, dropout=0.5, normalised=False))
    batch = replace(batch_of(history(400)), offsets=torch.arange(0, 401, 16))
    layer, model.dropout, model.norm = model.layers[0], 0, torch.nn.Identity()
    with torch.no_grad():
        (layer.down if branch == "attention" else layer.out).weight.zero_()
        for linear in layer.out, layer.down, layer.gate_and_up:
            linear.weight.mul_(30)
    x = torch.randn(400, 8)
    exact = model.eval().transduce(x, batch) - x * 8**0.5
    sum_of_parts(model.train().transduce(x, batch), x * 8**0.5, exact)


def test_training_drops_out_attention_and_both_places_of_sasrecs_feed_forward():
    model = model_of(replace(MODELS["sasrec"], layers=1, dropout=0.5, normalised=False))
    batch = replace(batch_of(history(400)), offsets=torch.arange(0, 401, 16))
    layer, model.dropout, x = model.layers[0], 0, torch.randn(400, 8)

    def both():
        return model.eval().transduce(x, batch), model.train().transduce(x, batch)

    with torch.no_grad():
        layer.outer.weight.zero_(), layer.outer.bias.zero_()
        exact, dropped = both()  # attention alone
        assert torch.isclose(exact, dropped).all(dim=1).float().mean() < 0.7
        layer.out.weight.zero_(), layer.inner.bias.fill_(50)  # then no unit is below 0
        z = model.eval().transduce(x, batch)
        layer.outer.weight.copy_(torch.eye(8))
        exact, dropped = both()  # either place leaves a number out
    zeros = torch.isclose(dropped, z, atol=1e-4)
    torch.testing.assert_close(dropped, torch.where(zeros, z, z + 4 * (exact - z)), atol=1e-3, rtol=1e-4)
    assert 0.7 < zeros.float().mean() < 0.8


@pytest.mark.parametrize("config", WINDOWED.values(), ids=WINDOWED.keys())
def test_a_window_and_a_global_prefix_are_all_that_a_layer_sees(config):
    """Of an event that is changed: itself, three after it, and, if it is one of the first two, all."""
    model, user = model_of(replace(config, window=3, global_prefix=2)), history(16)
    before = model(batch_of(user))
    for changed in 0, 1, 2, 9:
        other = user | {"ids": user["ids"].clone()}
        other["ids"][changed] = (user["ids"][changed] + 1) % 5
        moved = (model(batch_of(other)) - before).abs().amax(1) > 1e-6
        last = 16 if changed < 2 else changed + 4
        assert moved.tolist() == [changed <= row < last for row in range(16)]


def test_a_window_that_says_nothing_is_refused():
    for config in WINDOWED.values():
        for changes, message in (
            ({"window": 0}, "model.window must be at least 1, but it is 0"),
            ({"window": 5, "global_prefix": -1}, "model.global_prefix must be at least 0, but it is -1"),
            ({"global_prefix": 4}, r"model.global_prefix is 4, but without a window .*Pass --set model.window="),
        ):
            with pytest.raises(InputError, match=message):
                replace(config, **changes)


def test_fresh_weights_have_the_official_spread():
    torch.manual_seed(0)
    sizes = dict(layers=1, width=64, max_len=300, heads=2)
    hstu = build(HSTUConfig(qk_width=32, v_width=48, **sizes), Vocabulary(items=5))
    sasrec = build(SASRecConfig(hidden=96, **sizes), Vocabulary(items=5))
    transformer = build(TransformerConfig(hidden=128, **sizes), Vocabulary(items=5))
    layer = hstu.layers[0]
    expected = {
        layer.uvqk.weight: 0.02,
        layer.position_bias: 0.02,
        layer.time_bias: 0.02,
        layer.out.weight: (2 / (96 + 64)) ** 0.5,  # xavier
        hstu.positions.weight: (2 / (300 + 64)) ** 0.5,
        sasrec.positions.weight: 64**-0.5 * 0.88,  # cut at two deviations
        sasrec.layers[0].inner.weight: (2 / (64 + 96)) ** 0.5,
        **{x.weight: 0.02 for x in transformer.layers[0].modules() if isinstance(x, torch.nn.Linear)},
    }
    for weight, deviation in expected.items():
        assert weight.std().item() == pytest.approx(deviation, rel=0.15), (weight.shape, deviation)
    assert layer.out.weight.abs().max() <= (6 / (96 + 64)) ** 0.5  # uniform
    assert sasrec.positions.weight.abs().max() <= 2 * 64**-0.5


@pytest.mark.parametrize(("name", "eps"), [("sasrec", 1e-8), ("transformer", 1e-6)])
def test_norms_have_the_official_epsilon(name, eps):
    from louder.models import sasrec

    x = torch.randn(5, 8) * eps**0.5
    if name == "sasrec":
        expected = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + eps).sqrt()
        torch.testing.assert_close(sasrec.layer_norm(x), expected)
    else:
        model = model_of(MODELS[name])
        for norm in model.norm, model.layers[0].attention_norm, model.layers[0].hidden_norm:
            torch.testing.assert_close(norm(x), x / (x.square().mean(1, keepdim=True) + eps).sqrt())


def test_positions_beyond_the_table_share_its_last_row():
    model = model_of(HSTU_TINY)
    table = model.positions.weight
    assert torch.equal(model.at(torch.tensor([0, 15, 16, 900])), table[[0, 15, 15, 15]])


def causal_softmax(q, k, v):
    """One user, one head: q, k [N, K], v [N, V]."""
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(torch.ones(len(q), len(q)).triu(1).bool(), -torch.inf)
    return scores.softmax(1) @ v


def test_a_layer_of_the_transformer_is_its_equations_with_positions_turned_into_angles():
    model, user = model_of(replace(MODELS["transformer"], layers=1, normalised=False), Vocabulary(items=20)), history(7)
    layer, x = model.layers[0], model.events(batch_of(user)) * 8**0.5

    def norm(y):
        return y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def turned(y):  # each pair (y[i], y[i + 2]) of a head of width 4, by position times 10000 ** (-2i / 4)
        pairs = torch.complex(y[:, :2], y[:, 2:])
        angles = torch.arange(7.0)[:, None] * torch.tensor([1.0, 0.01])
        pairs = pairs * torch.polar(torch.ones(7, 2), angles)
        return torch.cat([pairs.real, pairs.imag], 1)

    q, k, v = (norm(x) @ layer.qkv.weight.T).split(8, dim=1)
    heads = [causal_softmax(turned(q[:, h]), turned(k[:, h]), v[:, h]) for h in (slice(0, 4), slice(4, 8))]
    x = x + torch.cat(heads, 1) @ layer.out.weight.T
    gate, up = (norm(x) @ layer.gate_and_up.weight.T).split(12, dim=1)
    x = x + (F.silu(gate) * up) @ layer.down.weight.T
    torch.testing.assert_close(model(batch_of(user)), norm(x), atol=1e-5, rtol=1e-4)


def test_a_layer_of_sasrec_is_its_equations_with_keys_and_values_that_are_not_normalised():
    model, user = model_of(replace(MODELS["sasrec"], layers=1, normalised=False), Vocabulary(items=20)), history(7)
    layer, x = model.layers[0], model.events(batch_of(user)) * 8**0.5 + model.positions.weight[:7]

    def norm(y):
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 1e-8).sqrt()

    q, k, v = layer.q(norm(x)), layer.k(x), layer.v(x)
    heads = [causal_softmax(q[:, h], k[:, h], v[:, h]) for h in (slice(0, 4), slice(4, 8))]
    z = norm(norm(x) + layer.out(torch.cat(heads, 1)))
    expected = z + layer.outer(F.relu(layer.inner(z)))
    torch.testing.assert_close(model(batch_of(user)), expected, atol=1e-5, rtol=1e-4)


@every_model
def test_nobody_has_no_states(config):
    assert model_of(config)(batch_of(history(0))).shape == (0, 8)


@every_model
def test_what_the_user_did_changes_the_state(config):
    model, user = model_of(config), history(4)
    user["kinds"][:] = 0
    states = [model(batch_of(user | {"actions": torch.full((4,), bits)})) for bits in (0, 1, 2, 4)]
    for i, a in enumerate(states):
        for b in states[i + 1 :]:
            assert (a - b).abs().max() > 1e-3
    ignored = build(config, Vocabulary(items=20)).eval()
    plain = {name: user[name] for name in ("ids", "timestamps", "query_timestamps")}
    assert torch.equal(ignored(batch_of(user)), ignored(batch_of(plain)))


def test_actions_are_a_sum_over_the_bits():
    events = model_of(HSTU_TINY).events
    user = history(4) | {"kinds": torch.zeros(4, dtype=torch.uint8), "actions": torch.tensor([0, 1, 5, 7])}
    a = events.actions.weight
    expected = torch.stack([torch.zeros(8), a[0], a[0] + a[2], a[0] + a[1] + a[2]])
    torch.testing.assert_close(events(batch_of(user)) - events.items(user["ids"]), expected)


def test_an_entry_of_a_series_has_the_vector_of_its_value():
    events = build(HSTU_TINY, Vocabulary(items=20, series=(5, 30))).events
    user = history(3) | {"kinds": torch.tensor([0, 1, 2], dtype=torch.uint8), "ids": torch.tensor([19, 4, 29])}
    del user["actions"]
    expected = torch.stack([events.items.weight[19], events.series[0].weight[4], events.series[1].weight[29]])
    assert torch.equal(events(batch_of(user)), expected)


def test_hstu_on_ml1m_has_the_official_number_of_parameters_but_for_unreachable_ones():
    config, width = HSTUConfig(), 50
    items, positions, layers = 3883, 211, 2
    layer = width * 4 * 50 + (50 * width + width) + positions + 129  # u, v, q, k; output; bias by distance; by time
    found = sum(p.numel() for p in HSTU(config, Vocabulary(items=items)).parameters())
    assert found == items * width + positions * width + layers * layer
    # the official count has a row for every id up to 3952 and for padding, and biases for distances into the future
    assert found + (3953 - items) * width + layers * (positions - 1) == 234_400


def test_hstu_large_on_ml1m_has_the_official_number_of_parameters_but_for_unreachable_ones():
    config = HSTUConfig(layers=8, heads=2, qk_width=25, v_width=25)
    found = sum(p.numel() for p in HSTU(config, Vocabulary(items=3953)).parameters())
    assert found + 8 * (211 - 1) == 313_000


def test_a_rotation_keeps_lengths_and_depends_on_distance_alone():
    x, y = torch.randn(2, 1, 6)
    at = rotation(torch.arange(12), 6, 10000.0)
    turned_x, turned_y = (rotate(v.expand(12, 1, 6), at) for v in (x, y))
    torch.testing.assert_close(turned_x.norm(dim=-1), x.norm(dim=-1).expand(12, 1))
    products = (turned_x[:, 0] @ turned_y[:, 0].T).diagonal(offset=3)
    torch.testing.assert_close(products, products[:1].expand(9), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turned_x[0], x)


def test_a_model_is_built_from_plain_values():
    assert config_from_dict({"kind": "sasrec", "layers": 3}) == SASRecConfig(layers=3)
    with pytest.raises(InputError, match=r"model.kind is 'gru', but it must be one of hstu, sasrec, transformer"):
        config_from_dict({"kind": "gru"})
    with pytest.raises(InputError, match=r"There is no setting 'model\.heds'. Did you mean 'model\.heads'"):
        config_from_dict({"kind": "hstu", "heds": 3})


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (SASRecConfig(), {"heads": 3}, "model.width is 50, but it must be a multiple of model.heads, 3"),
        (TransformerConfig(), {"heads": 2}, "rotary positions need a multiple of twice model.heads, 4"),
        (HSTUConfig(), {"linear_dropout": -0.1}, r"model.linear_dropout must be in \[0, 1\)"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(config, changes, message):
    with pytest.raises(InputError, match=message):
        replace(config, **changes)


@pytest.mark.parametrize("kind", ["sampled_softmax", "full_softmax", "bce", "gbce"])
@pytest.mark.parametrize("name", ["hstu", "hstu with softmax", "sasrec", "transformer"])
def test_a_bfloat16_step_is_near_the_float32_one(name, kind):
    from louder.batch import RetrievalBatch
    from louder.training.retrieval import batch_loss

    config = MODELS[name]
    model = model_of(config).train()
    sequences = batch_of(*(history(12, seed) for seed in range(4)))
    targets = torch.randint(20, (48,), generator=torch.Generator().manual_seed(0))
    batch = RetrievalBatch(sequences=sequences, targets=targets, users=torch.arange(4), rows=torch.arange(11, 48, 12))
    loss = RetrievalLoss(LossConfig(kind=kind, num_negatives=8, temperature=0.5), torch.ones(20))
    found = []
    for enabled in False, True:
        torch.manual_seed(3)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = batch_loss(model, loss, batch, torch.device("cpu"))
        value.backward()
        assert value.dtype == torch.float32
        found.append((value.item(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (exact, exact_gradient), (near, near_gradient) = found
    assert near == pytest.approx(exact, rel=0.02)
    assert near != exact  # something was computed in bfloat16
    assert torch.cosine_similarity(near_gradient, exact_gradient, dim=0) > 0.99


LEARNERS = {
    "hstu": HSTUConfig(layers=1, heads=2, width=16, qk_width=8, v_width=8, max_len=16, dropout=0.1),
    "hstu with softmax": HSTUConfig(layers=1, width=16, qk_width=8, v_width=8, max_len=16, attention="softmax"),
    "sasrec": SASRecConfig(layers=1, width=16, hidden=16, max_len=16, dropout=0.1),
    "transformer": TransformerConfig(layers=1, heads=2, width=16, hidden=24, max_len=16, dropout=0.1),
}


@pytest.mark.parametrize("model", LEARNERS.values(), ids=LEARNERS.keys())
def test_every_model_learns_a_checkerboard(model, tmp_path):
    """The held-out item is the only one of the user's colour that is not in the history, so it must come first."""
    table = write_table(tmp_path / "t", checkerboard(users=80, liked=10))
    config = tiny_config(
        table,
        model=model,
        loss=LossConfig(kind="full_softmax", temperature=0.2),
    )
    config = replace(
        config,
        training=replace(config.training, epochs=12, learning_rate=1e-2, checkpoint_steps=1000, log_steps=1000),
        evaluation=replace(config.evaluation, every_epochs=12),
    )
    result = train(config, tmp_path / "run", quiet=True)
    assert result["metrics"]["hr@1"] > 0.95
    assert result["popularity"]["hr@1"] < 0.5  # both colours are equally popular: a guess between 11
