"""Every index answers as a full sort would, or as near as its kind promises."""

import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from louder.errors import InputError
from louder.inference.index import HNSW, IVF, Exact, pair_scores, recall
from louder.ops import best_items

few = settings(max_examples=60, deadline=None)


def vectors(rows, width, seed, *, whole=False):
    """Whole numbers make many ties."""
    generator = torch.Generator().manual_seed(seed)
    if whole:
        return torch.randint(-2, 3, (rows, width), generator=generator).float()
    return torch.randn(rows, width, generator=generator)


def clusters(items, width=16, count=20, seed=0):
    centres = vectors(count, width, seed)
    return centres.repeat(items // count, 1) + 0.3 * vectors(items // count * count, width, seed + 1)


def full_sort(items, queries, k, excluded, allowed):
    """ids and scores of every row, by sorting pairs of (score, id)."""
    answers = []
    for query, left_out in zip(queries, excluded.tolist()):
        scores = pair_scores(query[None], items, torch.arange(len(items))[None])[0].tolist()
        usable = [i for i in range(len(items)) if i not in left_out and (allowed is None or allowed[i])]
        best = sorted(usable, key=lambda i: (-scores[i], i))[:k]
        empty = k - len(best)
        answers.append((best + [-1] * empty, [scores[i] for i in best] + [-torch.inf] * empty))
    ids, scores = zip(*answers)
    return torch.tensor(ids), torch.tensor(scores)


@st.composite
def requests(draw):
    items, width, seed = draw(st.integers(0, 80)), draw(st.integers(1, 40)), draw(st.integers(0, 999))
    asked, k, whole = draw(st.integers(1, 5)), draw(st.integers(1, 90)), draw(st.booleans())
    generator = torch.Generator().manual_seed(seed + 2)
    left_out = draw(st.integers(0, 20)) if items else 0
    excluded = torch.randint(-1, max(items, 1), (asked, left_out), generator=generator)
    allowed = (
        torch.rand(items, generator=generator) < draw(st.sampled_from([0.0, 0.1, 0.6])) if draw(st.booleans()) else None
    )
    rows = vectors(items, width, seed, whole=whole), vectors(asked, width, seed + 1, whole=whole)
    return *rows, k, excluded, allowed


@pytest.fixture(params=["kernel", "reference"])
def either(request, monkeypatch):
    """With the C++ op, and as where there is no compiler."""
    if request.param == "reference":
        monkeypatch.setattr(best_items, "available", lambda *vectors: False)


@given(requests(), st.integers(1, 100))
@settings(few, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exact_is_a_full_sort_whatever_the_blocks(either, request_, block):
    items, queries, k, excluded, allowed = request_
    ids, scores = Exact(items, items_at_once=block).search(queries, k, excluded, allowed)
    right_ids, right_scores = full_sort(items, queries, k, excluded, allowed)
    assert torch.equal(ids, right_ids)
    assert torch.equal(scores, right_scores)


@pytest.mark.parametrize("width", [1, 7, 16, 50, 200])
def test_scores_of_pairs_are_inner_products(either, width):
    items, queries, ids = vectors(120, width, 0), vectors(3, width, 1), torch.arange(-1, 119).expand(3, -1)
    scores = pair_scores(queries, items, ids.contiguous())
    assert (scores[:, 0] == -torch.inf).all()
    torch.testing.assert_close(scores[:, 1:], queries @ items[:119].T, rtol=1e-5, atol=1e-5)


def test_kernel_and_reference_find_the_same_of_more_items_than_a_list_holds(monkeypatch):
    items, queries = vectors(40_000, 6, 0, whole=True), vectors(50, 6, 1, whole=True)  # whole numbers: no rounding
    allowed, excluded = torch.arange(len(items)) % 7 > 0, torch.randint(-1, 40_000, (50, 300))
    found = Exact(items).search(queries, 100, excluded, allowed)
    monkeypatch.setattr(best_items, "available", lambda *vectors: False)
    right = Exact(items).search(queries, 100, excluded, allowed)
    assert torch.equal(found[0], right[0])
    assert torch.equal(found[1], right[1])


@few
@given(requests())
def test_approximate_answers_are_as_long_as_exact_ones_and_leave_out_the_same(request_):
    items, queries, k, excluded, allowed = request_
    if not len(items):
        return
    right, _ = Exact(items).search(queries, k, excluded, allowed)
    for index in IVF.build(items, lists=min(4, len(items)), probes=1), HNSW.build(items, neighbours=4, search=4):
        ids, scores = index.search(queries, k, excluded, allowed)
        assert torch.equal(ids >= 0, right >= 0)
        assert torch.equal(scores, pair_scores(queries, items, ids))
        assert (scores[:, 1:] <= scores[:, :-1]).all()
        for got, left_out in zip(ids.tolist(), excluded.tolist()):
            found = [one for one in got if one >= 0]
            assert len(set(found)) == len(found)
            assert not set(found) & set(left_out)
            assert allowed is None or allowed[found].all()


@few
@given(requests())
def test_ivf_with_all_lists_probed_is_exact(request_):
    items, queries, k, excluded, allowed = request_
    if not len(items):
        return
    lists = min(5, len(items))
    _, scores = IVF.build(items, lists=lists, probes=lists).search(queries, k, excluded, allowed)
    assert torch.equal(scores, Exact(items).search(queries, k, excluded, allowed)[1])


@pytest.mark.parametrize("kind", [IVF, HNSW])
def test_recall_on_clusters(kind):
    items = clusters(4000)
    queries = items[::40] + 0.1 * vectors(100, 16, 7)
    right, _ = Exact(items).search(queries, 50)
    index = kind.build(items)
    assert recall(index.search(queries, 50)[0], right) > 0.95
    # half of the items allowed, and for each query its best ten excluded
    allowed = torch.arange(len(items)) % 2 == 0
    right_left, _ = Exact(items).search(queries, 50, right[:, :10], allowed)
    assert recall(index.search(queries, 50, right[:, :10], allowed)[0], right_left) > 0.95


def test_a_score_does_not_depend_on_what_is_asked_beside_it(either):
    items, queries = vectors(3000, 48, 0), vectors(300, 48, 1)
    ids, scores = Exact(items, items_at_once=700).search(queries, 60)
    for row in 0, 17, 299:
        alone = Exact(items).search(queries[row : row + 1], 7)
        assert torch.equal(alone[0][0], ids[row, :7])
        assert torch.equal(alone[1][0], scores[row, :7])


def test_items_in_ascending_order_of_score_are_found(either):
    items = torch.arange(1, 5001.0)[:, None] * torch.ones(1, 8)
    ids, _ = Exact(items, items_at_once=512).search(torch.ones(2, 8), 3)
    assert ids.tolist() == [[4999, 4998, 4997]] * 2


def test_recall_counts_each_row_by_itself():
    assert recall(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 9], [4, -1]])) == pytest.approx(2 / 3)


