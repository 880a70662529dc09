"""M-FALCON: candidates scored against one history, beside a pass without a cache, a pass for each, and a DLRM."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Case
from benchmarks.request import OnePass, candidates, counters_of, impression_ranker, impressions, ranker, user
from louder.batch import SequenceBatch
from louder.inference.mfalcon import MFalcon
from louder.inference.precision import PRECISIONS, reduced
from louder.models import DLRM, RankingModel
from louder.models.flops import flops
from louder.results import Row

ONE_BY_ONE = 4  # candidates that "one pass per candidate" is measured on
TIMES = 285  # how many times the DLRM's FLOPs for a candidate the paper's ranker has
CROSS_LAYERS = 3
DLRM_MICROBATCH = 256  # the fastest of 64 to 16384

# n, m and b: the first of each is held while the others take their turn
AXES: Row = {"lengths": [1024, 512], "counts": [1024, 16, 256], "microbatches": [512, 64]}
FULL_AXES: Row = {
    "lengths": [4096, 512, 1024, 2048, 8192],
    "counts": [1024, 16, 64, 256, 4096, 16384],
    "microbatches": [512, 64, 128, 256, 1024],
}
SMALL: Row = {"n": 528, "width": 128, "heads": 2}
LARGE: Row = {"n": 2048, "width": 1024, "heads": 8}
FEW, MANY = {"counts": [1024]}, {"counts": [1024, 16384]}
QUICK = {**AXES, "layers": 2, "width": 128, "heads": 2, "amortised": None, "one_pass": SMALL | FEW}
FULL = {**FULL_AXES, "layers": 4, "width": 256, "heads": 4, "amortised": LARGE | MANY, "one_pass": SMALL | MANY}


def cases(
    *,
    lengths: Sequence[int],
    counts: Sequence[int],
    microbatches: Sequence[int],
    layers: int,
    width: int,
    heads: int,
    amortised: Row | None,
    one_pass: Row | None,
    device: torch.device,
    memory: float,
) -> Iterator[Case]:
    """m candidates for one user, in microbatches of b, whose history has n tokens, two for each event.

    louder, cached          the history was cached in a request before; also with smaller weights
    louder, cached, crosses  with cross layers and counters of items beside the head, which are given
    louder, cold            it is computed in the request
    one batch               one pass over the history and all candidates, nothing cached
    one pass per candidate  over the history and one candidate: measured on a few, and the time multiplied
    dlrm                    features given, 50 events of history for each candidate

    `amortised` and `one_pass`: rankers with 285 times the DLRM's FLOPs for a candidate, of a cached pass or of a whole
    pass over the history and it; as many layers as that takes.
    """
    dlrm = impression_ranker(device)
    for n, m, b in turns(lengths, counts, microbatches):
        request = Scoring(ranker(max(lengths) + 1, layers, width, heads, device), n)
        case = request.case(f"n = {n:,}, m = {m:,}, b = {b:,}", "request", m, b, memory)
        request.add_mfalcon(case)
        if b == microbatches[0]:
            request.add_reduced(case)
            crossed = Scoring(ranker(max(lengths) + 1, layers, width, heads, device, cross_layers=CROSS_LAYERS), n)
            crossed.add_cached(case, "louder, cached, crosses", crossed.model, m)
            request.add_others(case)
            add_dlrm(case, dlrm, request.history)
        yield case
    for kind, sizes in ("amortised", amortised), ("one pass", one_pass):
        if sizes:
            yield from complex_cases(kind, dlrm, microbatches[0], device, memory, **sizes)


def turns(*axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The first of each axis; then each other number of an axis, with the first of the others."""
    first = tuple(axis[0] for axis in axes)
    yield first
    for number, axis in enumerate(axes):
        for value in axis[1:]:
            yield *first[:number], value, *first[number + 1 :]


def complex_cases(
    kind: str,
    dlrm: DLRM,
    b: int,
    device: torch.device,
    memory: float,
    *,
    counts: Sequence[int],
    n: int,
    width: int,
    heads: int,
) -> Iterator[Case]:
    """The paper's comparison."""

    def of(layers: int) -> tuple[Scoring, int]:
        request = Scoring(ranker(n + 1, layers, width, heads, device), n)
        return request, request.candidate_flops + (kind == "one pass") * request.history_flops

    base = dlrm_flops(dlrm)
    (_, one), (_, two) = of(1), of(2)
    request, total = of(max(1, round(1 + (TIMES * base - one) / (two - one))))
    for m in counts:
        case = request.case(f"{TIMES} × the DLRM's FLOPs, {kind}, m = {m:,}", kind, m, b, memory)
        case.shape["times_flops"] = round(total / base, 1)
        request.add_mfalcon(case, most=1024)
        request.add_reduced(case, most=1024)
        add_dlrm(case, dlrm, request.history)
        yield case


