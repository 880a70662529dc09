"""Item-kNN beside cosines computed one by one, and a history that leans on its latest events."""

import numpy as np
import pytest
import torch

from louder.batch import RetrievalBatch, SequenceBatch
from louder.evaluation import item_knn
from louder.evaluation.item_knn import item_knn_scorer, similarities

USERS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
ITEMS = np.array([0, 1, 1, 0, 2, 0, 1, 3])  # who had 0: all; 1: users 0 and 2 (0 twice); 2: user 1; 3: user 2


def asked(*history: int) -> RetrievalBatch:
    ids = torch.tensor(history)
    times = torch.arange(len(history))
    sequence = SequenceBatch(ids=ids, timestamps=times, query_timestamps=times, offsets=torch.tensor([0, len(ids)]))
    return RetrievalBatch(sequences=sequence, targets=ids, users=torch.tensor([0]), rows=torch.tensor([0]))


def test_cosines_are_those_of_the_sets_of_users():
    had = [{0, 1, 2}, {0, 2}, {1}, {2}]
    cosines = [[len(a & b) / (len(a) * len(b)) ** 0.5 for b in had] for a in had]
    near = similarities(USERS, ITEMS, 4, itself=True).toarray()
    np.testing.assert_allclose(near, cosines, atol=1e-6)
    np.testing.assert_allclose(similarities(USERS, ITEMS, 4, itself=False).toarray(), near - np.eye(4), atol=1e-6)


def test_an_item_that_nobody_had_is_near_nothing():
    near = similarities(USERS, ITEMS, 6, itself=False)
    assert near.shape == (6, 6) and near[4:].nnz == near[:, 4:].nnz == 0


def test_only_the_nearest_are_kept_and_blocks_do_not_show(monkeypatch):
    whole = similarities(USERS, ITEMS, 4, itself=False).toarray()
    monkeypatch.setattr(item_knn, "AT_ONCE", 3)
    np.testing.assert_array_equal(similarities(USERS, ITEMS, 4, itself=False).toarray(), whole)
    monkeypatch.setattr(item_knn, "NEIGHBOURS", 1)
    kept = similarities(USERS, ITEMS, 4, itself=False).toarray()
    assert ((kept > 0).sum(1) == 1).all()
    np.testing.assert_allclose(kept.max(1), whole.max(1))


@pytest.mark.parametrize(("decay", "weights"), [(1.0, (1, 1)), (0.5, (0.5, 1))])
def test_a_score_is_the_sum_over_the_history_of_which_the_latest_weighs_most(decay, weights):
    near = similarities(USERS, ITEMS, 4, itself=False)
    queries, scores = item_knn_scorer(near, np.zeros(4, int), decay)(asked(2, 3))
    expected = weights[0] * near.toarray()[2] + weights[1] * near.toarray()[3]
    np.testing.assert_allclose(scores(queries).numpy()[0], expected, atol=1e-6)


def test_what_is_equally_near_goes_by_popularity():
    near = similarities(USERS, ITEMS, 6, itself=False)
    queries, scores = item_knn_scorer(near, np.array([3, 2, 1, 1, 5, 9]), 1.0)(asked(4))
    assert scores(queries)[0].argsort(descending=True)[:3].tolist() == [5, 4, 0]
