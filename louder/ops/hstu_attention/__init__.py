"""SiLU attention over jagged histories, with the relative attention bias computed inside."""

import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from louder.ops import build
from louder.ops.hstu_attention import naive
from louder.ops.jagged import indices


def hstu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    *,
    scale: float,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    query_times: Tensor | None = None,
    key_times: Tensor | None = None,
    num_targets: Tensor | None = None,
    prefix_lengths: Tensor | None = None,
    window: int | None = None,
    full_rows: int = 0,
    context: int = 0,
    query_offsets: Tensor | None = None,
) -> Tensor:
    """Mix each event of a user with that user's earlier events ("Actions Speak Louder than Words", eq. 2).

        s_ij = q_i·k_j + position_bias[place(i) - place(j)] + time_bias[bucket(query_times_i - key_times_j)]
        y_i = sum over the j that i sees of  silu(s_ij) * scale * v_j

    The weights are not a softmax: a row need not sum to one, so more matching events add up to more.

        q              [M, H, K]  float32, float64, bfloat16 or float16 (both summed in float32), all users end to end
        k              [L, H, K]
        v              [L, H, V]
        offsets        [B + 1]    int64; user b owns rows offsets[b] to offsets[b + 1] of k and v
        scale          a constant of the model, such as 1 / max_len: never the length of this batch
        position_bias  [P]        one number per distance, shared by the heads; distances above P - 1 use the last
        time_bias      [T]        one number per time bucket (see naive.time_buckets), shared by the heads
        query_times    [M]        int64 seconds; when the prediction of row i is asked for. Needed with time_bias
        key_times      [L]        int64 seconds; when event j happened. Needed with time_bias
        returns        [M, H, V]  in v's dtype

    Who sees whom. An event sees itself and every earlier event of its user, except:

        num_targets    [B]        int64; so many last events of each user are candidates: they see the history and
                                  themselves, never each other, and all stand at the place right after the history
        prefix_lengths         [L]        int64; where each event stands: it sees the first prefix_lengths[i] events of its user, and
                                  itself. At least 0, and at most the event's own index, which is the place without
                                  `prefix_lengths`. Items shown together have the place of the first of them, so that none
                                  sees another or its action. Not with num_targets, window, full_rows or context
        window         a row sees `window` events before itself; None for all. The context counts as one event
        full_rows      so many last rows of each history, and the candidates, see everything in spite of the window;
                       0 for none
        context        so many first rows of each user describe the user: a row sees them unless its window ends
                       before them, and they see the whole history, the future included. A causal loss on the
                       history would then leak
        query_offsets  [B + 1]    int64; user b owns rows query_offsets[b] to query_offsets[b + 1] of q, which are
                                  the last of its events: with cached keys and values (M-FALCON) only new rows are
                                  queries. None if q has all rows

    The result of a user does not depend on who else is in the batch. Raises ValueError for inputs that do not fit.
    """
    check(
        q, k, v, offsets, position_bias, time_bias, query_times, key_times, query_offsets, num_targets, prefix_lengths
    )
    masks = prepare(
        offsets, q.shape[0], k.shape[0], time_bias, query_times, key_times,
        num_targets, prefix_lengths, window, full_rows, context, query_offsets,
    )  # fmt: skip
    return attention(q, k, v, offsets, scale, position_bias, time_bias, *masks)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    *,
    scale: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor,
    key_times: Tensor,
    query_offsets: Tensor,
    num_targets: Tensor | None,
    prefix_lengths: Tensor | None,
) -> Tensor:
    """hstu_attention without gradients and without checks, for who made the offsets: the attention of one new token over
    kept keys takes less time than checking and recording the call."""
    masks = prepare(
        offsets,
        q.shape[0],
        k.shape[0],
        time_bias,
        query_times,
        key_times,
        num_targets,
        prefix_lengths,
        None,
        0,
        0,
        query_offsets,
    )
    return compute(q, k, v, offsets, scale, position_bias, time_bias, *masks)


