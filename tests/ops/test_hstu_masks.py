"""Who sees whom, short queries, bfloat16 and bad input of hstu_attention. The plain op is in test_hstu_attention.py."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.testing import CompileCounter

from louder.ops import hstu_attention as ops
from louder.ops.hstu_attention import attention, hstu_attention, naive
from tests.ops.test_hstu_attention import TABLES, assert_same_as_naive, detached, example, is_float, run

pytestmark = pytest.mark.usefixtures("needs_compiler")

# around the kernel's tiles of 24 and 48 rows, and around 64
LENGTHS = [65, 0, 1, 23, 24, 25, 47, 48, 49, 63, 64, 2, 96, 97, 130]
NAMES = [argument.name for argument in attention._opoverload._schema.arguments]
MASKS = dict(window=20, full_rows=7, context=3)


def rules(n, targets=0, context=0, window=0, full_rows=0):
    """Who sees whom, by numbers: a row sees what has a smaller number, near enough. Written apart from naive.visible."""
    history = n - targets
    c = min(context, history)
    ids = [max(0, p - c + 1) if c > 0 else p for p in range(history)]
    last = history - c + 1 if c > 0 else history  # of all targets
    ids += [last] * targets

    def sees(row, key):
        near = window == 0 or row - key <= window or (full_rows > 0 and row >= last - full_rows)
        return (row > key and near) or (c > 0 and row == 0 and key < last)

    return torch.tensor([i == j or sees(ids[i], ids[j]) for i in range(n) for j in range(n)]).view(n, n)


def by_naive(n, targets=0, context=0, window=0, full_rows=0):
    return naive.visible(n, n, targets, window, full_rows, context, torch.device("cpu"))


def by_kernel(n, targets=0, context=0, window=0, full_rows=0, queries=None, prefix_lengths=None):
    """Value j is a one in column j, and every score is 1: a row's result is 0 just in the columns of what is hidden."""
    queries = n if queries is None else queries
    out = hstu_attention(
        torch.zeros(queries, 1, 1),
        torch.zeros(n, 1, 1),
        torch.eye(n)[:, None],
        torch.tensor([0, n]),
        scale=1.0,
        position_bias=torch.ones(1),
        num_targets=torch.tensor([targets]) if prefix_lengths is None else None,
        prefix_lengths=prefix_lengths,
        window=window or None,
        full_rows=full_rows,
        context=context,
        query_offsets=torch.tensor([0, queries]),
    )[:, 0]
    torch.testing.assert_close(out, F.silu(torch.tensor(1.0)) * (out != 0))
    return out != 0


def up_to(lengths, amounts):
    """A number for each user: the amounts in turn, but no more than the user has."""
    return [min(length, amount) for length, amount in zip(lengths, itertools.cycle(amounts))]


def some_targets(lengths):
    return up_to(lengths, [3, 0, 1, 1000, 0, 30])  # 1000: some users are targets only


def some_queries(lengths):
    return up_to(lengths, [1000, 5, 0, 1, 26, 60, 1000])


def changed(inputs, **by_name):
    """The positional inputs with some of them replaced, by name."""
    assert set(by_name) <= set(NAMES)
    return [by_name.get(name, x) for name, x in zip(NAMES, inputs, strict=True)]


def get(inputs, *names):
    return [inputs[NAMES.index(name)] for name in names]


def with_wild_times(inputs, spread=10**8, seed=0):
    """Keys in no order of time, and queries before some of them: those events are withheld from a prediction."""
    generator = torch.Generator().manual_seed(seed)
    q, k = get(inputs, "q", "k")
    query_times, key_times = (torch.randint(0, spread, (len(x),), generator=generator) for x in (q, k))
    return changed(inputs, query_times=query_times, key_times=key_times)


def with_other_rows(inputs, rows, names=("q", "k", "v", "query_times", "key_times")):
    """Other numbers in some rows of some inputs."""
    generator = torch.Generator().manual_seed(7)
    other = {}
    for name, x in zip(names, get(inputs, *names)):
        other[name] = x.detach().clone()
        shape = x[rows].shape
        is_time = x.dtype == torch.int64
        other[name][rows] = (
            torch.randint(0, 10**8, shape, generator=generator)
            if is_time
            else torch.randn(shape, generator=generator, dtype=x.dtype)
        )
    return changed(inputs, **other)


