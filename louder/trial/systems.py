"""The systems that are compared: of each one rank a user, of the same item, by the same rules."""

from dataclasses import dataclass

import numpy as np

from louder.data.retrieval import RetrievalLoader
from louder.data.table import Table
from louder.evaluation.item_knn import item_knn_scorer, similarities
from louder.evaluation.retrieval import Scorer, evaluate, popularity_scorer
from louder.evaluation.retrieval_metrics import ndcg
from louder.training.config import Config
from louder.training.retrieval import part_loader, popularity, training_rows

RECENT = 1.0, 0.1, 0.01  # of the training events, by time: popular in all of them, or in the latest
DECAYS = 1.0, 0.9, 0.7
READ = 500  # latest events of a user that item-kNN counts: a robot that had everything would make all items near


@dataclass(frozen=True)
class Held:
    """The U users that are asked about: the rows of their targets in the table, how much they did before, and how often the
    target was met in training."""

    rows: np.ndarray
    users: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Part:
    """What is asked, and how: the loader of validation or test, and the filter of seen items."""

    loader: RetrievalLoader
    seen: str

    def ranks(self, scorer: Scorer) -> np.ndarray:
        """[U]"""
        return evaluate(scorer, self.loader, seen=self.seen).ranks


def held_out(part: Part, counts: np.ndarray) -> Held:
    """In the order in which ranks are."""
    rows = np.concatenate([batch.rows.numpy() for batch in part.loader.batches()])
    table = part.loader.table
    users = np.searchsorted(table.offsets, rows, side="right") - 1
    targets = table.ids[rows]
    return Held(rows, users, targets, rows - table.offsets[users], counts[targets])


def best_baselines(table: Table, config: Config) -> dict[str, tuple[Scorer, str]]:
    """Popularity and item-kNN, each at the best on validation of a few settings, with that setting in words."""
    validation = Part(part_loader(table, config, "validation"), config.evaluation.seen)
    train = part_loader(table, config, "train")
    counts, rows = popularity(table, train), training_rows(table, train)
    latest = rows[np.argsort(-table.times[rows], kind="stable")] if table.manifest.has_times else rows
    popular: list[tuple[Scorer, str]] = []
    for share in RECENT if table.manifest.has_times else RECENT[:1]:
        ids = table.ids[latest[: max(1, int(share * len(latest)))]]
        words = (
            "what most people had" if share == 1 else f"what most people had in the latest {share:.0%} of the events"
        )
        popular.append((popularity_scorer(np.bincount(ids, minlength=table.items)), words))
    owner = np.searchsorted(table.offsets, rows, side="right") - 1
    kept = latest_of_each(owner, READ)
    itself = config.evaluation.seen == "none"
    near = similarities(owner[kept], table.ids[rows[kept]], table.items, itself=itself)
    neighbours = [
        (
            item_knn_scorer(near, counts, decay),
            "who had these had those" + ("" if decay == 1 else f", the latest most ({decay})"),
        )
        for decay in DECAYS
    ]

    def best(options: list[tuple[Scorer, str]]) -> tuple[Scorer, str]:
        return max(options, key=lambda option: ndcg(validation.ranks(option[0]), 10))

    return {"popularity": best(popular), "item-kNN": best(neighbours)}


def latest_of_each(owner: np.ndarray, most: int) -> np.ndarray:
    """[N] bool: the last `most` rows of each owner [N], which ascend."""
    return np.searchsorted(owner, owner, side="right") - np.arange(len(owner)) <= most
