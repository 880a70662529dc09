"""The k best items under a mixture of logits: approximate ones against brute force, and answers known beforehand."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.errors import InputError
from louder.inference import mol_topk
from louder.inference.mol_topk import MoLTopK
from louder.models import MoL, MoLConfig

TINY = MoLConfig(query_components=3, item_components=2, width=4, query_hidden=8, gate_hidden=6, temperature=0.1)
WIDTH = 6


def example(items=60, queries=5, seed=0, gates=1.0):
    """A random mixture; `gates` is the scale of what makes pi differ from 1 / L."""
    torch.manual_seed(seed)
    mol = MoL(TINY, WIDTH).eval()
    with torch.no_grad():
        for name, parameter in mol.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (gates if "gate" in name else 1))
        return MoLTopK(mol, mol.items(torch.randn(items, WIDTH))), mol.queries(torch.randn(queries, WIDTH))


def recall(found, true):
    return sum(len({*a} & {*b}) / len(b) for a, b in zip(found.ids.tolist(), true.ids.tolist())) / len(true.ids)


def test_brute_force_sorts_all_scores():
    index, queries = example()
    scores = index.mol.scores(queries, index.items)
    found = index.brute_force(queries, 7)
    assert found.ids.tolist() == scores.argsort(dim=1, descending=True)[:, :7].tolist()
    torch.testing.assert_close(found.scores, scores.gather(1, found.ids))
    assert found.scored.tolist() == [60] * 5


@settings(max_examples=60)
@given(
    items=st.integers(1, 80),
    queries=st.integers(0, 6),
    k=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    gates=st.sampled_from([0.0, 0.3, 2.0]),
    block=st.sampled_from([1, 7, 1 << 13]),
)
def test_two_passes_find_what_brute_force_finds(items, queries, k, seed, gates, block):
    index, asked = example(items, queries, seed, gates)
    k = min(k, items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mol_topk, "BLOCK_PAIRS", block)
        patch.setattr(mol_topk, "BLOCK_PRODUCTS", block)
        found = index.two_pass(asked, k)
    true = index.brute_force(asked, k)
    torch.testing.assert_close(found.scores, true.scores, rtol=1e-5, atol=1e-5)  # of a tie either item may come
    torch.testing.assert_close(index.phi(asked, found.ids), found.scores, rtol=1e-5, atol=1e-5)
    assert all(len({*row}) == k for row in found.ids.tolist())


def test_two_passes_need_not_score_everything():
    index, queries = example(items=3000, queries=8)
    assert index.two_pass(queries, 3).scored.float().mean() < 2000


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(10, 30))
def test_combined_has_what_both_of_its_parts_have(seed, each, count):
    index, queries = example(seed=seed)
    by_component, average = index.per_component(queries, 10, each), index.average(queries, 10, count)
    both = index.combined(queries, 10, each, count)
    scored = index.firsts_by_component(queries, each) | index.firsts_by_average(queries, count)
    for part in by_component, average:
        assert (both.scores >= part.scores - 3e-4).all()  # a logit of 10 over the temperature is rounded so
        assert (both.scored >= part.scored).all()
    for row, ids in zip(scored, both.ids):
        assert row[ids[ids >= 0]].all()


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_more_candidates_never_find_less(seed):
    index, queries = example(items=200, seed=seed)
    true = index.brute_force(queries, 10)
    for search in (
        lambda n: index.per_component(queries, 10, n),
        lambda n: index.average(queries, 10, n),
        lambda n: index.combined(queries, 10, n, n),
    ):
        recalls = [recall(search(n), true) for n in (10, 20, 50, 200)]
        assert recalls == sorted(recalls)
        assert recalls[-1] == 1  # all of the catalogue


def test_where_all_shares_are_equal_the_average_is_exact():
    index, queries = example(gates=0.0)
    found, true = index.average(queries, 5, 5), index.brute_force(queries, 5)
    assert found.ids.tolist() == true.ids.tolist()
    assert found.scored.tolist() == [5] * 5


def laid_out():
    """Two query components and one item component, in a plane; the query's are x and y. Items 0 to 3 lie along x, y,
    between the two, and against both."""
    mol = MoL(MoLConfig(query_components=2, item_components=1, width=2, gate_hidden=2, temperature=1.0), WIDTH).eval()
    half = 0.5**0.5
    items = torch.tensor([[1.0, 0], [0, 1], [half, half], [-half, -half]])
    gates = torch.zeros(4, 2)
    with torch.no_grad():
        for parameter in mol.cross_gate.parameters():
            parameter.zero_()
    query = torch.tensor([[1.0, 0, 0, 1, 0, 0]])
    return MoLTopK(mol, torch.cat([items, gates], 1)), query


def test_on_a_plane_each_search_finds_what_can_be_seen():
    index, query = laid_out()
    true = index.brute_force(query, 3)
    # equal shares: phi is the mean of the two products, (1 + 0) / 2 for 0 and 1, 0.7 for 2, -0.7 for 3
    assert true.ids[0, 0] == 2
    assert {*true.ids[0, 1:].tolist()} == {0, 1}
    torch.testing.assert_close(true.scores, torch.tensor([[0.5**0.5, 0.5, 0.5]]))
    first = index.per_component(query, 3, 1)  # the first along x is 0, along y it is 1; nobody else is looked at
    assert {*first.ids[0, :2].tolist()} == {0, 1}
    assert (first.ids[0, 2], first.scores[0, 2], first.scored[0]) == (-1, -torch.inf, 2)
    assert index.average(query, 1, 1).ids.tolist() == [[2]]
    assert {*index.combined(query, 3, 1, 1).ids[0].tolist()} == {0, 1, 2}
    assert index.two_pass(query, 3).scored.tolist() == [3]  # no product of item 3 reaches the third best, 0.5


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (lambda index: partial(index.brute_force, k=0), "k must be between 1 and the 60 items there are, but it is 0"),
        (lambda index: partial(index.two_pass, k=61), "k must be between 1 and the 60 items"),
        (lambda index: partial(index.per_component, k=3, each=0), "each must be between 1 and the 60 items"),
        (lambda index: partial(index.average, k=3, count=2), "count is 2, which holds no 3 items"),
        (lambda index: partial(index.combined, k=3, each=3, count=99), "count must be between 1 and the 60 items"),
    ],
)
def test_counts_that_do_not_fit_are_told(search, message):
    index, queries = example()
    with pytest.raises(InputError, match=message):
        search(index)(queries)
