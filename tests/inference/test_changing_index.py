"""Items that come and go in an index: it answers as one that is built anew of those that are there."""

import pytest
import torch

from louder.inference.index import HNSW, IVF, Exact, recall
from louder.ops import best_items

WIDTH = 8


def items_of(count, seed):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


BUILD = {
    "exact": Exact,
    "exact in blocks": lambda vectors: Exact(vectors, items_at_once=32),
    "ivf": lambda vectors: IVF.build(vectors, lists=5, probes=5),  # all lists are looked through: exact
    "hnsw": lambda vectors: HNSW.build(vectors, search=400),
}
every_kind = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD.keys())


def same(index, vectors, there, queries, k, **given):
    """As the full sort of those there."""
    ids, scores = index.search(queries, k, **given)
    allowed = given.get("allowed")
    expected = Exact(vectors).search(queries, k, given.get("excluded"), there if allowed is None else there & allowed)
    assert torch.equal(ids, expected[0])
    assert torch.equal(scores, expected[1])


@every_kind
@pytest.mark.parametrize("kernel", [True, False])
def test_it_answers_as_one_that_is_built_anew(build, kernel, monkeypatch):
    if not kernel:
        monkeypatch.setattr(best_items, "available", lambda *vectors: False)
    vectors, there = items_of(200, 0), torch.ones(200, dtype=torch.bool)
    index, queries = build(vectors.clone()), items_of(7, 1)
    generator = torch.Generator().manual_seed(2)
    for turn in range(12):
        chosen = torch.randperm(len(vectors), generator=generator)[:30]
        if turn % 3 == 0:
            index.remove(chosen)
            there[chosen] = False
        else:
            new = items_of(30, 10 + turn)
            index.replace(chosen, new)
            vectors[chosen], there[chosen] = new, True
        if turn == 6:
            index.grow(50)
            vectors, there = torch.cat([vectors, torch.zeros(50, WIDTH)]), torch.cat([there, torch.zeros(50).bool()])
        same(index, vectors, there, queries, 10)
        allowed = torch.rand(len(vectors), generator=generator) < 0.7
        excluded = torch.randint(-1, len(vectors), (7, 5), generator=generator)
        same(index, vectors, there, queries, 10, allowed=allowed, excluded=excluded)


@every_kind
def test_an_answer_never_has_an_item_that_left(build):
    vectors = items_of(60, 0)
    index = build(vectors)
    index.remove(torch.arange(5, 60))
    ids, scores = index.search(items_of(3, 1), 10)
    assert sorted(set(ids.flatten().tolist())) == [-1, 0, 1, 2, 3, 4]
    assert scores[:, 5:].isneginf().all()
    index.remove(torch.arange(60))
    assert (index.search(items_of(3, 1), 2)[0] == -1).all()


def test_a_graph_is_made_anew_when_most_of_it_left():
    index = HNSW.build(items_of(100, 0))
    for turn in range(20):
        rows = torch.arange(10 * (turn % 10), 10 * (turn % 10) + 10)
        index.replace(rows, items_of(10, turn))
        assert index.index.ntotal == len(index.items) <= 210
        assert torch.equal(index.items[index.nodes], torch.arange(100))
    index.remove(torch.arange(60))
    assert index.index.ntotal <= 80
    assert (index.nodes[:60] == -1).all()


def test_recall_stays_as_items_change():
    """A third of a clustered catalogue is replaced: the index finds nearly as much as one that is built anew."""
    centres = items_of(20, 0)

    def near(count, seed):
        return centres.repeat(count // 20, 1) + 0.3 * items_of(count, seed)

    for kind in IVF, HNSW:
        vectors, queries = near(2000, 1), near(100, 2)
        index = kind.build(vectors.clone())
        rows = torch.randperm(2000, generator=torch.Generator().manual_seed(3))[:660]
        vectors[rows] = near(660, 4)
        index.replace(rows, vectors[rows])
        right = Exact(vectors).search(queries, 10)[0]
        built = recall(kind.build(vectors).search(queries, 10)[0], right)
        assert recall(index.search(queries, 10)[0], right) > built - 0.05
