import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from louder.ops.random_bits import random_items
from louder.ops.sampled_softmax import (
    full_loss_and_logsumexp,
    full_softmax,
    loss_and_grad_logits,
    naive,
    sampled_softmax,
    table_gradient,
)

pytestmark = pytest.mark.usefixtures("needs_compiler")


def example(rows=70, items=40, width=50, negatives=9, corrected=False, dtype=torch.float32, seed=0):
    """The positional inputs of the op. Some rows have no target; with few items, some negatives hit the target."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(rows, width, generator=generator, dtype=dtype).requires_grad_()
    table = torch.randn(items, width, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(-1, items, (rows,), generator=generator)
    ids = torch.randint(0, items, (rows, negatives), generator=generator)
    log_weights = torch.rand(items, generator=generator, dtype=dtype).log() if corrected else None
    return states, table, targets, ids, 0.7, log_weights


def op(states, table, targets, negatives, temperature, log_weights):
    return sampled_softmax(states, table, targets, negatives, temperature=temperature, log_weights=log_weights)


def run(op, inputs):
    """The loss and the gradients of states and table."""
    loss = op(*inputs)
    weight = torch.randn(loss.shape, generator=torch.Generator().manual_seed(1), dtype=loss.dtype)
    return [loss.detach(), *torch.autograd.grad(loss, inputs[:2], weight)]


def assert_same_as_naive(inputs):
    for got, expected in zip(run(op, inputs), run(naive.sampled_softmax, inputs), strict=True):
        # an item's gradient is a sum of positive and negative terms over the rows: its rounding is that of the terms
        largest = expected.abs().max().item() if expected.numel() else 0.0
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-5 * max(largest, 1.0))


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("width", [1, 8, 25, 50, 64, 200])
@pytest.mark.parametrize("rows", [0, 1, 63, 300])
def test_agrees_with_naive(rows, width, corrected):
    assert_same_as_naive(example(rows=rows, width=width, corrected=corrected))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 300),
    items=st.integers(1, 60),
    width=st.integers(1, 150),
    negatives=st.integers(0, 40),
    corrected=st.booleans(),
    seed=st.integers(0, 100),
)
def test_agrees_with_naive_for_any_shape(rows, items, width, negatives, corrected, seed):
    assert_same_as_naive(example(rows, items, width, negatives, corrected, seed=seed))


# With a state of zeros every logit is 0 (or minus its log weight): the loss is the log of how many ids compete.
ZEROS = torch.zeros(1, 4), torch.zeros(6, 4)


def test_loss_counts_the_competitors():
    loss = sampled_softmax(*ZEROS, torch.tensor([2]), torch.tensor([[0, 1, 3]]), temperature=1)
    torch.testing.assert_close(loss, torch.tensor([math.log(1 + 3)]))


def test_a_negative_drawn_twice_counts_twice():
    loss = sampled_softmax(*ZEROS, torch.tensor([2]), torch.tensor([[0, 1, 1]]), temperature=1)
    torch.testing.assert_close(loss, torch.tensor([math.log(1 + 3)]))


def test_a_negative_equal_to_the_target_is_left_out():
    loss = sampled_softmax(*ZEROS, torch.tensor([2]), torch.tensor([[2, 1, 2]]), temperature=1)
    torch.testing.assert_close(loss, torch.tensor([math.log(1 + 1)]))
    loss = sampled_softmax(*ZEROS, torch.tensor([2]), torch.tensor([[2, 2]]), temperature=1)
    torch.testing.assert_close(loss, torch.zeros(1))


def test_log_weights_are_taken_off_positive_and_negatives():
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 1.0, 1.0])
    loss = sampled_softmax(*ZEROS, torch.tensor([2]), torch.tensor([[0, 3]]), temperature=1, log_weights=weights.log())
    expected = math.log((1 / 4 + 1 / 1 + 1 / 8) / (1 / 4))
    torch.testing.assert_close(loss, torch.tensor([expected]))


def test_temperature_divides_the_logits():
    states, table = torch.tensor([[3.0]]), torch.tensor([[1.0], [2.0]])
    loss = sampled_softmax(states, table, torch.tensor([0]), torch.tensor([[1]]), temperature=2)
    torch.testing.assert_close(loss, torch.tensor([math.log(1 + math.exp((6 - 3) / 2))]))


def test_rows_without_a_target_have_no_loss_and_no_gradient():
    states, table, targets, negatives, temperature, _ = example(rows=20)
    targets[::2] = -1
    loss, d_states, _ = run(op, (states, table, targets, negatives, temperature, None))
    assert not loss[::2].any()
    assert not d_states[::2].any()
    targets[:] = -1
    assert all(not x.any() for x in run(op, (states, table, targets, negatives, temperature, None)))


def test_items_nobody_drew_have_no_gradient():
    states, table, targets, negatives, temperature, _ = example(rows=5, items=1000)
    d_table = run(op, (states, table, targets, negatives, temperature, None))[2]
    drawn = torch.cat([targets[targets >= 0], negatives[targets >= 0].flatten()])
    rest = torch.ones(1000, dtype=torch.bool).index_fill(0, drawn, False)
    assert not d_table[rest].any()
    assert d_table[~rest].any(dim=1).all()


def test_extreme_logits_stay_finite():
    states, table, targets, negatives, *_ = example()
    for got in run(op, (states, table, targets, negatives, 1e-4, None)):
        assert got.isfinite().all()


def test_nan_is_passed_on():
    states, table, targets, negatives, *_ = example(rows=3)
    broken = states.detach().index_fill(0, torch.tensor([1]), torch.nan)
    targets[:] = 0
    loss = sampled_softmax(broken, table, targets, negatives, temperature=1)
    assert loss.isnan().tolist() == [False, True, False]


def test_same_bits_twice_and_with_any_number_of_threads(threads):
    inputs = example(rows=900, items=50, negatives=30)
    inputs[3][:, :20] = 7  # an item that has most of the pairs
    with threads(1):
        expected = run(op, inputs)
    for count in (1, 2, 2, 3):
        with threads(count):
            for got, want in zip(run(op, inputs), expected):
                assert torch.equal(got, want)


def test_views_give_the_same_bits():
    states, table, targets, negatives, temperature, _ = example(width=16)
    wide = torch.cat([states, states], dim=1).detach()[:, :16]
    assert not wide.is_contiguous()
    expected = op(states, table, targets, negatives, temperature, None)
    strided = op(wide, table.T.contiguous().T, targets, negatives.T.contiguous().T, temperature, None)
    assert torch.equal(strided, expected)


def test_an_id_outside_the_table_is_an_error():
    states, table, targets, negatives, *_ = example(rows=3, items=10)
    targets[:] = 0
    negatives[1, 2] = 10
    with pytest.raises(RuntimeError, match="negative 10 of row 1 is not one of the 10 items"):
        sampled_softmax(states, table, targets, negatives, temperature=1)


@pytest.mark.parametrize("corrected", [False, True])
def test_gradients_in_float64(corrected):
    inputs = example(rows=5, items=6, width=3, negatives=4, corrected=corrected, dtype=torch.float64)
    assert torch.autograd.gradcheck(op, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_naive_backward_of_the_op_agrees_with_plain_autograd(dtype, monkeypatch):
    """The op without a compiler, over more rows than one block."""
    monkeypatch.setattr("louder.ops.build.load", lambda *_: False)
    assert_same_as_naive(example(rows=2 * naive.ROWS + 5, width=8, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_op_keeps_the_rules_of_torch_compile(dtype):
    states, table, targets, negatives, temperature, log_weights = example(rows=4, width=3, corrected=True, dtype=dtype)
    for drawn in (negatives, 9, None), (None, 9, torch.tensor([5])):
        torch.library.opcheck(loss_and_grad_logits, (states, table, targets, *drawn, temperature, log_weights))
        _, grad_logits, _ = loss_and_grad_logits(states, table, targets, *drawn, temperature, log_weights)
        ones = torch.ones(4, dtype=dtype)
        torch.library.opcheck(
            table_gradient, (ones, grad_logits.detach(), states.detach(), targets, *drawn, len(table))
        )


# --- negatives drawn inside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "items", "count"), [(70, 40, 9), (3, 1, 1), (130, 3883, 128)])
def test_drawing_inside_is_drawing_outside(rows, items, count, dtype):
    states, table, targets, *_ = example(rows=rows, items=items, width=10, dtype=dtype)
    seed = torch.tensor([-123456789012345])
    outside = random_items(seed, rows, count, items)

    def inside(states, table):
        return sampled_softmax(states, table, targets, count, temperature=0.7, seed=seed)

    expected = run(lambda s, t: sampled_softmax(s, t, targets, outside, temperature=0.7), (states, table))
    for got, want in zip(run(inside, (states, table)), expected, strict=True):
        assert torch.equal(got, want)


def test_a_number_of_negatives_needs_a_seed():
    states, table, targets, *_ = example(rows=3)
    with pytest.raises(ValueError, match="9 negatives need a seed"):
        sampled_softmax(states, table, targets, 9, temperature=1.0)


# --- full softmax ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 70])
@pytest.mark.parametrize("block_logits", [1, 500, 1 << 22])
def test_full_softmax_is_cross_entropy(rows, block_logits, monkeypatch):
    monkeypatch.setattr("louder.ops.sampled_softmax.BLOCK_LOGITS", block_logits)
    states, table, targets, *_ = example(rows=rows)

    def expected_loss(states, table):
        logits = states @ table.T / 0.7
        return F.cross_entropy(logits, targets, ignore_index=-1, reduction="none")

    def loss(states, table):
        return full_softmax(states, table, targets, temperature=0.7)

    for got, expected in zip(run(loss, (states, table)), run(expected_loss, (states, table)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_sampling_every_other_item_once_is_the_full_softmax():
    states, table, targets, *_ = example(rows=30, items=12)
    targets.clamp_(min=0)
    others = torch.stack([torch.tensor([i for i in range(12) if i != t]) for t in targets.tolist()])
    sampled = sampled_softmax(states, table, targets, others, temperature=0.3)
    torch.testing.assert_close(sampled, full_softmax(states, table, targets, temperature=0.3))


def test_full_softmax_in_float64_and_under_torch_compile():
    states, table, targets, *_ = example(rows=5, items=6, width=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, t: full_softmax(s, t, targets, temperature=0.7), (states, table))
    torch.library.opcheck(full_loss_and_logsumexp, (states, table, targets, 0.7))
