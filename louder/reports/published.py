"""What others published on the data sets that have recipes. All of it is protocol "official": the authors train up to
the test target and take the epoch that is best on the test, so no `validated` run may stand in a table with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PAPER = "paper, Table 4"
README = "authors' README"
RAILS = "RAILS"
SOURCES = {
    PAPER: "Zhai et al., Actions Speak Louder than Words (ICML 2024), Table 4 and Table 12",
    RAILS: "bailuding/rails, README.md of the code of Retrieval with Learned Similarities (arXiv 2407.15462), July 2024",
    README: "facebookresearch/generative-recommenders, README.md, as verified on 15 April 2024",
}
COLUMNS = "hr@10", "hr@50", "hr@200", "ndcg@10", "ndcg@50", "ndcg@200"


@dataclass(frozen=True)
class PublishedRow:
    model: str
    source: str
    metrics: dict[str, float]  # what its source does not give is not there


@dataclass(frozen=True)
class PublishedResults:
    """counted is what tells whether a run was measured on the same data: "users" of the test, or "items"."""

    title: str
    counted: str
    count: int
    rows: tuple[PublishedRow, ...]


def row(model: str, source: str, *metrics: float | None) -> PublishedRow:
    """Metrics in the order of COLUMNS; the paper has no NDCG@50."""
    return PublishedRow(model, source, {name: value for name, value in zip(COLUMNS, metrics) if value is not None})


ML1M = (
    row("SASRec", PAPER, 0.2853, 0.5474, 0.7528, 0.1603, None, 0.2498),
    row("SASRec", README, 0.2853, 0.5474, 0.7528, 0.1603, 0.2185, 0.2498),
    row("HSTU", PAPER, 0.3097, 0.5754, 0.7716, 0.1720, None, 0.2606),
    row("HSTU", README, 0.3097, 0.5754, 0.7716, 0.1720, 0.2307, 0.2606),
    row("HSTU-large", PAPER, 0.3294, 0.5935, 0.7839, 0.1893, None, 0.2771),
    row("HSTU-large", README, 0.3294, 0.5935, 0.7839, 0.1893, 0.2481, 0.2771),
    row("HSTU-large, MoL", RAILS, 0.3412, 0.6013, 0.7877, 0.1979, 0.2556, 0.2840),
)
ML20M = (
    row("SASRec", PAPER, 0.2906, 0.5499, 0.7655, 0.1621, None, 0.2521),
    row("SASRec", README, 0.2889, 0.5503, 0.7661, 0.1621, 0.2199, 0.2527),
    row("HSTU", PAPER, 0.3252, 0.5885, 0.7943, 0.1878, None, 0.2774),
    row("HSTU", README, 0.3273, 0.5889, 0.7952, 0.1895, 0.2473, 0.2787),
    row("HSTU-large", PAPER, 0.3567, 0.6149, 0.8076, 0.2106, None, 0.2971),
    row("HSTU-large", README, 0.3556, 0.6143, 0.8074, 0.2098, 0.2671, 0.2965),
    row("HSTU-large, MoL", RAILS, 0.3661, 0.6234, 0.8116, 0.2181, 0.2753, 0.3039),
)
BOOKS = (
    row("SASRec", PAPER, 0.0292, 0.0729, 0.1400, 0.0156, None, 0.0350),
    row("SASRec", README, 0.0306, 0.0754, 0.1431, 0.0164, 0.0260, 0.0362),
    row("HSTU", PAPER, 0.0404, 0.0943, 0.1710, 0.0219, None, 0.0450),
    row("HSTU", README, 0.0416, 0.0957, 0.1735, 0.0227, 0.0344, 0.0461),
    row("HSTU-large", PAPER, 0.0469, 0.1066, 0.1876, 0.0257, None, 0.0508),
    row("HSTU-large", README, 0.0478, 0.1082, 0.1908, 0.0262, 0.0393, 0.0517),
    row("HSTU-large, MoL", RAILS, 0.0613, 0.1292, 0.2167, 0.0350, 0.0498, 0.0629),
)
DATASETS = {
    "ml1m": PublishedResults("MovieLens-1M", "users", 6_040, ML1M),
    "ml20m": PublishedResults("MovieLens-20M", "users", 138_493, ML20M),
    "books": PublishedResults("Amazon Books", "items", 695_762, BOOKS),
}


def for_run(name: str) -> PublishedResults | None:
    """The published numbers of the data set that a recipe's name begins with: "ml1m-hstu" -> MovieLens-1M."""
    return DATASETS.get(name.partition("-")[0])


def other_data(dataset: PublishedResults, result: Mapping[str, int]) -> str:
    """A sentence if a run was measured on other data than what was published; "" if the counts agree."""
    found, counted = result[dataset.counted], f"{dataset.counted}; the published numbers are of {dataset.count:,}"
    if found == dataset.count:
        return ""
    return f"This run was measured with {found:,} {counted}, so the two are not of the same data."
