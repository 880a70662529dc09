"""Median time and memory of several ways to compute one thing, run in turn in one process.

Memory is what one run takes on top of what was there before it, at its highest. On a GPU the allocator says so. On a
CPU it is the running sum of the allocations that the profiler saw in one further, untimed run: every tensor, but
neither the buffers that a C++ kernel keeps for itself (a few blocks for each thread) nor those inside a BLAS.
"""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from louder.errors import InputError
from louder.results import Row

Run = Callable[[], Any]  # what it returns is only looked at by tests
GIB = 1 << 30
COPIES = "ToCopyBackward0", "TBackward0", "PermuteBackward0", "TransposeBackward0"


@dataclass(frozen=True)
class Candidate:
    """One way to compute a case, or a share of it: then its time is that of all. `facts` are more fields of its row."""

    run: Run
    share: float = 1.0
    facts: Row = field(default_factory=dict)


@dataclass
class Case:
    """One thing to compute, of the sizes in `shape`. Ratios are to the candidate named `reference`. Rows say how many of
    shape[unit] are done a second, if there is a unit."""

    name: str
    shape: Row
    memory_limit: float = 8.0  # GiB; a candidate that would need more is left out, which the output says
    reference: str = "louder"
    unit: str = ""
    candidates: dict[str, Candidate] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, run: Run, *, needs: float = 0, share: float = 1.0, **facts: Any) -> None:
        """`needs` is an estimate of its memory in bytes."""
        if needs > self.memory_limit * GIB:
            limit = f"with a limit of {self.memory_limit:g}"
            self.skipped[name] = f"would need about {needs / GIB:.1f} GiB of memory, {limit}"
        else:
            self.candidates[name] = Candidate(run, share, facts)


def require_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises InputError for a name that is none of those known."""
    for name in names:
        if name not in (among := list(known)):
            raise InputError(f"There is no {what} {name!r} to measure. There are: {', '.join(among)}.")


def measure(case: Case, repeats: int, device: torch.device) -> list[Row]:
    """A row of numbers for each candidate: after a run to warm up, A B C A B C ..., so that whatever else the machine
    does meets all alike."""
    for candidate in case.candidates.values():
        candidate.run()
    peaks = {name: peak_bytes(candidate.run, device) for name, candidate in case.candidates.items()}
    seconds: dict[str, list[float]] = {name: [] for name in case.candidates}
    for _ in range(repeats):
        for name, candidate in case.candidates.items():
            seconds[name].append(timed(candidate.run, device) / candidate.share)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    where = {"device": card, "threads": torch.get_num_threads(), **case.shape}
    rows = []
    for name, times in seconds.items():
        median = round(statistics.median(times), 6)
        row = {"case": case.name, "implementation": name, "reference": case.reference, "median_s": median}
        row |= {"min_s": round(min(times), 6), "max_s": round(max(times), 6), "runs": repeats}
        row |= {"peak_bytes": peaks[name], **where}
        if case.unit:
            row[f"{case.unit}_per_s"] = round(case.shape[case.unit] / median, 1)
        rows.append(row | case.candidates[name].facts)
    for name, reason in case.skipped.items():
        names = {"case": case.name, "implementation": name, "reference": case.reference}
        rows.append({**names, "skipped": reason, **where})
    return rows


def run(
    forward: Callable[[], Tensor], leaves: Sequence[Tensor], like: Tensor | None
) -> Callable[[], tuple[Tensor, ...]]:
    """A function that computes the output alone, or, if `like` has the output's shape, also the leaves' gradients for
    a fixed random gradient of the output."""
    grad = None
    if like is not None:
        generator = torch.Generator(like.device).manual_seed(0)
        grad = torch.randn(like.shape, device=like.device, generator=generator).to(like.dtype)

    def compute() -> tuple[Tensor, ...]:
        if grad is None:
            with torch.no_grad():
                return (forward(),)
        out = forward()
        return out, *torch.autograd.grad(out, leaves, grad)

    return compute


def autocast(forward: Callable[[], Tensor], device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """The function under autocast to bfloat16; as it is for float32."""

    def compute() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return forward()

    return compute


def timed(run: Run, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def peak_bytes(run: Run, device: torch.device) -> int:
    """The most memory of tensors that a run holds at once, besides what exists already."""
    if device.type == "cuda":
        wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with quiet(), torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        run()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():  # in order of time
        if event.name() == "[memory]":
            held += event.nbytes()  # below 0 where memory is given back
            peak = max(peak, held)
    return peak


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the profiler's lines about starting and stopping off the screen."""
    sys.stderr.flush()
    screen = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


def kept_bytes(forward: Run, not_counted: Iterable[Tensor]) -> int:
    """Memory that a forward pass keeps for the backward pass: each storage once, without that of `not_counted` and of
    copies of those in another dtype, such as autocast makes of weights."""
    given = list(not_counted)
    storages = {x.untyped_storage().data_ptr() for x in given}
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        address = x.untyped_storage().data_ptr()
        if address not in storages and not any(origin(x) is one for one in given):
            kept[address] = x  # held, so that its address is not used again
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = forward()
    del out
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def origin(x: Tensor) -> Tensor | None:
    """The leaf that x is a cast or a transpose of, if it is one."""
    node = x.grad_fn
    while node is not None and node.name() in COPIES:
        node = node.next_functions[0][0]
    return getattr(node, "variable", None)