class Scoring:
    """One user's request for scores by a generative ranker; the history has n tokens."""

    def __init__(self, model: RankingModel, n: int) -> None:
        self.device = model.actions.weight.device
        self.model, self.n, self.history = model, n, user(n // 2, self.device)
        self.at = int(self.history.query_timestamps[-1])
        self.one_pass = OnePass(model, self.history)
        # what a candidate adds to a pass is what it takes when the history is cached
        self.history_flops = flops(self.one_pass, candidates(0, self.device))
        self.candidate_flops = flops(self.one_pass, candidates(1, self.device)) - self.history_flops

    def case(self, name: str, kind: str, m: int, b: int, memory: float) -> Case:
        config = self.model.backbone.config
        shape = {"kind": kind, "tokens": self.n, "candidates": m, "microbatch": b, "dtype": "float32"}
        shape |= {"layers": config.layers, "width": config.width}
        return Case(name, shape, memory, reference="louder, cached", unit="candidates")

    def flops_each(self, m: int) -> int:
        """For each of m candidates, where the history is not cached."""
        return self.candidate_flops + self.history_flops // m

    def add_mfalcon(self, case: Case, most: int | None = None) -> None:
        """`most`: measure no more candidates than that where the history is cached."""
        m, b = case.shape["candidates"], case.shape["microbatch"]
        self.add_cached(case, "louder, cached", self.model, most or m)
        run = partial(MFalcon(self.model, microbatch=b).score, self.history, candidates(m, self.device), self.at)
        case.add("louder, cold", run, flops_per_candidate=self.flops_each(m))

    def add_cached(self, case: Case, name: str, model: RankingModel, most: int, **facts: Any) -> None:
        m = case.shape["candidates"]
        some = candidates(m, self.device)[:most]
        mfalcon = MFalcon(model, microbatch=case.shape["microbatch"], cache_bytes=1 << 40)
        counters = counters_of(model, some)
        run = partial(mfalcon.score, self.history, some, self.at, key=0, counters=counters)
        run()
        facts |= {"flops_per_candidate": self.candidate_flops, "remembered_bytes": mfalcon.cache.bytes}
        if len(some) < m:
            facts["measured_candidates"] = len(some)
        case.add(name, run, share=len(some) / m, **facts)

    def add_reduced(self, case: Case, most: int | None = None) -> None:
        """With smaller weights, and the largest error of a probability that comes of it."""
        m = case.shape["candidates"]
        some = candidates(m, self.device)[:1024]

        def probabilities(model: RankingModel) -> Tensor:
            return MFalcon(model).score(self.history, some, self.at)[0].sigmoid()

        exact = probabilities(self.model)
        for precision in PRECISIONS if self.device.type == "cpu" else ("bfloat16",):  # int8 is of processors
            model = reduced(self.model, precision)
            error = float((probabilities(model) - exact).abs().max())
            name = f"louder, cached, {precision}"
            self.add_cached(case, name, model, most or m, weights=precision, max_error=round(error, 6))

    def add_others(self, case: Case) -> None:
        m = case.shape["candidates"]
        once, every = torch.no_grad()(self.one_pass), candidates(m, self.device)
        each = every[:ONE_BY_ONE]
        case.add("one batch", partial(once, every), flops_per_candidate=self.flops_each(m))
        facts = {"flops_per_candidate": self.flops_each(1), "measured_candidates": len(each)}
        case.add("one pass per candidate", lambda: [once(one) for one in each.split(1)], share=len(each) / m, **facts)


def add_dlrm(case: Case, dlrm: DLRM, history: SequenceBatch) -> None:
    ids = candidates(case.shape["candidates"], history.ids.device).split(DLRM_MICROBATCH)
    batches = [impressions(history, part, dlrm.config.history) for part in ids]
    score = torch.no_grad()(dlrm)
    case.add("dlrm", lambda: [score(batch) for batch in batches], flops_per_candidate=dlrm_flops(dlrm))


def dlrm_flops(dlrm: DLRM) -> int:
    """For each candidate."""
    device = next(dlrm.parameters()).device
    some = candidates(64, device)
    return flops(dlrm, impressions(user(64, device), some, dlrm.config.history)) // len(some)
