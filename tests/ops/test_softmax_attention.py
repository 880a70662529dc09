import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.ops.hstu_attention.naive import time_buckets
from louder.ops.layout import Layout
from louder.ops.softmax_attention import softmax_attention

LENGTHS = [5], [3, 0, 2], [1, 63, 7, 130, 0, 20], [0, 0]


def one_user_at_a_time(q, k, v, layout, scale, position_bias=None, time_bias=None):
    """Dense, with the mask and the distances written out pair by pair."""
    out = []
    offsets, query_offsets = layout.offsets, layout.query_offsets
    query_offsets = offsets if query_offsets is None else query_offsets
    for user in range(len(offsets) - 1):
        rows, keys = slice(*query_offsets[user : user + 2].tolist()), slice(*offsets[user : user + 2].tolist())
        m, n = rows.stop - rows.start, keys.stop - keys.start
        prefix = [*range(n)] if layout.prefix_lengths is None else layout.prefix_lengths[keys].tolist()
        window = n if layout.window is None else layout.window
        pairs = [(i, j) for i in range(n - m, n) for j in range(n)]
        sees = [j == i or (j < prefix[i] and (j >= prefix[i] - window or j < layout.global_prefix)) for i, j in pairs]
        sees = torch.tensor(sees, dtype=torch.bool).view(m, n)
        scores = torch.einsum("mhk,nhk->hmn", q[rows], k[keys]) * scale
        if position_bias is not None:
            distances = torch.tensor([max(prefix[i] - prefix[j], 0) for i, j in pairs], dtype=torch.int64).view(m, n)
            scores = scores + position_bias[distances.clamp(max=len(position_bias) - 1)]
        if time_bias is not None:
            seconds = layout.query_times[rows, None] - layout.key_times[keys]
            scores = scores + time_bias[time_buckets(seconds, len(time_bias))]
        out.append(torch.einsum("hmn,nhv->mhv", scores.masked_fill(~sees, -torch.inf).softmax(-1), v[keys]))
    return torch.cat(out)


def example(lengths, heads=2, queries=None):
    torch.manual_seed(0)
    queries = lengths if queries is None else queries
    rows = sum(queries), sum(lengths), sum(lengths)
    q, k, v = (torch.randn(count, heads, 8, dtype=torch.float64, requires_grad=True) for count in rows)
    query_offsets = None if queries is lengths else torch.tensor([0, *queries]).cumsum(0)
    times = (torch.randint(0, 10**6, (count,)) for count in rows[:2])
    return q, k, v, Layout(torch.tensor([0, *lengths]).cumsum(0), None, query_offsets, *times)


def tables():
    """Biases by position and by time."""
    position, time = (torch.randn(rows, dtype=torch.float64, requires_grad=True) for rows in (40, 60))
    return dict(position_bias=position, time_bias=time)


def assert_same(q, k, v, layout, **tables):
    """The output and the gradient of all that has one."""
    out = softmax_attention(q, k, v, layout, scale=0.3, **tables)
    expected = one_user_at_a_time(q, k, v, layout, 0.3, **tables)
    torch.testing.assert_close(out, expected)
    if not len(q):
        return
    weight = torch.randn_like(expected)
    leaves = [q, k, v, *tables.values()]
    found = torch.autograd.grad(out, leaves, weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaves, weight))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_equals_one_user_at_a_time(lengths, with_bias):
    assert_same(*example(lengths), **(tables() if with_bias else {}))


REQUESTS = torch.tensor([i - i % 6 * (1 - i % 2) for n in LENGTHS[2] for i in range(n)])
MASKS = {
    "candidates": dict(
        prefix_lengths=torch.tensor(
            [min(i, n - c) for n, c in zip(LENGTHS[2], [1, 0, 7, 30, 0, 3]) for i in range(n)], dtype=torch.int64
        )
    ),
    "requests": dict(prefix_lengths=REQUESTS),
    "nothing before": dict(prefix_lengths=torch.zeros(sum(LENGTHS[2]), dtype=torch.int64)),
    "window": dict(window=5),
    "window and global prefix": dict(window=5, global_prefix=3),
    "requests, window and global prefix": dict(prefix_lengths=REQUESTS, window=5, global_prefix=3),
    "": {},
}


