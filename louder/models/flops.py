"""How much a model computes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from louder.ops import hstu_attention, hstu_layer  # noqa: F401  registers the ops


def flops(model: nn.Module, batch: Any) -> int:
    """Floating-point operations of model(batch), the forward pass, without dropout: two for each multiplication and
    addition of its matrix products, attention included. Training takes about three times as many.

    Attention counts the pairs of tokens that see each other (softmax attention its padding, too). What is linear in the
    numbers read or written is left out: lookups, sums over a history, norms, activations.

    For FLOPs per example, take a batch of many exposures and divide by how many are asked for.
    """
    training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=formulas()) as counter:
        model(batch)
    model.train(training)
    return counter.get_total_flops()


def formulas() -> dict[Any, Callable[..., int]]:
    """What torch does not know how to count."""
    return {
        torch.ops.louder.hstu_layer: by_name(torch.ops.louder.hstu_layer, of_layer),
        torch.ops.louder.hstu_attention: by_name(torch.ops.louder.hstu_attention, of_attention),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: by_name(
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, of_padded_attention
        ),
    }


def by_name(op: Any, formula: Callable[[dict[str, Any]], int]) -> Callable[..., int]:
    """The formula, called with an op's arguments by their names."""
    names = [argument.name for argument in op.default._schema.arguments]

    def count(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return formula(dict(zip(names, args)) | kwargs)

    count._get_raw = True  # type: ignore[attr-defined]  # tensors, not their shapes alone
    return count


def of_layer(given: dict[str, Any]) -> int:
    projections = given["uvqk_weight"].numel() + given["out_weight"].numel()
    v_widths = given["out_weight"].shape[1]
    qk_widths = given["heads"] * given["qk_width"]
    return 2 * len(given["x"]) * projections + 2 * pairs(given) * (qk_widths + v_widths)


def of_attention(given: dict[str, Any]) -> int:
    heads, qk_width = given["q"].shape[1:]
    return 2 * pairs(given) * heads * (qk_width + given["v"].shape[2])


def of_padded_attention(given: dict[str, Any]) -> int:
    users, heads, queries, qk_width = given["query"].shape
    keys, v_width = given["value"].shape[2:]
    seen = queries * (queries + 1) // 2 if given.get("is_causal") else queries * keys
    return 2 * users * heads * seen * (qk_width + v_width)


def pairs(given: dict[str, Any]) -> int:
    """How many keys all queries of all users see together, were there no window."""
    offsets: Tensor = given["offsets"]
    lengths, queries = offsets.diff(), given["query_offsets"].diff()
    index = torch.arange(int(offsets[-1]), device=offsets.device) - offsets[:-1].repeat_interleave(lengths)
    prefix_lengths = given.get("prefix_lengths")
    if prefix_lengths is None:
        history = lengths - given["num_targets"]
        prefix_lengths = index.minimum(history.repeat_interleave(lengths))
    asked = index >= (lengths - queries).repeat_interleave(lengths)
    return int((prefix_lengths + 1)[asked].sum())
