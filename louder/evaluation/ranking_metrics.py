"""Metrics of ranking: how good are the predicted probabilities of actions, and the predicted values?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from louder.errors import InputError
from louder.results import Row

# a float32 sigmoid is exactly 1 from a logit of 17 on, and wrong would make the log-loss infinite; 1e-7 is about the
# distance from 1 to the next float32
CLAMP = 1e-7


class RankingMetrics:
    """Takes predictions in batches, and says how good they are. Batches and their order change nothing but rounding.

    Kept for each impression: user and request (16 bytes), and for each action a float32 probability and a label
    (5 bytes), since an exact AUC needs them all. For processes that evaluate a part each: pickle, send, `merge`.
    """

    def __init__(self, actions: Sequence[str], values: Sequence[str] = ()) -> None:
        self.actions, self.values = tuple(actions), tuple(values)
        nobody, nothing = np.zeros(0, dtype=np.int64), np.zeros((0, len(self.actions)), dtype=bool)
        self.batches = [(nobody, nobody, nothing.astype(np.float32), nothing)]  # users, requests, probabilities, labels
        self.log_loss, self.expected = np.zeros((2, len(self.actions)))  # sums over the impressions
        self.squared, self.absolute = np.zeros((2, len(self.values)))
        self.count = np.zeros(len(self.values), dtype=np.int64)

    def update(
        self,
        probabilities: ArrayLike,
        labels: ArrayLike,
        users: ArrayLike,
        requests: ArrayLike | None = None,
        values: ArrayLike | None = None,
        true_values: ArrayLike | None = None,
    ) -> None:
        """Add M impressions.

        probabilities  [M, A] float in [0, 1], of each action; compared as float32
        labels         [M, A] 0 or 1
        users          [M] integers
        requests       [M] integers, negative where there was none; a request belongs to one user
        values         [M, V] float, predicted
        true_values    [M, V] float, NaN where absent
        raises         InputError: another shape, a probability or label out of range, a value that is not finite
        """
        users = ids("users", users)
        none, shape = np.full(len(users), -1), (len(users), len(self.actions))
        requests = none if requests is None else ids("requests", requests)
        require_shape("requests", requests, users.shape)
        probabilities, labels = np.asarray(probabilities), np.asarray(labels)
        require_shape("probabilities", probabilities, shape)
        require_shape("labels", labels, shape)
        outside = ~((probabilities >= 0) & (probabilities <= 1))  # so for NaN
        refuse(outside, probabilities, "The probability", self.actions, "between 0 and 1")
        refuse((labels != 0) & (labels != 1), labels, "The label", self.actions, "0 or 1")
        squared, absolute, count = self.errors(len(users), values, true_values)

        labels = labels.astype(bool)
        exact = probabilities.astype(np.float64)
        clamped = exact.clip(CLAMP, 1 - CLAMP)
        self.log_loss -= np.where(labels, np.log(clamped), np.log1p(-clamped)).sum(0)
        self.expected += exact.sum(0)
        self.squared += squared
        self.absolute += absolute
        self.count += count
        self.batches.append((users, requests, probabilities.astype(np.float32), labels))

    def errors(
        self, impressions: int, values: ArrayLike | None, true_values: ArrayLike | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """-> [V] each: the sum of squared errors, of absolute errors, and how many there are"""
        shape = (impressions, len(self.values))
        empty = np.zeros((impressions, 0))
        values = np.asarray(empty if values is None else values, dtype=np.float64)
        true_values = np.asarray(empty if true_values is None else true_values, dtype=np.float64)
        require_shape("values", values, shape)
        require_shape("true_values", true_values, shape)
        present = ~np.isnan(true_values)
        refuse(present & np.isinf(true_values), true_values, "The true value", self.values, "finite, or NaN")
        refuse(present & ~np.isfinite(values), values, "The value", self.values, "finite")
        error = np.subtract(values, true_values, out=np.zeros(shape), where=present)
        return (error**2).sum(0), np.abs(error).sum(0), present.sum(0)

    def merge(self, other: "RankingMetrics") -> None:
        """Add all that another one, of the same actions and values, was given."""
        own, others = (list(x.actions + x.values) for x in (self, other))
        if (self.actions, self.values) != (other.actions, other.values):
            raise InputError(
                f"Metrics of {others} cannot be added to those of {own}: both must have the same actions and values."
            )
        self.batches += other.batches
        for name in "log_loss", "expected", "squared", "absolute", "count":
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def report(self) -> Row:
        """All metrics, None where one is not defined.

        impressions      how many
        actions          for each by name:
            ne             normalised entropy: log-loss over that of always predicting the share of positives in these
                           labels (He et al. 2014, "Practical lessons from predicting clicks on ads at Facebook")
            auc            probability that a positive is above a negative; ties count half
            gauc_user      mean AUC of the users with positives and negatives, weighted by their impressions
            gauc_request   the same by request
            gauc_user_groups, gauc_request_groups   how many users and requests that were
            log_loss       mean, in nats
            calibration    mean probability over the share of positives
            positives, impressions
        values           for each by name: rmse, mae, count
        """
        users, requests = (np.concatenate([batch[column] for batch in self.batches]) for column in (0, 1))
        user, in_request = numbered(users), requests >= 0
        # by the pair, so that requests of two users that share a number stay two
        request = numbered(user[in_request] * (len(user) + 1) + numbered(requests[in_request]))
        report: Row = {"impressions": len(users), "values": {}}
        report["actions"] = {x: self.of_action(j, user, in_request, request) for j, x in enumerate(self.actions)}
        for j, name in enumerate(self.values):
            squared, count = ratio(self.squared[j], self.count[j]), int(self.count[j])
            rmse = None if squared is None else squared**0.5
            report["values"][name] = {"rmse": rmse, "mae": ratio(self.absolute[j], count), "count": count}
        return report

    def of_action(self, j: int, user: np.ndarray, in_request: np.ndarray, request: np.ndarray) -> Row:
        """The metrics of action j. user [M] and request [R] are numbered from 0, and R impressions are in_request [M]."""
        probabilities, labels = (np.concatenate([batch[x][:, j] for batch in self.batches]) for x in (2, 3))
        positives, impressions = int(labels.sum()), len(labels)
        log_loss = ratio(self.log_loss[j], impressions)
        gauc_user, users_counted = grouped_auc(probabilities, labels, user)
        gauc_request, requests_counted = grouped_auc(probabilities[in_request], labels[in_request], request)
        return {
            "ne": normalised_entropy(log_loss, positives, impressions),
            "auc": grouped_auc(probabilities, labels, np.zeros(impressions, dtype=np.int64))[0],
            "gauc_user": gauc_user,
            "gauc_request": gauc_request,
            "gauc_user_groups": users_counted,
            "gauc_request_groups": requests_counted,
            "log_loss": log_loss,
            "calibration": ratio(self.expected[j], positives),
            "positives": positives,
            "impressions": impressions,
        }


def normalised_entropy(log_loss: float | None, positives: int, impressions: int) -> float | None:
    """log_loss, a mean in nats, over the entropy of the share of positives; None if all labels are alike."""
    if log_loss is None or positives in (0, impressions):
        return None
    share = positives / impressions
    return log_loss / float(-share * np.log(share) - (1 - share) * np.log1p(-share))


def cross_entropy(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """[...] the log-loss in nats that `predicted` has on average over labels drawn with the probabilities `truth`; of the
    truth itself its entropy, under which no prediction is."""
    clamped = predicted.astype(np.float64).clip(CLAMP, 1 - CLAMP)
    return -(truth * np.log(clamped) + (1 - truth) * np.log1p(-clamped))


def grouped_auc(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[float | None, int]:
    """The AUC within each group that has positives and negatives, weighted by its impressions.

    probabilities [M] float32 in [0, 1], labels [M] bool, groups [M] int64, each of 0 .. G-1 at least once
    returns   the mean, or None if no group counts, and how many groups count
    """
    auc, weights = auc_by_group(probabilities, labels, groups)
    return (float((auc * weights).sum() / weights.sum()) if len(auc) else None), len(auc)


def auc_by_group(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC and impressions of each group that has positives and negatives, see grouped_auc. Exact: counts of pairs are whole
    numbers, and a tie counts half."""
    if not len(groups):
        return np.empty(0), np.empty(0, dtype=np.int64)
    # floats from 0 to 1 are ordered as their bits, which are 30: a whole number holds group, probability and label
    bits = (probabilities + np.float32(0)).view(np.uint32).astype(np.int64)  # + 0 makes 0 of -0, whose bits are large
    keys = np.sort((groups << 31) | (bits << 1) | labels)
    run = np.flatnonzero(np.diff(keys >> 1, prepend=-1))  # where each run of one group and probability begins
    positives = np.add.reduceat(keys & 1, run)
    negatives = np.diff(run, append=len(keys)) - positives
    group = keys[run] >> 31
    first = np.flatnonzero(np.diff(group, prepend=-1))  # the first run of each group
    below = np.cumsum(negatives) - negatives
    below -= below[first][group]  # negatives of the group with a lower probability
    pairs = np.add.reduceat(positives * (2 * below + negatives), first)  # in the right order, each counted as two
    positives, negatives = np.add.reduceat(positives, first), np.add.reduceat(negatives, first)
    both = (positives > 0) & (negatives > 0)
    return pairs[both] / (2 * positives[both] * negatives[both]), (positives + negatives)[both]


def numbered(raw: np.ndarray) -> np.ndarray:
    """Numbers 0 .. G-1 for G distinct integers, in their order."""
    return np.unique(raw, return_inverse=True)[1].astype(np.int64)


def ratio(total: float, count: int) -> float | None:
    return float(total) / int(count) if count else None


def ids(name: str, given: ArrayLike) -> np.ndarray:
    found = np.asarray(given)
    if found.ndim != 1 or not (np.issubdtype(found.dtype, np.integer) or not found.size):
        raise InputError(f"{name} must be integers of shape [M], but they are {found.dtype} of shape {[*found.shape]}.")
    return found.astype(np.int64)


def require_shape(name: str, found: np.ndarray, needed: tuple[int, ...]) -> None:
    if found.shape != needed:
        raise InputError(f"{name} have the shape {[*found.shape]}, but {needed[0]} users need {[*needed]}.")


def refuse(bad: np.ndarray, found: np.ndarray, what: str, names: tuple[str, ...], needed: str) -> None:
    """Raise InputError for the first entry of found [M, N] where bad [M, N] is true."""
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise InputError(
            f"{what} of {names[column]!r} is {found[row, column]} at impression {row}, but must be {needed}."
        )
