import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.ops.hstu_attention.naive import time_buckets
from louder.ops.softmax_attention import softmax_attention

LENGTHS = [5], [3, 0, 2], [1, 63, 7, 130, 0, 20], [0, 0]


def one_user_at_a_time(
    q, k, v, offsets, scale, position_bias=None, time_bias=None, query_times=None, key_times=None,
    num_targets=None, prefix_lengths=None, query_offsets=None,
):  # fmt: skip
    """Dense, with the mask and the distances written out pair by pair."""
    out = []
    query_offsets = offsets if query_offsets is None else query_offsets
    for user in range(len(offsets) - 1):
        rows, keys = slice(*query_offsets[user : user + 2].tolist()), slice(*offsets[user : user + 2].tolist())
        m, n = rows.stop - rows.start, keys.stop - keys.start
        history = n if num_targets is None else n - int(num_targets[user])
        place = [min(i, history) for i in range(n)] if prefix_lengths is None else prefix_lengths[keys].tolist()
        pairs = [(i, j) for i in range(n - m, n) for j in range(n)]
        sees = torch.tensor([j < place[i] or j == i for i, j in pairs], dtype=torch.bool).view(m, n)
        scores = torch.einsum("mhk,nhk->hmn", q[rows], k[keys]) * scale
        if position_bias is not None:
            distances = torch.tensor([max(place[i] - place[j], 0) for i, j in pairs], dtype=torch.int64).view(m, n)
            scores = scores + position_bias[distances.clamp(max=len(position_bias) - 1)]
        if time_bias is not None:
            scores = scores + time_bias[time_buckets(query_times[rows, None] - key_times[keys], len(time_bias))]
        out.append(torch.einsum("hmn,nhv->mhv", scores.masked_fill(~sees, -torch.inf).softmax(-1), v[keys]))
    return torch.cat(out)


def example(lengths, heads=2, queries=None):
    torch.manual_seed(0)
    queries = lengths if queries is None else queries
    rows = sum(queries), sum(lengths), sum(lengths)
    q, k, v = (torch.randn(count, heads, 8, dtype=torch.float64, requires_grad=True) for count in rows)
    return q, k, v, torch.tensor([0, *lengths]).cumsum(0)


def tables(q, k):
    """Biases by position and by time."""
    position, time = (torch.randn(rows, dtype=torch.float64, requires_grad=True) for rows in (40, 60))
    times = dict(query_times=torch.randint(0, 10**6, (len(q),)), key_times=torch.randint(0, 10**6, (len(k),)))
    return dict(position_bias=position, time_bias=time, **times)


def assert_same(q, k, v, offsets, **others):
    """The output and the gradient of all that has one."""
    out = softmax_attention(q, k, v, offsets, scale=0.3, **others)
    expected = one_user_at_a_time(q, k, v, offsets, 0.3, **others)
    torch.testing.assert_close(out, expected)
    if not len(q):
        return
    weight = torch.randn_like(expected)
    leaves = [x for x in (q, k, v, *others.values()) if x is not None and x.requires_grad]
    found = torch.autograd.grad(out, leaves, weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaves, weight))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_equals_one_user_at_a_time(lengths, with_bias):
    q, k, v, offsets = example(lengths)
    assert_same(q, k, v, offsets, **(tables(q, k) if with_bias else {}))


MASKS = {
    "targets": dict(num_targets=torch.tensor([1, 0, 7, 30, 0, 3])),
    "prefix_lengths": dict(
        prefix_lengths=torch.tensor([i - i % 6 * (1 - i % 2) for n in LENGTHS[2] for i in range(n)])
    ),
    "nothing before": dict(prefix_lengths=torch.zeros(sum(LENGTHS[2]), dtype=torch.int64)),
    "": {},
}


