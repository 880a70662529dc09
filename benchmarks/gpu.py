"""A GPU in ten minutes: every Triton kernel against its reference implementation, then speed, with torch, Triton and numpy alone.

    python -m benchmarks gpu --json benchmarks/results/gpu.jsonl
    python -m benchmarks gpu --interpret     # without a GPU: the same code at tiny sizes, in Triton's interpreter

Nothing is measured where a kernel is wrong. Each part is a process of its own, which is ended when its time is over: neither
a kernel that hangs nor one that leaves the GPU unusable takes the other parts with it, and rows are kept as they come.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from benchmarks.rows import Row, groups, measured, multiple, ratio, reference_of, short
from louder.results import append_row, provenance

ROOT = Path(__file__).parents[1]
REPEATS = 20


class Part(NamedTuple):
    """What is measured; what a part leaves of its seconds of ten minutes goes to those after it."""

    seconds: float
    sizes: Row
    tiny: Row


HALF = {"dtype": "bfloat16"}
SHAPE, TINY_SHAPE = {"heads": 8, "width": 512}, {"heads": 2, "width": 16}
LONG, TINY_LENGTHS = {"lengths": [1024, 4096], "tokens": 65536}, {"lengths": [16], "tokens": 32}
MFALCON = {"amortised": None, "one_pass": None}
CHECK_SECONDS = 200.0
PARTS = {
    "attention": Part(
        120,
        {"kinds": ["uniform", "zipf rab", "targets"], **LONG, "heads": 8, "width": 64, **HALF},
        {"kinds": ["zipf rab"], **TINY_LENGTHS, "heads": 2, "width": 8, **HALF},
    ),
    "layer": Part(
        60, {"length": 1024, "tokens": 65536, **SHAPE, **HALF}, {"length": 16, "tokens": 32, **TINY_SHAPE, **HALF}
    ),
    "loss": Part(
        30,
        {"sizes": {"ML-1M": (13_600, 3_883, 50, 128), "100,000 items": (8_000, 100_000, 64, 512)}},
        {"sizes": {"tiny": (6, 9, 4, 3)}},
    ),
    "step": Part(
        70,
        {"names": ["ml1m:hstu", "ml1m:hstu_large", "ml1m:sasrec"], "users": 128},
        {"names": ["ml1m:hstu"], "users": 2},
    ),
    "encoder": Part(60, {**LONG, "layers": 2, **SHAPE, **HALF}, {**TINY_LENGTHS, "layers": 1, **TINY_SHAPE, **HALF}),
    "mfalcon": Part(
        50,
        {"lengths": [4096, 1024], "counts": [1024], "microbatches": [512, 1024], "layers": 4, "width": 256, "heads": 4}
        | MFALCON,
        {"lengths": [128], "counts": [8], "microbatches": [4], "layers": 1, **TINY_SHAPE} | MFALCON,
    ),
}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, help="append the rows to this file of JSON lines")
    parser.add_argument("--minutes", type=float, help="for all, the check included; 10, or 60 in the interpreter")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS), help="what to measure")
    parser.add_argument("--interpret", action="store_true", help="no GPU: run it all at tiny sizes and tell no speed")
    parser.add_argument("--child", choices=["check", *PARTS], help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.child:
        rows = checked(given.interpret) if given.child == "check" else part_rows(given.child, given.interpret)
        for row in rows:
            print(json.dumps(row), flush=True)
        return 0
    return run(given.parts, 60 * (given.minutes or (60 if given.interpret else 10)), given.interpret, given.json)


def run(parts: list[str], seconds: float, interpret: bool, path: Path | None) -> int:
    card = "Triton's interpreter"
    if not interpret:
        import torch

        if not torch.cuda.is_available():
            told = "No GPU was found. Check the kernels without one: python -m benchmarks gpu --interpret"
            print(told, file=sys.stderr)
            return 2
        card = torch.cuda.get_device_name()
    start, share = time.perf_counter(), seconds / (CHECK_SECONDS + sum(part.seconds for part in PARTS.values()))
    ends = start + share * CHECK_SECONDS
    checks, whole = collected("check", interpret, ends)
    wrong = [row for row in checks if not row["agrees"]]
    worst = max(checks, key=lambda row: row["error"] / row["tolerance"], default=None)
    right = f"{len(checks) - len(wrong)} of {len(checks)}"
    print(f"{card}: {right} checks of kernels agree with the reference implementation")
    if worst and not wrong:
        of_allowed = worst["error"] / worst["tolerance"]
        print(f"the largest error is {of_allowed:.1%} of what its type allows ({worst['check']})")
    if not checks or wrong or not whole:
        for row in wrong:
            print(f"WRONG  {row['check']}: error {row['error']:.2g}, at most {row['tolerance']:g} is allowed")
        after = f" after {checks[-1]['check']!r}" if checks else ""
        print("No speed is measured" + ("." if whole else f": the check did not end in time or failed{after}."))
        return 1
    facts = provenance() | versions() | {"checked": len(checks)}
    for name in parts:
        ends += share * PARTS[name].seconds
        rows, whole = collected(name, interpret, ends, partial(keep, path, {"bench": name, **facts}))
        print(*summary(name, rows, told=not interpret), sep="\n")
        if not whole:
            print(f"  {name} did not end in time or failed; what is above was measured before")
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0


def collected(
    name: str, interpret: bool, ends: float, each: Callable[[Row], None] = lambda row: None
) -> tuple[list[Row], bool]:
    """The rows that a part printed until its time was over, and whether it came to its end."""
    words = [sys.executable, "-m", "benchmarks", "gpu", "--child", name, *(["--interpret"] if interpret else [])]
    environment = os.environ | ({"TRITON_INTERPRET": "1"} if interpret else {})
    child = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(max(0.0, ends - time.perf_counter()), child.kill)
    timer.start()
    rows = []
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            if line.startswith("{") and line.endswith("}\n"):  # a library may print, too
                rows.append(json.loads(line))
                each(rows[-1])
    timer.cancel()
    return rows, child.wait() == 0


def keep(path: Path | None, facts: Row, row: Row) -> None:
    if path is not None and row["device"] != "cpu":
        append_row(path, {**facts, **row})


def checked(interpret: bool) -> Iterator[Row]:
    import torch

    from benchmarks import kernel_check

    lengths = kernel_check.TINY if interpret else kernel_check.LENGTHS
    for found in kernel_check.results(lengths, torch.device("cpu" if interpret else "cuda")):
        yield {"check": found.name, "error": found.error, "tolerance": found.tolerance, "agrees": found.agrees}


def part_rows(name: str, interpret: bool) -> Iterator[Row]:
    """Each case of a part, as it is measured: on the GPU, or at tiny sizes on the CPU."""
    import torch

    from benchmarks.measure import GIB, measure

    device = torch.device("cpu" if interpret else "cuda")
    sizes = dict(PARTS[name].tiny if interpret else PARTS[name].sizes)
    if "dtype" in sizes:
        sizes["dtype"] = getattr(torch, sizes["dtype"])
    memory = 1.0 if interpret else 0.8 * torch.cuda.mem_get_info()[0] / GIB
    cases = import_module(f"benchmarks.{name}").cases(**sizes, device=device, memory=memory)
    return chain.from_iterable(measure(case, 1 if interpret else REPEATS, device) for case in cases)


def versions() -> dict[str, str]:
    import torch
    import triton

    return {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda or ""}


def summary(name: str, rows: list[Row], told: bool) -> list[str]:
    """A line for each case: the time of the reference, and what the others are beside it; no speed where none is told."""
    if not told:
        return [f"{name}: {len(groups(rows, lambda row: row['case']))} cases ran"]
    lines = []
    for case, own in groups(measured(rows), lambda row: row["case"]).items():
        reference = reference_of(own)
        if reference is not None:
            others = [row for row in own if row is not reference]
            beside = ", ".join(f"{row['implementation']} {multiple(ratio(row, reference))} ×" for row in others)
            time_ms = f"{reference['implementation']} {short(1000 * reference['median_s'])} ms"
            lines.append(f"{name:<10}{case:<44}{time_ms:<22}{beside}")
    return lines
