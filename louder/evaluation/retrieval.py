"""Exact rank of each user's target in the whole catalogue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from louder.batch import RetrievalBatch
from louder.data.retrieval import RetrievalLoader
from louder.data.table import Table, ranges
from louder.errors import InputError
from louder.evaluation.retrieval_metrics import CUTOFFS, by_gap, by_length, retrieval_metrics
from louder.models import SequentialModel
from louder.results import Row

FILTERS = "none", "window", "history"  # which seen items are left out: from the fewest to the most
BLOCK_SCORES = 1 << 25  # scores held at once: 128 MiB in float32

Scorer = Callable[[RetrievalBatch], tuple[Tensor, Callable[[Tensor], Tensor]]]
"""batch -> queries [B, Q] of the users, and a function of some of these to the scores [b, I] of all items"""


@dataclass
class Evaluation:
    ranks: np.ndarray  # [U] of the targets
    lengths: np.ndarray  # [U] of the histories given to the model
    coverage: dict[str, float]  # the share of the catalogue that was in anybody's first k
    left_out: int = 0  # targets that the user had met before, and that were left out for it: they count as misses
    gaps: np.ndarray | None = None  # [U] seconds from the latest event to the target; None where nothing has a time
    beside: dict[str, np.ndarray] = field(default_factory=dict)  # [U] ranks under other filters, by `seen`

    def metrics(self) -> dict[str, float]:
        return retrieval_metrics(self.ranks) | self.coverage

    def report(self) -> Row:
        return {
            "users": len(self.ranks),
            "targets_left_out": self.left_out,
            "metrics": self.metrics(),
            "by_length": by_length(self.ranks, self.lengths),
            "by_gap": [] if self.gaps is None else by_gap(self.ranks, self.gaps),
            "by_filter": {seen: retrieval_metrics(ranks) for seen, ranks in self.beside.items()},
        }


@torch.no_grad()
def evaluate(
    scorer: Scorer,
    loader: RetrievalLoader,
    *,
    seen: str = "window",
    beside: Sequence[str] = (),
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Rank the target of every span of `loader` in the catalogue. `on_batch(users)` is called after each batch. `beside` are
    other filters of seen items whose ranks are wanted, too.

    rank = 1 + items that score higher + half of the other items that score the same. Seen items are left out; a
    target that is itself among them can't be recommended, so its rank is beyond the last item and every cutoff.
    """
    wanted = [name for name in FILTERS if name in (seen, *beside)]
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    lengths, gaps, left_out = [], [], 0
    shown: dict[int, Tensor] = {}
    for batch in loader.batches():
        queries, scores_of = scorer(batch)
        targets = batch.targets[batch.sequences.offsets[1:] - 1]
        seen_by = {name: seen_items(loader.table, batch, name) for name in wanted}
        size = max(1, BLOCK_SCORES // max(1, loader.table.items))  # users whose scores are held at once
        for start in range(0, len(queries), size):
            users = slice(start, start + size)
            scores = scores_of(queries[users]).float()
            target = targets[users].to(scores.device)
            target_scores = scores.gather(1, target[:, None])
            for name, (seen_ids, seen_lengths) in seen_by.items():  # each leaves out what the one before does, and more
                first, last = seen_lengths[:start].sum(), seen_lengths[: start + size].sum()
                row = torch.from_numpy(np.repeat(np.arange(len(scores)), seen_lengths[users])).to(scores.device)
                scores[row, torch.from_numpy(seen_ids[first:last]).to(scores.device)] = -torch.inf
                ranks[name].append(rank_of(scores, target_scores, target).cpu().numpy())
                if name == seen:
                    left_out += int(scores.gather(1, target[:, None]).isneginf().sum())
                    cover(shown, scores)
        lengths.append(batch.sequences.lengths.numpy())
        rows = batch.rows.numpy()
        gaps.append(loader.table.times[rows] - loader.table.times[rows - 1])
        if on_batch:
            on_batch(len(queries))
    if not lengths:
        raise InputError("There is nobody to evaluate: no user of this part of the table has a history and a target.")
    coverage = {f"coverage@{k}": float(seen_by.double().mean()) for k, seen_by in shown.items()}
    found = {name: np.concatenate(own) for name, own in ranks.items()}
    gap = np.concatenate(gaps) if loader.table.manifest.has_times else None
    others = {name: found[name] for name in wanted if name in beside}
    return Evaluation(found[seen], np.concatenate(lengths), coverage, left_out, gap, others)


def rank_of(scores: Tensor, target_scores: Tensor, targets: Tensor) -> Tensor:
    """scores [B, I] with -inf for what is left out, target_scores [B, 1], targets [B]  ->  ranks [B] float64"""
    higher = (~(scores <= target_scores)).sum(1)  # a score that is not a number counts against the target
    ties = (scores == target_scores).sum(1) - 1  # the target ties with itself
    ranks = 1 + higher + ties.clamp(min=0) / 2
    left_out = scores.gather(1, targets[:, None]).squeeze(1).isneginf()
    return torch.where(left_out, max(scores.shape[1], CUTOFFS[-1]) + 1, ranks.double())


def cover(shown: dict[int, Tensor], scores: Tensor) -> None:
    """Mark the items in the first k of each row of scores [B, I], for every cutoff; those left out are in none."""
    values, top = scores.topk(min(CUTOFFS[-1], scores.shape[1]))
    for k in CUTOFFS:
        marks = shown.setdefault(k, torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device))
        marks[top[:, :k][values[:, :k] > -torch.inf]] = True


def seen_items(table: Table, batch: RetrievalBatch, seen: str) -> tuple[np.ndarray, np.ndarray]:
    """Item ids to leave out, users end to end, and how many each user has [B]."""
    users = len(batch.users)
    if seen == "none":
        return np.empty(0, dtype=np.int64), np.zeros(users, dtype=np.int64)
    if seen == "window":
        ids, kinds, lengths = batch.sequences.ids.numpy(), batch.sequences.kinds, batch.sequences.lengths.numpy()
        engaged = np.ones(len(ids), dtype=bool) if kinds is None else kinds.numpy() == 0
    else:
        starts, ends = table.offsets[batch.users.numpy()], batch.rows.numpy()
        rows, lengths = ranges(starts, ends - starts), ends - starts
        ids, engaged = table.ids[rows], table.kinds[rows] == 0
    owner = np.repeat(np.arange(users), lengths)[engaged]
    return ids[engaged], np.bincount(owner, minlength=users)


def model_scorer(model: SequentialModel, device: torch.device | str = "cpu") -> Scorer:
    """Score with a sequential model: its query at each user's latest token against its catalogue."""
    with torch.no_grad():
        catalogue = model.catalogue()

    def scorer(batch: RetrievalBatch) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        queries = model.queries(batch.sequences.to(device), batch.users.to(device))
        return queries, lambda some: model.scores(some, catalogue)

    return scorer


def popularity_scorer(popularity: np.ndarray) -> Scorer:
    """Score every item by how often it is used: what a model has to beat."""
    items = torch.from_numpy(popularity.astype(np.float32))[:, None]

    def scorer(batch: RetrievalBatch) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return torch.ones(len(batch.users), 1), lambda some: some @ items.T

    return scorer
