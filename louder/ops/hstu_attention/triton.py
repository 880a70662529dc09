"""Jagged HSTU attention on a GPU, after FlashAttention: scores live block by block and are computed again for gradients.

A row sees one interval of its user's history (`interval`) and, with a window, the global prefix before it; blocks of keys
outside of both are not visited. A row whose prefix length is not its own index sees one key more, its own, behind the
interval: that score is a product of two rows, not a block. In the kernels M are rows of q and N are keys of one block, K
and V are the widths; `row` and `key` count the events of one user. PREFIX_LENGTHS says whether there are any; if not,
each is the event's own index. GLOBAL_PREFIX is 0 without a window.
"""

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from louder.ops.hstu_attention.naive import Table
from louder.ops.layout import Layout

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
Arguments = dict[str, Any]  # of a kernel, by name
COPIES = 64  # of the gradients of the tables: few programs then add to the same address at once


@triton.jit
def find_user(offsets, users, BLOCK: tl.constexpr):
    """The user whose block of rows this program has, and the block's first row in that user.

    The blocks of user b are numbered from offsets[b] // BLOCK + b: always room for the last, partly filled one, and the
    host need not know a single length. Some numbers belong to no row.
    """
    number = tl.program_id(0)
    user = -1
    for some in range(0, users, 256):
        b = some + tl.arange(0, 256)
        begins = tl.load(offsets + b, mask=b < users, other=0) // BLOCK + b
        user += tl.sum(((b < users) & (begins <= number)).to(tl.int32))
    first = (number - user - tl.load(offsets + user) // BLOCK) * BLOCK
    return user, first.to(tl.int32)


@triton.jit
def bounds(offsets, query_offsets, user):
    """Where the user's keys start and where its row 0 would be in q, then its keys and queries."""
    start, query_start = tl.load(offsets + user), tl.load(query_offsets + user)
    keys = (tl.load(offsets + user + 1) - start).to(tl.int32)
    queries = (tl.load(query_offsets + user + 1) - query_start).to(tl.int32)
    return start, query_start - (keys - queries), keys, queries  # the queries are the last rows


@triton.jit
def prefix_of(event, prefix_lengths, keys, PREFIX_LENGTHS: tl.constexpr):
    """The prefix lengths of a user's events; one after the last has that of the last."""
    prefix = event
    if PREFIX_LENGTHS:
        prefix = tl.load(prefix_lengths + tl.minimum(event, keys - 1)).to(tl.int32)
    return prefix


@triton.jit
def interval(row, prefix, last_prefix, WINDOW: tl.constexpr, GLOBAL_PREFIX: tl.constexpr):
    """layout.visible: a row sees the keys from low to before high, those before high in the global prefix, and its own if
    that is none of them. So it is for rows of the last prefix: if they are candidates, their order changes no bit."""
    low = tl.zeros_like(row)
    if WINDOW > 0:
        low = tl.where(prefix - WINDOW <= GLOBAL_PREFIX, 0, prefix - WINDOW)
    return low, tl.where((prefix == row) & (prefix != last_prefix), row + 1, prefix)


@triton.jit
def sees(key, low, high, GLOBAL_PREFIX: tl.constexpr):
    seen = (low <= key) & (key < high)
    if GLOBAL_PREFIX > 0:
        seen |= (key < GLOBAL_PREFIX) & (key < high)
    return seen


@triton.jit
def blocks_of(low, none_sees, GLOBAL_PREFIX: tl.constexpr, BLOCK_N: tl.constexpr):
    """The keys that some row sees, from 0 to `head` and from `near` on, and how many that is."""
    near = tl.min(low, 0)
    head = tl.minimum(tl.cdiv(GLOBAL_PREFIX, BLOCK_N) * BLOCK_N, near)
    return head, near, head + none_sees - near


@triton.jit
def load_rows(x, row, stride, mask, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """x [rows, WIDTH] -> [len(row), BLOCK], zeros where masked and beyond WIDTH."""
    column = tl.arange(0, BLOCK)[None, :]
    return tl.load(x + row.to(tl.int64)[:, None] * stride + column, mask=mask[:, None] & (column < WIDTH), other=0.0)


@triton.jit
def store_rows(x, row, stride, mask, value, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)[None, :]
    pointer = x + row.to(tl.int64)[:, None] * stride + column
    tl.store(pointer, value.to(x.dtype.element_ty), mask=mask[:, None] & (column < WIDTH))


@triton.jit
def bucket(seconds, bucket_starts, T: tl.constexpr):
    """naive.time_buckets. The logarithm is rough, but never by half a bucket: the start of the nearest one decides."""
    result = 0
    if T > 0:
        seconds = tl.maximum(tl.abs(seconds), 1).to(tl.float32)
        nearest = tl.minimum((tl.log2(seconds) * 2.3028145 + 0.5).to(tl.int32), T - 1)  # ln 2 / 0.301
        result = nearest - (seconds < tl.load(bucket_starts + nearest)).to(tl.int32)
    return result


@triton.jit
def bias(distances, buckets, position_bias, time_bias, P: tl.constexpr, T: tl.constexpr):
    """rab, in the shape of the distances and buckets."""
    result = 0.0
    if P > 0:
        result += tl.load(position_bias + tl.minimum(tl.maximum(distances, 0), P - 1)).to(tl.float32)
    if T > 0:
        result += tl.load(time_bias + buckets).to(tl.float32)
    return result


@triton.jit
def own_scores(q, k, seconds, position_bias, time_bias, bucket_starts, P: tl.constexpr, T: tl.constexpr):
    """The scores of rows with themselves, one per row of q and k, and their buckets."""
    buckets = bucket(seconds, bucket_starts, T)
    products = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1)
    return products + bias(0, buckets, position_bias, time_bias, P, T), buckets


@triton.jit
def sigmoid_of(scores, HALF: tl.constexpr):
    """Where weights are rounded to bfloat16 anyway, by one instruction whose error is 2^-12: an exponential and a division
    take as long as the products do."""
    if HALF:
        tanh = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [scores * 0.5], dtype=tl.float32, is_pure=True, pack=1
        )
        result = tanh * 0.5 + 0.5
    else:
        result = tl.sigmoid(scores)
    return result


