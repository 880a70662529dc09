"""The kernel against its reference implementation, and that one against a softmax of all the scores."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from louder.ops.mixture_softmax import MixtureSoftmax, mixture, mixture_softmax, naive, pair_logits

pytestmark = pytest.mark.usefixtures("needs_compiler")

TEMPERATURE = 0.3


def example(rows=30, items=25, negatives=9, components=(8, 4), width=16, hidden=32, corrected=False, seed=0):
    """Leaves, then ids. With few items, some negatives are their row's target."""
    random = torch.Generator().manual_seed(seed)
    logits = components[0] * components[1]

    def draw(*shape):
        return torch.randn(shape, generator=random)

    leaves = [
        draw(rows),
        draw(rows, components[0] * width + logits) / 3,
        draw(items, components[1] * width + logits) / 3,
        *(draw(hidden, logits) / 4, draw(hidden) / 2, draw(logits, hidden) / 4, draw(logits) / 2),
    ]
    targets = torch.randint(items, (rows,), generator=random)
    ids = torch.randint(items, (rows, negatives), generator=random)
    log_weights = torch.rand(items, generator=random).log() if corrected else None
    return [x.requires_grad_() for x in leaves], targets, ids, components, log_weights


def run(op, given, dropout=0.0):
    (positive, queries, items, *cross), targets, ids, components, log_weights = given
    seed = torch.tensor([1234567]) if dropout else None
    if op is naive.mixture_softmax:
        loss = op(positive, queries, items, targets, ids, cross, components, TEMPERATURE, dropout, seed, log_weights)
    else:
        loss = op(
            positive,
            queries,
            items,
            targets,
            ids,
            cross,
            components=components,
            temperature=TEMPERATURE,
            dropout=dropout,
            seed=seed,
            log_weights=log_weights,
        )
    return [loss.detach(), *torch.autograd.grad(loss * 3, [positive, queries, items, *cross])]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        # sums of many terms of both signs: their rounding is that of the terms
        largest = theirs.abs().max().item() if theirs.numel() else 0.0
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5 * max(largest, 1.0))


@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.97])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        (1, {}),
        (300, {}),
        (40, {"components": (2, 8)}),
        (40, {"components": (16, 3), "width": 32, "hidden": 16}),
        (17, {"components": (4, 4), "negatives": 1}),
    ],
)
def test_agrees_with_naive(rows, sizes, corrected, dropout):
    given = example(rows=rows, corrected=corrected, **sizes)
    assert_same(run(mixture_softmax, given, dropout), run(naive.mixture_softmax, given, dropout))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(0, 40), items=st.integers(1, 40), negatives=st.integers(1, 40), seed=st.integers(0, 99))
def test_agrees_with_naive_at_any_size(rows, items, negatives, seed):
    given = example(rows=rows, items=items, negatives=negatives, seed=seed)
    assert_same(run(mixture_softmax, given), run(naive.mixture_softmax, given))


def test_the_reference_implementation_is_the_softmax_of_all_scores():
    given = example(rows=6, items=7, components=(3, 2), width=4, hidden=5)  # of sizes that the kernel does not take
    (positive, queries, items, *cross), targets, ids, components, _ = given
    gates = queries[:, None, -6:] * items[None, :, -6:]
    scores, _ = mixture(pair_logits(queries, items[None], components, TEMPERATURE), gates, cross, None)
    expected = 0
    for row in range(6):
        logits = [positive[row], *(scores[row, i] for i in ids[row].tolist() if i != targets[row])]
        expected = expected + torch.stack(logits).logsumexp(0) - positive[row]
    expected = [expected.detach(), *torch.autograd.grad(expected * 3, given[0])]
    assert_same(run(mixture_softmax, given), expected)


def test_threads_change_no_bit(monkeypatch):
    given = example(rows=300)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in 1, 2, 3:
            torch.set_num_threads(number)
            found.append(run(mixture_softmax, given, 0.2))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


def test_an_item_that_is_not_there_is_refused():
    given = example()
    given[2][3, 2] = 25
    with pytest.raises(RuntimeError, match="negative 25 is not one of the 25 items"):
        run(mixture_softmax, given)


def test_the_kernel_is_what_runs(monkeypatch):
    monkeypatch.setattr(naive, "mixture_softmax", None)
    assert MixtureSoftmax is not None
    run(mixture_softmax, example())