def with_rows(inputs, rows, targets):
    """Only some rows of the one user that there is."""
    names = "q", "k", "v", "query_times", "key_times"
    kept = {name: x[rows].detach() for name, x in zip(names, get(inputs, *names))}
    offsets = torch.tensor([0, len(rows)])
    return changed(inputs, **kept, offsets=offsets, query_offsets=offsets, num_targets=torch.tensor([targets]))


def alone(inputs, user):
    """One user of a batch."""
    offsets, query_offsets, num_targets = get(inputs, "offsets", "query_offsets", "num_targets")
    keys, rows = slice(*offsets[user : user + 2].tolist()), slice(*query_offsets[user : user + 2].tolist())
    mine = {name: x[rows].detach() for name, x in zip(("q", "query_times"), get(inputs, "q", "query_times"))}
    names = "k", "v", "key_times"
    mine |= {name: x[keys].detach() for name, x in zip(names, get(inputs, *names))}
    (prefix_lengths,) = get(inputs, "prefix_lengths")
    mine["prefix_lengths"] = None if prefix_lengths is None else prefix_lengths[keys]
    mine["offsets"] = torch.tensor([0, keys.stop - keys.start])
    mine["query_offsets"] = torch.tensor([0, rows.stop - rows.start])
    return keys, rows, changed(inputs, **mine, num_targets=num_targets[user : user + 1])


def backward(inputs, grad):
    return ops.attention_backward(grad, *(detached(x) for x in inputs))


def noise(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def assert_same_bits(got, expected):
    for x, y in zip(got, expected, strict=True):
        assert torch.equal(x, y)


# the mask itself


def test_naive_mask_follows_the_rules_for_every_small_user():
    for n in range(6):
        for targets, *masks in itertools.product(range(n + 1), *[range(n + 2)] * 3):
            assert torch.equal(by_naive(n, targets, *masks), rules(n, targets, *masks)), (n, targets, *masks)


@st.composite
def users(draw, longest):
    n = draw(st.integers(1, longest))
    amount = st.integers(0, 5) | st.integers(0, n + 2)
    masks = {name: draw(amount) for name in ("context", "window", "full_rows")}
    return dict(n=n, targets=draw(st.just(0) | st.integers(0, n)), **masks)


@given(user=users(longest=40))
def test_naive_mask_follows_the_rules(user):
    assert torch.equal(by_naive(**user), rules(**user))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=users(longest=110), part=st.floats(0, 1))
def test_kernel_mask_follows_the_rules(user, part):
    queries = round(part * user["n"])
    assert torch.equal(by_kernel(**user, queries=queries), rules(**user)[user["n"] - queries :])


@pytest.mark.parametrize("mask", [rules, by_naive, by_kernel])
def test_a_mask_written_out(mask):
    picture = """
        ######..
        ######..   two context rows see all of the history
        ###.....
        ####....   the context counts as one event: this row reaches it with a window of 2
        ..###...
        ######..   the last row of the history sees everything, in spite of the window
        #######.
        ######.#   two targets
    """
    expected = [[c == "#" for c in line.split()[0]] for line in picture.strip().splitlines()]
    assert mask(8, targets=2, context=2, window=2, full_rows=1).tolist() == expected


# kernel and naive


@pytest.mark.parametrize("short", [False, True], ids=["", "short"])
@pytest.mark.parametrize("window", [0, 1, 30], ids="window{}".format)
@pytest.mark.parametrize("full_rows", [0, 20], ids="full_rows{}".format)
@pytest.mark.parametrize("context", [0, 3, 60], ids="context{}".format)
@pytest.mark.parametrize("targets", [False, True], ids=["", "targets"])
def test_agrees_with_naive_for_every_combination_of_masks(targets, context, full_rows, window, short):
    masks = dict(window=window, full_rows=full_rows, context=context)
    users = dict(
        targets=some_targets(LENGTHS) if targets else None,
        queries=some_queries(LENGTHS) if short else None,
    )
    assert_same_as_naive(example(LENGTHS, width=4, **users, **masks))


