"""Wukong's layer against the paper's equations, one exposure at a time."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from exposures import ATTRIBUTES, VOCABULARY, batch_of, exposure

from louder.models.wukong import Wukong, WukongConfig, WukongLayer

TINY = WukongConfig(width=4, layers=3, fmb=3, lcb=2, rank=3, fmb_hidden=(8, 6), hidden=(7,), dropout=0.0)


def network(layers, y):
    linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    for layer in linear[:-1]:
        y = F.relu(layer.weight @ y + layer.bias)
    return linear[-1].weight @ y + linear[-1].bias


def norm(layer, y):
    """Layer norm of one vector."""
    y = (y - y.mean()) / (y.var(correction=0) + 1e-5).sqrt()
    return y * layer.weight + layer.bias


def plain_layer(layer, x):
    """LN(concat(FMB(X), LCB(X)) + X) of one exposure's X [n, D]."""
    n, width = x.shape
    products = torch.stack([sum((row @ x[j]) * layer.fmb.y[j] for j in range(n)) for row in x])  # X X^T Y, [n, k]
    fmb = network(layer.fmb.mlp, norm(layer.fmb.norm, products.flatten())).view(-1, width)
    lcb = layer.lcb.weight @ x
    made = torch.cat([fmb, lcb])
    residual = x if len(x) == len(made) else layer.residual.weight @ x
    return torch.stack([norm(layer.norm, row) for row in made + residual])


@pytest.mark.parametrize("count", [5, 9, 1], ids=lambda n: f"{n} vectors")
def test_a_layer_is_the_papers_equations(count):
    torch.manual_seed(count)
    layer, x = WukongLayer(TINY, count), torch.randn(3, count, 4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    found = layer(x)
    assert found.shape == (3, 5, 4)
    for row in range(3):
        torch.testing.assert_close(found[row], plain_layer(layer, x[row]), atol=1e-5, rtol=1e-4)


def test_the_residual_has_weights_only_where_the_number_of_vectors_changes():
    model = Wukong(TINY, VOCABULARY, ATTRIBUTES)
    assert [bool(list(layer.residual.parameters())) for layer in model.layers] == [True, False, False]


def test_scores_are_an_mlp_on_the_last_layers_vectors():
    torch.manual_seed(0)
    model = Wukong(TINY, VOCABULARY, ATTRIBUTES).eval()
    batch = batch_of(*(exposure(4, seed) for seed in range(3)))
    logits, numbers = model(batch)
    for row, x in enumerate(model.features(batch)):
        for layer in model.layers:
            x = plain_layer(layer, x)
        expected = network(model.head, x.flatten())
        torch.testing.assert_close(torch.cat([logits[row], numbers[row]]), expected, atol=1e-5, rtol=1e-4)


def test_a_final_mlp_without_hidden_layers_is_linear():
    model = Wukong(replace(TINY, hidden=()), VOCABULARY, ATTRIBUTES)
    (head,) = model.head
    assert (head.in_features, head.out_features) == (5 * 4, 3 + 2)