@pytest.mark.parametrize("queries", [None, [1, 5, 0, 130, 0, 3], [0, 0, 0, 1, 0, 0]], ids=["", "short", "shortest"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_equal_one_user_at_a_time(mask, with_bias, queries):
    q, k, v, offsets = example(LENGTHS[2], queries=queries)
    rows = {} if queries is None else dict(query_offsets=torch.tensor([0, *queries]).cumsum(0))
    assert_same(q, k, v, offsets, **mask, **rows, **(tables(q, k) if with_bias else {}))


@st.composite
def batches(draw):
    lengths = draw(st.lists(st.integers(0, 30), min_size=1, max_size=7))
    queries = [draw(st.integers(0, n)) for n in lengths]
    q, k, v, offsets = example(lengths, queries=queries)
    given = dict(query_offsets=torch.tensor([0, *queries]).cumsum(0))
    if draw(st.booleans()):
        given["prefix_lengths"] = torch.tensor(
            [draw(st.integers(0, i)) for n in lengths for i in range(n)], dtype=torch.int64
        )
    else:
        given["num_targets"] = torch.tensor([draw(st.integers(0, n)) for n in lengths])
    return (q, k, v, offsets), given


@settings(max_examples=50, deadline=None)
@given(batch=batches())
def test_masks_equal_one_user_at_a_time_for_any_shape(batch):
    inputs, masks = batch
    assert_same(*inputs, **masks)


@pytest.mark.parametrize("mask", ["prefix_lengths", "targets"])
def test_a_user_does_not_depend_on_the_rest_of_the_batch(mask):
    lengths, queries = LENGTHS[2], [1, 5, 3, 100, 0, 3]
    q, k, v, offsets = example(lengths, queries=queries)
    query_offsets = torch.tensor([0, *queries]).cumsum(0)
    together = softmax_attention(q, k, v, offsets, scale=0.3, query_offsets=query_offsets, **MASKS[mask])
    for user in range(len(lengths)):
        rows, keys = slice(*query_offsets[user : user + 2].tolist()), slice(*offsets[user : user + 2].tolist())
        own = {name: x[keys] if name == "prefix_lengths" else x[user : user + 1] for name, x in MASKS[mask].items()}
        own |= dict(query_offsets=torch.tensor([0, queries[user]]))
        one = torch.tensor([0, lengths[user]])
        torch.testing.assert_close(softmax_attention(q[rows], k[keys], v[keys], one, scale=0.3, **own), together[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_in_other_dtypes(dtype):
    q, k, v, offsets = (x.detach() for x in example(LENGTHS[2]))
    exact = softmax_attention(q, k, v, offsets, scale=0.3, **MASKS["prefix_lengths"])
    low = softmax_attention(*(x.to(dtype) for x in (q, k, v)), offsets, scale=0.3, **MASKS["prefix_lengths"])
    assert low.dtype == dtype
    torch.testing.assert_close(low.double(), exact, rtol=0.05, atol=1e-6 if dtype == torch.float32 else 0.03)


def test_dropout_leaves_masks_alone():
    q, k, v, offsets = example(LENGTHS[2])
    exact = softmax_attention(q, k, v, offsets, scale=0.3, **MASKS["prefix_lengths"])
    torch.testing.assert_close(  # so little is dropped that it happens to nobody
        softmax_attention(q, k, v, offsets, scale=0.3, dropout=1e-6, **MASKS["prefix_lengths"]),
        exact,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("prefix_lengths", [0, 1, 3, 0, 0]),
        ("prefix_lengths", [0, 1]),
        ("num_targets", [0, 0, 3]),
        ("query_offsets", [0, 3, 3, 4]),
        ("offsets", [0, 3, 3, 6]),
    ],
)
def test_bad_masks_are_named(name, wrong):
    q, k, v, offsets = example([3, 0, 2])
    with pytest.raises(ValueError, match=f"^{name} must"):
        softmax_attention(q, k, v, **{"offsets": offsets, name: torch.tensor(wrong)}, scale=0.3)


def test_dropout_keeps_the_mean_and_the_future_hidden():
    q, k, v, offsets = example([6, 40])
    ones = torch.ones_like(v)
    mean = (
        torch.stack([softmax_attention(q, k, ones, offsets, scale=0.3, dropout=0.2) for _ in range(300)])
        .detach()
        .mean()
    )
    assert abs(float(mean) - 1) < 0.02
    first = softmax_attention(q, k, v, offsets, scale=0.3, dropout=0.2)[0].detach()
    kept = torch.isclose(first, v[0] / 0.8, rtol=1e-4) | (first == 0)  # the first event sees itself alone
    assert bool(kept.all())
