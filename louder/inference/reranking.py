"""What happens to an answer after the models: stages, each of which takes a request and its result and gives a result.

    boost ─▶ best first ─▶ cap ─▶ diversity ─▶ pin ─▶ explore ─▶ first k

What is boosted competes by its new score for everything after. A capped list stays within its caps whatever is chosen from
it, so diversity comes after. Pins come last: no other stage moves them, and of the caps they take their part first. A list
that nobody has arranged so may explore.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from louder.errors import InputError
from louder.ids import RawId
from louder.inference.catalogue import Catalogue
from louder.inference.new_items import shown
from louder.inference.request import Request, Result

MARGIN = 200  # candidates on top of k, where a stage chooses among them

Stage = Callable[[Request, Result, Tensor, Catalogue], Result]


def boost(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    if not request.boost:
        return result
    factors = np.ones(len(result.items))
    for one in request.boost:
        named = (
            np.isin(result.items, catalogue.known(one.items))
            if one.items
            else catalogue.having(one.where, result.items)
        )
        factors[named] *= one.factor
    return replace(result, scores=boosted(result.scores, factors, result.temperature))


def boosted(scores: np.ndarray, factors: np.ndarray, temperature: float | None) -> np.ndarray:
    """[n] scores whose meaning is multiplied by factors [n] above 0.

    A logit of the next item stands for odds, so it grows by temperature x ln(factor). Any other score is an expected worth
    and is multiplied; one below zero is divided, so that a factor above 1 always lifts.
    """
    if temperature is not None:
        return scores + temperature * np.log(factors)
    return np.where(scores < 0, scores / factors, scores * factors)


def best_first(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    return taken(result, np.argsort(-result.scores, kind="stable"))


def cap(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    """The best items that keep to the caps; each value of a list counts, and an item without a value counts nowhere."""
    if not request.cap:
        return result
    pinned = np.isin(result.items, list(positions(request, catalogue)))
    counts, kept = Counter[tuple[str, str]](), list[int]()
    for row in np.argsort(~pinned, kind="stable").tolist():
        item = int(result.items[row])
        own = {(name, value) for name in request.cap for value in catalogue.labels_of(item, name)}
        if pinned[row] or all(counts[name, value] < request.cap[name] for name, value in own):
            counts.update(own)
            kept.append(row)
            if len(kept) == pool(request):
                break
    return taken(result, np.array(kept, dtype=np.int64))


def diversity(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    """Pinned items stand where they stand, so they neither choose nor are chosen."""
    if not request.diversity:
        return result
    pinned = np.isin(result.items, list(positions(request, catalogue)))
    rows = np.flatnonzero(~pinned)[: pool(request)]
    chosen = diverse(vectors[torch.from_numpy(result.items[rows])], result.scores[rows], request.k, request.diversity)
    return taken(result, np.concatenate([rows[chosen], np.flatnonzero(pinned)]))


def pin(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    if not request.pin:
        return result
    at = positions(request, catalogue)
    rows = {item: row for row, item in enumerate(result.items.tolist())}
    order = [row for item, row in rows.items() if item not in at]
    for item in sorted(at.keys() & rows.keys(), key=at.__getitem__):
        order.insert(at[item] - 1, rows[item])
    return taken(result, np.array(order, dtype=np.int64))


def explore(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    """Each position goes to the best item that is left or, once in `explore` times, to any of those that are left, all of them
    equally likely. So the probability of each choice, given those above it, is known."""
    if not request.explore or request.cap or request.diversity or request.pin:
        return result
    draw, share = random.Random(request.seed), 1 / request.explore
    left = list(range(min(len(result.items), pool(request))))
    order, propensities = list[int](), list[float]()
    for _ in range(min(request.k, len(left))):
        place = draw.randrange(len(left)) if draw.random() < share else 0
        propensities.append(share / len(left) + (1 - share) * (place == 0))
        order.append(left.pop(place))
    return replace(taken(result, np.array(order, dtype=np.int64)), propensities=np.array(propensities))


def first_k(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    return taken(result, slice(request.k))


STAGES: list[Stage] = [boost, best_first, cap, diversity, pin, explore, first_k]


def rerank(request: Request, result: Result, vectors: Tensor, catalogue: Catalogue) -> Result:
    """What was found, stage by stage; vectors [I, D] of the items of the catalogue. The request has to pass `check`."""
    for stage in STAGES:
        result = stage(request, result, vectors, catalogue)
    return result


def pool(request: Request) -> int:
    """How many candidates the stages need at least: more than k where one of them chooses."""
    choose = request.boost or request.cap or request.diversity or request.explore
    return request.k + MARGIN if choose else request.k


def check(request: Request, catalogue: Catalogue) -> None:
    """Raises InputError for what no stage can do."""
    for one in request.boost:
        if bool(one.items) == bool(one.where) or not 0 < one.factor < float("inf"):
            raise InputError(
                "A boost needs items or attributes, one of the two, and a factor above 0, such as "
                f'{{"where": {{"genres": ["Drama"]}}, "factor": 2}}, but one has items {shown(one.items)}, '
                f"where {shown(one.where)} and factor {one.factor}."
            )
        catalogue.having(one.where, np.zeros(0, dtype=np.int64))
    for name, most in request.cap.items():
        if most < 1:
            raise InputError(f"The cap of {name!r} is {most}, but it must be 1 or more. To have none, filter by where.")
        catalogue.require_attribute(name)
    pinned: dict[int, RawId] = {}
    for item, position in request.pin:
        if not 1 <= position <= request.k:
            raise InputError(
                f"{item!r} is pinned to position {position}, but the answer has positions 1 to {request.k}. Ask for more "
                "items, or pin it higher."
            )
        if position in pinned or item in pinned.values():
            raise InputError(f"Two pins have the item {item!r} or the position {position}. Give one of them.")
        pinned[position] = item


def positions(request: Request, catalogue: Catalogue) -> dict[int, int]:
    """The position of each pinned item, by its id; those that the model does not know have none."""
    ids = catalogue.item_ids.ids([item for item, _ in request.pin]).tolist() if request.pin else []
    return {number: position for number, (_, position) in zip(ids, request.pin) if number >= 0}


def taken(result: Result, rows: np.ndarray | slice) -> Result:
    """Some items of a result, in the order of `rows`."""
    return replace(
        result,
        items=result.items[rows],
        scores=result.scores[rows],
        probabilities=None if result.probabilities is None else result.probabilities[rows],
        values=None if result.values is None else result.values[rows],
        next=None if result.next is None else result.next[rows],
        sources=None if result.sources is None else result.sources[rows],
        propensities=None if result.propensities is None else result.propensities[rows],
    )


def action_weights(request: Request, actions: Sequence[str], main: str) -> Tensor:
    """[A] the weight of each action's probability in the score. Raises InputError for an action that is not known."""
    weights = torch.zeros(len(actions))
    for name, weight in (request.weights or {main: 1.0}).items():
        if name not in actions:
            raise InputError(f"weights names {name!r}, but the actions are {', '.join(actions)}.")
        weights[actions.index(name)] = weight
    return weights


def diverse(vectors: Tensor, scores: np.ndarray, k: int, diversity: float) -> np.ndarray:
    """Rows of the k that maximal marginal relevance chooses (Carbonell & Goldstein, 1998): each place goes to what scores
    well and points elsewhere than everything above it.

    vectors [n, D] and scores [n], best first
    """
    directions = F.normalize(vectors, dim=1).numpy()
    score = scores.astype(np.float64)
    spread = score.max(initial=0) - score.min(initial=0)
    relevance = (score - score.min(initial=0)) / spread if spread else np.zeros_like(score)
    nearest = np.zeros(len(score))  # the largest cosine with anything above
    left = np.ones(len(score), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(k, len(score))):
        worth = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, directions @ directions[best])
    return np.array(chosen, dtype=np.int64)
