"""The attention that is shown is that of the layers: written out here by loops, from the equations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from louder.batch import SequenceBatch
from louder.inference.explain import attention_shares, shares_of_the_last, with_one
from louder.models import (
    HSTUConfig,
    RankingConfig,
    SASRecConfig,
    TransformerConfig,
    Vocabulary,
    build,
    build_ranker,
)

ITEMS, ACTIONS, T, AT = 12, 2, 7, 4_000
SILU = HSTUConfig(layers=2, heads=2, width=8, qk_width=4, v_width=4, max_len=32)
SOFTMAX = HSTUConfig(layers=2, heads=2, width=8, qk_width=4, v_width=4, max_len=32, attention="softmax")
SASREC = SASRecConfig(layers=2, heads=2, width=8, hidden=12, max_len=32)
TRANSFORMER = TransformerConfig(layers=2, heads=2, width=8, hidden=12, max_len=32)
REQUESTS = [0, 1, 1, 1, 4, 5, 5]  # the row at which the request of each event begins


def model_of(config, tokens, **ranking):
    torch.manual_seed(1)
    vocabulary = Vocabulary(items=ITEMS, actions=ACTIONS, values=1, context=(3,))
    model = build_ranker(config, RankingConfig(tokens=tokens, context=("country",), **ranking), vocabulary, [])
    with torch.no_grad():
        for parameter in model.parameters():  # so that weights differ by more than rounding
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def history_of(requests):
    generator = np.random.default_rng(2)
    times = np.sort(generator.integers(1_000, 3_000, T))
    if requests:
        times = times[REQUESTS]
    return SequenceBatch(
        ids=torch.from_numpy(generator.integers(0, ITEMS, T)),
        timestamps=torch.from_numpy(times),
        query_timestamps=torch.from_numpy(np.append(times[1:], AT)),
        offsets=torch.tensor([0, T]),
        actions=torch.from_numpy(generator.integers(0, 4, T)),
        values=torch.from_numpy(generator.normal(size=(T, 1)).astype(np.float32)),
        prefix_lengths=torch.tensor(REQUESTS) if requests else None,
        context=torch.tensor([[1]]),
    )


def naive_shares(model, history, item):
    """One candidate's shares [T], by a loop over layers, heads and keys."""
    tokens = model.tokens(with_one(history, item, AT))
    row = int(tokens.items[-1])
    weight = naive_weights(model.backbone, tokens.x, tokens.layout, row)
    of_events = []
    for event in range(T):
        mine = {int(tokens.items[event]), int(tokens.actions[event])}
        of_events.append(sum(weight[token] for token in mine))
    return [size / sum(of_events) for size in of_events]


def naive_weights(backbone, x, layout, row):
    """[tokens] the size of what one row pays attention to, over layers and heads"""
    config, weight = backbone.config, [0.0] * len(x)
    prefix_lengths = list(range(len(x))) if layout.prefix_lengths is None else layout.prefix_lengths.tolist()
    x = x * math.sqrt(config.width)
    if config.kind != "transformer":
        x = x + backbone.positions.weight[prefix_lengths]
    for layer in backbone.layers:
        for head in range(config.heads):
            if config.kind == "hstu":
                score = hstu_scores(layer, config, x, head, row, prefix_lengths, layout)
            elif config.kind == "sasrec":
                score = sasrec_scores(layer, config, x, head, row)
            else:
                score = transformer_scores(layer, config, x, head, row, prefix_lengths)
            seen = [key for key in range(row + 1) if key < prefix_lengths[row] or key == row]
            if getattr(config, "attention", "softmax") == "silu":
                own = {key: abs(score[key] / (1 + math.exp(-score[key]))) for key in seen}
            else:
                total = sum(math.exp(score[key]) for key in seen)
                own = {key: math.exp(score[key]) / total for key in seen}
            for key, size in own.items():
                weight[key] += size
        x = forward(layer, config, x, layout, prefix_lengths)
    return weight


