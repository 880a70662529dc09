"""Who sees whom, short queries, bfloat16 and bad input of hstu_attention. The plain op is in test_hstu_attention.py."""

import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.testing import CompileCounter

from louder.ops import hstu_attention as ops
from louder.ops.hstu_attention import attention, hstu_attention, naive
from louder.ops.layout import Layout, candidate_prefix_lengths, visible
from tests.ops.test_hstu_attention import (
    TABLES,
    assert_same_as_reference,
    detached,
    example,
    is_float,
    layout_of,
    reference,
    run,
)

pytestmark = pytest.mark.usefixtures("needs_compiler")

# around the kernel's tiles of 24 and 48 rows, and around 64
LENGTHS = [65, 0, 1, 23, 24, 25, 47, 48, 49, 63, 64, 2, 96, 97, 130]
NAMES = [argument.name for argument in attention._opoverload._schema.arguments]
MASKS = dict(window=20, global_prefix=3)
KINDS = ["requests", "random", "first", "index", "candidates"]


def some_prefix_lengths(lengths, kind, seed=0):
    """Of all users, end to end."""
    return [prefix for n in lengths for prefix in prefix_lengths_of_one(n, kind, random.Random(f"{seed} {n}"))]


def prefix_lengths_of_one(n, kind, generator):
    if kind == "random":
        return [generator.randint(0, i) for i in range(n)]
    if kind == "candidates":
        history = generator.randint(0, n)
        return [min(i, history) for i in range(n)]
    prefix_lengths = [0] * n if kind == "first" else [*range(n)]
    if kind == "requests":  # items and their actions in turn, one to forty pairs in a request
        first = 0
        while first < n:
            pairs = generator.choice([1, 2, 3, 40])
            for i in range(first, min(first + 2 * pairs, n), 2):
                prefix_lengths[i] = first
            first += 2 * pairs
    return prefix_lengths


def rules(prefix_lengths, window=None, global_prefix=0):
    """Who sees whom, as sets of keys. Written apart from layout.visible."""
    n, rows = len(prefix_lengths), []
    for row, prefix in enumerate(prefix_lengths):
        nearest = range(prefix) if window is None else range(max(prefix - window, 0), prefix)
        seen = {*nearest, *range(min(global_prefix, prefix)), row}
        rows.append([key in seen for key in range(n)])
    return torch.tensor(rows, dtype=torch.bool).view(n, n)


def by_reference(prefix_lengths, window=None, global_prefix=0, queries=None):
    n, prefix_lengths = len(prefix_lengths), torch.tensor(prefix_lengths, dtype=torch.int64)
    first = 0 if queries is None else n - queries
    return visible(torch.arange(first, n), prefix_lengths[first:], n, window, global_prefix)


def by_kernel(prefix_lengths, window=None, global_prefix=0, queries=None):
    """Value j is a one in column j, and every score is 1: a row's result is 0 just in the columns of what is hidden."""
    n = len(prefix_lengths)
    queries = n if queries is None else queries
    layout = Layout(
        torch.tensor([0, n]),
        prefix_lengths=torch.tensor(prefix_lengths),
        query_offsets=torch.tensor([0, queries]),
        window=window,
        global_prefix=global_prefix,
    )
    nothing = torch.zeros(n, 1, 1)
    out = hstu_attention(
        nothing[:queries], nothing, torch.eye(n)[:, None], layout, scale=1.0, position_bias=torch.ones(1)
    )[:, 0]
    torch.testing.assert_close(out, F.silu(torch.tensor(1.0)) * (out != 0))
    return out != 0