def prepare(
    offsets: Tensor,
    queries: int,
    keys: int,
    time_bias: Tensor | None,
    query_times: Tensor | None,
    key_times: Tensor | None,
    num_targets: Tensor | None,
    prefix_lengths: Tensor | None,
    window: int | None,
    full_rows: int,
    context: int,
    query_offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, int, int, int]:
    """query_times, key_times, query_offsets, num_targets, prefix_lengths, window, full_rows, context, with what was left out filled
    in; prefix_lengths stay None."""
    if time_bias is None:
        query_times, key_times = offsets.new_zeros(queries), offsets.new_zeros(keys)
    elif query_times is None or key_times is None:
        raise ValueError("time_bias needs query_times and key_times, but one of them is missing")
    if query_offsets is None:
        query_offsets = offsets
    if num_targets is None:
        num_targets = torch.zeros_like(offsets[1:])
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, or None, but it is {window}")
    for name, value in ("full_rows", full_rows), ("context", context):
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, but it is {value}")
    if prefix_lengths is not None and (window is not None or full_rows or context):
        raise ValueError("prefix_lengths say who sees whom: leave out window, full_rows and context")
    return query_times, key_times, query_offsets, num_targets, prefix_lengths, window or 0, full_rows, context


def check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor | None,
    key_times: Tensor | None,
    query_offsets: Tensor | None,
    num_targets: Tensor | None,
    prefix_lengths: Tensor | None,
) -> None:
    """Raise ValueError, naming the argument, for a shape, dtype or device that does not fit. Reads no values.

    Asks for x.shape[0], never len(x): that would tie a compiled or exported model to one number of rows.
    """
    floats = {"q": q, "k": k, "v": v, "position_bias": position_bias, "time_bias": time_bias}
    for name, x in floats.items():
        if x is not None and x.device != q.device:
            raise ValueError(f"{name} is on {x.device}, but q is on {q.device}")
    if q.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise ValueError(f"q must be float32, float64, bfloat16 or float16, but it is {q.dtype}")
    for name in "k", "v":
        if floats[name].dtype != q.dtype:  # type: ignore[union-attr]
            raise ValueError(f"{name} is {floats[name].dtype}, but q is {q.dtype}")  # type: ignore[union-attr]
    for name in "position_bias", "time_bias":
        table = floats[name]
        if table is not None and (not table.is_floating_point() or table.dim() != 1 or table.shape[0] == 0):
            raise ValueError(f"{name} must be one row of floats, but it is {table.dtype} {list(table.shape)}")
        if table is not None and table.dtype == torch.float64 != q.dtype:
            raise ValueError(f"{name} is {table.dtype}, but q is {q.dtype}")
    for name, x in ("q", q), ("k", k), ("v", v):
        if x.dim() != 3:
            raise ValueError(f"{name} must be [rows, heads, width], but it is {list(x.shape)}")
    if k.shape[1:] != q.shape[1:]:
        raise ValueError(f"k has {k.shape[1]} heads of {k.shape[2]}, but q has {q.shape[1]} of {q.shape[2]}")
    if v.shape[:2] != k.shape[:2]:
        raise ValueError(f"v has {v.shape[0]} rows of {v.shape[1]} heads, but k has {k.shape[0]} of {k.shape[1]}")
    check_integers(q, k, offsets, query_times, key_times, query_offsets, num_targets, prefix_lengths)


