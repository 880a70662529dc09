import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from louder.ops import hstu_attention as ops
from louder.ops.hstu_attention import attention, hstu_attention, naive
from louder.ops.layout import Layout

pytestmark = pytest.mark.usefixtures("needs_compiler")

LENGTHS = [5], [3, 0, 2], [0, 0], [], [1, 1, 1], [63, 64, 65], [1, 130, 0, 7], [300]
TABLES = ["position", "time", "both", "neither"]


def example(
    lengths,
    heads=1,
    width=8,
    v_width=None,
    tables="both",
    dtype=torch.float32,
    P=40,
    T=60,
    seed=0,
    targets=None,
    queries=None,
    prefix_lengths=None,
    window=None,
    global_prefix=0,
):
    """The positional inputs of the op; `targets` (candidates) and `queries` are numbers for each user, `prefix_lengths`
    for each event."""
    generator = torch.Generator().manual_seed(seed)
    v_width = v_width or width

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    L = sum(lengths)
    # slices of one tensor, as the model makes them: not contiguous
    qkv = normal(L, heads * (2 * width + v_width)).detach()
    q, k, v = qkv.split([heads * width, heads * width, heads * v_width], dim=1)
    q, k, v = (x.view(L, heads, x.shape[1] // heads).requires_grad_() for x in (q, k, v))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    query_offsets = offsets if queries is None else torch.tensor([0, *queries]).cumsum(0)
    if queries is not None:
        q = normal(int(query_offsets[-1]), heads, width)
    if targets is not None:
        prefix_lengths = [min(i, n - count) for n, count in zip(lengths, targets) for i in range(n)]
    key_times = torch.randint(0, 10**8, (L,), generator=generator).sort().values
    query_times = key_times + torch.randint(0, 10**5, (L,), generator=generator)
    query_times = torch.cat(
        [query_times[end - count : end] for end, count in zip(offsets[1:], query_offsets.diff())] or [query_times]
    )
    position_bias = normal(P) if tables in ("position", "both") else None
    time_bias = normal(T) if tables in ("time", "both") else None
    prefix_lengths = None if prefix_lengths is None else torch.tensor(prefix_lengths, dtype=torch.int64)
    layout = Layout(offsets, prefix_lengths, query_offsets, query_times, key_times, window, global_prefix)
    return q, k, v, 1 / 50, position_bias, time_bias, *layout


def layout_of(inputs):
    return Layout._make(inputs[6:])


def reference(q, k, v, scale, position_bias, time_bias, *layout):
    """naive.py with the call of the registered op"""
    return naive.hstu_attention(q, k, v, Layout._make(layout), scale, position_bias, time_bias)


def run(op, inputs):
    """The output and the gradient of every float input."""
    out = op(*inputs)
    leaves = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
    return [out.detach(), *torch.autograd.grad(out, leaves, weight_of(out), materialize_grads=True)]


def weight_of(out):
    """What the gradients are of: the sum of the output times this."""
    return torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)


def exact(inputs):
    """The inputs in float64: over some thousand pairs, naive in float32 is itself rounded more than the kernel is."""
    return [x.detach().double().requires_grad_() if is_float(x) else x for x in inputs]


def is_float(x):
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def size_of_terms(inputs):
    """The largest sum of the terms' sizes, among the entries of both tables' gradients."""
    biases, entries = [], []

    def users(*args):
        for user in original(*args):
            if isinstance(user.bias, torch.Tensor):
                user = user._replace(bias=user.bias.detach().requires_grad_())
                biases.append(user.bias)
                entries.append([x for x in (user.distances, user.buckets) if x is not None])
            yield user

    original = naive.users
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(naive, "users", users)
        out = reference(*exact(inputs))
    terms = torch.autograd.grad(out, biases, weight_of(out), allow_unused=True) if biases else []
    sums = torch.zeros(2, 200, dtype=torch.float64)  # of at most two tables
    for term, tables in zip(terms, entries, strict=True):
        for table, entry in zip(sums, tables, strict=False):
            table.index_add_(0, entry.flatten(), term.abs().flatten())
    return sums.max().item()


def assert_same_as_reference(inputs):
    # a table's gradient is a sum of positive and negative terms over all pairs: its rounding is that of the terms,
    # however small the sum, so each term may be off by half a unit in its last place
    rounding = torch.finfo(torch.float32).eps / 2 * size_of_terms(inputs)
    for got, expected in zip(run(attention, inputs), run(reference, exact(inputs)), strict=True):
        largest = expected.abs().max().item() if expected.numel() else 0.0
        atol = 1e-5 * max(largest, 1.0)
        if expected.dim() == 1:
            atol = max(atol, rounding)
        torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_agrees_with_the_reference_for_all_lengths(lengths, tables):
    inputs = example(lengths, tables=tables)
    if sum(lengths) > 0:
        assert_same_as_reference(inputs)
    else:  # naive's autograd has nothing to hang on
        out, *grads = run(attention, inputs)
        assert out.shape == inputs[2].shape
        assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize(("width", "v_width"), [(1, 1), (8, 8), (25, 25), (50, 50), (64, 64), (25, 64), (64, 5)])
def test_agrees_with_the_reference_for_all_widths(width, v_width, heads):
    assert_same_as_reference(example([3, 0, 66], heads=heads, width=width, v_width=v_width))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 140), min_size=1, max_size=6).filter(any),
    heads=st.integers(1, 3),
    width=st.integers(1, 70),
    v_width=st.integers(1, 70),
    tables=st.sampled_from(TABLES),
    P=st.integers(1, 200),
    T=st.integers(1, 150),
    seed=st.integers(0, 100),
)
def test_agrees_with_the_reference_for_any_shape(lengths, heads, width, v_width, tables, P, T, seed):
    assert_same_as_reference(example(lengths, heads, width, v_width, tables, P=P, T=T, seed=seed))


