"""hstu_attention beside its reference implementation, the official padded op and scaled_dot_product_attention."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import histories, padded
from benchmarks.measure import Case, Run, require_known, run, type_name
from benchmarks.plain import Attention, naive_attention
from louder.batch import SequenceBatch
from louder.ops.hstu_attention import hstu_attention
from louder.ops.jagged import to_padded
from louder.ops.layout import Layout, candidate_prefix_lengths
from louder.results import Row

TARGETS = 20  # candidates of each user in kind "targets"
WINDOW = 256  # events before itself that a row sees in kind "window"
TIME_BUCKETS = 129


@dataclass(frozen=True)
class Kind:
    lengths: str  # "uniform", all of the same length; "zipf", see histories.zipf
    bias: bool = False  # by position and by time
    num_targets: int = 0
    window: int | None = None


KINDS = {
    "uniform": Kind("uniform"),
    "uniform rab": Kind("uniform", bias=True),
    "zipf": Kind("zipf"),
    "zipf rab": Kind("zipf", bias=True),
    "targets": Kind("zipf", num_targets=TARGETS),
    "window": Kind("zipf", window=WINDOW),
}


QUICK: Row = {"kinds": list(KINDS), "lengths": [200, 1024], "tokens": 2048, "heads": 4, "width": 64}
FULL = QUICK | {"lengths": [200, 1024, 4096, 8192], "tokens": 8192}


def cases(kinds: Sequence[str], lengths: Sequence[int], **sizes: Any) -> Iterator[Case]:
    """Forward, and forward and backward, of each kind at each length of the longest history."""
    require_known("kind", kinds, KINDS)
    for kind in kinds:
        for length in lengths:
            for backward in False, True:
                yield make_case(kind, length, backward, **sizes)


def make_case(
    kind: str,
    length: int,
    backward: bool,
    *,
    tokens: int,
    heads: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    memory: float,
) -> Case:
    """What is beside what:

    louder             the op
    louder, bfloat16   the op on the same tensors rounded, where they are float32
    louder, no bias    what it takes without the biases, where there are some
    louder, padding    what it takes if every history is as long as the longest, where they are not
    naive              the reference implementation: one user at a time, differentiated by autograd
    padded             the official op: padded to the longest, scores and biases in memory, and back to jagged
    sdpa               causal softmax attention of tensors that are padded already; no bias, and no other mask
    """
    what = KINDS[kind]
    events = (histories.zipf if what.lengths == "zipf" else histories.uniform)(length, tokens)
    batch = histories.histories(events).to(device)
    qkv, bias = tensors_of(what, length, (sum(events), heads, width), dtype, device)
    candidates = batch.lengths.clamp(max=what.num_targets)
    layout, compute = layout_of(batch, what, candidates), partial(computed, length=length, backward=backward)
    passes = "forward and backward" if backward else "forward"
    shape = {"kind": kind, "passes": passes, **asdict(what), "max_len": length, "users": batch.users}
    shape |= {"tokens": sum(events), "heads": heads, "width": width, "dtype": type_name(dtype)}
    case = Case(f"{kind}, N = {length}, {passes}", shape, memory)
    case.add("louder", compute(hstu_attention, qkv, layout, bias))
    if dtype == torch.float32:
        rounded = [x.detach().bfloat16().requires_grad_() for x in qkv]
        case.add("louder, bfloat16", compute(hstu_attention, rounded, layout, bias))
    if bias:
        case.add("louder, no bias", compute(hstu_attention, qkv, layout, {}))
    if what.lengths == "zipf":
        full = layout_of(histories.histories([length] * batch.users).to(device), what, candidates)
        padding = [to_padded(x.detach(), batch.offsets, length).flatten(0, 1).requires_grad_() for x in qkv]
        case.add("louder, padding", compute(hstu_attention, padding, full, bias))

    # what a run takes, as measured at small sizes: so many tensors of scores, and some of integers for biases and masks
    pairs, other = [n * n for n in events], 8 * (len(bias) + bool(what.num_targets))
    needs: float = sum(pairs) * (18 * heads + other) if backward else max(pairs) * (18 * heads + other)
    case.add("naive", compute(naive_attention, qkv, layout, bias), needs=needs)
    needs = batch.users * length**2 * ((4 if backward else 3.5) * heads * qkv[0].element_size() + other)
    case.add("padded", compute(partial(padded.hstu_attention, length=length), qkv, layout, bias), needs=needs)
    q, k, v = (to_padded(x.detach(), batch.offsets, length).transpose(1, 2).contiguous().requires_grad_() for x in qkv)
    sdpa = partial(F.scaled_dot_product_attention, q, k, v, is_causal=True)
    case.add("sdpa", run(sdpa, [q, k, v], v if backward else None))
    return case


def tensors_of(
    what: Kind, length: int, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """q, k and v, and the biases by name, if there are any."""
    generator = torch.Generator(device).manual_seed(0)

    normal = partial(torch.randn, device=device, generator=generator)
    qkv = [(0.3 * normal(shape)).to(dtype).requires_grad_() for _ in range(3)]
    tables = {"position_bias": length, "time_bias": TIME_BUCKETS} if what.bias else {}
    return qkv, {name: (0.02 * normal(entries)).requires_grad_() for name, entries in tables.items()}


def layout_of(batch: SequenceBatch, what: Kind, candidates: Tensor) -> Layout:
    layout = Layout(batch.offsets, query_times=batch.query_timestamps, key_times=batch.timestamps, window=what.window)
    if not what.num_targets:
        return layout
    return layout._replace(prefix_lengths=candidate_prefix_lengths(batch.offsets, len(batch.ids), candidates))


def computed(
    attention: Attention, qkv: Sequence[Tensor], layout: Layout, bias: dict[str, Tensor], length: int, backward: bool
) -> Run:
    """A run of the attention of histories of at most `length` events."""
    forward = partial(attention, *qkv, layout, scale=1 / length, **bias)
    return run(forward, [*qkv, *bias.values()], qkv[2] if backward else None)