def pair_by_pair(*inputs):
    """The op by loops over users, rows and keys, for autograd."""
    q, k, v, scale, position_bias, time_bias = inputs[:6]
    layout, out = layout_of(inputs), []
    for (start, end), last_query in zip(itertools.pairwise(layout.offsets.tolist()), layout.query_offsets[1:].tolist()):
        count = last_query - len(out)
        prefix_lengths = layout.prefix_lengths[start:end].tolist()
        sees = rules(prefix_lengths, layout.window, layout.global_prefix)
        for i in range(end - start - count, end - start):
            m, total = len(out), 0.0
            for j in sees[i].nonzero()[:, 0].tolist():
                n = start + j
                score = (q[m] * k[n]).sum(-1)
                if position_bias is not None:
                    distance = max(prefix_lengths[i] - prefix_lengths[j], 0)
                    score = score + position_bias[min(distance, len(position_bias) - 1)]
                if time_bias is not None:
                    seconds = layout.query_times[m] - layout.key_times[n]
                    score = score + time_bias[naive.time_buckets(seconds, len(time_bias))]
                total = total + (F.silu(score) * scale)[:, None] * v[n]
            out.append(total)
    return torch.stack(out)


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


def with_rows(inputs, rows):
    """Only some rows of the one user that there is, the others' prefix lengths being as they were."""
    names = "q", "k", "v", "query_times", "key_times", "prefix_lengths"
    kept = {name: x[rows].detach() for name, x in zip(names, get(inputs, *names))}
    offsets = torch.tensor([0, len(rows)])
    return changed(inputs, **kept, offsets=offsets, query_offsets=offsets)


def alone(inputs, user):
    """One user of a batch."""
    offsets, query_offsets = get(inputs, "offsets", "query_offsets")
    keys, rows = slice(*offsets[user : user + 2].tolist()), slice(*query_offsets[user : user + 2].tolist())
    mine = {name: x[rows].detach() for name, x in zip(("q", "query_times"), get(inputs, "q", "query_times"))}
    names = "k", "v", "key_times", "prefix_lengths"
    mine |= {name: None if x is None else x[keys].detach() for name, x in zip(names, get(inputs, *names))}
    mine["offsets"] = torch.tensor([0, keys.stop - keys.start])
    mine["query_offsets"] = torch.tensor([0, rows.stop - rows.start])
    return keys, rows, changed(inputs, **mine)


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


def test_the_reference_mask_follows_the_rules_for_every_small_user():
    for n in range(1, 6):
        for prefix_lengths in itertools.product(*(range(i + 1) for i in range(n))):
            for window, global_prefix in itertools.product([None, *range(1, n + 1)], range(n + 1)):
                masks = window, global_prefix
                assert torch.equal(by_reference(prefix_lengths, *masks), rules(prefix_lengths, *masks)), (
                    prefix_lengths,
                    *masks,
                )


@st.composite
def one_user(draw, longest):
    n = draw(st.integers(1, longest))
    amount = st.integers(1, 5) | st.integers(1, n + 2)
    return dict(
        prefix_lengths=some_prefix_lengths([n], draw(st.sampled_from(KINDS)), draw(st.integers(0, 1000))),
        window=draw(st.none() | amount),
        global_prefix=draw(st.just(0) | amount),
    )


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=one_user(longest=110) | one_user(longest=400), part=st.floats(0, 1))
def test_both_masks_follow_the_rules(user, part):
    queries = round(part * len(user["prefix_lengths"]))
    expected = rules(**user)[len(user["prefix_lengths"]) - queries :]
    assert torch.equal(by_reference(**user, queries=queries), expected)
    assert torch.equal(by_kernel(**user, queries=queries), expected)


@pytest.mark.parametrize("mask", [rules, by_reference, by_kernel])
def test_requests_written_out(mask):
    picture = """
        #......   an item
        ##.....   and its action
        ###....   the first of two items of a request
        ####...
        ##..#..   the second sees neither the first nor its action
        ######.   its action sees everything before it
        #######
    """
    assert mask([0, 1, 2, 3, 2, 5, 6]).tolist() == read(picture)


@pytest.mark.parametrize("mask", [rules, by_reference, by_kernel])
def test_a_window_and_a_global_prefix_written_out(mask):
    picture = """
        #.......
        ##......   the global prefix is causal: its second row sees the first
        ###.....
        ####....
        #####...   two of the global prefix, two of the window, itself
        ##.###..
        ##..###.   a candidate: its window ends where the history does
        ##..##.#   and so does that of the next, which does not see it
    """
    assert mask([0, 1, 2, 3, 4, 5, 6, 6], window=2, global_prefix=2).tolist() == read(picture)


