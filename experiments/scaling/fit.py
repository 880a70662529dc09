"""Laws through the best of each compute, with intervals, and what they say of a compute nobody has trained at yet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.scaling.points import BEYOND, EXPERIMENT, lowest
from experiments.scaling.sizes import RANKERS
from louder.errors import InputError
from louder.evaluation.bootstrap import INTERVAL
from louder.results import Row

RESAMPLES = 1000
DECADES = 2.5  # of compute that a prediction needs


@dataclass(frozen=True)
class Law:
    """How a metric goes with ln C: its logarithm as a line (a power law), or it itself. `groups` is the field of a row
    with the metric of each group of test users."""

    metric: str
    groups: str
    power: bool

    def down(self, value: float) -> float:
        """What is a line in ln C, and lower where the model is better."""
        return math.log(value) if self.power else -value

    def up(self, lowered: float) -> float:
        return math.exp(lowered) if self.power else -lowered


EXCESS = Law("excess_ne", "excess_by_group", power=True)  # a C^-b
HITS = Law("hr@100", "hits_by_group", power=False)  # u + v ln C
LAWS = EXCESS, HITS


def law_of(model: str) -> Law:
    return EXCESS if model in RANKERS else HITS


Cells = Mapping[float, Mapping[int, np.ndarray]]  # compute -> size -> [seeds, groups]
Optima = dict[float, tuple[float, float]]  # compute -> ln of the best size, and the lowered metric there


class Line(NamedTuple):
    """lowered metric = start + slope ln C;  ln best size = size_start + size_slope ln C"""

    start: float
    slope: float
    size_start: float
    size_slope: float

    def at(self, compute: float) -> float:
        return self.start + self.slope * math.log(compute)

    def size_at(self, compute: float) -> float:
        return math.exp(self.size_start + self.size_slope * math.log(compute))


class Fitted(NamedTuple):
    """A law of one model. `draws` are the lines of the bootstrap: seeds and groups of users drawn with replacement."""

    law: Law
    optima: Optima
    line: Line
    draws: list[Line]
    seeds: int  # of the point that has the fewest

    @property
    def rate(self) -> float:
        """b of a C^-b; of a metric itself what ln C adds"""
        return -self.line.slope

    @property
    def rate_interval(self) -> tuple[float, float]:
        return interval([-draw.slope for draw in self.draws])

    def value(self, compute: float) -> tuple[float, float, float]:
        """Of the best model at a compute: the metric, and its interval."""
        return self.law.up(self.line.at(compute)), *interval([self.law.up(draw.at(compute)) for draw in self.draws])

    def size(self, compute: float) -> tuple[float, float, float]:
        return self.line.size_at(compute), *interval([draw.size_at(compute) for draw in self.draws])

    @property
    def decades(self) -> float:
        return math.log10(max(self.optima) / min(self.optima))


def cells_of(rows: Sequence[Row], model: str, law: Law, upto: float = math.inf) -> Cells:
    """What was trained of a model up to some compute."""
    found: dict[float, dict[int, list[list[float]]]] = {}
    for row in rows:
        if row.get("kind") == "point" and row["model"] == model and law.groups in row and row["compute"] <= upto:
            found.setdefault(row["compute"], {}).setdefault(row["size"], []).append(row[law.groups])
    return {c: {size: np.array(found[c][size]) for size in sorted(found[c])} for c in sorted(found)}


def fit(cells: Cells, law: Law, seed: int = 0) -> Fitted | None:
    """None where fewer than two computes have been trained at."""
    if len(cells) < 2:
        return None
    optima = best(means(cells), law)
    rng = np.random.default_rng(seed)
    draws = [through(best(drawn(cells, rng), law)) for _ in range(RESAMPLES)]
    return Fitted(law, optima, through(optima), draws, min(len(x) for sizes in cells.values() for x in sizes.values()))


def means(cells: Cells) -> dict[float, dict[int, float]]:
    return {c: {size: float(values.mean()) for size, values in sizes.items()} for c, sizes in cells.items()}


def drawn(cells: Cells, rng: np.random.Generator) -> dict[float, dict[int, float]]:
    """The means where the seeds of each point, and for all points the same groups of users, are drawn with replacement."""
    groups = next(values.shape[1] for sizes in cells.values() for values in sizes.values())
    users = rng.integers(0, groups, groups)
    return {
        c: {
            size: float(values[rng.integers(0, len(values), len(values))][:, users].mean())
            for size, values in sizes.items()
        }
        for c, sizes in cells.items()
    }


def best(values: Mapping[float, Mapping[int, float]], law: Law) -> Optima:
    """Of each compute the lowest point of a parabola over ln size, within the sizes that were tried."""
    return {
        compute: lowest([(math.log(size), law.down(value)) for size, value in sizes.items()])
        for compute, sizes in values.items()
    }


def through(optima: Optima) -> Line:
    sizes, values = np.array(list(optima.values())).T
    logs = np.log(list(optima))
    return Line(*straight(logs, values), *straight(logs, sizes))


def straight(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Start and slope of the line of least squares."""
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return float(y.mean()) - slope * float(x.mean()), slope


def interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def prediction(rows: Sequence[Row], model: str, law: Law) -> Row:
    """The best size at BEYOND and how good it will be, of what is trained below it. Raises InputError before what was
    trained spans DECADES, and once a prediction was made or something was trained there."""
    cells = cells_of(rows, model, law)
    if any(row.get("kind") == "prediction" and row["model"] == model for row in rows) or BEYOND in cells:
        raise InputError(
            f"What {model} does at {BEYOND:g} is predicted or trained already, and is not predicted again."
        )
    fitted = fit(cells, law)
    if fitted is None or fitted.decades < DECADES - 1e-9:
        span = 0.0 if fitted is None else fitted.decades
        raise InputError(
            f"The points of {model} span {span:.1f} decades of compute, but a prediction needs {DECADES}: train more, "
            "python -m experiments.scaling run."
        )
    (size, *sizes), (value, *values) = fitted.size(BEYOND), fitted.value(BEYOND)
    facts: Row = {"experiment": EXPERIMENT, "kind": "prediction", "model": model, "compute": BEYOND}
    facts |= {"size": round(size), "size_exact": size, "size_interval": sizes, law.metric: value, "interval": values}
    return facts | {"from_compute": sorted(cells), "rate": fitted.rate, "rate_interval": list(fitted.rate_interval)}