@pytest.mark.parametrize("times", [with_wild_times, lambda inputs: inputs], ids=["wild", "in order"])
@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_agrees_with_naive_for_all_tables_heads_and_times(heads, tables, times):
    lengths = [65, 0, 1, 24, 100]
    users = dict(targets=[3, 0, 1, 24, 60], queries=[65, 0, 0, 24, 62])
    assert_same_as_naive(times(example(lengths, heads, 5, 9, tables, **users, **MASKS)))


def test_agrees_with_naive_for_a_long_context():
    """A context longer than any history, and longer than one tile."""
    assert_same_as_naive(example([20, 50, 130], targets=[0, 3, 0], context=200, window=4))
    assert_same_as_naive(example([20, 50, 130], targets=[0, 3, 0], context=70, window=4))


@st.composite
def batches(draw):
    lengths = draw(st.lists(st.sampled_from([0, 1, 23, 24, 47, 48, 49, 64, 96]) | st.integers(0, 140), max_size=5))
    amount = st.integers(0, 5) | st.integers(0, 150)
    inputs = example(
        lengths,
        heads=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 20)),
        v_width=draw(st.integers(1, 20)),
        tables=draw(st.sampled_from(TABLES)),
        P=draw(st.integers(1, 150)),
        T=draw(st.integers(1, 100)),
        seed=draw(st.integers(0, 100)),
        targets=[draw(st.just(0) | st.integers(0, n)) for n in lengths] if draw(st.booleans()) else None,
        queries=[draw(st.integers(0, n)) for n in lengths] if draw(st.booleans()) else None,
        window=draw(st.just(0) | amount),
        full_rows=draw(amount),
        context=draw(amount),
    )
    spread = draw(st.sampled_from([None, 1, 100, 10**8]))
    return inputs if spread is None else with_wild_times(inputs, spread)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=batches())
def test_agrees_with_naive_for_everything_together(inputs):
    if len(inputs[0]) > 0:
        assert_same_as_naive(inputs)
    else:  # naive's autograd has nothing to hang on
        out, *grads = run(attention, inputs)
        assert out.shape == (0, *get(inputs, "v")[0].shape[1:])
        assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("short", [False, True])
def test_gradients_in_float64_with_masks(short):
    queries = [4, 0, 2] if short else None
    users = dict(targets=[1, 0, 3], queries=queries, window=2, full_rows=1, context=1)
    inputs = example([6, 0, 3], heads=2, width=2, v_width=3, P=3, T=30, dtype=torch.float64, **users)
    assert torch.autograd.gradcheck(attention, with_wild_times(inputs))


def test_without_a_compiler_the_answer_is_the_same(monkeypatch):
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    assert_same_as_naive(example([30, 0, 6], heads=2, targets=[4, 0, 6], queries=[20, 0, 2], **MASKS))


# targets

HISTORY, CANDIDATES = 70, 30


def history_and_candidates(**masks):
    return example([HISTORY + CANDIDATES], heads=2, width=25, targets=[CANDIDATES], **masks)


@pytest.mark.parametrize("masks", [{}, MASKS], ids=["", "masks"])
def test_a_row_does_not_change_with_other_targets(masks):
    inputs = history_and_candidates(**masks)
    out, other = attention(*inputs), attention(*with_other_rows(inputs, slice(HISTORY + 10, None)))
    assert torch.equal(out[: HISTORY + 10], other[: HISTORY + 10])
    assert not torch.equal(out[HISTORY + 10], other[HISTORY + 10])


@pytest.mark.parametrize("masks", [{}, MASKS], ids=["", "masks"])
def test_a_target_does_not_change_when_others_are_removed_or_reordered(masks):
    inputs = history_and_candidates(**masks)
    order = torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(0))
    out = attention(*inputs)
    for kept in (order, order[:7], order[:1], order[:0]):
        rows = torch.cat([torch.arange(HISTORY), HISTORY + kept])
        assert torch.equal(attention(*with_rows(inputs, rows, len(kept))), out[rows])