def read(picture):
    return [[c == "#" for c in line.split()[0]] for line in picture.strip().splitlines()]


# kernel and reference


@pytest.mark.parametrize("masks", [{}, dict(window=2), dict(window=2, global_prefix=2)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_equation_pair_by_pair(kind, masks):
    lengths = [7, 0, 1, 12]
    prefix_lengths = some_prefix_lengths(lengths, kind)
    inputs = example(
        lengths, heads=2, width=3, P=5, T=30, queries=[4, 0, 1, 12], prefix_lengths=prefix_lengths,
        dtype=torch.float64, **masks,
    )  # fmt: skip
    inputs = with_wild_times(inputs)
    for op in reference, attention:  # in float64 both are naive, but their backward passes differ
        for got, expected in zip(run(op, inputs), run(pair_by_pair, inputs), strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("short", [False, True], ids=["", "short"])
@pytest.mark.parametrize("window", [None, 1, 30, 100], ids="window{}".format)
@pytest.mark.parametrize("global_prefix", [0, 3, 60], ids="global{}".format)
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_agrees_with_the_reference_for_every_combination_of_masks(kind, global_prefix, window, short):
    assert_same_as_reference(
        example(
            LENGTHS,
            width=4,
            queries=some_queries(LENGTHS) if short else None,
            prefix_lengths=None if kind is None else some_prefix_lengths(LENGTHS, kind),
            window=window,
            global_prefix=global_prefix,
        )
    )


@pytest.mark.parametrize("short", [False, True], ids=["", "short"])
@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_reference_for_all_tables(kind, tables, short):
    queries, prefix_lengths = some_queries(LENGTHS) if short else None, some_prefix_lengths(LENGTHS, kind)
    assert_same_as_reference(
        example(LENGTHS, heads=2, width=5, v_width=9, tables=tables, queries=queries, prefix_lengths=prefix_lengths)
    )


@pytest.mark.parametrize("times", [with_wild_times, lambda inputs: inputs], ids=["wild", "in order"])
@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_agrees_with_the_reference_for_all_tables_heads_and_times(heads, tables, times):
    lengths = [65, 0, 1, 24, 100]
    users = dict(targets=[3, 0, 1, 24, 60], queries=[65, 0, 0, 24, 62])
    assert_same_as_reference(times(example(lengths, heads, 5, 9, tables, **users, **MASKS)))


@pytest.mark.parametrize("global_prefix", [70, 97, 200])
def test_agrees_with_the_reference_for_a_long_global_prefix(global_prefix):
    """Longer than one tile, and longer than any history."""
    for window in 4, 100:
        inputs = example([20, 50, 130, 700], targets=[0, 3, 0, 9], global_prefix=global_prefix, window=window)
        assert_same_as_reference(inputs)


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
        queries=[draw(st.integers(0, n)) for n in lengths] if draw(st.booleans()) else None,
        prefix_lengths=draw(st.none() | st.sampled_from(KINDS).map(lambda kind: some_prefix_lengths(lengths, kind))),
        window=draw(st.none() | amount.map(lambda n: n + 1)),
        global_prefix=draw(amount),
    )
    spread = draw(st.sampled_from([None, 1, 100, 10**8]))
    return inputs if spread is None else with_wild_times(inputs, spread)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=batches())
def test_agrees_with_the_reference_for_everything_together(inputs):
    if len(inputs[0]) > 0:
        assert_same_as_reference(inputs)
    else:  # naive's autograd has nothing to hang on
        out, *grads = run(attention, inputs)
        assert out.shape == (0, *get(inputs, "v")[0].shape[1:])
        assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("short", [False, True])
def test_gradients_in_float64_with_masks(short):
    queries = [4, 0, 2] if short else None
    users = dict(targets=[1, 0, 3], queries=queries, window=2, global_prefix=1)
    inputs = example([6, 0, 3], heads=2, width=2, v_width=3, P=3, T=30, dtype=torch.float64, **users)
    assert torch.autograd.gradcheck(attention, with_wild_times(inputs))


def test_without_a_compiler_the_answer_is_the_same(monkeypatch):
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    assert_same_as_reference(example([30, 0, 6], heads=2, targets=[4, 0, 6], queries=[20, 0, 2], **MASKS))


# candidates

HISTORY, CANDIDATES = 70, 30


def history_and_candidates(**masks):
    return example([HISTORY + CANDIDATES], heads=2, width=25, targets=[CANDIDATES], **masks)


def test_candidates_have_the_history_for_a_prefix():
    offsets, candidates = torch.tensor([0, 5, 5, 7, 8]), torch.tensor([2, 0, 0, 1])
    assert candidate_prefix_lengths(offsets, 8, candidates).tolist() == [0, 1, 2, 3, 3, 0, 1, 0]


@pytest.mark.parametrize("masks", [{}, MASKS], ids=["", "masks"])
def test_a_row_does_not_change_with_other_candidates(masks):
    inputs = history_and_candidates(**masks)
    out, other = attention(*inputs), attention(*with_other_rows(inputs, slice(HISTORY + 10, None)))
    assert torch.equal(out[: HISTORY + 10], other[: HISTORY + 10])
    assert not torch.equal(out[HISTORY + 10], other[HISTORY + 10])


@pytest.mark.parametrize("masks", [{}, MASKS], ids=["", "masks"])
def test_a_candidate_does_not_change_when_others_are_removed_or_reordered(masks):
    inputs = history_and_candidates(**masks)
    order = torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(0))
    out = attention(*inputs)
    for kept in (order, order[:7], order[:1]):
        rows = torch.cat([torch.arange(HISTORY), HISTORY + kept])
        assert torch.equal(attention(*with_rows(inputs, rows)), out[rows])
    assert_close(attention(*with_rows(inputs, torch.arange(HISTORY))), out[:HISTORY])


