"""An A/B test in numbers: what each variant earned, by how much that differs from the control, and whether it may be
concluded yet."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from louder.errors import InputError
from louder.evaluation.ab_log import TestLog
from louder.evaluation.sequential import RatioMean, mixture_variance, p_value, radius, ratio_mean, sample_ratio
from louder.results import Row
from louder.streaming.joiner import END

ALPHA = 0.05
LOOKS = 100  # over the time of a log
SLICES = 48  # of it, in which rewards are shown
FEWEST_USERS = 100  # of each variant before a look counts: a mean of fewer is not normal
FEWEST_REWARDED = 25  # of both together, users with any reward
MISMATCH = 0.001  # p of the shares below which nothing is concluded
MOVED = 0.001  # share of users with several variants above which nothing is concluded
Z = 1.959964
EVENTS = "events"  # every event that came of an answer


class Look(NamedTuple):
    """What a difference per request was known to be at a time: difference, and half the width of its interval that holds for all
    looks; p is the least so far."""

    time: int
    difference: float
    radius: float
    p: float


def weights_of(actions: tuple[str, ...], reward: Mapping[str, float]) -> tuple[float, np.ndarray]:
    """What an event earns: for itself, and [A] for each of its actions. Raises InputError for an action that is not in the log."""
    for name in reward:
        if name != EVENTS and name not in actions:
            raise InputError(
                f"No event that came of an answer has the action {name!r}. There are {', '.join([*actions, EVENTS])}: --reward "
                f"{(*actions, EVENTS)[0]}=1."
            )
    return reward.get(EVENTS, 0.0), np.array([reward.get(name, 0.0) for name in actions])


def per_event(log: TestLog, reward: Mapping[str, float]) -> np.ndarray:
    """[E] what each event earned."""
    own, by_action = weights_of(log.actions, reward)
    earned = np.full(len(log.events_user), own)
    for place, weight in enumerate(by_action.tolist()):
        if weight:
            earned += weight * (log.events_actions >> np.uint64(place) & np.uint64(1))
    return earned


def sums(log: TestLog, earned: np.ndarray, until: int = END) -> tuple[np.ndarray, np.ndarray]:
    """[U] rewards and [U] requests of each user, up to and with a time."""
    users, requests, events = len(log.variant), log.requests_time <= until, log.events_time <= until
    rewards = np.bincount(log.events_user[events], earned[events], users)
    return rewards, np.bincount(log.requests_user[requests], minlength=users).astype(float)


def counted(rewards: np.ndarray, requests: np.ndarray, own: np.ndarray) -> tuple[RatioMean, int, int]:
    """Of the users `own` [U] bool who asked by then: the reward per request, how many they are, and how many earned any."""
    own = own & (requests > 0)
    return ratio_mean(rewards[own], requests[own]), int(own.sum()), int((rewards[own] != 0).sum())


def looks(log: TestLog, earned: np.ndarray, place: int) -> list[Look]:
    """At the variant `place` beside the control, over the time of the log. The intervals of all variants together hold with a
    probability of 1 - ALPHA."""
    alpha = ALPHA / (len(log.variants) - 1)
    first, last = int(log.requests_time.min()), int(log.requests_time.max())
    least, found, mixture = 1.0, list[Look](), 0.0
    for time in np.unique(
        np.linspace(first, last, LOOKS + 1).astype(np.int64)[1:] if last > first else [last]
    ).tolist():
        rewards, requests = sums(log, earned, time)
        (theirs, users, rewarded), (ours, own_users, own_rewarded) = (
            counted(rewards, requests, log.variant == n) for n in (place, 0)
        )
        if min(users, own_users) < FEWEST_USERS or rewarded + own_rewarded < FEWEST_REWARDED:
            continue
        mixture = mixture or mixture_variance((theirs.mean + ours.mean) / 2)
        difference, variance = theirs.mean - ours.mean, theirs.variance + ours.variance
        least = min(least, (len(log.variants) - 1) * p_value(difference, variance, mixture))
        found.append(Look(time, difference, radius(variance, mixture, alpha), least))
    return found


def over_time(log: TestLog, earned: np.ndarray) -> Row:
    """The reward per request in SLICES equal parts of the time, of each variant; null where nobody asked."""
    edges = np.linspace(log.requests_time.min(), log.requests_time.max() + 1, SLICES + 1)
    row: Row = {"times": edges[1:].astype(np.int64).tolist(), "reward": {}}
    for place, name in enumerate(log.variants):
        own = log.variant == place
        requests = np.histogram(log.requests_time[own[log.requests_user]], edges)[0]
        ours = own[log.events_user]
        rewards = np.histogram(log.events_time[ours].clip(max=int(edges[-1])), edges, weights=earned[ours])[0]
        row["reward"][name] = [float(x / n) if n else None for x, n in zip(rewards, requests.tolist())]
    return row


def known(numbers: Mapping[str, float]) -> Row:
    """What too few users tell is null."""
    return {name: x if math.isfinite(x) else None for name, x in numbers.items()}


def measured(theirs: RatioMean, ours: RatioMean) -> Row:
    """A difference with its interval for one look, absolute and as a share of the control's."""
    difference, error = theirs.mean - ours.mean, math.sqrt(theirs.variance + ours.variance)
    row = known({"difference": difference, "low": difference - Z * error, "high": difference + Z * error})
    if not (theirs.mean > 0 and ours.mean > 0 and math.isfinite(error)):
        return row | {"lift": None, "lift_low": None, "lift_high": None}
    ratio = theirs.mean / ours.mean
    error = Z * math.sqrt(theirs.variance / theirs.mean**2 + ours.variance / ours.mean**2)  # of its logarithm
    return row | {
        "lift": ratio - 1,
        "lift_low": ratio * math.exp(-error) - 1,
        "lift_high": ratio * math.exp(error) - 1,
    }