def test_targets_get_no_gradient_from_each_other():
    inputs = history_and_candidates(**MASKS)
    grad = torch.zeros_like(inputs[2])
    grad[HISTORY + 5] = 1
    for d in backward(inputs, grad)[:3]:
        assert d[HISTORY + 5].all()
        assert not d[HISTORY : HISTORY + 5].any() and not d[HISTORY + 6 :].any()


def test_a_target_is_a_next_event():
    """One target at a time stands where one more event of the history would."""
    inputs = example([80], heads=2, width=25)
    as_target = changed(inputs, num_targets=torch.tensor([1]))
    assert_close(attention(*as_target), attention(*inputs))


# short queries: with cached keys and values (M-FALCON), only the new rows are asked for


def last_queries(inputs, count):
    """Only the last `count` rows of one user's q."""
    names = "q", "query_times"
    rows = {name: x.detach()[len(x) - count :] for name, x in zip(names, get(inputs, *names))}
    return changed(inputs, **rows, query_offsets=torch.tensor([0, count]))


@pytest.mark.parametrize("masks", [{}, MASKS], ids=["", "masks"])
@pytest.mark.parametrize("count", [0, 1, 5, 23, 24, 47, 48, 49, 75, 100])
def test_the_rows_of_a_short_query_are_those_of_the_full_one(count, masks):
    inputs = history_and_candidates(**masks)
    assert torch.equal(attention(*last_queries(inputs, count)), attention(*inputs)[100 - count :])


@pytest.mark.parametrize("count", [0, 1, 40, 75])
def test_the_gradients_of_a_short_query_are_those_of_its_rows(count):
    inputs = history_and_candidates(**MASKS)
    grad = torch.ones_like(inputs[2].detach())
    grad[: 100 - count] = 0  # the other rows do not matter to the loss
    dq, *expected = backward(inputs, grad)
    dq_short, *got = backward(last_queries(inputs, count), grad[100 - count :])
    assert_close(dq_short, dq[100 - count :])
    for x, y in zip(got, expected, strict=True):
        assert_close(x, y)  # summed in another order


# windows, full rows, context


@pytest.mark.parametrize("targets", [None, [0, 0, 30, 1]])
def test_a_window_as_long_as_the_history_is_none(targets):
    inputs = example([100, 0, 30, 1], heads=2, targets=targets, context=3, full_rows=5)
    assert_same_bits(run(attention, changed(inputs, window=100)), run(attention, inputs))


@pytest.mark.parametrize("full_rows", [98, 100, 2**62])
def test_full_rows_as_many_as_the_history_undo_the_window(full_rows):
    inputs = example([100, 0, 30], heads=2, targets=[2, 0, 0])
    assert_same_bits(run(attention, changed(inputs, window=3, full_rows=full_rows)), run(attention, inputs))


def test_a_row_does_not_change_with_keys_outside_its_window():
    inputs = example([120], heads=2, width=25, window=30)
    out = attention(*inputs)
    other = attention(*with_other_rows(inputs, slice(0, 50), names=("k", "v", "key_times")))
    assert torch.equal(out[80:], other[80:])  # row 80 sees 50 .. 80
    assert not (out[50:80] == other[50:80]).all(dim=(1, 2)).any()


def test_full_rows_and_targets_see_beyond_the_window():
    inputs = example([120], heads=2, width=25, window=30, full_rows=10, targets=[5])
    out = attention(*inputs)
    other = attention(*with_other_rows(inputs, slice(0, 1), names=("k", "v", "key_times")))
    same = (out == other).all(dim=2).all(dim=1)
    assert same.tolist() == [False] * 31 + [True] * 74 + [False] * 15


def test_context_rows_alone_see_the_future():
    inputs = example([100], heads=2, width=25, targets=[20], context=4)
    out, other = attention(*inputs), attention(*with_other_rows(inputs, slice(79, None)))  # and the targets, unseen
    same = (out == other).all(dim=2).all(dim=1)
    assert same.tolist() == [False] * 4 + [True] * 75 + [False] * 21


