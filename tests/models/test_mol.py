"""The mixture of logits against its equations, written out with loops."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.errors import InputError
from louder.models import MoL, MoLConfig
from louder.models import mol as mol_module

TINY = MoLConfig(query_components=3, item_components=2, width=4, query_hidden=5, gate_hidden=6, temperature=0.5)
WIDTH = 7


def mol_of(config=TINY, seed=0):
    torch.manual_seed(seed)
    mol = MoL(config, WIDTH).double()
    with torch.no_grad():  # large enough that a wrong connection shows
        for parameter in mol.parameters():
            parameter.copy_(torch.randn_like(parameter))
        if mol.users is not None:
            mol.users.weight[0] = 0
    return mol.eval()


def silu(x):
    return x / (1 + torch.exp(-x))


def length_one(x):
    return x / sum(value**2 for value in x) ** 0.5


def naive_score(mol, state, vector, user=None):
    """phi(q, x) of one state [D] and one item [D], component by component"""
    config = mol.config
    state = (state - state.mean()) / (((state - state.mean()) ** 2).mean() + 1e-6) ** 0.5
    hidden = mol.query_in.weight @ state + mol.query_in.bias
    hidden = silu(hidden[: config.query_hidden]) * hidden[config.query_hidden :]
    from_history = mol.query_out.weight @ hidden + mol.query_out.bias
    queries = [from_history[k : k + config.width] for k in range(0, len(from_history), config.width)]
    if user is not None:
        queries.append(mol.users.weight[user % config.user_rows + 1])
    from_item = mol.item_out.weight @ vector + mol.item_out.bias
    items = [from_item[k : k + config.width] for k in range(0, len(from_item), config.width)]
    logits = [sum(length_one(f) * length_one(g)) / config.temperature for g in items for f in queries]

    def gate(layers, x):
        out = layers[2].weight @ silu(layers[0].weight @ x + layers[0].bias)
        return out if layers[2].bias is None else out + layers[2].bias

    inputs = gate(mol.query_gate, state) * gate(mol.item_gate, vector) + gate(mol.cross_gate, torch.stack(logits))
    weights = [torch.exp(silu(x)) for x in inputs]
    return sum(weight * logit for weight, logit in zip(weights, logits)) / sum(weights)


@pytest.mark.parametrize("user_rows", [0, 4])
def test_scores_and_gradients_are_those_of_the_equations(user_rows):
    mol = mol_of(replace(TINY, user_rows=user_rows))
    states, vectors = torch.randn(5, WIDTH, dtype=torch.float64), torch.randn(6, WIDTH, dtype=torch.float64)
    states.requires_grad_(), vectors.requires_grad_()
    users = torch.tensor([0, 9, 3, 4, 2]) if user_rows else None
    candidates = mol.items(vectors)[None].expand(5, -1, -1)
    found, shares = mol.pairs(mol.queries(states, users), candidates)
    expected = torch.stack(
        [
            torch.stack([naive_score(mol, states[n], x, int(users[n]) if user_rows else None) for x in vectors])
            for n in range(5)
        ]
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(shares.sum(-1), torch.ones_like(found))
    leaves = states, vectors, *mol.parameters()
    weight = torch.randn_like(found)
    for ours, theirs in zip(torch.autograd.grad(found, leaves, weight), torch.autograd.grad(expected, leaves, weight)):
        torch.testing.assert_close(ours, theirs)


@settings(max_examples=20)
@given(st.integers(1, 7), st.integers(1, 9), st.sampled_from([1, 3, 8, 1 << 14]))
def test_all_pairs_are_the_same_in_blocks_of_any_size(users, items, block):
    mol = mol_of()
    queries = mol.queries(torch.randn(users, WIDTH, dtype=torch.float64))
    catalogue = mol.items(torch.randn(items, WIDTH, dtype=torch.float64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mol_module, "BLOCK_PAIRS", block)
        found = mol.scores(queries, catalogue)
    torch.testing.assert_close(found, mol.pairs(queries, catalogue[None])[0].detach())


def test_a_score_is_between_the_smallest_and_the_largest_logit():
    mol = mol_of()
    queries = mol.queries(torch.randn(20, WIDTH, dtype=torch.float64))
    items = mol.items(torch.randn(30, WIDTH, dtype=torch.float64))
    logits, scores = mol.logits(queries, items[None]), mol.scores(queries, items)
    assert (scores <= logits.amax(-1) + 1e-9).all()
    assert (scores >= logits.amin(-1) - 1e-9).all()
    assert logits.abs().max() <= 1 / TINY.temperature + 1e-9


def test_who_is_not_known_has_no_user_component():
    mol = mol_of(replace(TINY, user_rows=4))
    states = torch.randn(2, WIDTH, dtype=torch.float64)
    nobody, unknown = mol.queries(states), mol.queries(states, torch.tensor([-1, -1]))
    assert torch.equal(nobody, unknown)
    assert torch.equal(mol.components(nobody)[:, -1], torch.zeros(2, 4, dtype=torch.float64))
    known = mol.queries(states, torch.tensor([1, 5]))
    assert torch.equal(mol.components(known)[0, -1], mol.components(known)[1, -1])  # 1 = 5 mod 4


def test_dropped_shares_are_scaled_to_the_sum_one():
    mol = mol_of(replace(TINY, gate_dropout=0.5)).train()
    with torch.no_grad():  # so that no share is close to 0
        for layer in mol.query_gate[2], mol.cross_gate[2]:
            layer.weight *= 0.1
    queries = mol.queries(torch.randn(40, WIDTH, dtype=torch.float64))
    _, shares = mol.pairs(queries, mol.items(torch.randn(3, WIDTH, dtype=torch.float64))[None])
    assert 0.3 < (shares == 0).double().mean() < 0.7
    sums = shares.detach().sum(-1)
    assert math.isclose(sums[sums > 0].min(), 1, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_components": 0}, r"mol\.query_components must be at least 1, but it is 0"),
        ({"width": -1}, r"mol\.width must be at least 1, but it is -1"),
        ({"gate_dropout": 1.0}, r"mol\.gate_dropout must be in \[0, 1\), but it is 1"),
        ({"temperature": 0.0}, r"mol\.temperature must be above 0, but it is 0"),
        ({"user_rows": -1}, r"mol\.user_rows must be at least 0, but it is -1"),
        ({"balance_weight": -0.1}, r"mol\.balance_weight must be at least 0, but it is -0\.1"),
        ({"user_rows": 5, "query_components": 1}, r"--set mol\.query_components=2"),
    ],
)
def test_a_setting_that_does_not_fit_is_told(settings, message):
    with pytest.raises(InputError, match=message):
        MoLConfig(**settings)
