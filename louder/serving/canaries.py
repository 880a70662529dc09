"""A new model and the live one are asked about the same known users: does it resemble the live one, and is it no worse? A
service that begins has no live one yet: does its model find more than what is popular?"""

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
FIRST = 64  # users that are asked about; only where it looks worse, all of them
LOOKED_AT = 8  # users for whom the first model of a service scores the random items
TOGETHER = 8  # users of one pass: others get their turn between two

# an honest successor (another seed, two more epochs, another architecture) keeps to these well, and a broken model does not
OVERLAP = 0.15  # of lists, above that of lists that have nothing to do with each other
CORRELATION = 0.2  # of scores
DISTINCT = 0.1  # of the live model's share of different scores
WORSE = 3.0  # standard errors by which it may find fewer of the latest events
DOUBT = 1.0  # and from where on more users are asked about
BETTER = 2.0  # standard errors more, and it need not resemble the live model
SLOWER = 10  # times the live model's time, and a second


@dataclass(frozen=True)
class Answered:
    """What one model answers for n users: lists of raw items, for the first m of them scores [m, SCORED] of the same random
    items (NaN: of those that it did not find), and the seconds that it took."""

    lists: list[list[RawId]]
    scores: np.ndarray
    seconds: float

    def __add__(self, other: "Answered") -> "Answered":
        """The same model's, with the lists of more users."""
        return Answered(self.lists + other.lists, self.scores, self.seconds + other.seconds)


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

    def worse_by(self, errors: float) -> bool:
        """Whether it finds fewer latest events than the live model, by more than so many standard errors of the difference,
        if both were as good."""
        gained, lost = int((self.hits & ~self.live_hits).sum()), int((self.live_hits & ~self.hits).sum())
        return lost - gained > errors * (gained + lost) ** 0.5


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
    listed, items = asked_of(shared)

    def asked(model: Engine, some: Sequence[History], scored_for: int) -> Answered:
        return answered(model, some, listed, items, live.run.shows_seen, scored_for)

    first, more = known[:FIRST], known[FIRST:]
    old, own = asked(live, first, FIRST), asked(new, first, FIRST)
    if compare(first, old, own, 0.0).worse_by(DOUBT):
        old, own = old + asked(live, more, 0), own + asked(new, more, 0)
    if objection := objection_to(compare(known, old, own, listed / len(shared))):
        raise InputError(f"{objection}. To take it anyway: louder publish RUN LINK --force")
    if own.seconds > SLOWER * old.seconds + 1:
        raise InputError(f"it needs {own.seconds:.1f} s for what the live model does in {old.seconds:.1f} s")


def first_look(model: Engine, histories: Sequence[History]) -> str:
    """What is odd about the first model of a service, in a sentence; "" if nothing is. Raises InputError for one that scores
    all items alike, or some with no number."""
    catalogue, raws = model.catalogue, set(raw_items(model))
    listed, items = asked_of(raws)
    known = [x for x in histories if sum(item in raws for item in x.items.tolist()) > 1]
    trial = trial_request(model).history
    assert isinstance(trial, History)
    seen, first, more = model.run.shows_seen, known[:FIRST], known[FIRST:]
    own = answered(model, first or [trial], listed, items, seen, LOOKED_AT)
    if len(items) > 1 and all(len(np.unique(row)) == 1 for row in own.scores):
        raise InputError(f"its scores of {len(items)} items are all the same")
    if not known or model.retriever is None or catalogue.popularity is None:
        return ""
    popular = Answered(popular_lists(model, known, listed), own.scores, 0.0)
    found = compare(first, popular, own, 0.0)
    if found.worse_by(DOUBT):
        found = compare(known, popular, own + answered(model, more, listed, items, seen, 0), 0.0)
    if not found.worse_by(WORSE):
        return ""
    few = f"its lists hold {found.hits.sum()} of the latest events of {len(found.hits)} known users"
    return f"{few}, and lists of what is popular {found.live_hits.sum()}"


def popular_lists(model: Engine, histories: Sequence[History], listed: int) -> list[list[RawId]]:
    """What each would be shown by popularity, before their latest event."""
    popularity, item_ids = model.catalogue.popularity, model.catalogue.item_ids
    assert popularity is not None
    count = min(len(popularity), listed + max(map(len, histories)))
    top = np.argpartition(-popularity, count - 1)[:count]
    top = top[np.argsort(-popularity[top], kind="stable")]
    lists = []
    for x in histories:
        seen = item_ids.ids([] if model.run.shows_seen else without_latest(x).items)
        lists.append(item_ids.raws(top[~np.isin(top, seen)][:listed]))
    return lists


def asked_of(items: set[RawId]) -> tuple[int, list[RawId]]:
    """How long the lists are, and which random items are scored."""
    listed = max(1, min(LISTED, len(items) // 10))
    return listed, random.Random(0).sample(sorted(items, key=str), min(SCORED, len(items)))


def objection_to(x: Comparison) -> str:
    """What is wrong with the new model; "" if nothing is."""
    if x.distinct < DISTINCT * x.live_distinct:
        return f"its scores hardly differ: {x.distinct:.1%} of those of the same items do, and {x.live_distinct:.1%} of the live model's"
    if x.worse_by(WORSE):
        found = (
            f"{x.hits.sum()} of the latest events of {len(x.hits)} known users, and the live model {x.live_hits.sum()}"
        )
        return f"it finds {found}"
    live = replace(x, hits=x.live_hits, live_hits=x.hits)
    if live.worse_by(BETTER) or x.live_distinct < DISTINCT * x.distinct:
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
    """Of those of the histories that both models were asked about."""
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


def answered(
    model: Engine,
    histories: Sequence[History],
    listed: int,
    items: list[RawId],
    seen: bool,
    scored_for: int,
) -> Answered:
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
        if first >= scored_for:
            continue
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
    return model.catalogue.item_ids.raw.drop_null().to_pylist()


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