def test_agrees_with_the_reference_where_the_terms_of_a_table_cancel():
    assert_same_as_reference(example([1, 140, 0, 2], heads=3, width=1, v_width=43, P=2, T=2, seed=62))


def test_contiguous_or_not_gives_the_same_bits():
    inputs = example([70, 3], heads=2, width=16)
    contiguous = [x.contiguous() if isinstance(x, torch.Tensor) else x for x in inputs]
    assert not inputs[0].is_contiguous()
    assert torch.equal(attention(*inputs), attention(*contiguous))


def bucket_of(seconds, buckets):
    """The bucket the kernel uses for each time difference, read off its output.

    Every user has two events. The first has value 1 and the second has value 0, so the second row's result is
    silu(time_bias[bucket]), and the entries of time_bias are far apart.
    """
    users = len(seconds)
    v = torch.tensor([1.0, 0.0]).repeat(users).view(-1, 1, 1)
    nothing = torch.zeros(2 * users, 1, 1)
    query_times = torch.stack([torch.zeros_like(seconds), seconds], dim=1).flatten()
    key_times = torch.zeros(2 * users, dtype=torch.int64)
    table = torch.arange(1.0, buckets + 1)
    offsets = torch.arange(users + 1) * 2
    layout = Layout(offsets, query_times=query_times, key_times=key_times)
    out = hstu_attention(nothing, nothing, v, layout, scale=1, time_bias=table)
    return (out[1::2].flatten()[:, None] - F.silu(table)).abs().argmin(dim=1)


@pytest.mark.parametrize("buckets", [1, 2, 60, 128, 200])
def test_time_buckets_are_naives_at_every_boundary(buckets):
    starts = ops.bucket_starts(200)
    starts = starts[starts < 2.0**40]
    # the float32 before, at and after each boundary; above 2^24 they are some seconds apart
    near = torch.stack([starts.nextafter(torch.tensor(0.0)), starts, starts.nextafter(torch.tensor(torch.inf))])
    seconds = (near.to(torch.int64)[..., None] + torch.arange(-2, 3)).flatten()
    seconds = torch.cat([seconds, seconds - 512, -seconds, torch.arange(-300, 300)])
    assert torch.equal(bucket_of(seconds, buckets), naive.time_buckets(seconds, buckets))


