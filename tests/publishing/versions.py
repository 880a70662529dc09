"""Models in memory, with a table of items, for the tests of publishing."""

import numpy as np
import pyarrow as pa
import torch

from louder.publishing import ModelState

CONFIG = {
    "name": "small",
    "data": {"table": "nowhere"},
    "model": {"kind": "hstu", "width": 4, "layers": 1},
    "training": {},
}


def model(items=40, seed=0, width=4, config=CONFIG, raws=None):
    draw = torch.Generator().manual_seed(seed)
    weights = {
        "events.items.weight": torch.randn(items, width, generator=draw),
        "layers.0.out.weight": torch.randn(width, width, generator=draw),
        "layers.0.bias": torch.randn(width, generator=draw),
        "steps": torch.tensor(seed),
    }
    raw = pa.array(range(100, 100 + items)) if raws is None else raws
    titles = pa.table({"title": [f"item {n}" for n in range(items)], "tags": [["a", str(n % 3)] for n in range(items)]})
    state = {
        "config": config,
        "vocabulary": {"items": items},
        "actions": ["like"],
        "values": [],
        "progress": {"best_epoch": 0},
    }
    return ModelState(weights=weights, state=state, raws={"item": raw}, attributes={"items": titles})


def changed(state, rows=(), by=1.0, dense=0.0, raws=None, items=None, **facts):
    """Another state: some rows of the table plus a number, the dense weights plus another."""
    weights = {name: x.clone() for name, x in state.weights.items()}
    table = weights["events.items.weight"]
    grown = 0 if items is None else items - len(table)
    if grown:
        table = weights["events.items.weight"] = torch.cat([table, torch.full((grown, table.shape[1]), 7.0)])
    table[list(rows)] += by
    weights["layers.0.out.weight"] += dense
    raw = state.raws["item"].to_pylist() + [1000 + n for n in range(grown)]
    for number, value in (raws or {}).items():
        raw[number] = value
    attributes = dict(state.attributes)
    if grown:
        new = pa.table({"title": ["new"] * grown, "tags": [["n"]] * grown})
        attributes["items"] = pa.concat_tables([attributes["items"], new])
    vocabulary = {"items": len(raw)}
    raw = pa.array(raw, state.raws["item"].type)
    return ModelState(
        weights=weights,
        state={**state.state, "vocabulary": vocabulary, **facts},
        raws={"item": raw},
        attributes=attributes,
    )


def same(a, b):
    """Equal to the bit."""
    assert a.weights.keys() == b.weights.keys()
    for name, x in a.weights.items():
        y = b.weights[name]
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        assert x.contiguous().numpy().tobytes() == y.contiguous().numpy().tobytes(), name
    assert all(a.raws[name].equals(b.raws[name]) for name in a.raws)
    assert all(
        table.combine_chunks().equals(b.attributes[name].combine_chunks()) for name, table in a.attributes.items()
    )
    assert {**a.state, "format_version": 1} == {**b.state, "format_version": 1}
    return True


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def window(ne=0.8, events=5000, unknown=0.1, scores=None, **metrics):
    from louder.publishing import WindowMetrics

    found = None if scores is None else np.asarray(scores)
    return WindowMetrics(events=events, metrics={"ne": ne, **metrics}, unknown=unknown, scores=found)
