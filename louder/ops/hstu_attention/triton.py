"""Jagged HSTU attention on a GPU, after FlashAttention: scores live block by block and are computed again for gradients.

A row sees one interval of its user's history (`interval`), and visits no block of keys outside of it. A candidate, and
an event whose place is not its own index, sees one key more, its own, behind the interval: that score is a product of
two rows, not a block. In the kernels M are rows of q and N are keys of one block, K and V are the widths; `row` and
`key` count the events of one user. PREFIX_LENGTHS says whether `prefix_lengths` were given, without targets and other masks then.
"""

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
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
def bounds(offsets, query_offsets, num_targets, user):
    """Where the user's keys start and where its row 0 would be in q, then its keys, queries and events before targets."""
    start, query_start = tl.load(offsets + user), tl.load(query_offsets + user)
    keys = (tl.load(offsets + user + 1) - start).to(tl.int32)
    queries = (tl.load(query_offsets + user + 1) - query_start).to(tl.int32)
    history = keys - tl.load(num_targets + user).to(tl.int32)
    return start, query_start - (keys - queries), keys, queries, history  # the queries are the last rows


@triton.jit
def place_of(event, prefix_lengths, last, PREFIX_LENGTHS: tl.constexpr):
    """Where a user's events stand, if they are no candidates. An event after the `last` one stands where that does."""
    place = event
    if PREFIX_LENGTHS:
        place = tl.load(prefix_lengths + tl.minimum(event, last)).to(tl.int32)
    return place


@triton.jit
def interval(
    row, place, history, WINDOW: tl.constexpr, FULL_ROWS: tl.constexpr, CONTEXT: tl.constexpr, PREFIX_LENGTHS: tl.constexpr
):  # fmt: skip
    """naive.visible or visible_from: a row sees the keys from low to before high, and its own if that is none of them."""
    context = tl.minimum(CONTEXT, history)
    low = tl.zeros_like(row)
    if WINDOW > 0:
        low = tl.where(place - context < WINDOW, 0, place - WINDOW)
        if FULL_ROWS > 0:
            low = tl.where(place >= history - FULL_ROWS, 0, low)
    if PREFIX_LENGTHS:
        high = tl.where(place == row, row + 1, place)
    else:
        high = tl.where(row < context, history, tl.minimum(row + 1, history))
    return low, high


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
def slope(scores, sigmoid):
    """The derivative of silu."""
    return sigmoid * (1 + scores * (1 - sigmoid))


@triton.jit
def add_by_distance(d_position, d_scores_MN, place, key_start, P: tl.constexpr, N: tl.constexpr):
    """Add d_scores to the distances they belong to; these are the diagonals, which are summed first.

    Rotating each row by its place moves the diagonals into columns: column c gets those of distance c and c - N,
    counted from that of the first row and the first key.
    """
    first = tl.min(place, 0)
    shift = (place - first)[:, None]  # 0 to N - 1, as there are no more rows than keys
    column = tl.arange(0, N)
    rotated_MN = tl.gather(d_scores_MN, (shift - column[None, :]) & (N - 1), 1)
    later = shift >= column[None, :]
    distance = first - key_start + column
    for_later, for_earlier = tl.where(later, rotated_MN, 0.0), tl.where(later, 0.0, rotated_MN)
    tl.atomic_add(d_position + tl.minimum(tl.maximum(distance, 0), P - 1), tl.sum(for_later, 0), sem="relaxed")
    tl.atomic_add(d_position + tl.minimum(tl.maximum(distance - N, 0), P - 1), tl.sum(for_earlier, 0), sem="relaxed")


@triton.jit
def add_by_place(d_position, d_scores, distances, P: tl.constexpr):
    """Add d_scores to the distances they belong to, in any order."""
    entries = tl.minimum(tl.maximum(distances, 0), P - 1)
    tl.atomic_add(d_position + entries, d_scores, mask=d_scores != 0, sem="relaxed")


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


