"""A ranker's predictions on one part of a table."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from louder.batch import RankingBatch
from louder.data.ranking import RankingLoader
from louder.data.table import ranges
from louder.evaluation.predictions import predictions
from louder.evaluation.ranking_metrics import RankingMetrics
from louder.evaluation.retrieval import rank_of
from louder.models import AnyRanker, RankingModel
from louder.results import Row
from louder.schema import ENGAGEMENT


@torch.no_grad()
def evaluate(
    model: AnyRanker,
    loader: RankingLoader,
    actions: Sequence[str],
    values: Sequence[str],
    device: torch.device,
    on_batch: Callable[[int], None] | None = None,
) -> Row:
    """The report of RankingMetrics on every exposure of the loader's part, each predicted from all events before its
    request, those of the same part included. `on_batch(exposures)` after each batch."""
    metrics = RankingMetrics(actions, values)
    for part in predictions(model, loader, device):
        metrics.update(part.probabilities, part.labels, part.users, part.requests, part.values, part.true_values)
        if on_batch:
            on_batch(len(part))
    return metrics.report()


@torch.no_grad()
def next_item_ranks(
    model: RankingModel,
    loader: RankingLoader,
    device: torch.device,
    *,
    seen: str = "window",
    at_once: int = 4096,
    action: str = "",
    query: str | None = None,
) -> np.ndarray:
    """[R] the rank of each next item of the part in the whole catalogue, from the state after the request before it.

    seen    items of the model's "window" are left out, or "none" are
    action  one of config.next_item_by: the next item that it happens with; "": any
    query   of which action the query is asked; None: of the same
    """
    number, query = model.config.next_item_by.index(action) if action else None, action if query is None else query
    items, ranks = model.item_vectors(), []
    for batch in loader.batches():
        targets = batch.next_items
        if number is not None:
            assert batch.next_items_by is not None, "the loader was made without next_by"
            targets = batch.next_items_by[number]
        (rows,) = torch.where(targets >= 0)
        if not len(rows):
            continue
        tokens = model.tokens(batch.sequences.to(device))
        states = model.next_item_states(model.states(tokens), tokens.actions[rows.to(device)], query)
        for part in torch.arange(len(rows)).split(at_once):
            scores = (states[part] @ items.T).float()
            target = targets[rows[part]].to(device)
            own = scores.gather(1, target[:, None])
            if seen != "none":
                row, item = window_items(batch, rows[part])
                scores[row.to(device), item.to(device)] = -torch.inf
            ranks.append(rank_of(scores, own, target).cpu().numpy())
    return np.concatenate(ranks) if ranks else np.empty(0)


def window_items(batch: RankingBatch, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The items up to each of the rows [R] of its window: pairs of index in `rows`, item."""
    offsets = batch.sequences.offsets.numpy()
    starts = offsets[np.searchsorted(offsets, rows.numpy(), side="right") - 1]
    lengths = rows.numpy() + 1 - starts
    at, owner = ranges(starts, lengths), np.repeat(np.arange(len(rows)), lengths)
    if batch.sequences.kinds is not None:
        engaged = batch.sequences.kinds.numpy()[at] == ENGAGEMENT
        at, owner = at[engaged], owner[engaged]
    return torch.from_numpy(owner), batch.sequences.ids[torch.from_numpy(at)]
