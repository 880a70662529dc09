"""What happens to an answer after the models."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from louder.errors import InputError
from louder.histories.history import empty_history
from louder.ids import IdMap
from louder.inference.catalogue import Catalogue
from louder.inference.request import Boost, Pin, Request, Result
from louder.inference.reranking import MARGIN, action_weights, boosted, check, diverse, rerank

X, Y, Z = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
NOBODY = empty_history()
KINDS = ["film", "film", "film", "game", "game", None]
TAGS = [["war"], ["war", "love"], ["love"], [], ["war"], ["love"]]


def catalogue_of(columns, items):
    run = SimpleNamespace(item_ids=IdMap(pa.array([f"i{n}" for n in range(items)])), items=columns)
    return Catalogue(run, Path("nowhere"))


SHOP = catalogue_of(pa.table({"kind": KINDS, "tags": TAGS}), 6)


def asked(**more):
    return Request(history=NOBODY, **more)


def first_to_last(scores, temperature=None, vectors=None, **more):
    """Of items 0 .. n - 1 of the shop: the order of the answer, and its scores."""
    count = len(scores)
    request = asked(**({"k": count} | more))
    check(request, SHOP)
    result = Result(np.arange(count), np.array(scores), 0, 0, temperature=temperature)
    found = rerank(request, result, torch.eye(count) if vectors is None else vectors, SHOP)
    return found.items.tolist(), found.scores.tolist()


def test_the_best_come_first_with_all_that_is_known_of_them():
    result = Result(
        np.array([5, 6, 7, 8]),
        np.array([0.1, 0.9, 0.5, 0.9], np.float32),
        read=3,
        skipped=1,
        probabilities=np.arange(8.0).reshape(4, 2),
        values=np.arange(4.0)[:, None],
    )
    found = rerank(asked(k=3), result, torch.eye(9), SHOP)
    assert found.items.tolist() == [6, 8, 7]  # equal scores stay in their order
    assert found.probabilities[:, 0].tolist() == [2, 6, 4] and found.values[:, 0].tolist() == [1, 3, 2]
    assert (found.read, found.skipped) == (3, 1)
    bare = rerank(asked(k=9), Result(np.array([1, 2]), np.array([0.0, 1.0]), 0, 0), torch.eye(9), SHOP)
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
    vectors = torch.tensor([[9.0, 0.0], [0.1, 0.0], [30.0, 40.0]])
    assert diverse(vectors, np.array([1.0, 0.5, 0.5]), 3, 0.6).tolist() == [0, 2, 1]


def test_equal_scores_are_equally_relevant_and_nothing_is_no_mistake():
    assert diverse(torch.tensor([X, X, Y]), np.ones(3), 3, 0.5).tolist() == [0, 2, 1]
    assert diverse(torch.zeros(0, 3), np.zeros(0), 5, 0.5).tolist() == []


def test_diversity_chooses_k_among_the_first_of_many():
    count = MARGIN + 100
    vectors, result = torch.eye(count), Result(np.arange(count), np.linspace(1, 0, count), 1, 0)
    vectors[: MARGIN + 9] = vectors[
        0
    ]  # all alike but for the last of those among which 10 are chosen, and those after it
    found = rerank(asked(k=10, diversity=1.0), result, vectors, SHOP)
    assert found.items.tolist() == [0, MARGIN + 9, *range(1, 9)]
    for k in count - 1, count:  # however many are asked for
        found = rerank(asked(k=k, diversity=0.5), result, torch.eye(count), SHOP)
        assert sorted(found.items.tolist()) == list(range(k))


def test_a_boost_multiplies_what_a_score_stands_for():
    scores, factors = np.array([4.0, 0.0, -4.0, 4.0, -4.0]), np.array([2.0, 2.0, 2.0, 0.5, 0.5])
    assert boosted(scores, factors, None).tolist() == [8, 0, -2, 2, -8]  # up is up, also below zero
    odds = np.exp(boosted(np.array([0.3, 0.3, -0.2]), np.array([1.0, 3.0, 3.0]), 0.05) / 0.05)
    np.testing.assert_allclose(odds / odds[0], [1, 3, 3 * np.exp(-0.5 / 0.05)])


def test_boosts_are_of_items_by_name_or_by_attributes_and_add_up():
    scores = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert first_to_last(scores)[0] == [0, 1, 2, 3, 4, 5]
    games = Boost(factor=4, where={"kind": ["game"]})
    assert first_to_last(scores, boost=[games]) == ([3, 4, 0, 1, 2, 5], pytest.approx([1.2, 0.8, 0.6, 0.5, 0.4, 0.1]))
    warlike = Boost(factor=4, where={"kind": ["game"], "tags": ["war", "love"]})  # all of the attributes, any value
    assert first_to_last(scores, boost=[warlike])[0] == [4, 0, 1, 2, 3, 5]
    down = Boost(factor=0.1, items=["i0", "i1", "unknown"])
    assert first_to_last(scores, boost=[down])[0] == [2, 3, 4, 5, 0, 1]
    assert first_to_last(scores, boost=[games, Boost(factor=0.25, items=["i3"])])[0] == [4, 0, 1, 2, 3, 5]
    # of logits: 0.6 - 0.4 < 0.1 ln 10 < 0.6 - 0.3
    assert first_to_last(scores, 0.1, boost=[Boost(factor=10, items=["i2", "i3"])])[0] == [2, 0, 3, 1, 4, 5]


def test_a_cap_keeps_the_best_of_each_value():
    scores = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert first_to_last(scores, cap={"kind": 1})[0] == [0, 3, 5]  # what has no kind is of none
    assert first_to_last(scores, cap={"kind": 2})[0] == [0, 1, 3, 4, 5]
    assert first_to_last(scores, cap={"tags": 1})[0] == [0, 2, 3]  # the second has war, which the first has
    assert first_to_last(scores, cap={"kind": 2, "tags": 2})[0] == [0, 1, 3, 5]
    assert first_to_last(scores[::-1], cap={"kind": 1})[0] == [5, 4, 2]
    assert first_to_last(scores, cap={"kind": 1}, k=2)[0] == [0, 3]


def test_pins_stand_where_they_were_told():
    scores = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert first_to_last(scores, pin=[Pin("i4", 1)])[0] == [4, 0, 1, 2, 3, 5]
    assert first_to_last(scores, pin=[Pin("i0", 3), Pin("i5", 1)])[0] == [5, 1, 0, 2, 3, 4]
    assert first_to_last(scores, pin=[Pin("i5", 3)], k=3)[0] == [0, 1, 5]
    assert first_to_last(scores, pin=[Pin("unknown", 1), Pin("i2", 2)])[0] == [0, 2, 1, 3, 4, 5]
    assert first_to_last(scores[:2], pin=[Pin("i0", 5)], k=6)[0] == [1, 0]  # as near as a short answer has it
    _, kept = first_to_last(scores, pin=[Pin("i4", 1)])
    assert kept[:2] == [0.2, 0.6]  # a score stays what it is


def test_stages_go_together():
    scores = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    # the pinned film takes the place of the best one
    assert first_to_last(scores, pin=[Pin("i2", 1)], cap={"kind": 1})[0] == [2, 3, 5]
    assert first_to_last(scores, pin=[Pin("i2", 1), Pin("i1", 4)], cap={"kind": 1})[0] == [2, 3, 5, 1]  # pins stay
    # boosted, the second game is the one that stays
    lifted = [Boost(factor=2, items=["i4"])]
    assert first_to_last(scores, boost=lifted, cap={"kind": 1})[0] == [0, 4, 5]
    # the cap leaves 0, 2 and 3, of which 2 is like 0; were the three most different ones taken first, it would leave two
    vectors = torch.tensor([X, X, X, Z, Y, Y])
    assert first_to_last(scores, vectors=vectors, cap={"tags": 1}, diversity=0.9, k=3)[0] == [0, 3, 2]
    vectors = torch.tensor([X, X, Y, Z, X, Z])
    found, _ = first_to_last(scores, vectors=vectors, diversity=0.9, pin=[Pin("i1", 2)], k=4)
    assert found == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"boost": [Boost(factor=2)]}, "A boost needs items or attributes, one of the two, and a factor above 0"),
        ({"boost": [Boost(factor=2, items=["i1"], where={"kind": ["film"]})]}, "one of the two"),
        ({"boost": [Boost(factor=0, items=["i1"])]}, "and factor 0"),
        ({"boost": [Boost(factor=float("nan"), items=["i1"])]}, "and factor nan"),
        ({"boost": [Boost(factor=2, where={"fly": ["a"]})]}, "the attribute 'fly', but items have these: kind, tags"),
        ({"cap": {"fly": 1}}, "There is no attribute 'fly'; items have these: kind, tags."),
        ({"cap": {"kind": 0}}, "The cap of 'kind' is 0, but it must be 1 or more. To have none, filter by where."),
        ({"pin": [Pin("i1", 11)]}, "'i1' is pinned to position 11, but the answer has positions 1 to 10"),
        ({"pin": [Pin("i1", 0)]}, "'i1' is pinned to position 0, but"),
        ({"pin": [Pin("i1", 1), Pin("i2", 1)]}, "Two pins have the item 'i2' or the position 1. Give one of them."),
        ({"pin": [Pin("i1", 1), Pin("i1", 2)]}, "Two pins have the item 'i1' or the position 2."),
    ],
    ids=lambda x: str(x)[:50],
)
def test_what_no_stage_can_do_is_said(more, text):
    with pytest.raises(InputError) as caught:
        check(asked(**more), SHOP)
    assert text in str(caught.value)


def test_weights_are_of_the_actions_by_name():
    actions = "like", "share", "buy"
    assert action_weights(asked(), actions, "share").tolist() == [0, 1, 0]
    weights = action_weights(asked(weights={"buy": 2.5, "like": -1.0}), actions, "share")
    assert weights.tolist() == [-1, 0, 2.5]
    with pytest.raises(InputError, match="weights names 'fly', but the actions are like, share, buy"):
        action_weights(asked(weights={"buy": 1.0, "fly": 1.0}), actions, "share")


def explored(seed, count=3, **more):
    request = asked(**({"k": 2, "explore": 2, "seed": str(seed)} | more))
    check(request, SHOP)
    scores = 1.0 - 0.1 * np.arange(count)
    found = rerank(request, Result(np.arange(count), scores, 0, 0), torch.eye(count), SHOP)
    chances = None if found.propensities is None else found.propensities.tolist()
    return tuple(found.items.tolist()), chances


def test_what_is_explored_is_put_there_as_often_as_its_propensity_says():
    seeds = 6_000
    found = [explored(seed) for seed in range(seeds)]
    # of three items, one position in two is drawn: the best stays with 1/2 + 1/2 x 1/3, the next with 1/2 + 1/2 x 1/2
    assert dict(found)[0, 1] == pytest.approx([2 / 3, 3 / 4]) and dict(found)[2, 1] == pytest.approx([1 / 6, 1 / 4])
    often = Counter(items for items, _ in found)
    assert len(often) == 6
    for items, (first, second) in dict(found).items():
        assert often[items] / seeds == pytest.approx(first * second, abs=0.02)  # three standard errors
    assert found[:9] == [explored(seed) for seed in range(9)]


def test_nothing_is_explored_where_the_list_is_arranged_or_it_was_not_asked_for():
    for more in {"explore": 0}, {"cap": {"kind": 1}}, {"diversity": 0.5}, {"pin": [Pin("i2", 1)]}:
        assert all(explored(seed, **more) == explored(0, **more) for seed in range(20))
        assert explored(0, **more)[1] is None
    items, chances = explored(0, k=9, explore=1)
    assert sorted(items) == [0, 1, 2] and chances == pytest.approx([1 / 3, 1 / 2, 1])


def test_it_is_drawn_from_the_next_in_the_list_and_not_from_far_below():
    found = {item for seed in range(300) for item in explored(seed, 6 + 2 * MARGIN, k=1, explore=1)[0]}
    assert max(found) <= MARGIN and len(found) > 100