def estimate(mean: RatioMean) -> Row:
    error = Z * math.sqrt(mean.variance)
    return known({"mean": mean.mean, "low": mean.mean - error, "high": mean.mean + error})


def objection(log: TestLog, users: list[int]) -> tuple[str, Row]:
    """Why nothing may be concluded, "" if it may; and how the users were drawn."""
    mismatch, moved = sample_ratio(users, log.shares.tolist()), int((log.variant < 0).sum())
    drawn = {"users": users, "shares": log.shares.tolist(), "chi2": mismatch.statistic, "p": mismatch.p, "moved": moved}
    named = ", ".join(
        f"{name} {count:,}, drawn {share:.4g}" for name, count, share in zip(log.variants, users, log.shares.tolist())
    )
    if mismatch.p < MISMATCH or abs(1 - log.shares.sum()) > 1e-6:
        missing = "" if mismatch.p < MISMATCH else "; a variant has no answer at all"
        return (
            f"The users are not those that were drawn: {named} (p {mismatch.p:.1g}{missing}). Who is missing may be why the numbers "
            "differ, so nothing is concluded. Find out whose answers fail or are not logged.",
            drawn,
        )
    if moved > MOVED * len(log.variant):
        return (
            f"{moved:,} of {len(log.variant):,} users were answered by several variants, as when the salt was changed, so nothing is "
            "concluded. Look at what came since: --since TIME.",
            drawn,
        )
    return "", drawn


def concluded(found: list[Look], refused: str) -> Row:
    """Whether a variant is "better" or "worse" than the control, "open", or "refused", since when that is known, and what is
    known of the difference now."""
    decided = None if refused else next((look for look in found if abs(look.difference) > look.radius), None)
    known = "refused" if refused else "open" if decided is None else "better" if decided.difference > 0 else "worse"
    row: Row = {"verdict": known, "decided_at": decided and decided.time, "p": found[-1].p if found else None}
    low_high = (found[-1].difference - found[-1].radius, found[-1].difference + found[-1].radius) if found else None
    return row | {"always": low_high and dict(zip(("low", "high"), low_high)), "looks": [list(x) for x in found]}


def compare_variants(log: TestLog, reward: Mapping[str, float] | None = None) -> Row:
    """Everything that is told of a test, as one row of JSON.

    reward  what an event earns, by action, or EVENTS for any; by default each event 1. By it the test is decided
    """
    reward = dict(reward or {EVENTS: 1.0})
    everything = {"reward": reward, EVENTS: {EVENTS: 1.0}} | {name: {name: 1.0} for name in log.actions}
    deciding = per_event(log, reward)
    means: list[dict[str, RatioMean]] = [{} for _ in log.variants]
    by_user: list[dict[str, RatioMean]] = [{} for _ in log.variants]
    users, requests_of = [0] * len(log.variants), [0] * len(log.variants)
    for name, weights in everything.items():
        rewards, requests = sums(log, deciding if name == "reward" else per_event(log, weights))
        for place in range(len(log.variants)):
            own = (log.variant == place) & (requests > 0)
            means[place][name] = ratio_mean(rewards[own], requests[own])
            by_user[place][name] = ratio_mean(rewards[own], np.ones(int(own.sum())))
            users[place], requests_of[place] = int(own.sum()), int(requests[own].sum())
    refused, drawn = objection(log, users)
    found = []
    for place, name in enumerate(log.variants):
        row: Row = {
            "name": name,
            "share": float(log.shares[place]),
            "users": users[place],
            "requests": requests_of[place],
        }
        row["per_request"] = {key: estimate(mean) for key, mean in means[place].items()}
        row["per_user"] = {key: estimate(mean) for key, mean in by_user[place].items()}
        if place:
            row["against_control"] = {
                "per_request": {key: measured(mean, means[0][key]) for key, mean in means[place].items()},
                "per_user": {key: measured(mean, by_user[0][key]) for key, mean in by_user[place].items()},
            }
            row |= concluded(looks(log, deciding, place), refused)
        found.append(row)
    return {
        "since": int(log.requests_time.min()),
        "until": int(log.requests_time.max()),
        "users": len(log.variant),
        "requests": len(log.requests_user),
        "reward": reward,
        "actions": list(log.actions),
        "alpha": ALPHA,
        "drawn": drawn,
        "refused": refused,
        "variants": found,
        "over_time": over_time(log, deciding),
    }
