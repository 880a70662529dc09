"""sampled_softmax and full_softmax beside their reference implementations and beside the official code and cross_entropy."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import padded
from benchmarks.measure import Case, run
from louder.ops.sampled_softmax import full_softmax, naive, sampled_softmax

TEMPERATURE = 0.05


class Size(NamedTuple):
    rows: int
    items: int
    width: int
    negatives: int


ML1M = {"ML-1M": Size(13_600, 3_883, 50, 128)}  # 128 users with 106 events that have a target
QUICK = {"sizes": ML1M}
FULL = {"sizes": ML1M | {"100,000 items": Size(8_000, 100_000, 64, 512)}}


def cases(sizes: Mapping[str, Sequence[int]], *, device: torch.device, memory: float) -> Iterator[Case]:
    """Forward and backward, of the states and of the whole item table.

    louder         the op
    naive          its reference implementation, in blocks of rows, differentiated by autograd
    official       gathers [L, R, D] negatives, as the official code
    cross_entropy  of [L, I] logits
    """
    for name, numbers in sizes.items():
        size = Size(*numbers)
        generator = torch.Generator(device).manual_seed(0)

        states, table = (
            F.normalize(torch.randn(rows, size.width, device=device, generator=generator), dim=-1).requires_grad_()
            for rows in (size.rows, size.items)
        )
        targets, negatives = (
            torch.randint(size.items, shape, device=device, generator=generator)
            for shape in ((size.rows,), (size.rows, size.negatives))
        )
        fields = {**size._asdict(), "passes": "forward and backward", "dtype": "float32"}
        measured = partial(run, leaves=[states, table], like=states[:, 0])

        gathered = 4 * size.rows * size.negatives * size.width
        case = Case(f"sampled softmax, {name}", {"kind": "sampled", **fields}, memory)
        inputs = states, table, targets, negatives
        reference = partial(naive.sampled_softmax, *inputs, TEMPERATURE, None)
        official = partial(padded.sampled_softmax, *inputs, temperature=TEMPERATURE)
        case.add("louder", measured(partial(sampled_softmax, *inputs, temperature=TEMPERATURE)))
        case.add("naive", measured(reference), needs=1.3 * gathered)
        case.add("official", measured(official), needs=2.2 * gathered)
        yield case

        logits = 4 * size.rows * size.items
        case = Case(f"full softmax, {name}", {"kind": "full", **fields, "negatives": None}, memory)
        case.add("louder", measured(partial(full_softmax, states, table, targets, temperature=TEMPERATURE)))
        case.add("cross_entropy", measured(partial(cross_entropy, states, table, targets)), needs=3 * logits)
        yield case


def cross_entropy(states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(states @ table.T / TEMPERATURE, targets, reduction="none")