# batches


@pytest.mark.parametrize("short", [False, True])
def test_many_users_at_once_are_as_one_at_a_time(short):
    lengths = LENGTHS * 2
    users = dict(targets=some_targets(lengths), queries=some_queries(lengths) if short else None)
    inputs = with_wild_times(example(lengths, heads=2, width=25, **users, **MASKS))
    out = attention(*inputs)
    ones = torch.ones_like(out)
    dq, dk, dv, *_ = backward(inputs, ones)
    for user in range(len(lengths)):
        keys, rows, mine = alone(inputs, user)
        assert torch.equal(attention(*mine), out[rows])
        assert_same_bits(backward(mine, ones[rows])[:3], (dq[rows], dk[keys], dv[keys]))


def long_and_short_users():
    """One user with nearly all of the pairs, whom the backward pass shares out by heads."""
    return with_wild_times(
        example([5, 1500, 0, 40], heads=4, width=4, targets=[0, 100, 0, 2], window=200, full_rows=30, context=3)
    )


def test_a_very_long_user_beside_short_ones_agrees_with_naive():
    assert_same_as_naive(long_and_short_users())


def test_a_very_long_user_does_not_change_the_short_ones():
    inputs = long_and_short_users()
    ones = torch.ones_like(inputs[2].detach())
    out, (dq, dk, dv, *_) = attention(*inputs), backward(inputs, ones)
    for user in (0, 1, 3):
        keys, rows, mine = alone(inputs, user)
        assert torch.equal(attention(*mine), out[rows])
        assert_same_bits(backward(mine, ones[rows])[:3], (dq[rows], dk[keys], dv[keys]))


def test_three_heads_in_two_shares_agree_with_naive():
    assert_same_as_naive(example([150] * 4, heads=3, targets=[0, 150, 20, 1], **MASKS))  # each a quarter of all pairs


def test_same_bits_twice_and_with_any_number_of_threads_with_masks(threads):
    cases = [
        long_and_short_users(),
        example(LENGTHS, 2, 25, targets=some_targets(LENGTHS), queries=some_queries(LENGTHS), **MASKS),
    ]
    cases += [[x.detach().bfloat16().requires_grad_() if is_float(x) else x for x in inputs] for inputs in cases]
    for inputs in cases:
        with threads(1):
            expected = run(attention, inputs)
        for count in (1, 2, 2, 3):
            with threads(count):
                assert_same_bits(run(attention, inputs), expected)


# dtypes and strides


@pytest.mark.parametrize("kernel", ["cpu.cpp", "naive"])
@pytest.mark.parametrize("tables_dtype", [torch.float32, torch.bfloat16])
def test_bfloat16_is_float32_on_the_same_numbers_rounded(tables_dtype, kernel, monkeypatch):
    lengths = [65, 0, 1, 100]
    inputs = example(lengths, 2, 25, 9, targets=[3, 0, 1, 60], queries=[65, 0, 0, 80], **MASKS)
    tables = "position_bias", "time_bias"
    low = {name: x.detach().bfloat16() for name, x in zip("qkv", get(inputs, "q", "k", "v"))}
    low |= {name: x.detach().to(tables_dtype) for name, x in zip(tables, get(inputs, *tables))}
    inputs = [detached(x) for x in changed(inputs, **low)]
    in_float = [x.float() if is_float(x) else x for x in inputs]
    grad = noise((145, 2, 9)).bfloat16()

    expected = [attention(*in_float), *backward(in_float, grad.float())]
    if kernel == "naive":
        monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    found = [attention(*inputs), *backward(inputs, grad)]
    assert [x.dtype for x in found] == [torch.bfloat16] * 4 + [tables_dtype] * 2
    for x, y in zip(found, expected, strict=True):
        assert_close_but_for_rounding(x, y, weights_rounded=kernel == "cpu.cpp")


