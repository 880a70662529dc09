"""Losses against arithmetic and against each other."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.data import negatives
from louder.errors import InputError
from louder.ops.candidate_scores import candidate_scores
from louder.training.losses import LossConfig, RetrievalLoss, binary_cross_entropy

ITEMS, ROWS, WIDTH = 12, 30, 5


@pytest.fixture
def example():
    random = torch.Generator().manual_seed(0)
    states = torch.randn(ROWS, WIDTH, generator=random, requires_grad=True)
    items = torch.randn(ITEMS, WIDTH, generator=random, requires_grad=True)
    return states, items, torch.randint(ITEMS, (ROWS,), generator=random)


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs, retain_graph=True)


def given_negatives(monkeypatch, drawn):
    """in place of those by popularity: the op draws uniform ones itself"""
    monkeypatch.setattr(RetrievalLoss, "draw", lambda *_: drawn)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
def test_full_softmax_is_the_cross_entropy_of_the_whole_catalogue(example, temperature):
    states, items, targets = example
    loss = RetrievalLoss(LossConfig(kind="full_softmax", temperature=temperature), torch.ones(ITEMS))(*example)
    expected = F.cross_entropy(states @ items.T / temperature, targets)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(loss, states, items), gradients(expected, states, items)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_with_every_other_item_as_negative_the_sampled_softmax_is_the_full_one(example, temperature, monkeypatch):
    states, items, targets = example
    others = torch.stack([torch.tensor([i for i in range(ITEMS) if i != t]) for t in targets.tolist()])
    given_negatives(monkeypatch, others)
    full, sampled = (
        RetrievalLoss(LossConfig(kind=kind, negatives="popularity", temperature=temperature), torch.ones(ITEMS))(
            *example
        )
        for kind in ("full_softmax", "sampled_softmax")
    )
    torch.testing.assert_close(sampled, full)
    for ours, theirs in zip(gradients(sampled, states, items), gradients(full, states, items)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_negative_that_is_the_target_is_left_out(example, monkeypatch):
    with_target = torch.arange(ITEMS).expand(ROWS, ITEMS)
    given_negatives(monkeypatch, with_target)
    full, sampled = (
        RetrievalLoss(LossConfig(kind=kind, negatives="popularity", temperature=1.0), torch.ones(ITEMS))(*example)
        for kind in ("full_softmax", "sampled_softmax")
    )
    torch.testing.assert_close(sampled, full)


def test_binary_cross_entropy_is_the_written_out_arithmetic():
    states = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    items = torch.tensor([[1.0, 1.0], [3.0, 0.5], [-1.0, 1.0]])
    targets, drawn = torch.tensor([0, 2]), torch.tensor([[1, 2], [2, 1]])  # the second row draws its own target once
    found = binary_cross_entropy(states, items, targets, drawn, temperature=0.5, beta=0.7)

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    first = -(0.7 * math.log(sigmoid(2)) + math.log(1 - sigmoid(6)) + math.log(1 - sigmoid(-2)))
    second = -(0.7 * math.log(sigmoid(4)) + math.log(1 - sigmoid(2)))
    assert found.item() == pytest.approx((first + second) / 3 / 2)


def test_bce_and_gbce_are_that_with_the_papers_power(example):
    states, items, targets = example
    for kind, t, beta in [
        ("bce", 0.75, 1.0),
        ("gbce", 0.0, 1.0),  # t = 0 is plain BCE
        ("gbce", 1.0, 3 / 11),  # t = 1 is the share of the other items that is drawn
        ("gbce", 0.75, 3 / 11 * (0.75 * (1 - 11 / 3) + 11 / 3)),
    ]:
        config = LossConfig(kind=kind, num_negatives=3, temperature=0.5, gbce_calibration=t)
        loss = RetrievalLoss(config, torch.ones(ITEMS))
        assert loss.beta() == pytest.approx(beta)
        torch.manual_seed(0)
        found = loss(*example)
        torch.manual_seed(0)
        drawn = negatives.uniform(ROWS, 3, ITEMS)
        torch.testing.assert_close(found, binary_cross_entropy(states, items, targets, drawn, 0.5, beta))


ZIPF = 1 / torch.arange(1.0, 41)


def popular_example(draws, logq):
    """A loss over 40 items drawn by popularity, beside the full softmax: (value, gradient of the item vectors) each."""
    random = torch.Generator().manual_seed(2)
    states = torch.randn(200, 8, generator=random) * 0.5
    items = (torch.randn(40, 8, generator=random) * 0.5).requires_grad_()
    targets = torch.multinomial(ZIPF, 200, replacement=True, generator=random)
    counts = (ZIPF * 1e9).double()
    found = []
    for config in (
        LossConfig(negatives="popularity", num_negatives=draws, logq=logq, temperature=1.0),
        LossConfig(kind="full_softmax", temperature=1.0),
    ):
        torch.manual_seed(0)
        loss = RetrievalLoss(config, counts)(states, items, targets)
        found.append((loss, *gradients(loss, items)))
    return states, items.detach(), targets, *found


def distance(a, b):
    return float((a - b).norm() / b.norm())


def test_logq_turns_popular_negatives_into_nearly_the_gradient_of_the_full_softmax():
    *_, (_, corrected), (_, full) = popular_example(4000, logq=True)
    *_, (_, plain), _ = popular_example(4000, logq=False)
    assert distance(corrected, full) < 0.25
    assert distance(plain, full) > 2 * distance(corrected, full)


def test_with_logq_the_other_items_weigh_what_they_would_in_a_full_softmax():
    draws = 4000
    states, items, targets, (loss, _), _ = popular_example(draws, logq=True)
    logits = states @ items.T
    weight = ZIPF / ZIPF.sum()
    target = logits.gather(1, targets[:, None]).squeeze(1).exp()
    others = logits.exp().sum(1) - target
    # R draws with weight 1 / q count every other item R times on average; the target counts once, with its own 1 / q
    expected = (1 + draws * weight[targets] * others / target).log().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)


def test_uniform_negatives_need_no_correction(example):
    losses = []
    for logq in False, True:
        torch.manual_seed(0)
        losses.append(RetrievalLoss(LossConfig(logq=logq, num_negatives=6), torch.arange(12.0))(*example))
    assert torch.equal(*losses)


def test_negatives_come_from_where_the_config_says(example):
    _, _, targets = example
    popularity = torch.zeros(ITEMS, dtype=torch.float64)
    popularity[4] = 1e12
    for name, allowed in ("in_batch", set(targets.tolist())), ("popularity", {4}), ("uniform", set(range(ITEMS))):
        for shared, rows in (False, ROWS), (True, 1):
            config = LossConfig(negatives=name, num_negatives=50 if rows > 1 else 1000, shared_negatives=shared)
            drawn = RetrievalLoss(config, popularity).draw(targets)
            assert drawn.shape == (rows, config.num_negatives)
            assert set(drawn.flatten().tolist()) == allowed


def test_logq_is_of_sampled_softmax_only():
    with pytest.raises(InputError, match=r"loss\.logq corrects sampled_softmax only, but loss\.kind is 'bce'"):
        LossConfig(kind="bce", logq=True)


def test_negatives_are_shared_in_sampled_softmax_only():
    for kind in "full_softmax", "bce", "gbce":
        with pytest.raises(InputError, match=rf"shared_negatives are for sampled_softmax only, .* is '{kind}'"):
            LossConfig(kind=kind, shared_negatives=True)


SAMPLED = [
    LossConfig(kind=kind, negatives=source, num_negatives=3, temperature=0.3, logq=logq, shared_negatives=shared)
    for kind, logq, shared in [
        ("sampled_softmax", False, False),
        ("sampled_softmax", True, False),
        ("sampled_softmax", False, True),
        ("sampled_softmax", True, True),
        ("bce", False, False),
        ("gbce", False, False),
    ]
    for source in ("uniform", "in_batch", "popularity")
]


def name_of(config):
    marks = [mark for mark in ("logq", "shared_negatives") if getattr(config, mark)]
    return "-".join([config.kind, config.negatives, *marks])


@pytest.mark.parametrize("config", SAMPLED, ids=name_of)
def test_among_the_used_items_the_loss_and_its_gradients_are_those_of_the_whole_table(config):
    random = torch.Generator().manual_seed(5)
    states = torch.randn(8, WIDTH, generator=random, requires_grad=True)
    items = torch.randn(60, WIDTH, generator=random, requires_grad=True)
    targets = torch.randint(60, (8,), generator=random)
    loss = RetrievalLoss(config, torch.arange(60.0))
    asked = []

    def vectors_of(ids):
        asked.append(ids)
        return F.normalize(F.embedding(ids, items, sparse=True), dim=1)

    torch.manual_seed(0)
    drawn = loss.draw(targets)
    torch.manual_seed(0)
    whole = loss(states, F.normalize(items, dim=1), targets)
    d_states, d_items = gradients(whole, states, items)
    torch.manual_seed(0)
    found = loss.of(SimpleNamespace(sparse_items=True, item_vectors=vectors_of), states, targets)
    found_d_states, found_d_items = gradients(found, states, items)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(found_d_states, d_states)
    torch.testing.assert_close(found_d_items.to_dense(), d_items)
    used = sorted({*targets.tolist(), *drawn.flatten().tolist()})
    assert asked[0].tolist() == used
    assert found_d_items.coalesce().indices()[0].tolist() == used
    assert len(used) < 60


@pytest.mark.parametrize("logq", [False, True])
def test_shared_negatives_are_those_of_every_row(example, logq, monkeypatch):
    states, items, targets = example
    drawn = torch.tensor([[0, 3, 3, 7, 11]])  # some rows draw their own target; 3 counts twice
    assert (drawn == targets[:, None]).any()
    config = LossConfig(negatives="popularity", temperature=0.3, logq=logq)
    given_negatives(monkeypatch, drawn.expand(ROWS, -1))
    expected = RetrievalLoss(config, torch.arange(12.0))(*example)
    given_negatives(monkeypatch, drawn)
    found = RetrievalLoss(replace(config, shared_negatives=True), torch.arange(12.0))(*example)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(gradients(found, states, items), gradients(expected, states, items)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_where_every_negative_is_the_target_the_loss_is_zero(example):
    states, items, _ = example
    targets = torch.full((ROWS,), 4)
    for shared in False, True:
        config = LossConfig(negatives="in_batch", num_negatives=3, shared_negatives=shared)
        loss = RetrievalLoss(config, torch.ones(ITEMS))(states, items, targets)
        assert loss.item() == 0
        assert gradients(loss, items)[0].abs().max() < 1e-6


@settings(max_examples=25)
@given(st.integers(0, 1100), st.integers(1, 6), st.integers(1, 4))
def test_candidate_scores_are_dot_products_with_their_gradients(rows, candidates, width):
    random = torch.Generator().manual_seed(rows)
    states = torch.randn(rows, width, generator=random, dtype=torch.float64, requires_grad=True)
    table = torch.randn(9, width, generator=random, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(9, (rows, candidates), generator=random)
    weight = torch.randn(rows, candidates, generator=random, dtype=torch.float64)
    found, expected = candidate_scores(states, table, ids), torch.einsum("ld,lrd->lr", states, table[ids])
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (states, table), weight), torch.autograd.grad(expected, (states, table), weight)
    ):
        torch.testing.assert_close(ours, theirs)
