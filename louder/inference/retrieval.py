"""What a run finds items with: the vectors of its items, and states of its users to compare them with."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from louder import checkpoint
from louder.data.table import Table
from louder.errors import InputError
from louder.inference.ranker import Ranker
from louder.inference.recommender import Recommender
from louder.models.sequential import DotProduct
from louder.schema import ENGAGEMENT

QUERIES = 512


@dataclass(frozen=True)
class Retrieval:
    """The best checkpoint of a run, as an index needs it.

    folder   of the checkpoint
    items    [I, D]
    queries  [Q, D] the latest states of users, evenly over the table; where the run's table is gone, items
    source   "users" or "items": which of the two
    """

    folder: Path
    items: Tensor
    queries: Tensor
    source: str


@torch.no_grad()
def open_retrieval(run: Path, table: Path | None = None) -> Retrieval:
    """Of a run that predicts the next item, alone or beside ranking. Raises InputError for any other.

    `table` is where the users are; the table the run was trained on unless another is given.
    """
    folder = checkpoint.best(run)
    opened: Recommender | Ranker
    if checkpoint.load_state(folder)["config"].get("ranking"):
        opened = joint_ranker(run, table)
        items, state = opened.model.item_vectors(), partial(ranker_state, opened)
    else:
        opened = Recommender(run, table)
        if not isinstance(opened.model.similarity, DotProduct):
            raise InputError(
                f"{run} compares by a mixture of logits, which is no dot product, so no index holds its items. Search it by "
                "louder.inference.mol_topk."
            )
        items, state = opened.model.item_vectors(), partial(recommender_state, opened)
    if table or opened.table_path.is_dir():
        users = evenly(users_with_events(opened.table))
        if len(users):
            return Retrieval(folder, items, torch.stack([state(number) for number in users.tolist()]), "users")
    return Retrieval(folder, items, items[evenly(np.arange(len(items)))], "items")


def joint_ranker(run: Path, table: Path | None) -> Ranker:
    ranker = Ranker(run, table)
    if not ranker.ranking.next_item:
        raise InputError(
            f"{run} ranks what it is given and has not learned the next item, so train it to do both: louder train RECIPE "
            "--set ranking.next_item=1."
        )
    return ranker


def recommender_state(recommender: Recommender, number: int) -> Tensor:
    """[D] of a user of the table, at the latest event"""
    return recommender.model(recommender.sequence(recommender.stored_history(number), None))[-1]


def ranker_state(ranker: Ranker, number: int) -> Tensor:
    batch = ranker.stored(number)
    if ranker.ranking.context:
        batch = replace(batch, context=ranker.codes_of(ranker.table.user_ids.raws([number])[0]))
    tokens = ranker.model.tokens(batch)
    return ranker.model.next_item_states(ranker.model.states(tokens), tokens.actions[-1:])[0]


def users_with_events(table: Table) -> np.ndarray:
    rows = np.flatnonzero(table.kinds == ENGAGEMENT)
    return np.unique(np.searchsorted(table.offsets, rows, side="right") - 1)


def evenly(numbers: np.ndarray) -> np.ndarray:
    """At most QUERIES of them, as far apart as can be."""
    return numbers[np.linspace(0, len(numbers) - 1, min(QUERIES, len(numbers))).round().astype(np.int64)]