def assert_close_but_for_rounding(x, y, weights_rounded=True):
    """Gradients of float32 tables are as exact as ever. A bfloat16 result may differ in its last place, and, where
    weights are rounded before they are multiplied, by half of the last place of the largest."""
    if x.dtype == torch.float32:
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)
    else:
        atol = 2**-8 * float(y.abs().max()) if weights_rounded else 1e-5
        torch.testing.assert_close(x, y.to(x.dtype), rtol=2**-7, atol=atol)


@pytest.mark.parametrize("v_width", [1, 16, 33])
@pytest.mark.parametrize("width", [1, 8, 25, 64, 100])
@pytest.mark.parametrize("masks", ["none", "all", "short queries"])
def test_bfloat16_is_float32_for_every_width(width, v_width, masks):
    """Odd widths and odd numbers of rows and keys, too: products of bfloat16 are made of pairs."""
    given = {"targets": some_targets(LENGTHS)} | MASKS if masks == "all" else {}
    given |= {"queries": some_queries(LENGTHS)} if masks == "short queries" else {}
    inputs = [in_bfloat16(x) for x in example(LENGTHS, 2, width, v_width, **given)]
    in_float = [x.float() if is_float(x) else x for x in inputs]
    grad = noise((len(inputs[0]), 2, v_width)).bfloat16()
    expected = [attention(*in_float), *backward(in_float, grad.float())]
    for x, y in zip([attention(*inputs), *backward(inputs, grad)], expected, strict=True):
        assert_close_but_for_rounding(x, y)


def in_bfloat16(x):
    return x.detach().bfloat16() if is_float(x) else detached(x)


def test_autograd_gives_each_input_a_gradient_of_its_dtype():
    inputs = example([65, 0, 100], targets=[3, 0, 60], **MASKS)
    inputs = [x.detach().bfloat16().requires_grad_() if is_float(x) else x for x in inputs]
    assert {x.dtype for x in run(attention, inputs)} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["q", "k", "v", "grad", "all"])
def test_strides_do_not_matter(name):
    """Also of the last dimension, and of a gradient that is one number, expanded."""
    names = ["q", "k", "v"] if name == "all" else [name]
    inputs = example([70, 3], heads=2, width=16, targets=[10, 0], **MASKS)
    inputs = [x.detach().contiguous() if isinstance(x, torch.Tensor) else x for x in inputs]
    strided = changed(inputs, **{n: every_other(x) for n, x in zip("qkv", inputs) if n in names})
    ones = torch.ones_like(inputs[2])
    grad = torch.ones(()).expand(ones.shape) if name in ("grad", "all") else ones
    assert torch.equal(attention(*strided), attention(*inputs))
    assert_same_bits(backward(strided, grad), backward(inputs, ones))


def every_other(x):
    """The same numbers with gaps in all dimensions, in the order of the dimensions turned round."""
    memory = torch.zeros([2 * size for size in reversed(x.shape)], dtype=x.dtype)
    view = memory[tuple(slice(None, None, 2) for _ in x.shape)].permute(*reversed(range(x.dim())))
    view.copy_(x)
    assert 1 not in view.stride()
    return view


def test_strides_of_integers_and_tables_do_not_matter():
    inputs = example([70, 3], heads=2, width=16, targets=[10, 0], **MASKS)
    strided = [every_other(x.detach()) if isinstance(x, torch.Tensor) and x.dim() == 1 else x for x in inputs]
    assert torch.equal(attention(*strided), attention(*inputs))
    ones = torch.ones_like(inputs[2])
    assert_same_bits(backward(strided, ones), backward(inputs, ones))


# bad input


def good():
    q, k, v, offsets, scale, position_bias, time_bias, query_times, key_times, query_offsets, num_targets, *_ = example(
        [3, 0, 4], heads=2, targets=[1, 0, 4], queries=[2, 0, 4]
    )
    return dict(
        q=q, k=k, v=v, offsets=offsets, scale=scale, position_bias=position_bias, time_bias=time_bias,
        query_times=query_times, key_times=key_times, query_offsets=query_offsets, num_targets=num_targets,
    )  # fmt: skip


TENSORS = [name for name in good() if name != "scale"]
FLOATS = "q", "k", "v", "position_bias", "time_bias"


