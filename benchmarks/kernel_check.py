"""Every Triton kernel against its reference implementation, forward and backward.

The reference is the same op on float64 tensors of the CPU, which no fast kernel takes: plain torch ops, one user at a time.
Needs torch, Triton and numpy alone.
"""

import contextlib
import importlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from louder.ops.dropout import seeded_dropout
from louder.ops.hstu_attention import hstu_attention
from louder.ops.hstu_layer import hstu_layer
from louder.ops.layout import Layout
from louder.ops.random_bits import random_items
from louder.ops.sampled_softmax import sampled_softmax
from louder.results import Row

OPS = {  # the folders of louder/ops that have a triton.py, and the modules that choose it
    "dropout": "louder.ops.dropout",
    "hstu_attention": "louder.ops.hstu_attention",
    "hstu_layer": "louder.ops.hstu_layer.rows",
    "sampled_softmax": "louder.ops.sampled_softmax",
}
# float32 products are exact here ("ieee"): a sum of n of them is wrong by about sqrt(n) / 2^24. In half precision q, k and v
# are exact too, but weights are rounded before a product, and results after it: to 11 bits in float16, to 8 in bfloat16.
# Some roundings add up, so about five of the type's own are allowed.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
LENGTHS = [257, 0, 63, 1, 130]  # odd, beside the edges of blocks, and of nobody
TINY = [18, 0, 1]  # the interpreter's blocks are of 16 rows


class Example(NamedTuple):
    """What to attend to, and how; `masks` are fields of a Layout."""

    lengths: Sequence[int]
    queries: Sequence[int] | None = None  # the last so many events of each user; None for all
    heads: int = 2
    width: int = 24
    v_width: int = 24
    position_bias: int = 50  # entries of the tables
    time_bias: int = 40
    dtype: torch.dtype = torch.float32
    masks: Mapping[str, Any] = MappingProxyType({})


class Softmax(NamedTuple):
    """Rows to tell their targets from negatives; those of even numbers are without a target."""

    rows: int = 300
    items: int = 40  # few, so that some negatives are targets
    width: int = 50
    negatives: int = 128
    drawn: bool = True  # by the op, from a seed
    weighted: bool = False


SOFTMAX = {
    "softmax": Softmax(),
    "softmax, given negatives": Softmax(drawn=False),
    "softmax, logQ": Softmax(drawn=False, weighted=True),
    "softmax, width 1": Softmax(width=1, negatives=1),
    "softmax, width 300": Softmax(rows=20, width=300, negatives=700),
    "softmax, no negatives": Softmax(rows=3, negatives=0),
    "softmax, no rows": Softmax(rows=0),
}


class Layer(NamedTuple):
    """One HSTU layer over histories of `lengths`. The weights' dtype can be another than that of the residual stream."""

    lengths: Sequence[int] = (33, 0, 1, 40)
    width: int = 24
    heads: int = 2
    qk_width: int = 9
    v_width: int = 7
    dropout: float = 0.3
    dtype: torch.dtype = torch.float32
    weights: torch.dtype = torch.float32


LAYERS = {
    "layer": Layer(),
    "layer without dropout": Layer(dropout=0.0),
    "layer, wide": Layer(lengths=(20,), width=300, qk_width=64, v_width=80),
    "layer, nobody": Layer(lengths=(0, 0)),
    "layer, bfloat16": Layer(dtype=torch.bfloat16, weights=torch.bfloat16),
    "layer, weights of bfloat16": Layer(weights=torch.bfloat16),
}
DROPPED = {"dropout of nothing": (0, 5), "dropout of an odd number": (7, 11), "dropout": (65, 70)}


class Comparison(NamedTuple):
    name: str
    error: float  # the largest of the output and of every gradient, beside the largest number or 1
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.error <= self.tolerance  # never where it is NaN


