"""Where predictions of one action are good: in groups of exposures, each with a 95 % interval from a bootstrap over users."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from louder.data.table import Table
from louder.evaluation.bootstrap import INTERVAL, resampled_means
from louder.evaluation.ranking_metrics import CLAMP, auc_by_group, numbered
from louder.evaluation.retrieval_metrics import GROUPS
from louder.schema import ENGAGEMENT

POPULARITY = 1, 10, 100, 1000  # lower ends of the groups of items by their exposures in training, above those of none
BINS = 10  # of equal size, by time or by probability
PRIOR = 10  # exposures of the average item that each item's own share begins with


class Estimate(NamedTuple):
    """A number with its interval; NaN where it is not defined, such as the entropy of labels that are all alike."""

    value: float
    low: float
    high: float


class Slice(NamedTuple):
    """A group of exposures: mean probability and share of positives, their quotient, and normalised entropy."""

    name: str
    exposures: int
    predicted: float
    share: Estimate
    calibration: Estimate
    ne: Estimate


def slices(
    probabilities: np.ndarray, labels: np.ndarray, users: np.ndarray, groups: np.ndarray, names: Sequence[str]
) -> list[Slice]:
    """One for each group that has exposures.

    probabilities [M] float, labels [M] bool, users [M] int; groups [M] int, an index of `names`
    """
    exact = probabilities.astype(np.float64).clip(CLAMP, 1 - CLAMP)
    losses = -np.where(labels, np.log(exact), np.log1p(-exact))
    user, count = numbered(users), len(names)
    columns = losses, labels, probabilities, np.ones(len(labels))
    cells, size = user * count + groups, (int(user.max()) + 1) * count
    sums = np.concatenate([np.bincount(cells, x, size).reshape(-1, count) for x in columns], axis=1)  # [U, 4 G]
    whole, drawn = (x.reshape(-1, 4, count) for x in (sums.sum(0), resampled_means(sums, seed=0)))
    found = []
    for group, name in enumerate(names):
        (loss, positives, expected, exposures), many = whole[0, :, group], drawn[:, :, group].T
        if exposures:
            found.append(
                Slice(
                    name,
                    int(exposures),
                    expected / exposures,
                    estimate(positives / exposures, quotient(many[1], many[3])),
                    estimate(float(quotient(expected, positives)), quotient(many[2], many[1])),
                    estimate(
                        float(entropy_ratio(loss, positives, exposures)), entropy_ratio(many[0], many[1], many[3])
                    ),
                )
            )
    return found


def estimate(value: float, drawn: np.ndarray) -> Estimate:
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, INTERVAL) if len(drawn) else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above) / below


def entropy_ratio(loss: np.ndarray, positives: np.ndarray, exposures: np.ndarray) -> np.ndarray:
    """Normalised entropy of sums."""
    share = quotient(positives, exposures)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -share * np.log(share) - (1 - share) * np.log1p(-share)
    return quotient(quotient(loss, exposures), entropy)


def mean_auc(probabilities: np.ndarray, labels: np.ndarray, users: np.ndarray) -> Estimate:
    """Mean AUC of the users with positives and negatives, weighted by their exposures."""
    auc, weights = auc_by_group(probabilities, labels, numbered(users))
    if not len(auc):
        return Estimate(np.nan, np.nan, np.nan)
    drawn = resampled_means(np.stack([auc * weights, weights], axis=1), seed=0)
    return estimate(float((auc * weights).sum() / weights.sum()), drawn[:, 0] / drawn[:, 1])


Grouping = tuple[np.ndarray, list[str]]


def by_probability(probabilities: np.ndarray) -> Grouping:
    """Bins of as many exposures each, as far as probabilities differ."""
    edges = np.unique(np.quantile(probabilities, np.arange(1, BINS) / BINS))
    return np.searchsorted(edges, probabilities, side="right"), [str(bin) for bin in range(len(edges) + 1)]


def by_length(table: Table, rows: np.ndarray) -> Grouping:
    """By how many events the user had before the request."""
    before = np.cumsum(table.kinds == ENGAGEMENT) - (table.kinds == ENGAGEMENT)
    first = table.offsets[np.searchsorted(table.offsets, rows, side="right") - 1]
    names = ["0", *(f"{low + 1}-{high}" for low, high in pairwise((0, *GROUPS))), f"{GROUPS[-1] + 1}+"]
    return np.searchsorted((0, *GROUPS), before[table.request_rows()[rows]] - before[first]), names


def by_popularity(table: Table, rows: np.ndarray, training: np.ndarray) -> Grouping:
    """By how often the item was exposed in training, whose rows [T] bool are marked."""
    counts = np.bincount(table.ids[training], minlength=table.items)[table.ids[rows]]
    names = ["0", *(f"{low:,}-{high - 1:,}" for low, high in pairwise(POPULARITY)), f"{POPULARITY[-1]:,}+"]
    return np.searchsorted(POPULARITY, counts, side="right"), names


def by_time(times: np.ndarray) -> Grouping:
    """Bins of as many exposures each, as far as times [M] differ, named by where they begin, in UTC."""
    edges = np.unique(np.quantile(times, np.arange(1, BINS) / BINS, method="nearest"))
    starts = np.unique([times.min(), *edges])
    names = [str(np.datetime64(int(start), "s")).replace("T", " ") for start in starts]
    for length in len("2024-05-01"), len("2024-05-01 10:00"):  # as short as they are told apart
        if len({name[:length] for name in names}) == len(names):
            names = [name[:length] for name in names]
    return np.searchsorted(starts, times, side="right") - 1, names


def item_shares(table: Table, action: int, training: np.ndarray) -> np.ndarray:
    """[items] the share of an item's exposures in training where the action happened, drawn a little to that of all: what one
    would say who knew of people nothing."""
    ids, happened = table.ids[training], np.zeros(int(training.sum()))
    if table.actions is not None:
        happened = (table.actions[training] >> action & 1).astype(np.float64)
    exposed, positive = (np.bincount(ids, x, table.items) for x in (np.ones(len(ids)), happened))
    return (positive + PRIOR * happened.mean()) / (exposed + PRIOR)