def assert_refused(match, **bad):
    with pytest.raises(ValueError, match=match):
        hstu_attention(**{**good(), **bad})


def test_good_input_is_not_refused():
    assert hstu_attention(**good()).shape == (6, 2, 8)


@pytest.mark.parametrize("name", TENSORS)
def test_a_wrong_device_is_named(name):
    named = "k" if name == "q" else name  # all are compared to q
    assert_refused(f"^{named} is on ", **{name: good()[name].to(torch.device("meta"))})


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_a_wrong_dtype_is_named(name, dtype):
    assert_refused(rf"^{name} (must be|is).*{dtype}", **{name: good()[name].detach().to(dtype)})


@pytest.mark.parametrize("name", ["k", "v"])
def test_one_dtype_for_q_k_and_v(name):
    assert_refused(f"^{name} is torch.bfloat16, but q is torch.float32", **{name: good()[name].bfloat16()})


@pytest.mark.parametrize("name", ["position_bias", "time_bias"])
def test_a_table_finer_than_q_is_named(name):
    assert_refused(f"^{name} is torch.float64, but q is torch.float32", **{name: good()[name].double()})


@pytest.mark.parametrize("name", [name for name in TENSORS if name not in FLOATS])
def test_integers_as_floats_are_named(name):
    assert_refused(f"^{name} must be int64", **{name: good()[name].float()})


@pytest.mark.parametrize("name", TENSORS)
def test_one_dimension_too_many_is_named(name):
    assert_refused(f"^{name} must be ", **{name: good()[name].detach()[None]})


@pytest.mark.parametrize("name", TENSORS)
def test_one_dimension_too_few_is_named(name):
    assert_refused(f"^{name} must be ", **{name: good()[name].detach()[0]})


@pytest.mark.parametrize("name", ["q", "k", "v", "offsets"])
def test_a_single_number_is_named(name):
    number = torch.tensor(1, dtype=good()[name].dtype)
    given = {n: good()[n] for n in ("q", "k", "v", "offsets")} | {name: number}
    with pytest.raises(ValueError, match=f"^{name} must be "):
        hstu_attention(**given, scale=1.0)


@pytest.mark.parametrize("users", [{}, dict(num_targets=torch.zeros(0, dtype=torch.int64))], ids=["", "targets"])
def test_empty_offsets_are_named(users):
    x, nothing = torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^offsets must have one entry more"):
        hstu_attention(x, x, x, nothing, scale=1.0, **users)


@pytest.mark.parametrize("name", ["position_bias", "time_bias"])
def test_an_empty_table_is_named(name):
    assert_refused(f"^{name} must be one row of floats", **{name: torch.zeros(0)})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("k", (7, 3, 8)), ("k", (7, 2, 9)), ("v", (7, 3, 8)), ("v", (6, 2, 8)), ("v", (8, 2, 8))],
)
def test_rows_heads_and_widths_that_do_not_fit_are_named(name, shape):
    assert_refused(f"^{name} has ", **{name: torch.zeros(shape)})


@pytest.mark.parametrize("name", ["query_times", "key_times", "query_offsets", "num_targets"])
def test_a_wrong_number_of_entries_is_named(name):
    entries = good()[name]
    for wrong in (entries[:-1], torch.cat([entries, entries[-1:]])):
        assert_refused(f"^{name} must have {len(entries)} entries, but it has {len(wrong)}", **{name: wrong})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("offsets", [1, 3, 3, 7]),  # does not start at 0
        ("offsets", [0, 3, 3, 6]),  # does not end at the number of rows
        ("offsets", [0, 3, 3, 8]),
        ("offsets", [0, 5, 4, 7]),  # falls
        ("offsets", [0, -1, 3, 7]),
        ("query_offsets", [1, 2, 2, 6]),
        ("query_offsets", [0, 2, 2, 5]),
        ("query_offsets", [0, 2, 1, 6]),
    ],
)
def test_offsets_that_do_not_cut_the_rows_are_named(name, wrong):
    assert_refused(rf"^{name} must rise from 0 to \d, the number of rows, but it is ", **{name: torch.tensor(wrong)})