def hstu_scores(layer, config, x, head, row, prefix_lengths, layout):
    projected = F.silu(F.layer_norm(x, (config.width,), eps=1e-6) @ layer.uvqk.weight.T)
    at = 2 * config.heads * config.v_width
    q = projected[:, at + head * config.qk_width :][:, : config.qk_width]
    k = projected[:, at + (config.heads + head) * config.qk_width :][:, : config.qk_width]
    scores = []
    for key in range(row + 1):
        score = float(q[row] @ k[key])
        if config.attention == "softmax":
            score /= math.sqrt(config.qk_width)
        distance = min(max(prefix_lengths[row] - prefix_lengths[key], 0), config.max_len - 1)
        seconds = abs(int(layout.query_timestamps[row]) - int(layout.timestamps[key]))
        bucket = min(int(math.log(max(seconds, 1)) / 0.301), config.time_buckets - 1)
        scores.append(score + float(layer.position_bias[distance]) + float(layer.time_bias[bucket]))
    return scores


def transformer_scores(layer, config, x, head, row, prefix_lengths):
    width = config.width // config.heads
    normed = x / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt() * layer.attention_norm.weight
    qkv = normed @ layer.qkv.weight.T
    q, k = (qkv[:, (part * config.heads + head) * width :][:, :width] for part in (0, 1))
    return [
        float(turned(q[row], prefix_lengths[row], config) @ turned(k[key], prefix_lengths[key], config))
        / math.sqrt(width)
        for key in range(row + 1)
    ]


def sasrec_scores(layer, config, x, head, row):
    width = config.width // config.heads
    part = slice(head * width, (head + 1) * width)
    q = F.layer_norm(x, (config.width,), eps=1e-8) @ layer.q.weight.T + layer.q.bias
    k = x @ layer.k.weight.T + layer.k.bias
    return [float(q[row, part] @ k[key, part]) / math.sqrt(width) for key in range(row + 1)]


def turned(x, place, config):
    half, out = len(x) // 2, x.clone()
    for n in range(half):
        angle = place * config.rope_base ** (-2 * n / len(x))
        out[n] = x[n] * math.cos(angle) - x[half + n] * math.sin(angle)
        out[half + n] = x[n] * math.sin(angle) + x[half + n] * math.cos(angle)
    return out


def forward(layer, config, x, layout, prefix_lengths):
    if config.kind != "transformer":
        return layer(x, layout)
    angles = torch.tensor(prefix_lengths)[:, None, None] * config.rope_base ** (
        -torch.arange(0, config.width // config.heads, 2) / (config.width // config.heads)
    )
    return layer(x, layout, (angles.cos(), angles.sin()))


CASES = [
    *((config, tokens, True) for config in (SILU, SOFTMAX, TRANSFORMER) for tokens in ("paired", "interleaved")),
    *((config, tokens, False) for config in (SILU, TRANSFORMER) for tokens in ("paired", "added")),
]


@pytest.mark.parametrize(("config", "tokens", "requests"), CASES)
@torch.no_grad()
def test_shares_are_those_of_the_equations(config, tokens, requests):
    model, history = model_of(config, tokens), history_of(requests)
    candidates = torch.tensor([3, 0, 11])
    shares = attention_shares(model, history, candidates, AT)
    expected = torch.tensor([naive_shares(model, history, item) for item in candidates.tolist()])
    torch.testing.assert_close(shares, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    assert float(shares.std()) > 0.01  # they do differ


@pytest.mark.parametrize("config", [SILU, SOFTMAX, TRANSFORMER, SASREC])
@torch.no_grad()
def test_shares_of_the_last_event_are_those_of_the_equations(config):
    torch.manual_seed(1)
    model = build(config, Vocabulary(items=ITEMS, actions=ACTIONS)).eval()
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape))
    history = replace(history_of(False), values=None, context=None)
    weight = torch.tensor(naive_weights(model, model.events(history), history, T - 1))
    torch.testing.assert_close(shares_of_the_last(model, history), weight / weight.sum(), rtol=1e-3, atol=1e-5)
    assert float(weight.std()) > 0.01


def test_nothing_of_the_model_changes_while_it_is_watched():
    model = model_of(SILU, "paired")
    layers = list(model.backbone.layers)
    attention_shares(model, history_of(False), torch.tensor([1]), AT)
    assert list(model.backbone.layers) == layers
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_no_history_has_no_shares():
    model, none = model_of(SILU, "paired"), torch.zeros(0, dtype=torch.int64)
    none = SequenceBatch(ids=none, timestamps=none, query_timestamps=none, offsets=torch.tensor([0, 0]))
    assert attention_shares(model, none, torch.tensor([1, 2]), AT).shape == (2, 0)