@triton.jit
def silu_gradient(scores, sigmoid):
    """The derivative of silu."""
    return sigmoid * (1 + scores * (1 - sigmoid))


@triton.jit
def add_by_diagonal(d_position, d_scores_MN, prefix, key_start, P: tl.constexpr, N: tl.constexpr):
    """Add d_scores to the distances they belong to; these are the diagonals, which are summed first.

    Rotating each row by its prefix length moves the diagonals into columns: column c gets those of distance c and c - N,
    counted from that of the first row and the first key.
    """
    first = tl.min(prefix, 0)
    shift = (prefix - first)[:, None]  # 0 to N - 1
    column = tl.arange(0, N)
    rotated_MN = tl.gather(d_scores_MN, (shift - column[None, :]) & (N - 1), 1)
    later = shift >= column[None, :]
    distance = first - key_start + column
    for_later, for_earlier = tl.where(later, rotated_MN, 0.0), tl.where(later, 0.0, rotated_MN)
    tl.atomic_add(d_position + tl.minimum(tl.maximum(distance, 0), P - 1), tl.sum(for_later, 0), sem="relaxed")
    tl.atomic_add(d_position + tl.minimum(tl.maximum(distance - N, 0), P - 1), tl.sum(for_earlier, 0), sem="relaxed")


@triton.jit
def add_by_bucket(d_time, d_scores, buckets, T: tl.constexpr):
    """Add d_scores to their buckets, summing each bucket first: the buckets of neighbours are few, and in a row."""
    lowest = tl.min(tl.where(d_scores != 0, buckets, T))
    highest = tl.max(tl.where(d_scores != 0, buckets, -1))
    for b in range(lowest, highest + 1):
        tl.atomic_add(d_time + b, tl.sum(tl.where(buckets == b, d_scores, 0.0)), sem="relaxed")


