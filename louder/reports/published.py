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
    """One published line; a metric that its source does not give is not there."""

    model: str
    source: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class PublishedResults:
    """counted is what tells whether a run was measured on the same data: "users" of the test, or "items"."""

    title: str
    counted: str
    count: int
    rows: tuple[PublishedRow, ...]


def paper(model: str, hr10: float, hr50: float, hr200: float, ndcg10: float, ndcg200: float) -> PublishedRow:
    """In the order of the paper's columns; it has no NDCG@50."""
    values = {"hr@10": hr10, "hr@50": hr50, "hr@200": hr200, "ndcg@10": ndcg10, "ndcg@200": ndcg200}
    return PublishedRow(model, PAPER, values)


def readme(
    model: str,
    hr10: float,
    ndcg10: float,
    hr50: float,
    ndcg50: float,
    hr200: float,
    ndcg200: float,
    source: str = README,
) -> PublishedRow:
    """In the order of the README's columns."""
    values = {"hr@10": hr10, "hr@50": hr50, "hr@200": hr200, "ndcg@10": ndcg10, "ndcg@50": ndcg50, "ndcg@200": ndcg200}
    return PublishedRow(model, source, values)


DATASETS = {
    "ml1m": PublishedResults(
        "MovieLens-1M",
        "users",
        6_040,
        (
            paper("SASRec", 0.2853, 0.5474, 0.7528, 0.1603, 0.2498),
            readme("SASRec", 0.2853, 0.1603, 0.5474, 0.2185, 0.7528, 0.2498),
            paper("HSTU", 0.3097, 0.5754, 0.7716, 0.1720, 0.2606),
            readme("HSTU", 0.3097, 0.1720, 0.5754, 0.2307, 0.7716, 0.2606),
            paper("HSTU-large", 0.3294, 0.5935, 0.7839, 0.1893, 0.2771),
            readme("HSTU-large", 0.3294, 0.1893, 0.5935, 0.2481, 0.7839, 0.2771),
            readme("HSTU-large, MoL", 0.3412, 0.1979, 0.6013, 0.2556, 0.7877, 0.2840, source=RAILS),
        ),
    ),
    "ml20m": PublishedResults(
        "MovieLens-20M",
        "users",
        138_493,
        (
            paper("SASRec", 0.2906, 0.5499, 0.7655, 0.1621, 0.2521),
            readme("SASRec", 0.2889, 0.1621, 0.5503, 0.2199, 0.7661, 0.2527),
            paper("HSTU", 0.3252, 0.5885, 0.7943, 0.1878, 0.2774),
            readme("HSTU", 0.3273, 0.1895, 0.5889, 0.2473, 0.7952, 0.2787),
            paper("HSTU-large", 0.3567, 0.6149, 0.8076, 0.2106, 0.2971),
            readme("HSTU-large", 0.3556, 0.2098, 0.6143, 0.2671, 0.8074, 0.2965),
            readme("HSTU-large, MoL", 0.3661, 0.2181, 0.6234, 0.2753, 0.8116, 0.3039, source=RAILS),
        ),
    ),
    "books": PublishedResults(
        "Amazon Books",
        "items",
        695_762,
        (
            paper("SASRec", 0.0292, 0.0729, 0.1400, 0.0156, 0.0350),
            readme("SASRec", 0.0306, 0.0164, 0.0754, 0.0260, 0.1431, 0.0362),
            paper("HSTU", 0.0404, 0.0943, 0.1710, 0.0219, 0.0450),
            readme("HSTU", 0.0416, 0.0227, 0.0957, 0.0344, 0.1735, 0.0461),
            paper("HSTU-large", 0.0469, 0.1066, 0.1876, 0.0257, 0.0508),
            readme("HSTU-large", 0.0478, 0.0262, 0.1082, 0.0393, 0.1908, 0.0517),
            readme("HSTU-large, MoL", 0.0613, 0.0350, 0.1292, 0.0498, 0.2167, 0.0629, source=RAILS),
        ),
    ),
}


def for_run(name: str) -> PublishedResults | None:
    """The published numbers of the data set that a recipe's name begins with: "ml1m-hstu" -> MovieLens-1M."""
    return DATASETS.get(name.partition("-")[0])


def other_data(dataset: PublishedResults, result: Mapping[str, int]) -> str:
    """A sentence if a run was measured on other data than what was published; "" if the counts agree."""
    found = result[dataset.counted]
    if found == dataset.count:
        return ""
    return (
        f"This run was measured with {found:,} {dataset.counted}; the published numbers are of {dataset.count:,}, "
        "so the two are not of the same data."
    )
