"""What must hold of a model before it is published, and of the one that is served."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from louder.config import require_at_least

LOWER_IS_BETTER = "ne", "log_perplexity", "loss", "log_loss", "mse", "mae", "rmse"
BINS = 10
LEAST_SHARE = 1e-4  # of a bin: with 0 the index would be infinite


class ScoreHistogram(NamedTuple):
    """edges [n] and shares [n + 1] of the scores below the first, between two, and above the last"""

    edges: list[float]
    shares: list[float]


def histogram_of(scores: np.ndarray, edges: Iterable[float] | None = None) -> ScoreHistogram:
    """Of scores [n], between their own deciles where no edges are given."""
    if edges is None:
        edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]))
    found = list(map(float, edges))
    counts = np.bincount(np.searchsorted(found, scores), minlength=len(found) + 1)
    return ScoreHistogram(found, (counts / max(1, len(scores))).tolist())


def population_stability(served: ScoreHistogram, new: np.ndarray) -> float:
    """How far scores [n] have moved from those of the served model: the sum of (new share - old) x log(new / old); usually
    up to .1 is called none, and from .25 on large."""
    shares = [np.maximum(x.shares, LEAST_SHARE) for x in (histogram_of(new, served.edges), served)]
    return float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())


@dataclass(frozen=True, kw_only=True)
class WindowMetrics:
    """How a model did in one window of events, before anything learnt from them.

    events     how many it was measured on
    metrics    such as ne, auc, hr@10
    unknown    share of events of ids that the model does not know; None where nobody counted
    scores     [n] what it gave some of them; None where nobody kept them
    histogram  of scores; of a version that was published all that is left of them
    """

    events: int
    metrics: Mapping[str, float]
    unknown: float | None = None
    scores: np.ndarray | None = None
    histogram: ScoreHistogram | None = None

    def facts(self) -> dict[str, Any]:
        """As version.json has it."""
        histogram = self.histogram if self.scores is None or not len(self.scores) else histogram_of(self.scores)
        found: dict[str, Any] = {"events": self.events, "metrics": dict(self.metrics), "unknown": self.unknown}
        return found | {"histogram": None if histogram is None else histogram._asdict()}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "WindowMetrics":
        histogram = facts["histogram"] and ScoreHistogram(**facts["histogram"])
        unknown = facts["unknown"]
        return cls(events=facts["events"], metrics=facts["metrics"], unknown=unknown, histogram=histogram)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a model may not go beyond. Shares of the served version's metric, .02 being 2 %.

    worse         it is not published when one of its metrics is worse by more
    fallen        the served one is rolled back when one of its metrics is worse by more
    stability     the most that scores may move, as population_stability
    unknown       the largest share of events of unknown ids
    fewest_events a window with fewer tells nothing: of its metrics and scores nothing is refused
    """

    worse: float = 0.02
    fallen: float = 0.1
    stability: float = 0.25
    unknown: float = 0.5
    fewest_events: int = 1000

    def __post_init__(self) -> None:
        require_at_least(0, "gate", self, "worse", "fallen", "stability", "unknown", "fewest_events")


def objections(new: WindowMetrics, served: WindowMetrics | None, bounds: Bounds) -> list[str]:
    """Why a model must not be published, beside the served one in the same window; empty if it may."""
    found = [f"{name} is {value}, which is no number" for name, value in new.metrics.items() if not np.isfinite(value)]
    if new.events < bounds.fewest_events:
        return found
    if served is not None:
        found += worse_metrics(new, served, bounds.worse, "the served version")
        before = served.histogram if served.scores is None or not len(served.scores) else histogram_of(served.scores)
        if before is not None and new.scores is not None and len(new.scores):
            moved = population_stability(before, new.scores)
            if not moved <= bounds.stability:
                found.append(f"its scores have moved by {moved:.2f} (PSI), and {bounds.stability:g} is the bound")
    if new.unknown is not None and new.unknown > bounds.unknown:
        found.append(f"{new.unknown:.1%} of the events are of unknown ids, and {bounds.unknown:.1%} is the bound")
    return found


def worse_metrics(new: WindowMetrics, old: WindowMetrics, bound: float, whose: str) -> list[str]:
    """A sentence for each metric of both that is worse than the old one by more than a share of that."""
    found = []
    for name, value in new.metrics.items():
        before = old.metrics.get(name)
        if before is None or not np.isfinite([value, before]).all():
            continue
        lost = value - before if name in LOWER_IS_BETTER else before - value
        if lost > bound * abs(before):
            found.append(f"its {name} is {value:.4f}, and {whose} has {before:.4f}: worse by more than {bound:.1%}")
    return found


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """A sentence for each weight that holds NaN or infinity."""
    broken = [name for name, x in weights.items() if x.is_floating_point() and not bool(x.isfinite().all())]
    return [f"the weight {name} holds numbers that are not finite" for name in broken]
