"""What happens to an answer after the models: stages, each of which takes a request and its result and gives a result."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from louder.errors import InputError
from louder.inference.request import Request, Result

MOST_DIVERSE = 200  # best candidates among which diversity chooses


def best_first(request: Request, result: Result, vectors: Tensor) -> Result:
    return taken(result, np.argsort(-result.scores, kind="stable"))


def diversity(request: Request, result: Result, vectors: Tensor) -> Result:
    if not request.diversity:
        return result
    own = vectors[torch.from_numpy(result.items[:MOST_DIVERSE])]
    return taken(result, diverse(own, result.scores[:MOST_DIVERSE], request.k, request.diversity))


def first_k(request: Request, result: Result, vectors: Tensor) -> Result:
    return taken(result, slice(request.k))


STAGES = [best_first, diversity, first_k]


def rerank(request: Request, result: Result, vectors: Tensor) -> Result:
    """What was found, stage by stage; vectors [I, D] of the items."""
    for stage in STAGES:
        result = stage(request, result, vectors)
    return result


def taken(result: Result, rows: np.ndarray | slice) -> Result:
    """Some items of a result, in the order of `rows`."""
    return replace(
        result,
        items=result.items[rows],
        scores=result.scores[rows],
        probabilities=None if result.probabilities is None else result.probabilities[rows],
        values=None if result.values is None else result.values[rows],
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