def test_more_queries_than_keys_are_refused():
    assert_refused("query_offsets gives a user more queries", query_offsets=torch.tensor([0, 2, 3, 6]))


@pytest.mark.parametrize("targets", [[4, 0, 0], [0, 1, 0], [0, 0, -1]])
def test_too_many_or_too_few_targets_are_named(targets):
    assert_refused("^num_targets must be between 0 and", num_targets=torch.tensor(targets))


def test_no_users_with_rows_are_refused():
    nobody = torch.zeros(1, dtype=torch.int64)
    assert_refused("^offsets must rise", offsets=nobody, query_offsets=nobody, num_targets=nobody[:0])


@pytest.mark.parametrize(
    ("name", "value"), [("window", 0), ("window", -1), ("full_rows", -1), ("context", -1)], ids=str
)
def test_a_mask_below_its_least_value_is_named(name, value):
    assert_refused(f"^{name} must be .*, but it is {value}$", **{name: value})


@pytest.mark.parametrize("name", ["query_times", "key_times"])
def test_a_time_bias_without_times_is_refused(name):
    assert_refused("time_bias needs query_times and key_times", **{name: None})


def test_bad_values_are_refused_without_a_compiler_too(monkeypatch):
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    assert_refused("^num_targets must be between 0 and", num_targets=torch.tensor([4, 0, 0]))


# torch.compile and export


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_op_keeps_the_rules_of_torch_compile_with_masks(dtype):
    inputs = example([6, 0, 2], width=4, targets=[1, 0, 2], queries=[4, 0, 1], dtype=dtype, window=2, context=1)
    torch.library.opcheck(attention, inputs)
    out = attention(*inputs).detach()
    torch.library.opcheck(ops.attention_backward, (torch.ones_like(out), *(detached(x) for x in inputs)))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.position_bias, self.time_bias = nn.Parameter(noise([10])), nn.Parameter(noise([30]))

    def forward(self, q, k, v, offsets, times, num_targets):
        bias = dict(position_bias=self.position_bias, time_bias=self.time_bias, query_times=times, key_times=times)
        masks = dict(num_targets=num_targets, window=5, full_rows=2, context=2)
        return 2 * hstu_attention(q * 3, k, v, offsets, scale=0.1, **bias, **masks)


def layer_inputs(lengths, targets):
    inputs = example(lengths, heads=2, width=4, targets=targets)
    return get(inputs, "q", "k", "v", "offsets", "key_times", "num_targets")


def test_compiled_gives_the_same_as_eager():
    layer, inputs = Layer(), layer_inputs([20, 0, 30], [3, 0, 30])
    assert_same_bits(
        outputs_and_gradients(torch.compile(layer, fullgraph=True, backend="aot_eager"), inputs),
        outputs_and_gradients(layer, inputs),
    )


def test_compiled_once_for_batches_of_any_size():
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(Layer(), fullgraph=True, dynamic=True, backend=counter)
    for users in 5, 6, 7, 9:
        compiled(*layer_inputs([11] * users, [1] * users))
    assert counter.frame_count == 1


def outputs_and_gradients(layer, inputs):
    out = layer(*inputs)
    leaves = [*inputs[:3], *layer.parameters()]
    return [out.detach(), *torch.autograd.grad(out, leaves, noise(out.shape))]


def test_exported_gives_the_same_for_other_batches_too():
    layer = Layer()
    events, users = torch.export.Dim("events", min=2), torch.export.Dim("users", min=2)
    rows = {0: events}
    exported = torch.export.export(
        layer,
        tuple(x.detach() for x in layer_inputs([20, 0, 30], [3, 0, 30])),
        dynamic_shapes=(rows, rows, rows, {0: users + 1}, rows, {0: users}),
    )
    for lengths, targets in ([20, 0, 30], [3, 0, 30]), ([1, 5], [0, 2]):
        inputs = layer_inputs(lengths, targets)
        assert torch.equal(exported.module()(*inputs), layer(*inputs))