def test_time_buckets_are_naives_for_any_difference():
    random.seed(0)
    seconds = torch.tensor([random.randrange(2 ** random.randint(1, 33)) for _ in range(20_000)])
    assert torch.equal(bucket_of(seconds, 128), naive.time_buckets(seconds, 128))


def test_bucket_starts_are_the_first_seconds_of_their_buckets():
    starts = ops.bucket_starts(50).to(torch.int64)  # float32 has every whole second so far
    # exp(0.301 * 2) = 1.83 and exp(0.301 * 3) = 2.47; no whole second lies in bucket 1
    assert starts[:4].tolist() == [1, 2, 2, 3]
    assert (naive.time_buckets(starts, 50) >= torch.arange(50)).all()
    assert (naive.time_buckets(starts[1:] - 1, 50) < torch.arange(1, 50)).all()


def test_same_bits_twice_and_with_any_number_of_threads(threads):
    inputs = example([130, 0, 64, 1, 200, 65, 3] * 6, heads=2, width=25)
    with threads(1):
        expected = run(attention, inputs)
    for count in (1, 2, 2, 3):
        with threads(count):
            for got, want in zip(run(attention, inputs), expected):
                assert torch.equal(got, want)


def test_a_user_does_not_depend_on_the_rest_of_the_batch():
    inputs = example([7, 130, 0, 300, 64], heads=2, width=25)
    q, k, v, scale, position_bias, time_bias, offsets, _, _, query_times, key_times, *masks = inputs
    together = run(attention, inputs)
    weight = torch.randn(v.shape, generator=torch.Generator().manual_seed(1))
    for start, end in itertools.pairwise(offsets.tolist()):
        mine = [x[start:end].detach().requires_grad_() for x in (q, k, v)]
        one, rows = torch.tensor([0, end - start]), (query_times[start:end], key_times[start:end])
        out = attention(*mine, scale, position_bias, time_bias, one, None, None, *rows, *masks)
        alone = [out, *torch.autograd.grad(out, mine, weight[start:end])]
        for got, want in zip(together, alone):
            assert torch.equal(got[start:end], want)


def test_a_row_does_not_see_later_events():
    inputs = example([100], width=8)
    q, k, v, *rest = inputs
    changed = [torch.cat([x[:60], torch.randn_like(x[60:])]) for x in (q, k, v)]
    assert torch.equal(attention(*inputs)[:60], attention(*changed, *rest)[:60])


def test_large_and_broken_scores():
    q = torch.tensor([1e4, -1e4, 90.0, -90.0, torch.nan]).view(-1, 1, 1)
    one = torch.ones(5, 1, 1)
    out = hstu_attention(q, one, one, Layout(torch.arange(6)), scale=1.0)
    torch.testing.assert_close(out, F.silu(q), equal_nan=True)


@pytest.mark.parametrize("tables", TABLES)
def test_naive_backward_of_the_op_agrees_with_plain_autograd(tables, monkeypatch):
    """The op without a compiler."""
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    assert_same_as_reference(example([3, 0, 66], heads=2, tables=tables))


@pytest.mark.parametrize("tables", ["both", "neither"])
def test_gradients_in_float64(tables):
    inputs = example([2, 0, 3], heads=2, width=2, v_width=3, tables=tables, P=3, T=30, dtype=torch.float64)
    assert torch.autograd.gradcheck(attention, inputs)


@pytest.mark.parametrize("tables", ["both", "neither"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_op_keeps_the_rules_of_torch_compile(tables, dtype):
    inputs = example([3, 0, 2], width=4, tables=tables, dtype=dtype)
    torch.library.opcheck(attention, inputs)
    torch.library.opcheck(ops.attention_backward, (torch.ones_like(inputs[2]), *(detached(x) for x in inputs)))


def detached(x):
    return x.detach() if isinstance(x, torch.Tensor) else x


def test_time_bias_needs_times():
    q, k, v, *_ = example([3])
    with pytest.raises(ValueError, match="needs query_times"):
        hstu_attention(q, k, v, Layout(torch.tensor([0, 3])), scale=1.0, time_bias=torch.ones(3))