def test_candidates_get_no_gradient_from_each_other():
    inputs = history_and_candidates(**MASKS)
    grad = torch.zeros_like(inputs[2])
    grad[HISTORY + 5] = 1
    for d in backward(inputs, grad)[:3]:
        assert d[HISTORY + 5].all()
        assert not d[HISTORY : HISTORY + 5].any() and not d[HISTORY + 6 :].any()


def test_without_prefix_lengths_they_are_the_rows_own_indices():
    given = run(attention, example(LENGTHS, heads=2, prefix_lengths=some_prefix_lengths(LENGTHS, "index")))
    for got, expected in zip(given, run(attention, example(LENGTHS, heads=2)), strict=True):
        assert_close(got, expected)


def test_an_item_changes_with_what_came_before_its_request_only():
    """Tokens 40, 42 and 44 are items of one request, 41, 43 and 45 their actions."""
    prefix_lengths = [*range(40), 40, 41, 40, 43, 40, 45, *range(46, 100)]
    inputs = example([100], heads=2, width=25, prefix_lengths=prefix_lengths)
    out = attention(*inputs)
    for rows, unchanged in (slice(40, 42), {42, 44}), (slice(43, 46), set()), (slice(39, 40), set()):
        other = attention(*with_other_rows(inputs, rows))
        same = (out == other).all(dim=2).all(dim=1)
        assert {i for i in range(100) if same[i]} == unchanged | {*range(rows.start)}


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


# windows and global prefixes


@pytest.mark.parametrize("targets", [None, [0, 0, 30, 1]])
def test_a_window_as_long_as_the_history_is_none(targets):
    inputs = example([100, 0, 30, 1], heads=2, targets=targets, global_prefix=3)
    assert_same_bits(run(attention, changed(inputs, window=100)), run(attention, inputs))


@pytest.mark.parametrize("global_prefix", [95, 100, 2**62])
def test_a_global_prefix_that_reaches_the_window_is_all_of_the_history(global_prefix):
    inputs = example([100, 0, 30], heads=2, targets=[2, 0, 0])
    assert_same_bits(run(attention, changed(inputs, window=3, global_prefix=global_prefix)), run(attention, inputs))


