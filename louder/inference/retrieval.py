"""What a run finds items with: the vectors of its items, and states of its users to compare them with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from louder.data.table import Table
from louder.errors import InputError
from louder.inference.engine import Engine
from louder.inference.request import Request, TableUser
from louder.inference.search import MixtureSearch
from louder.schema import ENGAGEMENT

QUERIES = 512
AT_ONCE = 32


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


def open_retrieval(run: Path, table: Path | None = None) -> Retrieval:
    """Of a run that predicts the next item, alone or beside ranking. Raises InputError for any other.

    `table` is where the users are; the table the run was trained on unless another is given.
    """
    engine = Engine(run, table=table, cache_bytes=0, exact=True)
    if engine.retriever is None:
        raise InputError(
            f"{run} ranks what it is given and has not learned the next item, so train it to do both: louder train RECIPE "
            "--set ranking.next_item=1."
        )
    if isinstance(engine.search, MixtureSearch):
        raise InputError(
            f"{run} compares by a mixture of logits, which is no dot product, so no index holds its items. Search it by "
            "louder.inference.mol_topk."
        )
    items = engine.vectors
    if table or engine.table_path.is_dir():
        users = evenly(users_with_events(engine.table))
        if len(users):
            raws = engine.table.user_ids.raws(users)
            requests = [Request(history=TableUser(engine.table, n), user=raw) for n, raw in zip(users.tolist(), raws)]
            histories = [(engine.window(request, engine.retriever).sequence, None) for request in requests]
            parts = [engine.retriever.prefill(histories[n : n + AT_ONCE]) for n in range(0, len(histories), AT_ONCE)]
            states = torch.cat([engine.retriever.next_item_states(part) for part in parts]).float()
            return Retrieval(engine.run.folder, items, states, "users")
    return Retrieval(engine.run.folder, items, items[evenly(np.arange(len(items)))], "items")


def users_with_events(table: Table) -> np.ndarray:
    rows = np.flatnonzero(table.kinds == ENGAGEMENT)
    return np.unique(np.searchsorted(table.offsets, rows, side="right") - 1)


def evenly(numbers: np.ndarray) -> np.ndarray:
    """At most QUERIES of them, as far apart as can be."""
    return numbers[np.linspace(0, len(numbers) - 1, min(QUERIES, len(numbers))).round().astype(np.int64)]
