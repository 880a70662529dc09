"""HSTU's encoder with stochastic length beside a Transformer of the same width and depth on padded full histories."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import histories
from benchmarks.measure import Case, Run, autocast, run, type_name
from benchmarks.plain import layer_config
from benchmarks.transformer import SDPALayer
from louder.batch import SequenceBatch
from louder.models.hstu import HSTULayer
from louder.results import Row

ALPHAS = 1.6, 1.7, 1.8, 1.9, 2.0  # of stochastic length; 2.0 keeps everything
DRAWS = 8  # different random histories; a run takes the next
DROPOUT = 0.2
QUICK: Row = {"lengths": [1024, 2048], "tokens": 4096, "layers": 2, "width": 512, "heads": 8}
FULL = QUICK | {"lengths": [1024, 2048, 4096, 8192], "tokens": 16384}


def cases(
    *,
    lengths: Sequence[int],
    tokens: int,
    layers: int,
    width: int,
    heads: int,
    dtype: torch.dtype,
    device: torch.device,
    memory: float,
) -> Iterator[Case]:
    """Training (forward and backward) and inference, as the paper's figure 5: no bias, bfloat16 means autocast.

    louder, alpha A  trained with stochastic length: each run on the next of a few draws; `tokens` is their mean
    louder           inference on full histories
    transformer      full histories padded to N, in training too
    """
    for length in lengths:
        full = histories.month(length, max(1, tokens // length))
        torch.manual_seed(0)
        config = layer_config(width, heads, length, bias=False, dropout=DROPOUT)
        hstu = nn.ModuleList(HSTULayer(config) for _ in range(layers)).to(device)
        transformer = nn.Sequential(*(SDPALayer(width, heads, DROPOUT) for _ in range(layers))).to(device)
        sizes = {"users": len(full), "tokens": sum(full), "layers": layers, "heads": heads, "width": width}
        for passes in "training", "inference":
            shape = {"passes": passes, "max_len": length, **sizes, "dtype": type_name(dtype)}
            case = Case(f"encoder, {passes}, N = {length}", shape, memory, reference="transformer")
            add_transformer(case, transformer.train(passes == "training"), dtype, device)
            add_hstu(case, hstu.train(passes == "training"), full, dtype, device)
            yield case


def add_transformer(case: Case, model: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    users, length, width, layers = (case.shape[name] for name in ("users", "max_len", "width", "layers"))
    x_BND = torch.randn(users, length, width, device=device, requires_grad=True)
    # kept of each layer: 33 numbers a token and unit of width, as the paper counts; half as much again on the way
    needs = 1.5 * 4 * 33 * width * users * length * (layers if model.training else 0.5)
    case.add("transformer", compute(model, partial(model, x_BND), x_BND, dtype), needs=needs)


def add_hstu(case: Case, model: nn.ModuleList, full: list[int], dtype: torch.dtype, device: torch.device) -> None:
    length = case.shape["max_len"]
    x_LD = torch.randn(sum(full), case.shape["width"], device=device)
    for alpha in ALPHAS if model.training else (2.0,):
        draws = [histories.shortened(full, length, alpha, seed=seed) for seed in range(DRAWS if model.training else 1)]
        turns = []
        for kept in draws:
            batch, x = histories.histories(kept).to(device), x_LD[: sum(kept)].detach().requires_grad_()
            turns.append(compute(model, partial(encode, model, x, batch), x, dtype))
        mean = sum(map(sum, draws)) / len(draws)
        sparsity = round(1 - mean / (len(full) * length), 3)
        name = f"louder, alpha {alpha}" if model.training else "louder"
        case.add(name, in_turn(turns), alpha=alpha, tokens=round(mean), sparsity=sparsity)


def compute(model: nn.Module, forward: Callable[[], Tensor], x: Tensor, dtype: torch.dtype) -> Run:
    return run(autocast(forward, x.device, dtype), [x, *model.parameters()], x if model.training else None)


def encode(layers: nn.ModuleList, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
    for layer in layers:
        x_LD = layer(x_LD, batch)
    return x_LD


def in_turn(functions: Sequence[Run]) -> Run:
    turns = itertools.cycle(functions)
    return lambda: next(turns)()
