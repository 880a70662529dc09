"""How well a window was foretold by the model as it was before: metrics with 95 % intervals, by a bootstrap over users."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from louder.batch import IGNORE_INDEX, SequenceBatch
from louder.data.table import ranges
from louder.evaluation.bootstrap import INTERVAL, resampled_means
from louder.evaluation.ranking_metrics import RankingMetrics, numbered
from louder.evaluation.ranking_slices import slices
from louder.evaluation.retrieval import rank_of
from louder.evaluation.retrieval_metrics import hit_rate, ndcg
from louder.results import Row
from louder.schema import ENGAGEMENT

SEED = 0
BLOCK_SCORES = 1 << 20  # held at once: what fits into a cache is several times as fast
AUC_RESAMPLES = 200


def next_item_scores(
    queries: Tensor,
    scores_of: Callable[[Tensor], Tensor],
    batch: SequenceBatch,
    rows: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    items: int,
    seen: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """-> ranks [R] of the targets [R] in the catalogue, and the log of the probability [R] that a softmax over it gave them.

    queries  [R, Q] at the `rows` [R] of the batch
    items    of the catalogue
    seen     whether items of the window up to the row are left out of the ranks; the target itself stays
    """
    ranks, logs = [], []
    for part in torch.arange(len(rows)).split(max(1, BLOCK_SCORES // max(1, items))):
        scores = scores_of(queries[part]).float()
        target = targets[part].to(scores.device)
        own = scores.gather(1, target[:, None])
        logs.append((own[:, 0] / temperature - (scores / temperature).logsumexp(1)).double().cpu().numpy())
        if seen:
            row, item = before(batch, rows[part])
            scores[row.to(scores.device), item.to(scores.device)] = -torch.inf
            scores.scatter_(1, target[:, None], own)
        ranks.append(rank_of(scores, own, target).cpu().numpy())
    nothing = np.zeros(0)
    return np.concatenate([nothing, *ranks]), np.concatenate([nothing, *logs])


def before(batch: SequenceBatch, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The items up to each of the rows [R] of its history, new ones apart: pairs of index in `rows`, item."""
    offsets = batch.offsets.numpy()
    starts = offsets[np.searchsorted(offsets, rows.numpy(), side="right") - 1]
    lengths = rows.numpy() + 1 - starts
    at, owner = ranges(starts, lengths), np.repeat(np.arange(len(rows)), lengths)
    if batch.kinds is not None:
        engaged = batch.kinds.numpy()[at] == ENGAGEMENT
        at, owner = at[engaged], owner[engaged]
    items = batch.ids[torch.from_numpy(at)]
    return torch.from_numpy(owner)[items >= 0], items[items >= 0]


def foretold(targets: Tensor) -> Tensor:
    """Rows [R] of targets [L] that are there."""
    (rows,) = torch.where(targets != IGNORE_INDEX)
    return rows


class NextItem:
    """Ranks and probabilities of a window's events."""

    def __init__(self) -> None:
        self.ranks, self.logs, self.users = ([np.zeros(0)] for _ in range(3))

    def add(self, ranks: np.ndarray, logs: np.ndarray, users: np.ndarray) -> None:
        for column, values in zip((self.ranks, self.logs, self.users), (ranks, logs, users)):
            column.append(values)

    def report(self) -> Row:
        ranks, logs, users = map(np.concatenate, (self.ranks, self.logs, self.users))
        if not len(ranks):
            return {"events": 0}
        columns = {
            "hr@10": (ranks <= 10).astype(float),
            "hr@50": (ranks <= 50).astype(float),
            "ndcg@10": np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0),
            "log_perplexity": -logs,
        }
        assert hit_rate(ranks, 10) == columns["hr@10"].mean() and ndcg(ranks, 10) == columns["ndcg@10"].mean()
        found: Row = {"events": len(ranks), "users": len(np.unique(users))}
        intervals = of_means(np.stack(list(columns.values()), axis=1), users)
        for (name, values), bounds in zip(columns.items(), intervals):
            found[name], found[f"{name}_interval"] = float(values.mean()), bounds
        return found


def of_means(columns: np.ndarray, users: np.ndarray) -> list[list[float]]:
    """95 % of the means over events of columns [N, C], when users are drawn again and again."""
    sums, counts = by_user(columns, users)
    means = resampled_means(np.concatenate([sums, counts[:, None]], axis=1), SEED)
    ratios = means[:, :-1] / np.maximum(means[:, -1:], 1e-12)
    return np.percentile(ratios, INTERVAL, axis=0).T.tolist()


def by_user(columns: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> sums [U, C] of the columns [N, C] of each user, and how many rows each has [U]"""
    number = numbered(users)
    sums = np.zeros((number.max() + 1, columns.shape[1]))
    np.add.at(sums, number, columns)
    return sums, np.bincount(number).astype(float)


class Actions:
    """Probabilities of what was done, of a window's items that were shown or stand alone."""

    def __init__(self, actions: Sequence[str], values: Sequence[str]) -> None:
        self.actions = actions
        self.metrics = RankingMetrics(actions, values)

    def add(
        self,
        probabilities: np.ndarray,
        labels: np.ndarray,
        users: np.ndarray,
        requests: np.ndarray,
        values: np.ndarray,
        true_values: np.ndarray,
    ) -> None:
        self.metrics.update(probabilities, labels, users, requests, values, true_values)

    def probabilities(self) -> np.ndarray:
        """[M, A]"""
        return np.concatenate([batch[2] for batch in self.metrics.batches])

    def report(self) -> Row:
        report = self.metrics.report()
        users = np.concatenate([batch[0] for batch in self.metrics.batches])
        if not len(users):
            return {"impressions": 0}
        for j, name in enumerate(self.actions):
            probabilities, labels = (np.concatenate([batch[x][:, j] for batch in self.metrics.batches]) for x in (2, 3))
            report["actions"][name] |= intervals(probabilities.astype(float), labels, users)
        return report


def intervals(probabilities: np.ndarray, labels: np.ndarray, users: np.ndarray) -> Row:
    """Of the normalised entropy and the AUC of one action; of none where all labels are alike."""
    if labels.all() or not labels.any():
        return {}
    (whole,) = slices(probabilities, labels, users, np.zeros(len(labels), dtype=np.int64), [""])
    found: Row = {"ne_interval": [whole.ne.low, whole.ne.high]}
    aucs = resampled_auc(probabilities, labels, numbered(users))
    if len(aucs):
        found["auc_interval"] = np.percentile(aucs, INTERVAL).tolist()
    return found


def resampled_auc(probabilities: np.ndarray, labels: np.ndarray, users: np.ndarray) -> np.ndarray:
    """The AUC of impressions that count as often as their users were drawn; a tie counts half."""
    order = np.argsort(probabilities, kind="stable")
    positive, owner = labels[order].astype(float), users[order]
    run = np.flatnonzero(np.diff(probabilities[order], prepend=-1.0))
    draw, count, found = np.random.default_rng(SEED), int(users.max()) + 1, []
    for _ in range(AUC_RESAMPLES):
        weight = draw.multinomial(count, np.full(count, 1 / count))[owner]
        ones = np.add.reduceat(weight * positive, run)
        zeros = np.add.reduceat(weight * (1 - positive), run)
        pairs = ones.sum() * zeros.sum()
        if pairs:
            found.append(float((ones * (zeros.cumsum() - zeros / 2)).sum() / pairs))
    return np.array(found)
