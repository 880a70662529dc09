"""One layer of HSTU beside itself with torch ops alone, and beside one layer of a Transformer of the same width."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import histories, padded
from benchmarks.measure import Case, autocast, kept_bytes, run, type_name
from benchmarks.plain import hstu_layer, layer_config, naive_attention
from benchmarks.transformer import SDPALayer
from louder.errors import InputError
from louder.models.hstu import HSTULayer
from louder.ops.jagged import to_padded
from louder.results import Row

KINDS = "uniform", "uniform rab", "zipf"  # as those of attention
DROPOUT = 0.2
QUICK = {"length": 512, "tokens": 2048, "width": 512, "heads": 8}
FULL = QUICK | {"length": 1024, "tokens": 8192}


def cases(
    *,
    length: int,
    tokens: int,
    width: int,
    heads: int,
    dtype: torch.dtype,
    device: torch.device,
    memory: float,
    dropout: float = DROPOUT,
) -> Iterator[Case]:
    """Forward and backward in training mode; bfloat16 means autocast. `kept_bytes` is what the forward pass keeps for
    the backward pass, the layer's input included, the weights not; `kept_bytes_per_token` counts real tokens only.

    louder       HSTULayer
    naive        the same with torch ops, attention by the reference implementation
    padded       the same with torch ops, attention by the official padded op
    torch        nn.TransformerEncoderLayer, pre-norm, GELU, 4 widths inside, on padded input
    transformer  the same, but qkv in one product, and no dropout of the weights of scaled_dot_product_attention
    """
    if width % heads:
        raise InputError(f"--width is {width}, but it must be a multiple of --heads, {heads}.")
    for kind in KINDS:
        events = (histories.zipf if kind == "zipf" else histories.uniform)(length, tokens)
        batch = histories.histories(events).to(device)
        bias = kind.endswith("rab")
        torch.manual_seed(0)
        layer = HSTULayer(layer_config(width, heads, length, bias=bias, dropout=dropout)).to(device)
        x_LD = torch.randn(sum(events), width, device=device, requires_grad=True)
        shape = {"kind": kind, "passes": "forward and backward", "max_len": length, "users": batch.users}
        shape |= {"tokens": sum(events), "heads": heads, "width": width, "dtype": type_name(dtype)}
        case = Case(f"one layer, {kind}, N = {length}", shape, memory)
        own = [batch.offsets, batch.timestamps, batch.query_timestamps]
        scores = 4 * heads * batch.users * length**2  # bytes of one [B, H, N, N]
        add(case, "louder", layer, partial(layer, x_LD, batch), x_LD, dtype, own)
        reference = partial(hstu_layer, layer, x_LD, batch, naive_attention)
        add(case, "naive", layer, reference, x_LD, dtype, own, 22 * heads * sum(n * n for n in events))
        official = partial(hstu_layer, layer, x_LD, batch, partial(padded.hstu_attention, length=length))
        needs = 4.5 * scores + 8 * batch.users * length**2 * bias
        add(case, "padded", layer, official, x_LD, dtype, own, needs)
        if not bias:
            x_BND = to_padded(x_LD.detach(), batch.offsets, length).requires_grad_()
            add_transformers(case, x_BND, heads, dropout, dtype, needs=6 * scores if dropout else 0)
        yield case


def add_transformers(case: Case, x_BND: Tensor, heads: int, dropout: float, dtype: torch.dtype, needs: float) -> None:
    _, length, width = x_BND.shape
    device = x_BND.device
    causal = nn.Transformer.generate_square_subsequent_mask(length, device=device)
    options: Row = {"batch_first": True, "norm_first": True, "device": device}
    encoder = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", **options)
    forward = partial(encoder, x_BND, src_mask=causal, is_causal=True)
    add(case, "torch", encoder, forward, x_BND, dtype, [causal], needs)
    transformer = SDPALayer(width, heads, dropout).to(device)
    add(case, "transformer", transformer, partial(transformer, x_BND), x_BND, dtype)


def add(
    case: Case,
    name: str,
    layer: nn.Module,
    forward: Callable[[], Tensor],
    x: Tensor,
    dtype: torch.dtype,
    not_counted: Sequence[Tensor] = (),
    needs: float = 0,
) -> None:
    forward = autocast(forward, x.device, dtype)
    case.add(name, run(forward, [x, *layer.parameters()], x), needs=needs)
    if name in case.candidates:
        kept = kept_bytes(forward, [*layer.parameters(), *not_counted])
        each = round(kept / case.shape["tokens"], 1)
        case.candidates[name].facts.update(kept_bytes=kept, kept_bytes_per_token=each)
