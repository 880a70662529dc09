"""How much a model computes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverloadPacket
from torch.utils.flop_counter import FlopCounterMode

from louder.models.hstu import HSTUConfig
from louder.models.ranking import RankingConfig
from louder.ops import hstu_attention, hstu_layer  # noqa: F401  registers the ops
from louder.ops.jagged import indices
from louder.ops.layout import Layout

Given = dict[str, Any]  # an op's arguments by their names, and `out_val`


def flops(model: nn.Module, batch: Any) -> int:
    """Floating-point operations of model(batch), the forward pass, without dropout: two for each multiplication and
    addition of its matrix products, attention included. Training takes about three times as many.

    Attention counts the pairs of tokens that see each other (softmax attention its padding, too). What is linear in the
    numbers read or written is left out: lookups, sums over a history, norms, activations.
    """
    training = model.training
    model.eval()
    # with gradients, since without them the counter does not see registered ops: see louder.ops.autograd.is_recorded
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=formulas()) as counter:
        model(batch)
    model.train(training)
    return counter.get_total_flops()


def hstu_flops(config: HSTUConfig, lengths: Sequence[int]) -> int:
    """What `flops` counts of an HSTU on histories of so many tokens each, known before there is a model or a batch."""
    most = max(lengths, default=0) if config.window is None else config.window + config.global_prefix
    pairs = sum(token + 1 if token < most else most + 1 for length in lengths for token in range(length))
    widths = config.heads * (config.qk_width + config.v_width)
    projections = config.width * (2 * widths + config.heads * config.v_width)  # U, V, Q, K; the output
    return 2 * config.layers * (sum(lengths) * projections + pairs * widths)


def ranker_flops(
    config: HSTUConfig, ranking: RankingConfig, actions: int, lengths: Sequence[int], predicted: int
) -> int:
    """The same of a ranker on histories of so many events each, `predicted` of them all, on a log with `actions` and
    neither values nor series."""
    tokens = [len(ranking.context) + (2 if ranking.acts_apart else 1) * length for length in lengths]
    hidden = ranking.hidden * config.width
    head = predicted * hidden * (config.width + actions)
    return hstu_flops(config, tokens) + 2 * (head + sum(lengths) * actions * config.width)


def formulas() -> dict[OpOverloadPacket, Callable[..., int]]:
    """What torch does not know how to count."""
    of_op = {
        torch.ops.louder.hstu_layer: of_layer,
        torch.ops.louder.hstu_attention: of_attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: of_padded_attention,
    }
    return {op: by_name(op, formula) for op, formula in of_op.items()}


def by_name(op: OpOverloadPacket, formula: Callable[[Given], int]) -> Callable[..., int]:
    """The formula, called with an op's arguments by their names."""
    names = [argument.name for argument in op.default._schema.arguments]

    def count(*args: Any, **kwargs: Any) -> int:
        return formula(dict(zip(names, args)) | kwargs)

    count._get_raw = True  # type: ignore[attr-defined]  # tensors, not their shapes alone
    return count


def of_layer(given: Given) -> int:
    projections = given["uvqk_weight"].numel() + given["out_weight"].numel()
    v_widths = given["out_weight"].shape[1]
    qk_widths = given["heads"] * given["qk_width"]
    return 2 * len(given["x"]) * projections + 2 * pairs(given) * (qk_widths + v_widths)


def of_attention(given: Given) -> int:
    heads, qk_width = given["q"].shape[1:]
    return 2 * pairs(given) * heads * (qk_width + given["v"].shape[2])


def of_padded_attention(given: Given) -> int:
    users, heads, queries, qk_width = given["query"].shape
    keys, v_width = given["value"].shape[2:]
    seen = queries * (queries + 1) // 2 if given.get("is_causal") else queries * keys
    return 2 * users * heads * seen * (qk_width + v_width)


def pairs(given: Given) -> int:
    """How many keys all queries of all users see together: see Layout."""
    layout = Layout(**{name: given[name] for name in Layout._fields})
    lengths = layout.offsets.diff()
    queries = lengths if layout.query_offsets is None else layout.query_offsets.diff()
    index = indices(layout.offsets, int(layout.offsets[-1]))
    prefix = index if layout.prefix_lengths is None else layout.prefix_lengths
    prefix = prefix[index >= (lengths - queries).repeat_interleave(lengths)]
    hidden = 0 if layout.window is None else (prefix - layout.window - layout.global_prefix).clamp(min=0)
    return int((prefix - hidden + 1).sum())
