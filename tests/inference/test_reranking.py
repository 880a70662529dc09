"""What happens to an answer after the models."""

import numpy as np
import pytest
import torch

from louder.errors import InputError
from louder.histories.history import empty_history
from louder.inference.request import Request, Result
from louder.inference.reranking import MOST_DIVERSE, action_weights, diverse, rerank

X, Y, Z = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
NOBODY = empty_history()


def asked(**more):
    return Request(history=NOBODY, **more)


def test_the_best_come_first_with_all_that_is_known_of_them():
    result = Result(
        np.array([5, 6, 7, 8]),
        np.array([0.1, 0.9, 0.5, 0.9], np.float32),
        read=3,
        skipped=1,
        probabilities=np.arange(8.0).reshape(4, 2),
        values=np.arange(4.0)[:, None],
    )
    found = rerank(asked(k=3), result, torch.eye(9))
    assert found.items.tolist() == [6, 8, 7]  # equal scores stay in their order
    assert found.probabilities[:, 0].tolist() == [2, 6, 4] and found.values[:, 0].tolist() == [1, 3, 2]
    assert (found.read, found.skipped) == (3, 1)
    bare = rerank(asked(k=9), Result(np.array([1, 2]), np.array([0.0, 1.0]), 0, 0), torch.eye(9))
    assert bare.items.tolist() == [2, 1] and bare.probabilities is None and bare.values is None


def test_diversity_is_weighed_against_relevance():
    vectors = torch.tensor([X, X, Y])
    scores = np.array([5.0, 4.0, 0.0])  # relevance 1, .8 and 0
    assert diverse(vectors, scores, 3, 0.0).tolist() == [0, 1, 2]
    # .7 * .8 - .3 * 1 = .26 is above 0, and .5 * .8 - .5 * 1 = -.1 below
    assert diverse(vectors, scores, 3, 0.3).tolist() == [0, 1, 2]
    assert diverse(vectors, scores, 3, 0.5).tolist() == [0, 2, 1]
    assert diverse(vectors, scores, 2, 1.0).tolist() == [0, 2]


def test_an_item_is_compared_with_all_above_it_and_not_with_the_last_alone():
    vectors = torch.tensor([X, Y, X, Z])
    scores = np.array([1.0, 0.99, 0.98, 0.0])
    # third place: X is above already, though not just above; Z is nowhere
    assert diverse(vectors, scores, 4, 0.9).tolist() == [0, 1, 3, 2]


def test_length_does_not_make_items_alike():
    vectors = torch.tensor([[9.0, 0.0], [0.1, 0.1], [0.0, 50.0]])
    assert diverse(vectors, np.array([1.0, 0.5, 0.5]), 3, 0.6).tolist() == [0, 2, 1]


def test_equal_scores_are_equally_relevant_and_nothing_is_no_mistake():
    assert diverse(torch.tensor([X, X, Y]), np.ones(3), 3, 0.5).tolist() == [0, 2, 1]
    assert diverse(torch.zeros(0, 3), np.zeros(0), 5, 0.5).tolist() == []


def test_diversity_chooses_among_the_first_of_many():
    count = MOST_DIVERSE + 50
    result = Result(np.arange(count), np.linspace(1, 0, count), 1, 0)
    found = rerank(asked(k=count, diversity=0.5), result, torch.eye(count))
    assert sorted(found.items.tolist()) == list(range(MOST_DIVERSE))
    assert len(rerank(asked(k=count), result, torch.eye(count)).items) == count


def test_weights_are_of_the_actions_by_name():
    actions = "like", "share", "buy"
    assert action_weights(asked(), actions, "share").tolist() == [0, 1, 0]
    weights = action_weights(asked(weights={"buy": 2.5, "like": -1.0}), actions, "share")
    assert weights.tolist() == [-1, 0, 2.5]
    with pytest.raises(InputError, match="weights names 'fly', but the actions are like, share, buy"):
        action_weights(asked(weights={"buy": 1.0, "fly": 1.0}), actions, "share")
