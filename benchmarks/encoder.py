"""HSTU's encoder with stochastic length beside a Transformer of the same width and depth on padded full histories."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import histories
from benchmarks.measure import Case, Run, autocast, run
from benchmarks.transformer import SDPALayer
from louder.batch import SequenceBatch
from louder.models import HSTUConfig
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
        users = max(1, tokens // length)
        full = histories.month(length, users)
        torch.manual_seed(0)
        config = HSTUConfig(
            heads=heads,
            width=width,
            qk_width=width // heads,
            v_width=width // heads,
            max_len=length,
            position_bias=False,
            time_bias=False,
            linear_dropout=DROPOUT,
        )
        hstu = nn.ModuleList(HSTULayer(config) for _ in range(layers)).to(device)
        transformer = nn.Sequential(*(SDPALayer(width, heads, DROPOUT) for _ in range(layers))).to(device)
        x_LD = torch.randn(sum(full), width, device=device)
        x_BND = torch.randn(users, length, width, device=device, requires_grad=True)
        for passes in "training", "inference":
            training = passes == "training"
            for model in hstu, transformer:
                model.train(training)
            shape = {
                "passes": passes,
                "max_len": length,
                "users": users,
                "tokens": sum(full),
                "layers": layers,
                "heads": heads,
                "width": width,
                "dtype": str(dtype).removeprefix("torch."),
            }
            case = Case(f"encoder, {passes}, N = {length}", shape, memory, reference="transformer")

            def compute(
                model: nn.Module, forward: Callable[[], Tensor], x: Tensor, training: bool = training
            ) -> Callable[[], tuple[Tensor, ...]]:
                forward = autocast(forward, device, dtype)
                return run(forward, [x, *model.parameters()], x if training else None)

            # kept of each layer: 33 numbers a token and unit of width, as the paper counts; half as much again on the way
            needs = 4 * 33 * width * users * length * (layers if training else 0.5)
            case.add("transformer", compute(transformer, partial(transformer, x_BND), x_BND), needs=1.5 * needs)
            for alpha in ALPHAS if training else (2.0,):
                draws = [
                    histories.shortened(full, length, alpha, seed=seed) for seed in range(DRAWS if training else 1)
                ]
                turns = []
                for lengths_kept in draws:
                    batch = histories.histories(lengths_kept).to(device)
                    x = x_LD[: sum(lengths_kept)].detach().requires_grad_()
                    turns.append(compute(hstu, partial(encode, hstu, x, batch), x))
                mean = sum(map(sum, draws)) / len(draws)
                facts = {"alpha": alpha, "tokens": round(mean), "sparsity": round(1 - mean / (users * length), 3)}
                name = f"louder, alpha {alpha}" if training else "louder"
                case.add(name, in_turn(turns), **facts)
            yield case


def encode(layers: nn.ModuleList, x_LD: Tensor, batch: SequenceBatch) -> Tensor:
    for layer in layers:
        x_LD = layer(x_LD, batch)
    return x_LD


def in_turn(functions: Sequence[Run]) -> Run:
    turns = itertools.cycle(functions)
    return lambda: next(turns)()