@pytest.mark.parametrize("queries", [None, [1, 5, 0, 130, 0, 3], [0, 0, 0, 1, 0, 0]], ids=["", "short", "shortest"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_equal_one_user_at_a_time(mask, with_bias, queries):
    *qkv, layout = example(LENGTHS[2], queries=queries)
    assert_same(*qkv, layout._replace(**mask), **(tables() if with_bias else {}))


@st.composite
def batches(draw):
    lengths = draw(st.lists(st.integers(0, 30), min_size=1, max_size=7))
    queries = [draw(st.integers(0, n)) for n in lengths]
    *qkv, layout = example(lengths, queries=queries)
    prefix_lengths = torch.tensor([draw(st.integers(0, i)) for n in lengths for i in range(n)], dtype=torch.int64)
    masks = dict(window=draw(st.none() | st.integers(1, 30)), global_prefix=draw(st.integers(0, 10)))
    return *qkv, layout._replace(prefix_lengths=prefix_lengths if draw(st.booleans()) else None, **masks)


@settings(max_examples=50, deadline=None)
@given(batch=batches())
def test_masks_equal_one_user_at_a_time_for_any_shape(batch):
    assert_same(*batch)


@pytest.mark.parametrize("mask", ["requests", "candidates", "window and global prefix"])
def test_a_user_does_not_depend_on_the_rest_of_the_batch(mask):
    lengths, queries = LENGTHS[2], [1, 5, 3, 100, 0, 3]
    q, k, v, layout = example(lengths, queries=queries)
    layout = layout._replace(**MASKS[mask])
    together = softmax_attention(q, k, v, layout, scale=0.3)
    for user in range(len(lengths)):
        rows, keys = slice(*layout.query_offsets[user : user + 2]), slice(*layout.offsets[user : user + 2])
        prefix_lengths = None if layout.prefix_lengths is None else layout.prefix_lengths[keys]
        own = layout._replace(
            offsets=torch.tensor([0, lengths[user]]),
            prefix_lengths=prefix_lengths,
            query_offsets=torch.tensor([0, queries[user]]),
            query_times=layout.query_times[rows],
            key_times=layout.key_times[keys],
        )
        torch.testing.assert_close(softmax_attention(q[rows], k[keys], v[keys], own, scale=0.3), together[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_in_other_dtypes(dtype):
    *qkv, layout = example(LENGTHS[2])
    layout = layout._replace(**MASKS["requests"])
    exact = softmax_attention(*qkv, layout, scale=0.3)
    low = softmax_attention(*(x.to(dtype) for x in qkv), layout, scale=0.3)
    assert low.dtype == dtype
    torch.testing.assert_close(low.double(), exact, rtol=0.05, atol=1e-6 if dtype == torch.float32 else 0.03)


def test_dropout_leaves_masks_alone():
    *qkv, layout = example(LENGTHS[2])
    layout = layout._replace(**MASKS["requests, window and global prefix"])
    exact = softmax_attention(*qkv, layout, scale=0.3)
    torch.testing.assert_close(  # so little is dropped that it happens to nobody
        softmax_attention(*qkv, layout, scale=0.3, dropout=1e-6),
        exact,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("prefix_lengths", [0, 1, 3, 0, 0]),
        ("prefix_lengths", [0, 1]),
        ("query_offsets", [0, 3, 3, 4]),
        ("offsets", [0, 3, 3, 6]),
    ],
)
def test_bad_masks_are_named(name, wrong):
    *qkv, layout = example([3, 0, 2])
    with pytest.raises(ValueError, match=f"^{name} must"):
        softmax_attention(*qkv, layout._replace(**{name: torch.tensor(wrong)}), scale=0.3)


def test_dropout_keeps_the_mean_and_the_future_hidden():
    q, k, v, layout = example([6, 40])
    ones = torch.ones_like(v)
    mean = (
        torch.stack([softmax_attention(q, k, ones, layout, scale=0.3, dropout=0.2) for _ in range(300)]).detach().mean()
    )
    assert abs(float(mean) - 1) < 0.02
    first = softmax_attention(q, k, v, layout, scale=0.3, dropout=0.2)[0].detach()
    kept = torch.isclose(first, v[0] / 0.8, rtol=1e-4) | (first == 0)  # the first event sees itself alone
    assert bool(kept.all())
