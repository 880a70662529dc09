"""States of users -> the items that fit them best, by dot product or by a mixture of logits."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from louder import checkpoint
from louder.errors import InputError
from louder.ids import RawId
from louder.inference import stored_index
from louder.inference.index import Exact, Index
from louder.inference.run import Run
from louder.models import RankingModel, SequentialModel


class DotProductSearch:
    """Compares states [B, D] of users with the catalogue, as MixtureSearch does.

    search  -> ids [B, k] and scores [B, k], best first, as an Index gives them
    scores  -> [B, n] of n items

    users   [B] raw ids, None for somebody unknown: a mixture may have learned vectors of users
    """

    def __init__(self, index: Index, vectors: Tensor) -> None:
        """vectors [I, D]"""
        self.index, self.vectors = index, vectors

    def search(
        self, states: Tensor, users: Sequence[RawId | None], k: int, excluded: Tensor, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self.index.search(states, k, excluded, allowed)

    def scores(self, states: Tensor, users: Sequence[RawId | None], items: Tensor) -> Tensor:
        return states @ self.vectors[items].T

    def replace(self, rows: Tensor, vectors: Tensor) -> None:
        """New vectors [R, D] of the items [R], in place."""
        self.vectors[rows] = vectors
        self.index.replace(rows, vectors)


class MixtureSearch:
    """A mixture of logits (MoL) with every item, as mol_topk.brute_force."""

    def __init__(self, run: Run, model: SequentialModel) -> None:
        self.run, self.similarity = run, model.similarity
        with torch.no_grad():
            self.catalogue = model.catalogue()

    @torch.no_grad()
    def replace(self, rows: Tensor, vectors: Tensor) -> None:
        """New vectors [R, D] of the items [R], in place."""
        self.catalogue[rows] = self.similarity.items(vectors)

    def search(
        self, states: Tensor, users: Sequence[RawId | None], k: int, excluded: Tensor, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        scores = self.of(states, users, self.catalogue)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        spare = torch.cat([scores, scores.new_zeros(len(scores), 1)], dim=1)  # the last column is nobody
        where = torch.where(excluded < 0, scores.shape[1], excluded)
        scores = spare.scatter(1, where, -torch.inf)[:, :-1]
        top = scores.topk(min(k, scores.shape[1]))
        return torch.where(top.values > -torch.inf, top.indices, -1), top.values

    def scores(self, states: Tensor, users: Sequence[RawId | None], items: Tensor) -> Tensor:
        return self.of(states, users, self.catalogue[items])

    def of(self, states: Tensor, users: Sequence[RawId | None], rows: Tensor) -> Tensor:
        found = iter(self.run.user_ids.ids([user for user in users if user is not None]).tolist())
        ids = torch.tensor([-1 if user is None else next(found) for user in users])
        return self.similarity.scores(self.similarity.queries(states, ids), rows)


def search_of(
    run: Run, model: SequentialModel | RankingModel, vectors: Tensor, *, exact: bool
) -> DotProductSearch | MixtureSearch:
    """As the run's model compares states with items, whose vectors are [I, D]; `exact` leaves its index aside."""
    if isinstance(model, SequentialModel) and run.mol is not None:
        return MixtureSearch(run, model)
    return DotProductSearch(Exact(vectors) if exact else index_of(run.path, vectors), vectors)


def index_of(run: Path, vectors: Tensor) -> Index:
    """The index that louder index made of this checkpoint; without one, or with one of another checkpoint, the exact one:
    a run that is published anew is right at once, and fast again when its index is made."""
    if (run / "index").is_dir():
        try:
            return stored_index.load(run, checkpoint.best(run), vectors)
        except InputError as error:
            print(f"louder: {error} Until then, items are found exactly.", file=sys.stderr)
    return Exact(vectors)