ITEMS, QUERIES = vectors(100, 8, 0), vectors(2, 8, 1)
NAN = torch.full((1, 8), torch.nan)


@pytest.mark.parametrize("build", [Exact, IVF.build, HNSW.build])
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ((QUERIES[:, :5], 3), r"\[2, 5\].*\[B, 8\]"),
        ((QUERIES[0], 3), r"\[8\].*\[B, 8\]"),
        ((QUERIES, 0), "k is 0"),
        ((NAN, 3), "not finite"),
        ((QUERIES, 3, torch.zeros(3, 1, dtype=torch.int64)), r"excluded is .*\[3, 1\]"),
        ((QUERIES, 3, torch.full((2, 1), 100)), "id 100"),
        ((QUERIES, 3, None, torch.ones(99, dtype=torch.bool)), r"allowed is .*\[99\]"),
    ],
)
def test_a_request_that_cannot_be_answered_is_one_sentence(build, request_, words):
    with pytest.raises(InputError, match=words) as raised:
        build(ITEMS).search(*request_)
    assert "\n" not in str(raised.value) and str(raised.value).count(". ") == 0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Exact(NAN), "not finite"),
        (lambda: IVF.build(ITEMS, lists=101), "101 lists"),
        (lambda: IVF.build(ITEMS, lists=4, probes=5), "5 probes"),
        (lambda: HNSW.build(ITEMS, neighbours=1), "neighbours is 1"),
        (lambda: HNSW.build(ITEMS, search=0), "search is 0"),
        (lambda: HNSW.build(ITEMS[:0]), "no items"),
        (lambda: IVF.build(ITEMS[:0]), "0 items"),
    ],
)
def test_an_index_that_cannot_be_built_is_one_sentence(build, words):
    with pytest.raises(InputError, match=words):
        build()


@pytest.mark.parametrize("kind", [IVF, HNSW])
def test_without_faiss_the_sentence_says_what_to_install(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'louder\[serve\]'"):
        kind.build(ITEMS)


def test_nobody_asked():
    for index in Exact(ITEMS), IVF.build(ITEMS), HNSW.build(ITEMS):
        ids, scores = index.search(QUERIES[:0], 3)
        assert ids.shape == scores.shape == (0, 3)