@tuned([(64, 64, 4, 2), (128, 64, 8, 2), (64, 32, 4, 2), (32, 32, 4, 1), (16, 16, 4, 1)])
@triton.jit(do_not_specialize=["users"])
def forward_kernel(
    out, q, k, v, q_row, q_head, k_row, k_head, v_row, v_head, offsets, query_offsets, num_targets, prefix_lengths, users, scale,
    position_bias, time_bias, query_times, key_times, bucket_starts,
    K: tl.constexpr, V: tl.constexpr, P: tl.constexpr, T: tl.constexpr,
    WINDOW: tl.constexpr, FULL_ROWS: tl.constexpr, CONTEXT: tl.constexpr, PREFIX_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program per head and block of rows."""
    user, first = find_user(query_offsets, users, BLOCK_M)
    start, query_start, keys, queries, history = bounds(offsets, query_offsets, num_targets, user)
    if first >= queries:
        return
    prefix_lengths += start
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    q += query_start * q_row + head * q_head
    k += start * k_row + head * k_head
    v += start * v_row + head * v_head
    out += (query_start * heads + head) * V

    # rows past the end repeat the last one, so that they widen no interval; they are not stored
    row = keys - queries + first + tl.arange(0, BLOCK_M)
    real, row = row < keys, tl.minimum(row, keys - 1)
    place = tl.minimum(place_of(row, prefix_lengths, history - 1, PREFIX_LENGTHS), history)
    low, high = interval(row, place, history, WINDOW, FULL_ROWS, CONTEXT, PREFIX_LENGTHS)
    all_see, none_sees = tl.max(low, 0), tl.max(high, 0)
    not_all_see = tl.min(high, 0)
    q_MK = load_rows(q, row, q_row, real, K, BLOCK_K)
    query_time = tl.load(query_times + query_start + row)
    sum_MV = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    for key_start in range(tl.min(low, 0), none_sees, BLOCK_N):
        key = key_start + tl.arange(0, BLOCK_N)
        k_NK = load_rows(k, key, k_row, key < history, K, BLOCK_K)
        v_NV = load_rows(v, key, v_row, key < history, V, BLOCK_V)
        key_time = tl.load(key_times + start + key, mask=key < history, other=0)
        buckets = bucket(query_time[:, None] - key_time[None, :], bucket_starts, T)
        scores = tl.dot(q_MK, tl.trans(k_NK), input_precision=PRECISION)
        distances = place[:, None] - place_of(key, prefix_lengths, history - 1, PREFIX_LENGTHS)[None, :]
        scores += bias(distances, buckets, position_bias, time_bias, P, T)
        weights = scores * tl.sigmoid(scores)
        if (key_start < all_see) | (key_start + BLOCK_N > not_all_see):
            weights = tl.where((low[:, None] <= key[None, :]) & (key[None, :] < high[:, None]), weights, 0.0)
        sum_MV = tl.dot(weights.to(v_NV.dtype), v_NV, sum_MV, input_precision=PRECISION)

    own = real & (row >= high)
    if tl.max(own.to(tl.int32), 0) > 0:
        k_MK, v_MV = load_rows(k, row, k_row, own, K, BLOCK_K), load_rows(v, row, v_row, own, V, BLOCK_V)
        seconds = query_time - tl.load(key_times + start + row)
        own_score, _ = own_scores(q_MK, k_MK, seconds, position_bias, time_bias, bucket_starts, P, T)
        own_weight = tl.where(own, own_score * tl.sigmoid(own_score), 0.0)
        sum_MV += own_weight[:, None] * v_MV.to(tl.float32)
    store_rows(out, row, heads * V, real, sum_MV * scale, V, BLOCK_V)


@tuned(
    [(64, 64, 4, 2), (64, 64, 8, 2), (64, 128, 8, 1), (32, 64, 4, 2), (32, 32, 4, 1), (16, 16, 4, 1)],
    reset_to_zero=["d_position", "d_time"],
)
@triton.jit(do_not_specialize=["users"])
def query_gradient_kernel(
    dq, d_position, d_time, grad,
    q, k, v, q_row, q_head, k_row, k_head, v_row, v_head, offsets, query_offsets, num_targets, prefix_lengths, users, scale,
    position_bias, time_bias, query_times, key_times, bucket_starts,
    K: tl.constexpr, V: tl.constexpr, P: tl.constexpr, T: tl.constexpr, COPIES: tl.constexpr,
    WINDOW: tl.constexpr, FULL_ROWS: tl.constexpr, CONTEXT: tl.constexpr, PREFIX_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program per head and block of rows, as forward_kernel. d_position [COPIES, P], d_time [COPIES, T]: unscaled."""
    user, first = find_user(query_offsets, users, BLOCK_M)
    start, query_start, keys, queries, history = bounds(offsets, query_offsets, num_targets, user)
    if first >= queries:
        return
    prefix_lengths += start
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
    place = tl.minimum(place_of(row, prefix_lengths, history - 1, PREFIX_LENGTHS), history)
    low, high = interval(row, place, history, WINDOW, FULL_ROWS, CONTEXT, PREFIX_LENGTHS)
    all_see, none_sees = tl.max(low, 0), tl.max(high, 0)
    not_all_see = tl.min(high, 0)
    q_MK = load_rows(q, row, q_row, real, K, BLOCK_K)
    grad_MV = load_rows(grad, row, heads * V, real, V, BLOCK_V)
    query_time = tl.load(query_times + query_start + row)
    dq_MK = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    for key_start in range(tl.min(low, 0), none_sees, BLOCK_N):
        key = key_start + tl.arange(0, BLOCK_N)
        k_NK = load_rows(k, key, k_row, key < history, K, BLOCK_K)
        v_NV = load_rows(v, key, v_row, key < history, V, BLOCK_V)
        key_time = tl.load(key_times + start + key, mask=key < history, other=0)
        buckets = bucket(query_time[:, None] - key_time[None, :], bucket_starts, T)
        scores = tl.dot(q_MK, tl.trans(k_NK), input_precision=PRECISION)
        distances = place[:, None] - place_of(key, prefix_lengths, history - 1, PREFIX_LENGTHS)[None, :]
        scores += bias(distances, buckets, position_bias, time_bias, P, T)
        d_scores = tl.dot(grad_MV, tl.trans(v_NV), input_precision=PRECISION) * slope(scores, tl.sigmoid(scores))
        if (key_start < all_see) | (key_start + BLOCK_N > not_all_see):
            d_scores = tl.where((low[:, None] <= key[None, :]) & (key[None, :] < high[:, None]), d_scores, 0.0)
        dq_MK = tl.dot(d_scores.to(k_NK.dtype), k_NK, dq_MK, input_precision=PRECISION)
        if P > 0 and PREFIX_LENGTHS:
            add_by_place(d_position, d_scores, distances, P)
        elif P > 0:
            add_by_distance(d_position, d_scores, place, key_start, P, BLOCK_N)
        if T > 0:
            add_by_bucket(d_time, d_scores, buckets, T)

    own = real & (row >= high)
    if tl.max(own.to(tl.int32), 0) > 0:
        k_MK, v_MV = load_rows(k, row, k_row, own, K, BLOCK_K), load_rows(v, row, v_row, own, V, BLOCK_V)
        seconds = query_time - tl.load(key_times + start + row)
        own_score, own_bucket = own_scores(q_MK, k_MK, seconds, position_bias, time_bias, bucket_starts, P, T)
        d_weight = tl.sum(grad_MV.to(tl.float32) * v_MV.to(tl.float32), 1)
        own_d_score = tl.where(own, d_weight * slope(own_score, tl.sigmoid(own_score)), 0.0)
        dq_MK += own_d_score[:, None] * k_MK.to(tl.float32)
        if P > 0:
            tl.atomic_add(d_position, tl.sum(own_d_score), sem="relaxed")
        if T > 0:
            add_by_bucket(d_time, own_d_score, own_bucket, T)
    store_rows(dq, row, heads * K, real, dq_MK * scale, K, BLOCK_K)


@tuned([(64, 64, 4, 2), (64, 128, 8, 2), (32, 64, 4, 2), (32, 128, 8, 2), (32, 32, 4, 1), (16, 16, 4, 1)])
@triton.jit(do_not_specialize=["users"])
def key_gradient_kernel(
    dk, dv, grad,
    q, k, v, q_row, q_head, k_row, k_head, v_row, v_head, offsets, query_offsets, num_targets, prefix_lengths, users, scale,
    position_bias, time_bias, query_times, key_times, bucket_starts,
    K: tl.constexpr, V: tl.constexpr, P: tl.constexpr, T: tl.constexpr,
    WINDOW: tl.constexpr, FULL_ROWS: tl.constexpr, CONTEXT: tl.constexpr, PREFIX_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program per head and block of keys; its scores are [N, M]."""
    user, first = find_user(offsets, users, BLOCK_N)
    start, query_start, keys, queries, history = bounds(offsets, query_offsets, num_targets, user)
    if first >= keys:
        return
    prefix_lengths += start
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
    key_place = place_of(key, prefix_lengths, keys - 1, PREFIX_LENGTHS)
    dk_NK, dv_NV = tl.zeros([BLOCK_N, BLOCK_K], tl.float32), tl.zeros([BLOCK_N, BLOCK_V], tl.float32)

    # the rows that see one of the keys: of the context, then the window's, from near to far, then full ones from rest
    context, oldest = tl.minimum(CONTEXT, history), keys - queries
    near = tl.maximum(tl.maximum(first, context), oldest)
    far, rest = keys, keys
    if WINDOW > 0:
        far = tl.maximum(tl.minimum(first + BLOCK_N, history), context) + WINDOW
        far = tl.maximum(tl.where(far > history, keys, far), near)  # candidates stand at the place `history`
        if FULL_ROWS > 0:
            rest = tl.maximum(history - FULL_ROWS, far)
    of_context = tl.maximum(context - oldest, 0)
    rows = tl.where(first < history, of_context + tl.maximum(far - near, 0) + keys - rest, 0)
    for skipped in range(0, rows, BLOCK_M):
        number = skipped + tl.arange(0, BLOCK_M)
        row = tl.where(number < of_context, oldest + number, near + number - of_context)
        row = tl.where(row < far, row, row - far + rest)
        real, row = number < rows, tl.minimum(row, keys - 1)
        place = tl.minimum(place_of(row, prefix_lengths, history - 1, PREFIX_LENGTHS), history)
        low, high = interval(row, place, history, WINDOW, FULL_ROWS, CONTEXT, PREFIX_LENGTHS)
        q_MK = load_rows(q, row, q_row, real, K, BLOCK_K)
        grad_MV = load_rows(grad, row, heads * V, real, V, BLOCK_V)
        query_time = tl.load(query_times + query_start + row)
        buckets = bucket(query_time[None, :] - key_time[:, None], bucket_starts, T)
        scores = tl.dot(k_NK, tl.trans(q_MK), input_precision=PRECISION)
        scores += bias(place[None, :] - key_place[:, None], buckets, position_bias, time_bias, P, T)
        sigmoid = tl.sigmoid(scores)
        weights = scores * sigmoid
        d_scores = tl.dot(v_NV, tl.trans(grad_MV), input_precision=PRECISION) * slope(scores, sigmoid)
        if (first < tl.max(low, 0)) | (first + BLOCK_N > tl.min(high, 0)):
            visible = (low[None, :] <= key[:, None]) & (key[:, None] < high[None, :])
            weights, d_scores = tl.where(visible, weights, 0.0), tl.where(visible, d_scores, 0.0)
        dk_NK = tl.dot(d_scores.to(q_MK.dtype), q_MK, dk_NK, input_precision=PRECISION)
        dv_NV = tl.dot(weights.to(grad_MV.dtype), grad_MV, dv_NV, input_precision=PRECISION)

    _, high = interval(key, key_place, history, WINDOW, FULL_ROWS, CONTEXT, PREFIX_LENGTHS)
    own = (key >= tl.maximum(high, oldest)) & (key < keys)
    if tl.max(own.to(tl.int32), 0) > 0:
        q_NK, grad_NV = load_rows(q, key, q_row, own, K, BLOCK_K), load_rows(grad, key, heads * V, own, V, BLOCK_V)
        seconds = tl.load(query_times + query_start + key, mask=own, other=0) - key_time
        own_score, _ = own_scores(q_NK, k_NK, seconds, position_bias, time_bias, bucket_starts, P, T)
        own_sigmoid = tl.sigmoid(own_score)
        d_weight = tl.sum(grad_NV.to(tl.float32) * v_NV.to(tl.float32), 1)
        dk_NK += tl.where(own, d_weight * slope(own_score, own_sigmoid), 0.0)[:, None] * q_NK.to(tl.float32)
        dv_NV += tl.where(own, own_score * own_sigmoid, 0.0)[:, None] * grad_NV.to(tl.float32)
    store_rows(dk, key, heads * K, key < keys, dk_NK * scale, K, BLOCK_K)
    store_rows(dv, key, heads * V, key < keys, dv_NV * scale, V, BLOCK_V)


def arguments(
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
    bucket_starts: Tensor,
) -> dict[str, Any]:
    """What all kernels take, by name."""
    assert not (INTERPRETED and q.dtype == torch.bfloat16), "Triton's interpreter multiplies bfloat16 wrongly"
    arguments: dict[str, Any] = {"offsets": offsets, "query_offsets": query_offsets, "num_targets": num_targets}
    arguments |= {
        "prefix_lengths": offsets if prefix_lengths is None else prefix_lengths.contiguous(),
        "PREFIX_LENGTHS": prefix_lengths is not None,
    }
    for name, x in ("q", q), ("k", k), ("v", v):
        x = x if x.stride(2) == 1 else x.contiguous()
        arguments |= {name: x, f"{name}_row": x.stride(0), f"{name}_head": x.stride(1)}
    for name, table, length in ("position_bias", position_bias, "P"), ("time_bias", time_bias, "T"):
        arguments[name] = q.new_empty(0) if table is None else table.contiguous()
        arguments[length] = len(arguments[name])
    for name, width in ("K", q.shape[2]), ("V", v.shape[2]):
        arguments |= {
            name: width,
            f"BLOCK_{name}": max(16, triton.next_power_of_2(width)),
        }  # 16: the least tl.dot takes
    return arguments | {
        "users": len(num_targets), "scale": scale, "WINDOW": window, "FULL_ROWS": full_rows, "CONTEXT": context,
        "query_times": query_times, "key_times": key_times, "bucket_starts": bucket_starts,
        "PRECISION": "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee",
    }  # fmt: skip


def launch(kernel: Any, block: str, rows: int, arguments: dict[str, Any]) -> None:
    """Run the kernel on as many programs per head as `rows` rows of all users can need; see find_user."""
    users, heads = arguments["users"], arguments["q"].shape[1]
    if users > 0:
        with torch.cuda.device_of(arguments["q"]):
            kernel[lambda chosen: (rows // chosen[block] + users, heads)](**arguments)


def forward(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *others: Any) -> Tensor:
    """louder::hstu_attention; the last argument is bucket_starts of as many buckets as time_bias has."""
    out = v.new_empty(len(q), *v.shape[1:])
    launch(forward_kernel, "BLOCK_M", len(q), arguments(q, k, v, offsets, *others) | {"out": out})
    return out


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """louder::hstu_attention_backward, likewise. The order of the sums for the two tables differs from run to run."""
    inputs = arguments(q, k, v, offsets, *others) | {"grad": grad.contiguous()}
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
