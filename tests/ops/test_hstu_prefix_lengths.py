"""Places: items shown in one request that never see each other, in a history trained in one pass."""

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
from tests.ops.test_hstu_attention import TABLES, assert_same_as_naive, detached, example, is_float, run
from tests.ops.test_hstu_masks import (
    LENGTHS,
    alone,
    assert_close,
    assert_close_but_for_rounding,
    assert_same_bits,
    backward,
    by_kernel,
    changed,
    every_other,
    get,
    noise,
    some_queries,
    some_targets,
    with_other_rows,
    with_wild_times,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("needs_compiler")

KINDS = ["requests", "random", "first", "usual"]


def some_places(lengths, kind, seed=0):
    """Of all users, end to end."""
    return [place for n in lengths for place in places_of_one(n, kind, random.Random(f"{seed} {n}"))]


def places_of_one(n, kind, generator):
    if kind == "random":
        return [generator.randint(0, i) for i in range(n)]
    prefix_lengths = [0] * n if kind == "first" else [*range(n)]
    if kind == "requests":  # items and their actions in turn, one to forty pairs in a request
        first = 0
        while first < n:
            pairs = generator.choice([1, 2, 3, 40])
            for i in range(first, min(first + 2 * pairs, n), 2):
                prefix_lengths[i] = first
            first += 2 * pairs
    return prefix_lengths


def rules(prefix_lengths):
    """Who sees whom, pair by pair."""
    n = len(prefix_lengths)
    return torch.tensor([key < prefix_lengths[row] or key == row for row in range(n) for key in range(n)]).view(n, n)


def by_naive(prefix_lengths, queries=None):
    return naive.visible_from(torch.tensor(prefix_lengths), len(prefix_lengths) if queries is None else queries)


def seen_by_kernel(prefix_lengths, queries=None):
    return by_kernel(len(prefix_lengths), queries=queries, prefix_lengths=torch.tensor(prefix_lengths))


def pair_by_pair(inputs):
    """The op by loops over users, rows and keys, for autograd."""
    names = "q", "k", "v", "offsets", "scale", "position_bias", "time_bias", "query_times", "key_times"
    q, k, v, offsets, scale, position_bias, time_bias, query_times, key_times = get(inputs, *names)
    query_offsets, prefix_lengths = get(inputs, "query_offsets", "prefix_lengths")
    out = []
    for (start, end), last_query in zip(itertools.pairwise(offsets.tolist()), query_offsets[1:].tolist()):
        count = last_query - len(out)
        for i in range(end - start - count, end - start):
            m, place, total = len(out), int(prefix_lengths[start + i]), 0.0
            for j in sorted({*range(place), i}):
                n = start + j
                score = (q[m] * k[n]).sum(-1)
                if position_bias is not None:
                    score = score + position_bias[min(max(place - int(prefix_lengths[n]), 0), len(position_bias) - 1)]
                if time_bias is not None:
                    score = score + time_bias[naive.time_buckets(query_times[m] - key_times[n], len(time_bias))]
                total = total + (F.silu(score) * scale)[:, None] * v[n]
            out.append(total)
    return torch.stack(out)


# the mask itself


@pytest.mark.parametrize("mask", [rules, by_naive, seen_by_kernel])
def test_a_mask_written_out(mask):
    picture = """
        #......   an item
        ##.....   and its action
        ###....   the first of two items of a request
        ####...
        ##..#..   the second sees neither the first nor its action
        ######.   its action sees everything before it
        #######
    """
    expected = [[c == "#" for c in line.split()[0]] for line in picture.strip().splitlines()]
    assert mask([0, 1, 2, 3, 2, 5, 6]).tolist() == expected


def test_naive_mask_follows_the_rules_for_every_small_user():
    for n in range(1, 6):
        for prefix_lengths in itertools.product(*(range(i + 1) for i in range(n))):
            assert torch.equal(by_naive(prefix_lengths), rules(prefix_lengths)), prefix_lengths


@st.composite
def one_user(draw, longest):
    n = draw(st.integers(1, longest))
    return some_places([n], draw(st.sampled_from(KINDS)), draw(st.integers(0, 1000)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix_lengths=one_user(longest=110), part=st.floats(0, 1))
def test_naive_and_kernel_masks_follow_the_rules(prefix_lengths, part):
    queries = round(part * len(prefix_lengths))
    expected = rules(prefix_lengths)[len(prefix_lengths) - queries :]
    assert torch.equal(by_naive(prefix_lengths, queries), expected)
    assert torch.equal(seen_by_kernel(prefix_lengths, queries), expected)


# naive and the equation, kernel and naive


@pytest.mark.parametrize("kind", KINDS)
def test_naive_is_the_equation_pair_by_pair(kind):
    lengths = [7, 0, 1, 12]
    prefix_lengths = some_places(lengths, kind)
    inputs = example(
        lengths, heads=2, width=3, P=5, T=30, queries=[4, 0, 1, 12], prefix_lengths=prefix_lengths, dtype=torch.float64
    )
    inputs = with_wild_times(inputs)
    for op in (naive.hstu_attention, attention):  # in float64 both are naive, but their backward passes differ
        for got, expected in zip(run(op, inputs), run(lambda *inputs: pair_by_pair(inputs), inputs), strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("short", [False, True], ids=["", "short"])
@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_naive(kind, tables, short):
    queries = some_queries(LENGTHS) if short else None
    assert_same_as_naive(
        example(
            LENGTHS,
            heads=2,
            width=5,
            v_width=9,
            tables=tables,
            queries=queries,
            prefix_lengths=some_places(LENGTHS, kind),
        )
    )


@st.composite
def batches(draw):
    lengths = draw(
        st.lists(st.sampled_from([1, 23, 24, 47, 48, 49, 64, 96]) | st.integers(0, 300), min_size=1, max_size=5)
    )
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
        prefix_lengths=some_places(lengths, draw(st.sampled_from(KINDS)), draw(st.integers(0, 100))),
    )
    spread = draw(st.sampled_from([None, 1, 100, 10**8]))
    return inputs if spread is None else with_wild_times(inputs, spread)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=batches().filter(lambda inputs: len(inputs[0]) > 0))
def test_agrees_with_naive_for_any_shape(inputs):
    assert_same_as_naive(inputs)


def test_gradients_in_float64():
    users = dict(queries=[4, 0, 2], prefix_lengths=[0, 1, 0, 3, 0, 2, 0, 0, 1])
    inputs = example([6, 0, 3], heads=2, width=2, v_width=3, P=3, T=30, dtype=torch.float64, **users)
    assert torch.autograd.gradcheck(attention, with_wild_times(inputs))


def test_without_a_compiler_the_answer_is_the_same(monkeypatch):
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    lengths = [30, 0, 6]
    assert_same_as_naive(example(lengths, heads=2, queries=[20, 0, 2], prefix_lengths=some_places(lengths, "requests")))


def test_bfloat16_is_float32_on_the_same_numbers_rounded():
    """Also where a gradient is a sum over other rows and the key's own."""
    lengths = [65, 0, 1, 100]
    inputs = example(lengths, 2, 25, 9, prefix_lengths=some_places(lengths, "requests"))
    inputs = [x.detach().bfloat16() if is_float(x) else x for x in inputs]
    in_float = [x.float() if is_float(x) else x for x in inputs]
    grad = noise((166, 2, 9)).bfloat16()
    expected = [attention(*in_float), *backward(in_float, grad.float())]
    for x, y in zip([attention(*inputs), *backward(inputs, grad)], expected, strict=True):
        assert_close_but_for_rounding(x, y)


# what prefix_lengths are


def test_the_places_without_any_are_the_events_own_indices():
    assert_same_bits(
        run(attention, example(LENGTHS, heads=2, prefix_lengths=some_places(LENGTHS, "usual"))),
        run(attention, example(LENGTHS, heads=2)),
    )


@pytest.mark.parametrize("short", [False, True], ids=["", "short"])
def test_targets_are_events_at_the_place_after_the_history(short):
    targets = some_targets(LENGTHS)
    prefix_lengths = [min(i, n - count) for n, count in zip(LENGTHS, targets) for i in range(n)]
    queries = some_queries(LENGTHS) if short else None
    with_places = run(attention, example(LENGTHS, heads=2, queries=queries, prefix_lengths=prefix_lengths))
    with_targets = run(attention, example(LENGTHS, heads=2, queries=queries, targets=targets))
    for got, expected in zip(with_places, with_targets, strict=True):
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


def test_the_rows_of_a_short_query_are_those_of_the_full_one():
    inputs = example([100], heads=2, prefix_lengths=some_places([100], "requests"))
    for count in (0, 1, 23, 48, 75, 100):
        short = {
            name: x.detach()[100 - count :] for name, x in zip(("q", "query_times"), get(inputs, "q", "query_times"))
        }
        short = changed(inputs, **short, query_offsets=torch.tensor([0, count]))
        assert torch.equal(attention(*short), attention(*inputs)[100 - count :])


# batches, threads, strides


@pytest.mark.parametrize("kind", KINDS)
def test_many_users_at_once_are_as_one_at_a_time(kind):
    lengths = [*LENGTHS, 700]  # who has most of the pairs, and is shared out by heads
    queries = some_queries(lengths)
    inputs = with_wild_times(example(lengths, heads=2, queries=queries, prefix_lengths=some_places(lengths, kind)))
    out = attention(*inputs)
    ones = torch.ones_like(out)
    dq, dk, dv, *_ = backward(inputs, ones)
    for user in range(len(lengths)):
        keys, rows, mine = alone(inputs, user)
        assert torch.equal(attention(*mine), out[rows])
        assert_same_bits(backward(mine, ones[rows])[:3], (dq[rows], dk[keys], dv[keys]))


@pytest.mark.parametrize("kind", ["requests", "random"])
def test_same_bits_twice_and_with_any_number_of_threads(kind, threads):
    lengths = [*LENGTHS, 700]
    inputs = example(lengths, 2, 25, queries=some_queries(lengths), prefix_lengths=some_places(lengths, kind))
    with threads(1):
        expected = run(attention, inputs)
    for count in (1, 2, 2, 3):
        with threads(count):
            assert_same_bits(run(attention, inputs), expected)


def test_strides_do_not_matter():
    inputs = example([70, 3], heads=2, prefix_lengths=some_places([70, 3], "requests"))
    (prefix_lengths,) = get(inputs, "prefix_lengths")
    strided = changed(inputs, prefix_lengths=every_other(prefix_lengths))
    assert torch.equal(attention(*strided), attention(*inputs))
    ones = torch.ones_like(inputs[2])
    assert_same_bits(backward(strided, ones), backward(inputs, ones))


# bad input


def refused(match, prefix_lengths=(0, 1, 1, 0, 0, 1, 3), **others):
    q, k, v, offsets, *_ = example([3, 0, 4])
    prefix_lengths = torch.tensor(prefix_lengths) if isinstance(prefix_lengths, tuple) else prefix_lengths
    with pytest.raises(ValueError, match=match):
        hstu_attention(q, k, v, offsets, scale=1.0, prefix_lengths=prefix_lengths, **others)


@pytest.mark.parametrize("wrong", [(0, 1, 1, 1, 0, 1, 3), (0, 1, 3, 0, 0, 1, 3), (0, 1, 2, 0, 0, -1, 3)])
def test_places_that_are_not_before_their_event_are_named(wrong, monkeypatch):
    refused("^prefix_lengths must be between 0 and", wrong)
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    refused("^prefix_lengths must be between 0 and", wrong)


def test_places_of_a_wrong_kind_are_named():
    refused("^prefix_lengths must have 7 entries, but it has 6", torch.zeros(6, dtype=torch.int64))
    refused("^prefix_lengths must be int64", torch.zeros(7))
    refused("^prefix_lengths must be int64", torch.zeros(7, 1, dtype=torch.int64))
    refused("^prefix_lengths is on meta", torch.zeros(7, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize(
    ("name", "value"), [("window", 3), ("full_rows", 1), ("context", 1), ("num_targets", torch.tensor([0, 0, 0]))]
)
def test_places_beside_other_masks_are_refused(name, value):
    refused(name, **{name: value})


# torch.compile and export


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_op_keeps_the_rules_of_torch_compile(dtype):
    inputs = example([6, 0, 2], width=4, queries=[4, 0, 1], prefix_lengths=[0, 1, 0, 3, 0, 2, 0, 0], dtype=dtype)
    torch.library.opcheck(attention, inputs)
    out = attention(*inputs).detach()
    torch.library.opcheck(ops.attention_backward, (torch.ones_like(out), *(detached(x) for x in inputs)))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.position_bias = nn.Parameter(noise([10]))

    def forward(self, q, k, v, offsets, prefix_lengths):
        return 2 * hstu_attention(
            q * 3, k, v, offsets, scale=0.1, position_bias=self.position_bias, prefix_lengths=prefix_lengths
        )


def layer_inputs(lengths):
    inputs = example(lengths, heads=2, width=4, prefix_lengths=some_places(lengths, "requests"))
    return get(inputs, "q", "k", "v", "offsets", "prefix_lengths")


def test_compiled_once_gives_the_same_as_eager_for_batches_of_any_size():
    torch.compiler.reset()
    layer, counter = Layer(), CompileCounter()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for users in 5, 6, 9:
        inputs = layer_inputs([11] * users)
        assert torch.equal(compiled(*inputs), layer(*inputs))
    assert counter.frame_count == 1


def test_exported_gives_the_same_for_other_batches_too():
    layer = Layer()
    events, users = torch.export.Dim("events", min=2), torch.export.Dim("users", min=2)
    rows = {0: events}
    exported = torch.export.export(
        layer,
        tuple(x.detach() for x in layer_inputs([20, 0, 30])),
        dynamic_shapes=(rows, rows, rows, {0: users + 1}, rows),
    )
    for lengths in [20, 0, 30], [1, 5]:
        inputs = layer_inputs(lengths)
        assert torch.equal(exported.module()(*inputs), layer(*inputs))
