"""What is to be trained, in order: rates on small sizes, then the grid, each point once."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from experiments.scaling.sizes import training_flops
from louder.errors import InputError
from louder.results import Row

EXPERIMENT = "scaling"
COMPUTE = 3e11, 1e12, 3e12, 1e13, 3e13, 1e14  # training FLOPs, in half decades
BEYOND = 3e14  # trained once its best size has been predicted
SEEDS = 0, 1, 2
MIDDLE, AT = 3, 3e11  # the size in the middle of the three at this compute
AROUND = 0.75, 1.0, 1.35  # the three sizes, as multiples of the middle one
RATE_USERS, RATE_SIZES, RATES = 1024, (2, 4), (2e-3, 5e-3, 1.25e-2)


@dataclass(frozen=True)
class Point:
    """One training. `kind` is "rate" where it looks for a learning rate, which is the rule's where it is None."""

    kind: str
    model: str
    size: int
    compute: float
    seed: int = 0
    learning_rate: float | None = None

    @property
    def name(self) -> str:
        rate = "" if self.learning_rate is None else f"-{self.learning_rate:g}"
        return f"{self.kind}-{self.model}-{self.size}-{self.compute:.0e}-{self.seed}{rate}"


def rate_points(model: str) -> list[Point]:
    """The same users for all sizes, so that none has too few steps to tell rates apart."""
    compute = {size: float(training_flops(model, size, RATE_USERS)) for size in RATE_SIZES}
    return [Point("rate", model, size, compute[size], 0, rate) for size in RATE_SIZES for rate in RATES]


def sizes_at(compute: float) -> list[int]:
    """Operations grow with the cube of the dial, and half of the compute's growth goes into them."""
    middle = MIDDLE * (compute / AT) ** (1 / 6)
    return sorted({max(1, round(factor * middle)) for factor in AROUND})


def grid(model: str, compute: Iterable[float] = COMPUTE, seeds: Sequence[int] = SEEDS) -> list[Point]:
    """The cheapest first, so that a fit can be seen early."""
    return [
        Point("point", model, size, budget, seed) for budget in compute for seed in seeds for size in sizes_at(budget)
    ]


def beyond(model: str, rows: Iterable[Row], seeds: Sequence[int] = SEEDS) -> list[Point]:
    """Around the size that was predicted; nothing before there is a prediction."""
    predicted = [row for row in rows if row.get("kind") == "prediction" and row["model"] == model]
    if not predicted:
        return []
    sizes = sorted({max(1, round(factor * predicted[-1]["size"])) for factor in AROUND})
    return [Point("point", model, size, BEYOND, seed) for seed in seeds for size in sizes]


def plan(rows: Sequence[Row], models: Sequence[str], compute: Sequence[float], seeds: Sequence[int]) -> list[Point]:
    """Every point of these models, done or not."""
    points: list[Point] = []
    for model in models:
        points += rate_points(model) + grid(model, compute, seeds) + beyond(model, rows, seeds)
    return points


def point_of(row: Row) -> Point:
    return Point(**{name: row[name] for name in asdict(Point("", "", 0, 0.0))} | {"learning_rate": row["asked_rate"]})


def left(points: Iterable[Point], rows: Iterable[Row]) -> list[Point]:
    """Those that have no row yet."""
    done = {point_of(row) for row in rows if row.get("kind") in ("rate", "point")}
    return [point for point in points if point not in done]


def rate_of(model: str, size: int, rows: Iterable[Row]) -> float:
    """The learning rate of a size: ln rate = u + v ln size, through the best rates of the small sizes.

    The best rate of a size is the lowest point of a parabola over ln rate, within the rates tried.
    Raises InputError before two sizes have been tried.
    """
    tried: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get("kind") == "rate" and row["model"] == model:
            tried.setdefault(row["size"], []).append((math.log(row["learning_rate"]), badness(row)))
    best = {at: lowest(sorted(pairs))[0] for at, pairs in tried.items() if len(pairs) >= 3}
    if len(best) < 2:
        raise InputError(
            f"The rates of {model} were tried at {len(best)} sizes, but a rule needs 2: run the rates first, "
            "python -m experiments.scaling run."
        )
    slope, start = np.polyfit(np.log(list(best)), list(best.values()), 1)
    return float(f"{math.exp(start + slope * math.log(size)):.3g}")


def badness(row: Row) -> float:
    """What is lower of a better model."""
    return float(row["excess_ne"] if "excess_ne" in row else -row["hr@100"])


def lowest(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Points by x -> where the parabola through the lowest and its two neighbours is lowest; at an end, the end."""
    at = min(range(len(pairs)), key=lambda number: pairs[number][1])
    if at in (0, len(pairs) - 1):
        return pairs[at]
    (x0, y0), (x1, y1), (x2, y2) = pairs[at - 1 : at + 2]
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    bend = (second - first) / (x2 - x0)
    if bend <= 0:  # all three alike
        return x1, y1
    x = (x0 + x1) / 2 - first / (2 * bend)
    return x, y0 + first * (x - x0) + bend * (x - x0) * (x - x1)
