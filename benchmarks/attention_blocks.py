"""What sizes of blocks are worth it for the Triton attention kernels on a card: each kernel, each size, by itself.

    python -m benchmarks.attention_blocks --json benchmarks/results/attention_blocks.jsonl

Compiled by as many processes as there are cores, then timed one after the other; a row for each size. TFLOP/s count the
products of visible pairs alone. What wins here is what louder/ops/hstu_attention/triton.py offers its tuning.
"""

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple

from louder.results import Row, append_row, provenance

TOKENS, HEADS, WIDTH, TIME_BUCKETS = 65536, 8, 64, 129
PRODUCTS = {"forward": 2, "query_gradient": 3, "key_gradient": 4}  # of WIDTH multiplications for each pair that sees
Block = tuple[int, int, int, int]  # BLOCK_M, BLOCK_N, warps, stages
BLOCKS: list[Block] = [
    *((64, 64, 4, 2), (64, 64, 4, 3), (64, 64, 8, 2), (128, 64, 8, 2), (128, 64, 8, 3), (128, 64, 4, 3)),
    *((128, 128, 8, 2), (128, 128, 8, 3), (128, 32, 4, 2), (128, 32, 4, 3), (64, 128, 4, 3), (64, 128, 8, 1)),
    *((64, 128, 8, 2), (64, 128, 8, 3), (64, 32, 4, 3), (32, 128, 8, 2), (32, 128, 4, 3), (32, 64, 4, 3)),
]


class Shape(NamedTuple):
    length: int
    bias: bool

    @property
    def name(self) -> str:
        return f"{'rab' if self.bias else 'no bias'}, N = {self.length}"


SHAPES = [Shape(1024, False), Shape(1024, True), Shape(4096, False)]


def launched(kind: str, shape: Shape) -> tuple[Any, Any]:
    """The kernel, and a function that runs it on random bfloat16 histories of one length."""
    import torch

    from louder.ops.hstu_attention import bucket_starts_on
    from louder.ops.hstu_attention import triton as kernels
    from louder.ops.layout import Layout

    generator = torch.Generator("cuda").manual_seed(0)
    made: Any = {"device": "cuda", "generator": generator}
    q, k, v, grad = (torch.randn(TOKENS, HEADS, WIDTH, dtype=torch.bfloat16, **made) for _ in range(4))
    users = TOKENS // shape.length
    times = torch.randint(0, 10**6, (users, shape.length), **made).sort(1).values.flatten()
    offsets = torch.arange(users + 1, device="cuda") * shape.length
    layout = Layout(offsets, None, None, times, times, None, 0)
    position = torch.randn(2 * shape.length - 1, **made) * 0.1 if shape.bias else None
    time = torch.randn(TIME_BUCKETS, **made) * 0.1 if shape.bias else None
    starts = bucket_starts_on(q.device, time)
    given = kernels.arguments(q, k, v, layout, 1 / shape.length, position, time, starts)
    out: dict[str, Any] = {"grad": grad}
    if kind == "forward":
        out = {"out": torch.empty_like(v)}
    elif kind == "key_gradient":
        out |= {"dk": torch.empty_like(k), "dv": torch.empty_like(v)}
    else:
        sums = {
            name: torch.zeros(kernels.COPIES, given[x], device="cuda")
            for name, x in (("d_position", "P"), ("d_time", "T"))
        }
        out |= {"dq": torch.empty_like(q), "COPIES": kernels.COPIES, **sums}
    kernel = getattr(kernels, f"{kind}_kernel")
    return kernel, partial(
        kernels.launch, kernel, "BLOCK_N" if kind == "key_gradient" else "BLOCK_M", TOKENS, given | out
    )


def seconds(kind: str, shape: Shape, block: Block, timed: bool = True) -> float:
    """Median of one launch; infinite where the card has no room for such blocks."""
    import torch
    import triton

    kernel, run = launched(kind, shape)
    m, n, warps, stages = block
    kernel.configs = [triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)]
    try:
        run()
        torch.cuda.synchronize()
    except triton.runtime.errors.OutOfResources:
        return math.inf
    return float(triton.testing.do_bench(run, warmup=10, rep=60, return_mode="median") / 1e3) if timed else 0.0


def compiled(job: tuple[str, Shape, Block]) -> float:
    return seconds(*job, timed=False)


def row_of(kind: str, shape: Shape, block: Block, median: float) -> Row:
    pairs = TOKENS * shape.length / 2 * HEADS
    names = dict(zip(("BLOCK_M", "BLOCK_N", "warps", "stages"), block))
    speed = round(PRODUCTS[kind] * 2 * WIDTH * pairs / median / 1e12, 1)
    return {
        "bench": "attention_blocks",
        "case": shape.name,
        "kernel": kind,
        **names,
        "median_s": median,
        "tflops": speed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="append the rows to this file of JSON lines")
    given = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("No GPU was found: sizes of blocks are timed on the card they are for.")
    facts = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "tokens": TOKENS, "heads": HEADS}
    facts |= {"width": WIDTH, "dtype": "bfloat16"} | provenance()
    jobs = [(kind, shape, block) for shape in SHAPES for kind in PRODUCTS for block in BLOCKS]
    with ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn")) as pool:
        list(pool.map(compiled, jobs))
    for job in jobs:
        if math.isfinite(median := seconds(*job)):
            row = row_of(*job, median)
            print(
                f"{row['case']:18} {row['kernel']:15} {job[2]!s:20} {1e3 * median:7.3f} ms {row['tflops']:6.1f} TFLOP/s"
            )
            if given.json:
                append_row(given.json, row | facts)


if __name__ == "__main__":
    main()
