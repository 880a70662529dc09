"""The layers of DLRM against their papers' equations, one exposure at a time."""

import torch
import torch.nn.functional as F
from exposures import ATTRIBUTES, VOCABULARY, batch_of, exposure

from louder.config import from_dict
from louder.models.dlrm import DLRM, CrossLayer, DLRMConfig, MMoE

TINY = DLRMConfig(width=4, experts=3, expert_hidden=(8, 6), tower_hidden=5, dropout=0.0)


def test_a_cross_layer_is_its_equation():
    torch.manual_seed(0)
    layer, x0, x = CrossLayer(5), torch.randn(3, 5), torch.randn(3, 5)
    w, b = layer.linear.weight, layer.linear.bias
    for row, found in enumerate(layer(x0, x)):
        torch.testing.assert_close(found, x0[row] * (w @ x[row] + b) + x[row])


def test_a_mixture_of_experts_is_its_equations():
    torch.manual_seed(0)
    mixture, x = MMoE(TINY, 7, tasks=2), torch.randn(4, 7)

    def network(layers, y):
        linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        for layer in linear[:-1]:
            y = F.relu(layer.weight @ y + layer.bias)
        return linear[-1].weight @ y + linear[-1].bias

    for row, found in enumerate(mixture(x)):
        for task in range(2):
            gate = (mixture.gates[task].weight @ x[row]).softmax(0)
            mixed = sum(g * F.relu(network(expert, x[row])) for g, expert in zip(gate, mixture.experts))
            expected = network(mixture.towers[task], mixed)[0]
            torch.testing.assert_close(found[task], expected, atol=1e-6, rtol=1e-5)


def test_scores_are_the_mixture_of_crossed_features():
    torch.manual_seed(0)
    model = DLRM(TINY, VOCABULARY, ATTRIBUTES).eval()
    batch = batch_of(*(exposure(4, seed) for seed in range(3)))
    x0 = model.features(batch)
    assert x0.shape == (3, model.features.count, 4)
    # item and user, 3 attributes, 2 of the user, hour and weekday, 2 series, attention and mean, 4 of the counters
    assert model.features.count == 2 + 3 + 2 + 2 + 2 + 2 + 4
    first, second = model.crosses
    crossed = first(x0.flatten(1), x0.flatten(1))
    expected = model.mixture(second(x0.flatten(1), crossed))
    logits, numbers = model(batch)
    torch.testing.assert_close(torch.cat([logits, numbers], dim=1), expected)


def test_a_config_comes_back_from_plain_values():
    config = DLRMConfig(width=8, expert_hidden=(4,))
    assert from_dict(DLRMConfig, {"kind": "dlrm", "width": 8, "expert_hidden": [4]}) == config
