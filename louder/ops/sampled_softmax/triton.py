"""Sampled softmax on a GPU: a program has one row's target and negatives, and keeps neither the items it gathered nor the
negatives it drew, which are a function of the seed (random_bits.random_items). In the kernels C are candidates of a block,
the target first, and D is the width."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from louder.ops.random_bits_triton import halves, random_bits

NUMBERS = 8192  # of a block of gathered items: more does not fit into registers


@triton.jit
def candidates(number, row, target, negatives, R, items, low, high, DRAWN: tl.constexpr):
    """The items of these numbers among a row's candidates; the last of several may be past the end."""
    if DRAWN:
        bits = random_bits(row.to(tl.int64) * R + number - 1, low, high)
        drawn = ((bits.to(tl.uint64) * items) >> 32).to(tl.int64)
    else:
        drawn = tl.load(negatives + row.to(tl.int64) * R + number - 1, mask=(number > 0) & (number <= R), other=0)
    return tl.where(number == 0, target, drawn)


@triton.jit
def gathered(table, ids, number, R, D: tl.constexpr, BLOCK_D: tl.constexpr):
    column = tl.arange(0, BLOCK_D)[None, :]
    return tl.load(table + ids[:, None] * D + column, mask=(number <= R)[:, None] & (column < D), other=0.0)


@triton.jit
def logits_of(items_CD, state, ids, number, target, R, temperature, log_weights, WEIGHTED: tl.constexpr):
    scores = tl.sum(items_CD * state[None, :], 1) / temperature
    if WEIGHTED:
        scores -= tl.load(log_weights + ids, mask=number <= R, other=0.0)
    return tl.where((number > R) | ((ids == target) & (number > 0)), float("-inf"), scores)


@triton.jit(do_not_specialize=["low", "high", "items", "R"])
def forward_kernel(
    loss, grad_logits, d_states, states, table, targets, negatives, log_weights, temperature, items, R, low, high,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr, DRAWN: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0), tl.arange(0, BLOCK_D)
    at = row.to(tl.int64) * D + column
    target = tl.load(targets + row)
    none = target < 0
    target = tl.maximum(target, 0)
    state = tl.load(states + at, mask=column < D, other=0.0)
    largest, total, first = float("-inf"), 0.0, 0.0
    for start in range(0, R + 1, BLOCK_C):
        number = start + tl.arange(0, BLOCK_C)
        ids = candidates(number, row, target, negatives, R, items, low, high, DRAWN)
        items_CD = gathered(table, ids, number, R, D, BLOCK_D)
        logits = logits_of(items_CD, state, ids, number, target, R, temperature, log_weights, WEIGHTED)
        first += tl.sum(tl.where(number == 0, logits, 0.0))
        before, largest = largest, tl.maximum(largest, tl.max(logits))  # the first block has the target: never -inf
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(logits - largest))
    logsumexp = largest + tl.log(total)
    tl.store(loss + row, tl.where(none, 0.0, logsumexp - first))
    d_state = tl.zeros([BLOCK_D], tl.float32)
    for start in range(0, R + 1, BLOCK_C):
        number = start + tl.arange(0, BLOCK_C)
        ids = candidates(number, row, target, negatives, R, items, low, high, DRAWN)
        items_CD = gathered(table, ids, number, R, D, BLOCK_D)
        logits = logits_of(items_CD, state, ids, number, target, R, temperature, log_weights, WEIGHTED)
        grad = (tl.exp(logits - logsumexp) - (number == 0).to(tl.float32)) / temperature
        grad = tl.where(none, 0.0, grad)
        tl.store(grad_logits + row.to(tl.int64) * (R + 1) + number, grad, mask=number <= R)
        d_state += tl.sum(grad[:, None] * items_CD, 0)
    tl.store(d_states + at, d_state, mask=column < D)


@triton.jit(do_not_specialize=["low", "high", "items", "R"])
def table_gradient_kernel(
    d_table, grad, grad_logits, states, targets, negatives, items, R, low, high,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_C: tl.constexpr, DRAWN: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0), tl.arange(0, BLOCK_D)
    target = tl.load(targets + row)
    if target < 0:
        return
    state = tl.load(states + row.to(tl.int64) * D + column, mask=column < D, other=0.0) * tl.load(grad + row)
    for start in range(0, R + 1, BLOCK_C):
        number = start + tl.arange(0, BLOCK_C)
        ids = candidates(number, row, target, negatives, R, items, low, high, DRAWN)
        weight = tl.load(grad_logits + row.to(tl.int64) * (R + 1) + number, mask=number <= R, other=0.0)
        mask = (weight != 0)[:, None] & (column < D)[None, :]
        tl.atomic_add(
            d_table + ids[:, None] * D + column[None, :], weight[:, None] * state[None, :], mask=mask, sem="relaxed"
        )


def arguments(targets: Tensor, negatives: Tensor | None, count: int, seed: int, items: int, D: int) -> dict[str, Any]:
    """What both kernels take, by name."""
    low, high = halves(seed)
    block = triton.next_power_of_2(D)
    return {
        "targets": targets.contiguous(),
        "negatives": targets if negatives is None else negatives.contiguous(),
        **{"DRAWN": negatives is None, "items": items, "R": count, "low": low, "high": high, "D": D, "BLOCK_D": block},
        "BLOCK_C": max(1, min(triton.next_power_of_2(count + 1), NUMBERS // block)),
    }


def loss_and_grad_logits(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor | None, count: int, seed: int,
    temperature: float, log_weights: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """naive.loss_and_grad_logits of float32 tensors; `count` negatives of each row are drawn where there are none."""
    (L, D), new = states.shape, states.new_empty
    loss, grad_logits, d_states = new(L), new(L, 1 + count), new(L, D)
    given = arguments(targets, negatives, count, seed, len(table), D)
    given |= {"states": states.contiguous(), "table": table.contiguous(), "temperature": temperature}
    given |= {"log_weights": table if log_weights is None else log_weights, "WEIGHTED": log_weights is not None}
    if L:
        with torch.cuda.device_of(states):
            forward_kernel[(L,)](loss, grad_logits, d_states, **given)
    return loss, grad_logits, d_states


def table_gradient(
    grad: Tensor, grad_logits: Tensor, states: Tensor, targets: Tensor, negatives: Tensor | None, count: int,
    seed: int, items: int,
) -> Tensor:  # fmt: skip
    """naive.table_gradient, likewise. The order of its sums differs from run to run."""
    d_table = states.new_zeros(items, states.shape[1])
    given = arguments(targets, negatives, count, seed, items, states.shape[1])
    if len(states):
        with torch.cuda.device_of(states):
            table_gradient_kernel[(len(states),)](d_table, grad.contiguous(), grad_logits, states.contiguous(), **given)
    return d_table