def examples(lengths: Sequence[int]) -> dict[str, Example]:
    """By name, those that all kernels run in first."""
    usual = Example(lengths)
    some = [n // 3 for n in lengths]
    candidates = [min(i, n - count) for n, count in zip(lengths, some) for i in range(n)]
    drawn = random.Random(0)
    anywhere = [drawn.randint(0, i) for n in lengths for i in range(n)]
    requests = [i - i % 6 * (1 - i % 2) for n in lengths for i in range(n)]  # three items at once, actions between them
    masks: dict[str, Row] = {
        "candidates": {"prefix_lengths": candidates},
        "prefix lengths of requests": {"prefix_lengths": requests},
        "any prefix lengths": {"prefix_lengths": anywhere},
        "window": {"window": 10},
        "window of one": {"window": 1},
        "global prefix": {"window": 10, "global_prefix": 4},
        "global prefix of most": {"window": 10, "global_prefix": 40},
        "window, global prefix and candidates": {"window": 10, "global_prefix": 4, "prefix_lengths": candidates},
        "window, global prefix and requests": {"window": 10, "global_prefix": 4, "prefix_lengths": requests},
    }
    masked = {name: usual._replace(masks=given) for name, given in masks.items()}
    # queries of the last events alone, over cached keys: of some, as many as there are candidates; of others, one or none
    last = [n // 3 if number % 2 else min(n, 1) for number, n in enumerate(lengths)]
    cached = {
        "cached keys": usual._replace(queries=last),
        "cached keys, candidates": masked["candidates"]._replace(queries=some),
        **{f"cached keys, {name}": masked[name]._replace(queries=last) for name in list(masks)[1:]},
    }
    floats = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    shapes = {
        "no events": Example([]),
        "nobody has events": Example([0, 0]),
        "one event": Example([1]),
        "more users than are counted at once": Example([1 if user in (3, 255, 256) else 0 for user in range(258)]),
        "no bias": usual._replace(position_bias=0, time_bias=0),
        "position bias": usual._replace(time_bias=0),
        "time bias": usual._replace(position_bias=0),
        "biases of one entry": usual._replace(position_bias=1, time_bias=1),
        "biases longer than histories": usual._replace(position_bias=300, time_bias=150),
        "width 1": usual._replace(heads=1, width=1, v_width=1),
        "width 25 and 64": usual._replace(width=25, v_width=64),
        "width 64 and 5": usual._replace(width=64, v_width=5),
        "width 128": usual._replace(heads=1, width=128, v_width=128),
    }
    in_half = "candidates", "any prefix lengths", "window, global prefix and candidates"
    half = {
        f"{name}, {kind}": masked[name]._replace(dtype=floats[kind], width=50, v_width=50)
        for name, kind in itertools.product(in_half, ("bfloat16", "float16"))
    }
    return {name: usual._replace(dtype=dtype) for name, dtype in floats.items()} | masked | cached | shapes | half


def results(lengths: Sequence[int], device: torch.device) -> Iterator[Comparison]:
    """Of every example with blocks of one size, and of one example with each size of blocks that tuning may choose.

    On a CPU in Triton's interpreter, which must have been switched on (TRITON_INTERPRET=1) before the kernels are imported.
    It multiplies bfloat16 wrongly, so this is left out there.
    """
    from triton.runtime.errors import OutOfResources

    kernels = tuned_kernels()
    configs = [kernel.configs for kernel in kernels]
    try:
        for kernel, own in zip(kernels, configs):  # no tuning, which would compile each of them many times
            kernel.configs = own[-2:][:1]  # blocks that fit in float32, too
        for name, example in examples(lengths).items():
            if device.type != "cpu" or example.dtype != torch.bfloat16:
                yield compared(name, example, device)
        usual = Example(lengths, width=64, v_width=64, dtype=torch.bfloat16)
        for number in range(max(map(len, configs)) if device.type != "cpu" else 0):
            for kernel, own in zip(kernels, configs):
                kernel.configs = own[number % len(own) :][:1]
            with contextlib.suppress(OutOfResources):  # tuning passes over blocks that a card has no room for, too
                yield compared(f"blocks {number + 1}", usual, device)
    finally:
        for kernel, own in zip(kernels, configs):
            kernel.configs = own
    for name, softmax in SOFTMAX.items():
        yield softmax_compared(name, softmax, device)
    for name, layer in LAYERS.items():
        if device.type != "cpu" or torch.bfloat16 not in layer:
            yield layer_compared(name, layer, device)
    for name, shape in DROPPED.items():
        yield dropout_compared(name, shape, device)


def tuned_kernels() -> list[Any]:
    module = importlib.import_module("louder.ops.hstu_attention.triton")
    return [x for x in vars(module).values() if hasattr(x, "configs")]


def compared(name: str, example: Example, device: torch.device) -> Comparison:
    inputs, masks = tensors(example)
    exact = outputs({key: x.double() for key, x in inputs.items()}, masks, torch.device("cpu"))
    with by_triton(device):
        found = outputs(inputs, masks, device)
    return Comparison(name, max(map(error, found, exact)), TOLERANCES[example.dtype])


def softmax_compared(name: str, example: Softmax, device: torch.device) -> Comparison:
    """The loss of every row and the gradients of states and table."""
    generator = torch.Generator().manual_seed(0)
    states, table = (torch.randn(n, example.width, generator=generator) for n in (example.rows, example.items))
    targets = torch.randint(0, example.items, (example.rows,), generator=generator)
    targets[::2] = -1
    seed = torch.tensor([0x8765_4321_F234_5678 - (1 << 64)])
    negatives = random_items(seed, example.rows, example.negatives, example.items)
    log_weights = torch.rand(example.items, generator=generator).log() if example.weighted else None
    grad = torch.randn(example.rows, generator=generator)

    def found(device: torch.device, dtype: torch.dtype, negatives: Tensor | int) -> list[Tensor]:
        own = [x.to(device, dtype).requires_grad_() for x in (states, table)]
        weights = None if log_weights is None else log_weights.to(device, dtype)
        loss = sampled_softmax(
            own[0], own[1], targets.to(device), negatives, temperature=0.7, seed=seed, log_weights=weights
        )
        return [loss.detach(), *torch.autograd.grad(loss, own, grad.to(loss))]

    exact = found(torch.device("cpu"), torch.float64, negatives)
    with by_triton(device):
        fast = found(device, torch.float32, example.negatives if example.drawn else negatives.to(device))
    return Comparison(name, max(map(error, fast, exact)), TOLERANCES[torch.float32])


def layer_compared(name: str, example: Layer, device: torch.device) -> Comparison:
    """The output of a layer and the gradients of all its inputs."""
    generator = torch.Generator().manual_seed(0)
    L, H, K, V, D = sum(example.lengths), example.heads, example.qk_width, example.v_width, example.width
    shapes: dict[str, tuple[int, ...]] = {"x": (L, D), "uvqk_weight": (2 * H * (K + V), D), "out_weight": (D, H * V)}
    shapes |= {"out_bias": (D,), "position_bias": (20,), "time_bias": (30,)}
    scales = {"uvqk_weight": D**-0.5, "out_weight": (H * V) ** -0.5}
    given = {key: torch.randn(shape, generator=generator) * scales.get(key, 1.0) for key, shape in shapes.items()}
    for key in given:
        given[key] = given[key].to(example.dtype if key == "x" else example.weights)
    times = torch.randint(0, 10**7, (L,), generator=generator).sort().values
    offsets = torch.tensor([0, *example.lengths]).cumsum(0)
    grad = torch.randn(L, D, generator=generator).to(example.dtype)
    seed = torch.tensor([0x8765_4321_F234_5678 - (1 << 64)]) if example.dropout else None

    def found(device: torch.device, dtype: torch.dtype | None) -> list[Tensor]:
        own: Row = {key: x.to(device, dtype or x.dtype).requires_grad_() for key, x in given.items()}
        now = times.to(device)
        layout = Layout(offsets.to(device), query_times=now + 60, key_times=now)
        out = hstu_layer(**own, layout=layout, heads=H, qk_width=K, scale=1 / 50, dropout=example.dropout, seed=seed)
        return [out.detach(), *torch.autograd.grad(out, list(own.values()), grad.to(out))]

    exact = found(torch.device("cpu"), torch.float64)
    with by_triton(device):
        fast = found(device, None)
    return Comparison(name, max(map(error, fast, exact)), TOLERANCES[example.weights])


def dropout_compared(name: str, shape: tuple[int, int], device: torch.device) -> Comparison:
    """The numbers kept are the same, and so are their gradients."""
    x, grad = (torch.randn(shape, generator=torch.Generator().manual_seed(n)) for n in (0, 1))

    def found(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        own = x.to(device, dtype).requires_grad_()
        out = seeded_dropout(own, 0.3, torch.tensor([-12345678901234567]))
        return [out.detach(), *torch.autograd.grad(out, own, grad.to(out))]

    exact = found(torch.device("cpu"), torch.float64)
    with by_triton(device):
        return Comparison(name, max(map(error, found(device, torch.float32), exact)), TOLERANCES[torch.float32])


def tensors(example: Example) -> tuple[dict[str, Tensor], Row]:
    """What gradients are wanted of, and the other arguments, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    lengths, queries = list(example.lengths), list(example.queries or example.lengths)
    events, rows = sum(lengths), sum(queries)

    integers = partial(torch.tensor, dtype=torch.int64)
    heads, width = example.heads, example.width
    shapes: dict[str, tuple[int, ...]] = {"q": (rows, heads, width), "k": (events, heads, width)}
    shapes["v"] = events, heads, example.v_width
    tables = {"position_bias": example.position_bias, "time_bias": example.time_bias}
    shapes |= {name: (entries,) for name, entries in tables.items() if entries}
    floats = {name: torch.randn(shape, generator=generator).to(example.dtype) for name, shape in shapes.items()}
    times = torch.randint(0, 5000, (events,), generator=generator).sort().values
    asked = torch.cat([own[len(own) - n :] for own, n in zip(times.split(lengths), queries)] or [times])
    masks = {name: integers(x) if isinstance(x, list) else x for name, x in example.masks.items()}
    masks |= {"offsets": integers([0, *lengths]).cumsum(0), "query_offsets": integers([0, *queries]).cumsum(0)}
    return floats, masks | {"key_times": times, "query_times": asked + 60}


def outputs(inputs: dict[str, Tensor], masks: Row, device: torch.device) -> list[Tensor]:
    """The output and the gradient of every input, for a random gradient of the output."""
    given: Row = {name: x.to(device).requires_grad_() for name, x in inputs.items()}
    masks = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in masks.items()}
    out = hstu_attention(**given, layout=Layout(**masks), scale=1 / 50)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(inputs["v"].dtype)
    return [out.detach(), *torch.autograd.grad(out, list(given.values()), grad.to(out))]


def error(found: Tensor, exact: Tensor) -> float:
    if found.shape != exact.shape or not exact.numel():
        return 0.0 if found.shape == exact.shape else torch.nan
    # a sum of positive and negative terms is rounded as its terms are, however small it is
    return float((found.cpu().double() - exact).abs().max() / exact.abs().max().clamp(min=1))


@contextlib.contextmanager
def by_triton(device: torch.device) -> Iterator[None]:
    """On a GPU Triton is what runs; on a CPU it is made to. New memory is NaN, so that what a kernel forgets to write is
    seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    with contextlib.ExitStack() as replaced:
        replaced.callback(torch.use_deterministic_algorithms, False)
        for op in OPS if device.type == "cpu" else ():
            kernels = importlib.import_module(f"louder.ops.{op}.triton")
            module = importlib.import_module(OPS[op])
            replaced.enter_context(patch.object(module, "on_gpu", lambda _, kernels=kernels: kernels))
        yield
