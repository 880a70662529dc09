"""A new model and the live one are asked about the same known users: does it resemble the live one, and is it no worse?"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from louder.errors import InputError
from louder.histories.history import History
from louder.ids import RawId
from louder.inference.engine import Engine
from louder.inference.request import Request, Result
from louder.serving.warmup import trial_request

LISTED = 100  # items of the lists that are compared; of a small catalogue a tenth
SCORED = 200  # random items that both models score
TOGETHER = 8  # users of one pass: others get their turn between two

# an honest successor (another seed, two more epochs, another architecture) keeps to these well, and a broken model does not
OVERLAP = 0.15  # of lists, above that of lists that have nothing to do with each other
CORRELATION = 0.2  # of scores
DISTINCT = 0.1  # of the live model's share of different scores
WORSE = 3.0  # standard errors by which it may find fewer of the latest events
BETTER = 2.0  # standard errors more, and it need not resemble the live model
SLOWER = 10  # times the live model's time, and a second


@dataclass(frozen=True)
class Answered:
    """What one model answers for n users: lists of raw items, scores [n, SCORED] of the same random items (NaN: of those
    that it did not find), and the seconds that it took."""

    lists: list[list[RawId]]
    scores: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Of n users, whose latest event neither model was shown.

    overlap       share of the items of the live model's list that are in the new one's, on average
    chance        the same of two lists that have nothing to do with each other
    correlation   of the two orders of the same random items (Spearman's), on average
    distinct, live_distinct  share of different scores among these
    hits, live_hits          [n] bool; whether the latest item is in the list
    """

    overlap: float
    chance: float
    correlation: float
    distinct: float
    live_distinct: float
    hits: np.ndarray
    live_hits: np.ndarray


def check(live: Engine, new: Engine, histories: Sequence[History], *, forced: bool = False) -> None:
    """Raises InputError for a model that must not go live. Where it is `forced`, it need not be like the live one."""
    if (new.ranker is None) != (live.ranker is None):
        raise InputError("it ranks and the live model does not, or the other way round")
    if forced:
        answers(new, [trial_request(new)])
        return
    shared = set(raw_items(live)) & set(raw_items(new))
    counts = [sum(item in shared for item in x.items.tolist()) for x in histories]
    if not shared or (any(map(len, histories)) and not any(counts)):
        raise InputError("it knows none of the items of the known users")
    trial = trial_request(live).history
    assert isinstance(trial, History)
    known = [x for x, count in zip(histories, counts) if count > 1] or [trial]
    listed = max(1, min(LISTED, len(shared) // 10))
    items = random.Random(0).sample(sorted(shared, key=str), min(SCORED, len(shared)))
    old, own = (answered(model, known, listed, items, live.run.shows_seen) for model in (live, new))
    if objection := objection_to(compare(known, old, own, listed / len(shared))):
        raise InputError(f"{objection}. To take it anyway: louder publish RUN LINK --force")
    if own.seconds > SLOWER * old.seconds + 1:
        raise InputError(f"it needs {own.seconds:.1f} s for what the live model does in {old.seconds:.1f} s")


def objection_to(x: Comparison) -> str:
    """What is wrong with the new model; "" if nothing is."""
    gained, lost = int((x.hits & ~x.live_hits).sum()), int((x.live_hits & ~x.hits).sum())
    error = (gained + lost) ** 0.5  # of their difference, if both models were as good
    if x.distinct < DISTINCT * x.live_distinct:
        return f"its scores hardly differ: {x.distinct:.1%} of those of the same items do, and {x.live_distinct:.1%} of the live model's"
    if lost - gained > WORSE * error:
        found = (
            f"{x.hits.sum()} of the latest events of {len(x.hits)} known users, and the live model {x.live_hits.sum()}"
        )
        return f"it finds {found}"
    if gained - lost > BETTER * error or x.live_distinct < DISTINCT * x.distinct:
        return ""  # it is the live model that is odd
    if x.overlap < x.chance + OVERLAP:
        chance = f"unrelated lists share {x.chance:.0%}, and {x.chance + OVERLAP:.0%} are needed"
        return f"its lists for known users share {x.overlap:.0%} of their items with the live model's; {chance}"
    if x.correlation < CORRELATION:
        return (
            f"its scores have a rank correlation of {x.correlation:.2f} with the live model's; {CORRELATION} is needed"
        )
    return ""


def compare(histories: Sequence[History], old: Answered, own: Answered, chance: float) -> Comparison:
    overlaps = [len(set(a) & set(b)) / len(a) for a, b in zip(old.lists, own.lists) if a]
    hits = [
        np.array([x.items[-1] in shown for x, shown in zip(histories, which.lists)], dtype=bool) for which in (own, old)
    ]
    return Comparison(
        overlap=float(np.mean(overlaps)) if overlaps else 1.0,
        chance=chance,
        correlation=float(np.mean([correlation(a, b) for a, b in zip(old.scores, own.scores)])),
        distinct=distinct(own.scores),
        live_distinct=distinct(old.scores),
        hits=hits[0],
        live_hits=hits[1],
    )


def answered(model: Engine, histories: Sequence[History], listed: int, items: list[RawId], seen: bool) -> Answered:
    """In retrieval's order the lists, where its mistakes show, with seen items or without; by the score of the answer the
    random items."""
    lists: list[list[RawId]] = []
    scores = []
    began = time.perf_counter()
    for first in range(0, len(histories), TOGETHER):
        held = [
            Request(history=without_latest(x), at=int(x.times[-1]), k=listed, retrieve=0, seen=seen)
            for x in histories[first : first + TOGETHER]
        ]
        lists += [items_of(model, result) for result in answers(model, held)]
        chosen = [replace(x, allow=items, k=len(items), retrieve=len(items), seen=True) for x in held]
        for result in answers(model, chosen):
            found = dict(zip(items_of(model, result), result.scores.tolist()))
            scores.append([found.get(item, np.nan) for item in items])
    return Answered(lists, np.array(scores), time.perf_counter() - began)


def answers(model: Engine, requests: Sequence[Request]) -> list[Result]:
    found = []
    for answer in model.recommend_batch(requests):
        if not isinstance(answer, Result):
            raise InputError(f"it does not answer for a known user: {answer}")
        if not np.isfinite(answer.scores).all():
            raise InputError("its scores are not finite")
        found.append(answer)
    return found


def raw_items(model: Engine) -> list[RawId]:
    return model.catalogue.item_ids.raw.to_pylist()


def items_of(model: Engine, result: Result) -> list[RawId]:
    return model.catalogue.item_ids.raws(result.items)


def without_latest(history: History) -> History:
    return replace(history.select(slice(-1)), total=max(history.total - 1, 0))


def distinct(scores: np.ndarray) -> float:
    """The share of different ones in each row [n, m], on average."""
    return float(np.mean([len(np.unique(row)) / len(row) for row in scores]))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, of values [n] that are in both; 0 where one of them is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = ranks(a[both]), ranks(b[both])
    spread = a.std() * b.std() if len(a) else 0.0
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """From 1; ties have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]