def test_a_row_does_not_change_with_keys_outside_its_window():
    inputs = example([120], heads=2, width=25, window=30)
    out = attention(*inputs)
    other = attention(*with_other_rows(inputs, slice(0, 50), names=("k", "v", "key_times")))
    assert torch.equal(out[80:], other[80:])  # row 80 sees 50 .. 80
    assert not (out[50:80] == other[50:80]).all(dim=(1, 2)).any()


def test_the_global_prefix_is_seen_beyond_the_window():
    inputs = example([300], heads=2, width=25, window=30, global_prefix=10)
    out = attention(*inputs)
    for hidden in 9, 10:
        other = attention(*with_other_rows(inputs, slice(hidden, hidden + 1), names=("k", "v", "key_times")))
        same = (out == other).all(dim=2).all(dim=1)
        assert same.tolist() == [True] * hidden + [False] * 31 + [hidden == 10] * (269 - hidden)


# batches


@pytest.mark.parametrize("short", [False, True], ids=["", "short"])
@pytest.mark.parametrize("masks", [{}, MASKS], ids=["", "masks"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_users_at_once_are_as_one_at_a_time(kind, masks, short):
    lengths = [*LENGTHS, 700]  # who has most of the pairs, and is shared out by heads
    users = dict(prefix_lengths=some_prefix_lengths(lengths, kind), queries=some_queries(lengths) if short else None)
    inputs = with_wild_times(example(lengths, heads=2, width=25, **users, **masks))
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
        example([5, 1500, 0, 40], heads=4, width=4, targets=[0, 100, 0, 2], window=200, global_prefix=3)
    )


def test_a_very_long_user_beside_short_ones_agrees_with_the_reference():
    assert_same_as_reference(long_and_short_users())


def test_a_very_long_user_does_not_change_the_short_ones():
    inputs = long_and_short_users()
    ones = torch.ones_like(inputs[2].detach())
    out, (dq, dk, dv, *_) = attention(*inputs), backward(inputs, ones)
    for user in (0, 1, 3):
        keys, rows, mine = alone(inputs, user)
        assert torch.equal(attention(*mine), out[rows])
        assert_same_bits(backward(mine, ones[rows])[:3], (dq[rows], dk[keys], dv[keys]))


def test_three_heads_in_two_shares_agree_with_the_reference():
    assert_same_as_reference(
        example([150] * 4, heads=3, targets=[0, 150, 20, 1], **MASKS)
    )  # each a quarter of all pairs


def test_same_bits_twice_and_with_any_number_of_threads_with_masks(threads):
    cases = [
        long_and_short_users(),
        example(LENGTHS, 2, 25, targets=some_targets(LENGTHS), queries=some_queries(LENGTHS), **MASKS),
        *(example([*LENGTHS, 700], 2, 25, prefix_lengths=some_prefix_lengths([*LENGTHS, 700], kind))
          for kind in ("requests", "random")),
    ]  # fmt: skip
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


def test_bfloat16_is_float32_where_a_gradient_is_a_sum_over_other_rows_and_the_keys_own():
    lengths = [65, 0, 1, 100]
    inputs = [
        in_bfloat16(x) for x in example(lengths, 2, 25, 9, prefix_lengths=some_prefix_lengths(lengths, "requests"))
    ]
    in_float = [x.float() if is_float(x) else x for x in inputs]
    grad = noise((166, 2, 9)).bfloat16()
    expected = [attention(*in_float), *backward(in_float, grad.float())]
    for x, y in zip([attention(*inputs), *backward(inputs, grad)], expected, strict=True):
        assert_close_but_for_rounding(x, y)


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
    inputs = example([3, 0, 4], heads=2, targets=[1, 0, 4], queries=[2, 0, 4])
    return dict(zip(NAMES, inputs, strict=True))


TENSORS = [name for name, x in good().items() if isinstance(x, torch.Tensor)]
FLOATS = "q", "k", "v", "position_bias", "time_bias"


def assert_refused(match, **bad):
    with pytest.raises(ValueError, match=match):
        call(**{**good(), **bad})


def call(q, k, v, scale, position_bias=None, time_bias=None, **layout):
    return hstu_attention(q, k, v, Layout(**layout), scale=scale, position_bias=position_bias, time_bias=time_bias)


def test_good_input_is_not_refused():
    assert call(**good()).shape == (6, 2, 8)


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
        call(**given, scale=1.0)


def test_empty_offsets_are_named():
    x, nothing = torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^offsets must have one entry more"):
        hstu_attention(x, x, x, Layout(nothing), scale=1.0)


@pytest.mark.parametrize("name", ["position_bias", "time_bias"])
def test_an_empty_table_is_named(name):
    assert_refused(f"^{name} must be one row of floats", **{name: torch.zeros(0)})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("k", (7, 3, 8)), ("k", (7, 2, 9)), ("v", (7, 3, 8)), ("v", (6, 2, 8)), ("v", (8, 2, 8))],
)
def test_rows_heads_and_widths_that_do_not_fit_are_named(name, shape):
    assert_refused(f"^{name} has ", **{name: torch.zeros(shape)})