def check_integers(
    q: Tensor,
    k: Tensor,
    offsets: Tensor,
    query_times: Tensor | None,
    key_times: Tensor | None,
    query_offsets: Tensor | None,
    num_targets: Tensor | None,
    prefix_lengths: Tensor | None,
) -> None:
    """The part of `check` about int64 tensors."""
    integers = {
        "offsets": offsets, "query_times": query_times, "key_times": key_times,
        "query_offsets": query_offsets, "num_targets": num_targets, "prefix_lengths": prefix_lengths,
    }  # fmt: skip
    for name, x in integers.items():
        if x is not None and x.device != q.device:
            raise ValueError(f"{name} is on {x.device}, but q is on {q.device}")
        if x is not None and (x.dtype != torch.int64 or x.dim() != 1):
            raise ValueError(f"{name} must be int64 in one dimension, but it is {x.dtype} {list(x.shape)}")
    if offsets.shape[0] == 0:
        raise ValueError("offsets must have one entry more than there are users, but it is empty")
    lengths = {
        "query_times": (query_times, q.shape[0]), "key_times": (key_times, k.shape[0]),
        "query_offsets": (query_offsets, offsets.shape[0]), "num_targets": (num_targets, offsets.shape[0] - 1),
        "prefix_lengths": (prefix_lengths, k.shape[0]),
    }  # fmt: skip
    for name, (x, rows) in lengths.items():
        if x is not None and x.shape[0] != rows:
            raise ValueError(f"{name} must have {rows} entries, but it has {x.shape[0]}")
    if num_targets is not None and prefix_lengths is not None:
        raise ValueError("num_targets and prefix_lengths both say where the last events stand: give one of them")


def check_offsets(
    q: Tensor, k: Tensor, offsets: Tensor, query_offsets: Tensor, num_targets: Tensor, prefix_lengths: Tensor | None
) -> None:
    """Raise ValueError for offsets that do not cut k and q into users, and for targets and prefix_lengths outside of them.

    Only on a CPU: a GPU would have to wait.
    """
    if offsets.device.type != "cpu":
        return
    for name, x, rows in ("offsets", offsets, len(k)), ("query_offsets", query_offsets, len(q)):
        if len(x) == 0 or x[0] != 0 or x[-1] != rows or (x.diff() < 0).any():
            raise ValueError(f"{name} must rise from 0 to {rows}, the number of rows, but it is {summary(x)}")
    if (query_offsets.diff() > offsets.diff()).any():
        raise ValueError("query_offsets gives a user more queries than offsets gives keys")
    if ((num_targets < 0) | (num_targets > offsets.diff())).any():
        raise ValueError(f"num_targets must be between 0 and a user's events, but it is {summary(num_targets)}")
    if prefix_lengths is not None and ((prefix_lengths < 0) | (prefix_lengths > indices(offsets, len(k)))).any():
        raise ValueError(
            f"prefix_lengths must be between 0 and an event's index in its user, but they are {summary(prefix_lengths)}"
        )


def summary(x: Tensor) -> str:
    values = x.tolist()
    return str(values if len(values) <= 8 else f"[{values[0]}, {values[1]}, ..., {values[-1]}]")


def on_cpu(*tensors: Tensor | None) -> bool:
    return build.kernel_for("hstu_attention", *tensors, dtypes=(torch.float32, torch.bfloat16))


def on_gpu(q: Tensor) -> bool:
    """Whether triton.py can do it: not float64, on a CUDA device, and Triton is there."""
    return q.is_cuda and q.dtype != torch.float64 and triton_kernels() is not None


@functools.cache
def triton_kernels() -> Any:
    try:
        return importlib.import_module("louder.ops.hstu_attention.triton")
    except ModuleNotFoundError:
        build.warn_once("Triton is not installed: pip install triton")
        return None


def bucket_starts_on(device: torch.device, time_bias: Tensor | None) -> Tensor:
    return cached_bucket_starts(device, 0 if time_bias is None else len(time_bias))


@functools.cache
def cached_bucket_starts(device: torch.device, buckets: int) -> Tensor:
    return bucket_starts(buckets).to(device)