def fitting(configs: list[triton.Config], _: Any, **arguments: Any) -> list[triton.Config]:
    """The configs worth a try: exact float32 has no tensor cores, and large blocks compile for long and spill."""
    exact = arguments["q"].dtype == torch.float32 and arguments["PRECISION"] == "ieee"
    width = max(arguments["BLOCK_K"], arguments["BLOCK_V"])
    most = (2048 if exact else 16384) // width  # rows of a block
    return [x for x in configs if max(x.kwargs["BLOCK_M"], x.kwargs["BLOCK_N"]) <= most] or configs[-1:]


def tuned(configs: list[tuple[int, int, int, int]], **options: Any) -> Any:
    """triton.autotune over (BLOCK_M, BLOCK_N, num_warps, num_stages), the last the smallest; once per width, not length."""
    configs = [(16, 32, 4, 1)] if INTERPRETED else configs
    choices = [triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=w, num_stages=s) for m, n, w, s in configs]
    key = ["K", "V", "P", "T", "PRECISION"]
    return triton.autotune(choices, key=key, prune_configs_by={"early_config_prune": fitting}, **options)


@tuned([(128, 64, 4, 3), (64, 64, 4, 3), (64, 64, 4, 2), (64, 32, 4, 2), (32, 32, 4, 1), (16, 16, 4, 1)])
@triton.jit(do_not_specialize=["users"])
def forward_kernel(
    out, q, k, v, q_row, q_head, k_row, k_head, v_row, v_head, offsets, query_offsets, prefix_lengths, users, scale,
    position_bias, time_bias, query_times, key_times, bucket_starts,
    K: tl.constexpr, V: tl.constexpr, P: tl.constexpr, T: tl.constexpr,
    WINDOW: tl.constexpr, GLOBAL_PREFIX: tl.constexpr, PREFIX_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program per head and block of rows."""
    user, first = find_user(query_offsets, users, BLOCK_M)
    start, query_start, keys, queries = bounds(offsets, query_offsets, user)
    if first >= queries:
        return
    prefix_lengths += start
    last_prefix = prefix_of(keys, prefix_lengths, keys, PREFIX_LENGTHS)
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    q += query_start * q_row + head * q_head
    k += start * k_row + head * k_head
    v += start * v_row + head * v_head
    out += (query_start * heads + head) * V

    # rows past the end repeat the last one, so that they widen no interval; they are not stored
    row = keys - queries + first + tl.arange(0, BLOCK_M)
    real, row = row < keys, tl.minimum(row, keys - 1)
    prefix = prefix_of(row, prefix_lengths, keys, PREFIX_LENGTHS)
    low, high = interval(row, prefix, last_prefix, WINDOW, GLOBAL_PREFIX)
    all_see, none_sees = tl.max(low, 0), tl.max(high, 0)
    not_all_see = tl.min(high, 0)
    q_MK = load_rows(q, row, q_row, real, K, BLOCK_K)
    query_time = tl.load(query_times + query_start + row)
    sum_MV = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    head, near, count = blocks_of(low, none_sees, GLOBAL_PREFIX, BLOCK_N)
    for passed in range(0, count, BLOCK_N):
        key_start = tl.where(passed < head, passed, passed - head + near)
        key = key_start + tl.arange(0, BLOCK_N)
        k_NK = load_rows(k, key, k_row, key < keys, K, BLOCK_K)
        v_NV = load_rows(v, key, v_row, key < keys, V, BLOCK_V)
        key_time = tl.load(key_times + start + key, mask=key < keys, other=0)
        buckets = bucket(query_time[:, None] - key_time[None, :], bucket_starts, T)
        scores = tl.dot(q_MK, tl.trans(k_NK), input_precision=PRECISION)
        key_prefix = prefix_of(key, prefix_lengths, keys, PREFIX_LENGTHS)
        distances = prefix[:, None] - key_prefix[None, :]
        scores += bias(distances, buckets, position_bias, time_bias, P, T)
        weights = scores * sigmoid_of(scores, v.dtype.element_ty == tl.bfloat16)
        if (key_start < all_see) | (key_start + BLOCK_N > not_all_see):
            weights = tl.where(sees(key[None, :], low[:, None], high[:, None], GLOBAL_PREFIX), weights, 0.0)
        sum_MV = tl.dot(weights.to(v_NV.dtype), v_NV, sum_MV, input_precision=PRECISION)

    own = real & (row >= high)
    if tl.max(own.to(tl.int32), 0) > 0:
        k_MK, v_MV = load_rows(k, row, k_row, own, K, BLOCK_K), load_rows(v, row, v_row, own, V, BLOCK_V)
        seconds = query_time - tl.load(key_times + start + row)
        own_score, _bucket = own_scores(q_MK, k_MK, seconds, position_bias, time_bias, bucket_starts, P, T)
        own_weight = tl.where(own, own_score * tl.sigmoid(own_score), 0.0)
        sum_MV += own_weight[:, None] * v_MV.to(tl.float32)
    store_rows(out, row, heads * V, real, sum_MV * scale, V, BLOCK_V)


@tuned(
    [(64, 64, 4, 3), (64, 32, 4, 3), (128, 64, 8, 3), (64, 64, 4, 2), (32, 64, 4, 2), (32, 32, 4, 1), (16, 16, 4, 1)],
    reset_to_zero=["d_position", "d_time"],
)
@triton.jit(do_not_specialize=["users"])
def query_gradient_kernel(
    dq, d_position, d_time, grad,
    q, k, v, q_row, q_head, k_row, k_head, v_row, v_head, offsets, query_offsets, prefix_lengths, users, scale,
    position_bias, time_bias, query_times, key_times, bucket_starts,
    K: tl.constexpr, V: tl.constexpr, P: tl.constexpr, T: tl.constexpr, COPIES: tl.constexpr,
    WINDOW: tl.constexpr, GLOBAL_PREFIX: tl.constexpr, PREFIX_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program per head and block of rows, as forward_kernel. d_position [COPIES, P], d_time [COPIES, T]: unscaled."""
    user, first = find_user(query_offsets, users, BLOCK_M)
    start, query_start, keys, queries = bounds(offsets, query_offsets, user)
    if first >= queries:
        return
    prefix_lengths += start
    last_prefix = prefix_of(keys, prefix_lengths, keys, PREFIX_LENGTHS)
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    q += query_start * q_row + head * q_head
    k += start * k_row + head * k_head
    v += start * v_row + head * v_head
    grad += (query_start * heads + head) * V
    dq += (query_start * heads + head) * K
    copy = (tl.program_id(0) * heads + tl.program_id(1)) % COPIES
    d_position += copy * P
    d_time += copy * T

    row = keys - queries + first + tl.arange(0, BLOCK_M)
    real, row = row < keys, tl.minimum(row, keys - 1)  # past the end the gradient is 0, and what follows from it
    prefix = prefix_of(row, prefix_lengths, keys, PREFIX_LENGTHS)
    low, high = interval(row, prefix, last_prefix, WINDOW, GLOBAL_PREFIX)
    all_see, none_sees = tl.max(low, 0), tl.max(high, 0)
    not_all_see = tl.min(high, 0)
    q_MK = load_rows(q, row, q_row, real, K, BLOCK_K)
    grad_MV = load_rows(grad, row, heads * V, real, V, BLOCK_V)
    query_time = tl.load(query_times + query_start + row)
    dq_MK = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    head, near, count = blocks_of(low, none_sees, GLOBAL_PREFIX, BLOCK_N)
    for passed in range(0, count, BLOCK_N):
        key_start = tl.where(passed < head, passed, passed - head + near)
        key = key_start + tl.arange(0, BLOCK_N)
        k_NK = load_rows(k, key, k_row, key < keys, K, BLOCK_K)
        v_NV = load_rows(v, key, v_row, key < keys, V, BLOCK_V)
        key_time = tl.load(key_times + start + key, mask=key < keys, other=0)
        buckets = bucket(query_time[:, None] - key_time[None, :], bucket_starts, T)
        scores = tl.dot(q_MK, tl.trans(k_NK), input_precision=PRECISION)
        key_prefix = prefix_of(key, prefix_lengths, keys, PREFIX_LENGTHS)
        distances = prefix[:, None] - key_prefix[None, :]
        scores += bias(distances, buckets, position_bias, time_bias, P, T)
        sigmoid = sigmoid_of(scores, v.dtype.element_ty == tl.bfloat16)
        d_scores = tl.dot(grad_MV, tl.trans(v_NV), input_precision=PRECISION) * silu_gradient(scores, sigmoid)
        if (key_start < all_see) | (key_start + BLOCK_N > not_all_see):
            d_scores = tl.where(sees(key[None, :], low[:, None], high[:, None], GLOBAL_PREFIX), d_scores, 0.0)
        dq_MK = tl.dot(d_scores.to(k_NK.dtype), k_NK, dq_MK, input_precision=PRECISION)
        if P > 0 and PREFIX_LENGTHS:
            irregular = (key_prefix != key) & (key < none_sees)
            if (tl.max(irregular.to(tl.int32), 0) == 0) & (tl.max(prefix, 0) - tl.min(prefix, 0) < BLOCK_N):
                add_by_diagonal(d_position, d_scores, prefix, key_start, P, BLOCK_N)  # so it is for candidates
            else:
                entries = tl.minimum(tl.maximum(distances, 0), P - 1)
                tl.atomic_add(d_position + entries, d_scores, mask=d_scores != 0, sem="relaxed")
        elif P > 0:  # no more rows than keys
            add_by_diagonal(d_position, d_scores, prefix, key_start, P, BLOCK_N)
        if T > 0:
            add_by_bucket(d_time, d_scores, buckets, T)

    own = real & (row >= high)
    if tl.max(own.to(tl.int32), 0) > 0:
        k_MK, v_MV = load_rows(k, row, k_row, own, K, BLOCK_K), load_rows(v, row, v_row, own, V, BLOCK_V)
        seconds = query_time - tl.load(key_times + start + row)
        own_score, own_bucket = own_scores(q_MK, k_MK, seconds, position_bias, time_bias, bucket_starts, P, T)
        d_weight = tl.sum(grad_MV.to(tl.float32) * v_MV.to(tl.float32), 1)
        own_d_score = tl.where(own, d_weight * silu_gradient(own_score, tl.sigmoid(own_score)), 0.0)
        dq_MK += own_d_score[:, None] * k_MK.to(tl.float32)
        if P > 0:
            tl.atomic_add(d_position, tl.sum(own_d_score), sem="relaxed")
        if T > 0:
            add_by_bucket(d_time, own_d_score, own_bucket, T)
    store_rows(dq, row, heads * K, real, dq_MK * scale, K, BLOCK_K)


@tuned([(64, 64, 4, 3), (64, 64, 4, 2), (32, 64, 4, 3), (32, 64, 4, 2), (32, 32, 4, 1), (16, 16, 4, 1)])
@triton.jit(do_not_specialize=["users"])
def key_gradient_kernel(
    dk, dv, grad,
    q, k, v, q_row, q_head, k_row, k_head, v_row, v_head, offsets, query_offsets, prefix_lengths, users, scale,
    position_bias, time_bias, query_times, key_times, bucket_starts,
    K: tl.constexpr, V: tl.constexpr, P: tl.constexpr, T: tl.constexpr,
    WINDOW: tl.constexpr, GLOBAL_PREFIX: tl.constexpr, PREFIX_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program per head and block of keys; its scores are [N, M]."""
    user, first = find_user(offsets, users, BLOCK_N)
    start, query_start, keys, queries = bounds(offsets, query_offsets, user)
    if first >= keys:
        return
    prefix_lengths += start
    last_prefix = prefix_of(keys, prefix_lengths, keys, PREFIX_LENGTHS)
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    q += query_start * q_row + head * q_head
    k += start * k_row + head * k_head
    v += start * v_row + head * v_head
    grad += (query_start * heads + head) * V
    dk += (start * heads + head) * K
    dv += (start * heads + head) * V

    key = first + tl.arange(0, BLOCK_N)
    k_NK = load_rows(k, key, k_row, key < keys, K, BLOCK_K)
    v_NV = load_rows(v, key, v_row, key < keys, V, BLOCK_V)
    key_time = tl.load(key_times + start + key, mask=key < keys, other=0)
    key_prefix = prefix_of(key, prefix_lengths, keys, PREFIX_LENGTHS)
    dk_NK, dv_NV = tl.zeros([BLOCK_N, BLOCK_K], tl.float32), tl.zeros([BLOCK_N, BLOCK_V], tl.float32)

    # the rows that may see one of the keys; only where each stands at its index do they end with the window
    oldest = keys - queries
    near, far = tl.maximum(first, oldest), keys
    if WINDOW > 0 and not PREFIX_LENGTHS:
        far = tl.where(first < GLOBAL_PREFIX, keys, tl.minimum(first + BLOCK_N + WINDOW, keys))
    for row_start in range(near, far, BLOCK_M):
        row = row_start + tl.arange(0, BLOCK_M)
        real, row = row < far, tl.minimum(row, keys - 1)
        prefix = prefix_of(row, prefix_lengths, keys, PREFIX_LENGTHS)
        low, high = interval(row, prefix, last_prefix, WINDOW, GLOBAL_PREFIX)
        q_MK = load_rows(q, row, q_row, real, K, BLOCK_K)
        grad_MV = load_rows(grad, row, heads * V, real, V, BLOCK_V)
        query_time = tl.load(query_times + query_start + row)
        buckets = bucket(query_time[None, :] - key_time[:, None], bucket_starts, T)
        scores = tl.dot(k_NK, tl.trans(q_MK), input_precision=PRECISION)
        scores += bias(prefix[None, :] - key_prefix[:, None], buckets, position_bias, time_bias, P, T)
        sigmoid = sigmoid_of(scores, v.dtype.element_ty == tl.bfloat16)
        weights = scores * sigmoid
        d_scores = tl.dot(v_NV, tl.trans(grad_MV), input_precision=PRECISION) * silu_gradient(scores, sigmoid)
        if (first < tl.max(low, 0)) | (first + BLOCK_N > tl.min(high, 0)):
            visible = sees(key[:, None], low[None, :], high[None, :], GLOBAL_PREFIX)
            weights, d_scores = tl.where(visible, weights, 0.0), tl.where(visible, d_scores, 0.0)
        dk_NK = tl.dot(d_scores.to(q_MK.dtype), q_MK, dk_NK, input_precision=PRECISION)
        dv_NV = tl.dot(weights.to(grad_MV.dtype), grad_MV, dv_NV, input_precision=PRECISION)

    _low, high = interval(
        key, key_prefix, last_prefix, WINDOW, GLOBAL_PREFIX
    )  # in Triton 3.6 a name keeps its shape, _ too
    own = (key >= tl.maximum(high, oldest)) & (key < keys)
    if tl.max(own.to(tl.int32), 0) > 0:
        q_NK, grad_NV = load_rows(q, key, q_row, own, K, BLOCK_K), load_rows(grad, key, heads * V, own, V, BLOCK_V)
        seconds = tl.load(query_times + query_start + key, mask=own, other=0) - key_time
        own_score, _bucket = own_scores(q_NK, k_NK, seconds, position_bias, time_bias, bucket_starts, P, T)
        own_sigmoid = tl.sigmoid(own_score)
        d_weight = tl.sum(grad_NV.to(tl.float32) * v_NV.to(tl.float32), 1)
        dk_NK += tl.where(own, d_weight * silu_gradient(own_score, own_sigmoid), 0.0)[:, None] * q_NK.to(tl.float32)
        dv_NV += tl.where(own, own_score * own_sigmoid, 0.0)[:, None] * grad_NV.to(tl.float32)
    store_rows(dk, key, heads * K, key < keys, dk_NK * scale, K, BLOCK_K)
    store_rows(dv, key, heads * V, key < keys, dv_NV * scale, V, BLOCK_V)


def arguments(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float,
    position_bias: Table, time_bias: Table, bucket_starts: Tensor,
) -> Arguments:  # fmt: skip
    """What all kernels take, by name."""
    assert not (INTERPRETED and q.dtype == torch.bfloat16), "Triton's interpreter multiplies bfloat16 wrongly"
    offsets, window = layout.offsets, layout.window or 0
    arguments: Arguments = {
        "offsets": offsets, "query_offsets": offsets if layout.query_offsets is None else layout.query_offsets,
        "prefix_lengths": offsets if layout.prefix_lengths is None else layout.prefix_lengths.contiguous(),
        "PREFIX_LENGTHS": layout.prefix_lengths is not None,
        "WINDOW": window, "GLOBAL_PREFIX": layout.global_prefix if window else 0,
    }  # fmt: skip
    for name, times, rows in ("query_times", layout.query_times, len(q)), ("key_times", layout.key_times, len(k)):
        arguments[name] = offsets.new_zeros(rows) if times is None else times
    for name, x in ("q", q), ("k", k), ("v", v):
        x = x if x.stride(2) == 1 else x.contiguous()
        arguments |= {name: x, f"{name}_row": x.stride(0), f"{name}_head": x.stride(1)}
    for name, table, length in ("position_bias", position_bias, "P"), ("time_bias", time_bias, "T"):
        arguments[name] = q.new_empty(0) if table is None else table.contiguous()
        arguments[length] = len(arguments[name])
    for name, width in ("K", q.shape[2]), ("V", v.shape[2]):  # 16 is the least tl.dot takes
        arguments |= {name: width, f"BLOCK_{name}": max(16, triton.next_power_of_2(width))}
    return arguments | {
        "users": len(offsets) - 1, "scale": scale, "bucket_starts": bucket_starts,
        "PRECISION": "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee",
    }  # fmt: skip


def launch(kernel: Any, block: str, rows: int, arguments: Arguments) -> None:
    """Run the kernel on as many programs per head as `rows` rows of all users can need; see find_user."""
    users, heads = arguments["users"], arguments["q"].shape[1]
    if users > 0:
        with torch.cuda.device_of(arguments["q"]):
            kernel[lambda chosen: (rows // chosen[block] + users, heads)](**arguments)


def forward(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float,
    position_bias: Table, time_bias: Table, bucket_starts: Tensor,
) -> Tensor:  # fmt: skip
    """hstu_attention.compute; bucket_starts are of as many buckets as time_bias has."""
    inputs = arguments(q, k, v, layout, scale, position_bias, time_bias, bucket_starts)
    out = v.new_empty(len(q), *v.shape[1:])
    launch(forward_kernel, "BLOCK_M", len(q), inputs | {"out": out})
    return out


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float,
    position_bias: Table, time_bias: Table, bucket_starts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """hstu_attention.compute_backward, likewise. The order of the sums for the two tables differs from run to run."""
    inputs = arguments(q, k, v, layout, scale, position_bias, time_bias, bucket_starts) | {"grad": grad.contiguous()}
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    tables = inputs["position_bias"], inputs["time_bias"]
    d_position, d_time = (torch.zeros(COPIES, len(x), dtype=torch.float32, device=q.device) for x in tables)
    sums = {"dq": dq, "d_position": d_position, "d_time": d_time, "COPIES": COPIES}
    launch(query_gradient_kernel, "BLOCK_M", len(q), inputs | sums)
    launch(key_gradient_kernel, "BLOCK_N", len(k), inputs | {"dk": dk, "dv": dv})
    d_position, d_time = (
        (x.sum(0) * inputs["scale"]).to(table.dtype) for x, table in zip((d_position, d_time), tables)
    )
    return dq, dk, dv, d_position, d_time