@pytest.mark.parametrize("name", ["query_times", "key_times", "query_offsets", "prefix_lengths"])
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


@pytest.mark.parametrize("wrong", [(0, 1, 1, 1, 0, 1, 3), (0, 1, 3, 0, 0, 1, 3), (0, 1, 2, 0, 0, -1, 3)])
def test_prefix_lengths_beyond_their_row_are_named(wrong, monkeypatch):
    assert_refused("^prefix_lengths must be between 0 and", prefix_lengths=torch.tensor(wrong))
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    assert_refused("^prefix_lengths must be between 0 and", prefix_lengths=torch.tensor(wrong))


def test_no_users_with_rows_are_refused():
    nobody = torch.zeros(1, dtype=torch.int64)
    assert_refused("^offsets must rise", offsets=nobody, query_offsets=nobody)


@pytest.mark.parametrize(("name", "value"), [("window", 0), ("window", -1), ("global_prefix", -1)], ids=str)
def test_a_mask_below_its_least_value_is_named(name, value):
    assert_refused(f"^{name} must be .*, but it is {value}$", **{name: value})


@pytest.mark.parametrize("name", ["query_times", "key_times"])
def test_a_time_bias_without_times_is_refused(name):
    assert_refused("time_bias needs query_times and key_times", **{name: None})


# torch.compile and export


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_op_keeps_the_rules_of_torch_compile_with_masks(dtype):
    inputs = example([6, 0, 2], width=4, targets=[1, 0, 2], queries=[4, 0, 1], dtype=dtype, window=2, global_prefix=1)
    torch.library.opcheck(attention, inputs)
    out = attention(*inputs).detach()
    torch.library.opcheck(ops.attention_backward, (torch.ones_like(out), *(detached(x) for x in inputs)))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.position_bias, self.time_bias = nn.Parameter(noise([10])), nn.Parameter(noise([30]))

    def forward(self, q, k, v, offsets, times, prefix_lengths):
        bias = dict(position_bias=self.position_bias, time_bias=self.time_bias)
        layout = Layout(offsets, prefix_lengths, None, times, times, window=5, global_prefix=2)
        return 2 * hstu_attention(q * 3, k, v, layout, scale=0.1, **bias)


def layer_inputs(lengths, targets):
    inputs = example(lengths, heads=2, width=4, targets=targets)
    return get(inputs, "q", "k", "v", "offsets", "key_times", "prefix_lengths")


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
        dynamic_shapes=(rows, rows, rows, {0: users + 1}, rows, rows),
    )
    for lengths, targets in ([20, 0, 30], [3, 0, 30]), ([1, 5], [0, 2]):
        inputs = layer_inputs(lengths, targets)
        assert torch.equal(exported.module()(*inputs), layer(*inputs))