@functools.cache
def bucket_starts(buckets: int) -> Tensor:
    """The shortest time difference of each bucket, float32 [buckets]; read off naive.time_buckets by bisection."""
    bucket = torch.arange(buckets, device="cpu")
    low, high = torch.ones_like(bucket), torch.full_like(bucket, 2**63 - 1)
    for _ in range(63):
        middle = low + (high - low) // 2
        reached = naive.time_buckets(middle, buckets) >= bucket
        low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
    return torch.where(naive.time_buckets(low, buckets) >= bucket, low.float(), torch.inf)


def compute(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    scale: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    *masks: Tensor | int | None,
) -> Tensor:
    """The result by the best means there are; `masks` are query_times and what follows it."""
    inputs: Any = (q, k, v, offsets, scale, position_bias, time_bias, *masks)
    if on_gpu(q):
        return triton_kernels().forward(*inputs, bucket_starts_on(q.device, time_bias))
    if on_cpu(q, k, v, position_bias, time_bias):
        return torch.ops.louder_cpu.hstu_attention(*inputs, bucket_starts_on(q.device, time_bias))
    return naive.hstu_attention(*inputs)


def compute_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    scale: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    *masks: Tensor | int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, position_bias and time_bias; the last two are empty where there is no table."""
    inputs: Any = (grad, q, k, v, offsets, scale, position_bias, time_bias, *masks)
    if on_gpu(q):
        return triton_kernels().backward(*inputs, bucket_starts_on(q.device, time_bias))
    if on_cpu(grad, q, k, v, position_bias, time_bias):
        return torch.ops.louder_cpu.hstu_attention_backward(*inputs, bucket_starts_on(q.device, time_bias))
    return naive.hstu_attention_backward(*inputs)


@torch.library.custom_op("louder::hstu_attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    scale: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor,
    key_times: Tensor,
    query_offsets: Tensor,
    num_targets: Tensor,
    prefix_lengths: Tensor | None,
    window: int,
    full_rows: int,
    context: int,
) -> Tensor:
    check_offsets(q, k, offsets, query_offsets, num_targets, prefix_lengths)
    return compute(
        q, k, v, offsets, scale, position_bias, time_bias,
        query_times, key_times, query_offsets, num_targets, prefix_lengths, window, full_rows, context,
    )  # fmt: skip


@attention.register_fake
def _(q, k, v, *_):
    return v.new_empty(q.shape[0], *v.shape[1:])


@torch.library.custom_op("louder::hstu_attention_backward", mutates_args=())
def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    scale: float,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    query_times: Tensor,
    key_times: Tensor,
    query_offsets: Tensor,
    num_targets: Tensor,
    prefix_lengths: Tensor | None,
    window: int,
    full_rows: int,
    context: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return compute_backward(
        grad, q, k, v, offsets, scale, position_bias, time_bias,
        query_times, key_times, query_offsets, num_targets, prefix_lengths, window, full_rows, context,
    )  # fmt: skip


@attention_backward.register_fake
def _(grad, q, k, v, offsets, scale, position_bias, time_bias, *_):
    def like(x: Tensor | None) -> Tensor:
        return q.new_empty(0) if x is None else x.new_empty(x.shape)

    return like(q), like(k), like(v), like(position_bias), like(time_bias)


def save_for_backward(ctx, inputs, output) -> None:
    *tensors, scale, position_bias, time_bias = inputs[:7]
    ctx.constants = scale, *inputs[12:]
    ctx.save_for_backward(*tensors, position_bias, time_bias, *inputs[7:12])


def backward(ctx, grad: Tensor):
    q, k, v, offsets, position_bias, time_bias, *rows = ctx.saved_tensors
    scale, *masks = ctx.constants
    dq, dk, dv, d_position, d_time = attention_backward(
        grad, q, k, v, offsets, scale, position_bias, time_bias, *rows, *masks
    )
    d_position = None if position_bias is None else d_position
    d_time = None if time_bias is None else d_time
    return dq, dk, dv, None, None, d_position, d_time, *[None] * 8


attention.register_autograd(backward, setup_context=save_for_backward)
