"""A ranking run looked at again: its predictions on the test part, and a few users with what was shown to them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from louder.data.table import Table
from louder.evaluation.predictions import Predictions, all_predictions
from louder.ids import RawId
from louder.inference.catalogue import Catalogue
from louder.inference.run import Run
from louder.reports.samples import Line, event_line
from louder.schema import ENGAGEMENT
from louder.training.config import Config
from louder.training.ranking import RankingTask, open_ranking_table
from louder.training.task import dropout_off


@dataclass(frozen=True)
class Shown:
    """A user of the test part: `events` before, of which `history` has the latest, and what was shown, likeliest first; an item's
    score is its probability of the main action."""

    user: RawId
    events: int
    history: list[Line]
    offered: list[Line]


@dataclass(frozen=True)
class Ranked:
    """training [T] marks the rows of the table that the run was trained on."""

    table: Table
    training: np.ndarray
    predictions: Predictions
    main: str
    users: list[Shown]

    @property
    def actions(self) -> list[str]:
        return self.table.manifest.actions


def look(run: Path, config: Config, table: Path, on_batch: Callable[[int], None] | None = None) -> Ranked:
    """Raises InputError if the table is not the run's."""
    config = replace(config, data=replace(config.data, table=str(table)))
    task, opened = RankingTask(config, open_ranking_table(config)), Run.open(run)
    model = task.load(opened)
    with dropout_off(model):
        found = all_predictions(model, task.parts["test"], torch.device("cpu"), on_batch)
    users = shown_users(
        found, task.table, Catalogue(opened, table), task.table.manifest.actions.index(task.main), config
    )
    return Ranked(task.table, task.loader.is_target, found, task.main, users)


def shown_users(
    found: Predictions, table: Table, catalogue: Catalogue, main: int, config: Config, *, count: int = 5, k: int = 10
) -> list[Shown]:
    """Users drawn by the run's seed and not chosen by how well they came out: of each the last request of two items and more,
    or else the last `k` exposures."""
    everyone = np.unique(found.users)
    users = []
    for user in np.random.default_rng(config.training.seed).permutation(everyone)[:count].tolist():
        own = np.flatnonzero(found.users == user)
        own = own[np.argsort(found.rows[own])]
        requests = found.requests[own]
        several = [at for at in range(len(own)) if requests[at] >= 0 and (requests == requests[at]).sum() > 1]
        chosen = own[requests == requests[several[-1]]] if several else own[-k:]
        first = int(table.offsets[user])
        before = np.arange(first, found.rows[chosen].min())
        before = before[table.kinds[before] == ENGAGEMENT].tolist()
        chosen = chosen[np.argsort(-found.probabilities[chosen, main], kind="stable")][:k]
        offered = [
            replace(event_line(catalogue, table, int(found.rows[at])), score=float(found.probabilities[at, main]))
            for at in chosen
        ]
        history = [event_line(catalogue, table, row) for row in before[-8:]]
        users.append(Shown(table.user_ids.raws([user])[0], len(before), history, offered))
    return users
