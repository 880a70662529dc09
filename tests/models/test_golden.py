"""HSTU gives the numbers of the official code: states, loss and every gradient (see golden/README.md there)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from louder.batch import SequenceBatch
from louder.models import HSTU, HSTUConfig, Vocabulary
from louder.ops.sampled_softmax import sampled_softmax

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
CASES = "hstu_2_layers_1_head", "hstu_3_layers_2_heads"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden numbers are not there: {GOLDEN}")


def load(case):
    arrays = np.load(GOLDEN / f"{case}.npz")
    official = json.loads(str(arrays["config"]))
    config = HSTUConfig(
        layers=official["layers"],
        heads=official["heads"],
        width=official["width"],
        qk_width=official["qk_width"],
        v_width=official["v_width"],
        max_len=official["position_rows"],
        dropout=0.0,
        linear_dropout=0.0,
    )
    assert 1 / config.max_len == official["attention_scale"]
    model = HSTU(
        config, Vocabulary(items=official["items"] + 1)
    )  # their row 0 is padding; here it is an item like others
    parameters = dict(pairs(model, official["position_rows"]))
    with torch.no_grad():
        for name, (parameter, ours, _) in parameters.items():
            parameter.copy_(ours(torch.from_numpy(arrays[f"weight/{name}"])))
    offsets = torch.from_numpy(arrays["offsets"])
    times = torch.from_numpy(arrays["timestamps"])
    query_times = times.roll(-1)
    query_times[offsets[1:] - 1] = torch.from_numpy(arrays["query_timestamps"])
    batch = SequenceBatch(
        ids=torch.from_numpy(arrays["items"]), timestamps=times, query_timestamps=query_times, offsets=offsets
    )
    return arrays, official, model, parameters, batch


def pairs(model, rows):
    """The official name of each parameter, ours, and how to turn a tensor of theirs into ours and back."""
    same = (lambda x: x), (lambda x: x)
    transposed = (lambda x: x.T), (lambda x: x.T)

    def causal_half(x):  # theirs has 2 * rows - 1 entries by key - query; ours has one per distance query - key
        return x[:rows].flip(0)

    def whole(x):
        return torch.cat([x.flip(0), x.new_zeros(rows - 1)])

    yield "item_embedding", (model.events.items.weight, *same)
    yield "position_embedding", (model.positions.weight, *same)
    for number, layer in enumerate(model.layers):
        yield f"layer{number}.uvqk", (layer.uvqk.weight, *transposed)
        yield f"layer{number}.out_weight", (layer.out.weight, *same)
        yield f"layer{number}.out_bias", (layer.out.bias, *same)
        yield f"layer{number}.time_bias", (layer.time_bias, *same)
        yield f"layer{number}.position_bias", (layer.position_bias, causal_half, whole)


def relative_error(found, expected):
    found, expected = torch.as_tensor(found).detach().double(), torch.as_tensor(expected).double()
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("case", CASES)
def test_hstu_equals_the_official_code(case):
    arrays, official, model, parameters, batch = load(case)
    states = model(batch)
    assert relative_error(states, arrays["states"]) < 1e-4
    losses = sampled_softmax(
        states,
        model.item_vectors(),
        torch.from_numpy(arrays["targets"]),
        torch.from_numpy(arrays["negatives"]),
        temperature=official["temperature"],
    )
    loss = losses.mean()
    assert relative_error(loss, arrays["loss"]) < 1e-4
    loss.backward()
    for name, (parameter, _, theirs) in parameters.items():
        assert relative_error(theirs(parameter.grad), arrays[f"grad/{name}"]) < 1e-4, name
