"""Which past events a score leans on: the attention of the candidate's token, or of the last event in retrieval."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from louder.batch import SequenceBatch
from louder.histories.history import History
from louder.inference.request import Attribution, Request
from louder.inference.reranking import action_weights
from louder.inference.runner import event_fields
from louder.models import RankingModel, SequentialModel

if TYPE_CHECKING:
    from louder.inference.engine import Engine

LEFT_OUT = 10  # events that retrieval is tried without
LATEST = 5  # and two stages, besides


def reasons(
    engine: "Engine", request: Request, items: np.ndarray, count: int, likely: np.ndarray | None = None
) -> list[list[Attribution]]:
    """For each of these items [n], the events that it leans on most. In ranking these are what its own token attends to
    most. In retrieval attention is the same for all items, so of the events with most of it those are taken without
    which the item's score would fall most. Of two stages likewise, of the events with most attention by all the items and
    of the latest: what is likely next leans on these.

    likely [n]  P(next) of the items, where their scores are of two stages (Result.next). Without an event the other
                candidates count as they did
    """
    runner = engine.ranker or engine.retriever
    assert runner is not None
    window = engine.window(request, runner)
    sequence, chosen = window.sequence, torch.from_numpy(np.array(items))
    if not len(sequence.ids) or not len(items):
        return [[] for _ in items]
    if engine.ranker is not None:
        shares = attention_shares(engine.ranker.model, sequence, chosen, window.at).tolist()
        left_out = [most(own, count) for own in shares]
        if likely is not None:
            of_all = [sum(column) for column in zip(*shares)]
            left_out = [[*most(of_all, max(count, LEFT_OUT)), *range(max(0, len(of_all) - LATEST), len(of_all))]]
    else:
        shares = [shares_of_the_last(runner.backbone, sequence).tolist()] * len(items)
        left_out = [most(shares[0], max(count, LEFT_OUT))]
    rows = sorted({row for own in left_out for row in own})
    # the window is the latest part of what the model knows of the history; nothing older takes an event's place
    assert isinstance(request.history, History)
    windows = [sequence]
    for row in rows:
        lacking_one = replace(request.history.select(np.delete(window.rows, row)), total=0)
        windows.append(engine.window(replace(request, history=lacking_one, at=window.at), runner).sequence)
    whole, *lacking = scores_after(engine, request, windows, chosen, window.at)
    if likely is not None:
        worths = [whole, *lacking]
        whole, *lacking = with_next(engine, request, window.rows[rows], worths, chosen, torch.from_numpy(likely))
    change = {row: (own - whole).tolist() for row, own in zip(rows, lacking)}
    if engine.ranker is None or likely is not None:
        left_out = [sorted(rows, key=lambda row: change[row][n])[:count] for n in range(len(items))]
    return [
        [Attribution(int(window.rows[row]), shares[n][row], change[row][n]) for row in own]
        for n, own in enumerate(left_out)
    ]


def scores_after(
    engine: "Engine", request: Request, histories: Sequence[SequenceBatch], items: Tensor, at: int
) -> list[Tensor]:
    """[n] the scores of these items after each history; NaN where retrieval has no history to go by"""
    if engine.ranker is not None:
        prefilled = engine.ranker.prefill([(history, None) for history in histories])
        vectors = [engine.ranker.model.items(items)] * len(histories)
        moments = [at] * len(histories)
        counters = engine.counters([items.numpy()] * len(histories), moments)
        scored = engine.ranker.score_candidates(prefilled, vectors, moments, counters)
        weights = action_weights(request, engine.actions, engine.main)
        return [torch.sigmoid(logits) @ weights for logits, _ in scored]
    return next_logits(engine, request, histories, items)


def with_next(
    engine: "Engine", request: Request, left_out: np.ndarray, worths: Sequence[Tensor], items: Tensor, likely: Tensor
) -> list[Tensor]:
    """[n] the final scores after the whole history, and without each of the events `left_out` (rows of the history), of
    items that are worth `worths` then, and whose P(next) after the whole history is `likely` [n]."""
    assert engine.retriever is not None
    assert isinstance(request.history, History)
    window = engine.window(request, engine.retriever)
    sequences = [window.sequence]
    for row in left_out:
        lacking_one = replace(request.history.select(window.rows[window.rows != row]), total=0)
        sequences.append(engine.window(replace(request, history=lacking_one, at=window.at), engine.retriever).sequence)
    whole, *others = next_logits(engine, request, sequences, items)
    at_first, weight = likely.double() ** engine.scoring.weight, engine.scoring.weight / engine.scoring.temperature
    shares = [at_first, *(at_first * torch.exp(weight * (own - whole).double()) for own in others)]
    return [share * worth for share, worth in zip(shares, worths)]


def next_logits(engine: "Engine", request: Request, histories: Sequence[SequenceBatch], items: Tensor) -> list[Tensor]:
    """[n] retrieval's scores of these items after each history; NaN where it has none to go by"""
    assert engine.retriever is not None
    some = [(history, None) for history in histories if len(history.ids)]
    states = engine.retriever.next_item_states(engine.retriever.prefill(some), [request.next_by] * len(some)).float()
    rows = iter(engine.search.scores(states, [request.user] * len(some), items))
    return [next(rows) if len(history.ids) else torch.full((len(items),), torch.nan) for history in histories]


@torch.no_grad()
def attention_shares(model: RankingModel, history: SequenceBatch, candidates: Tensor, at: int) -> Tensor:
    """[m, T] of m candidates (ids): the weight on each of T events, its item and its action together, summed in size
    over layers and heads, as a share of the whole history's. Context and the candidate itself are left out.

    Each candidate goes through the model as the last event, so this is for some items of a page, not for thousands.
    """
    out = []
    for candidate in candidates.tolist():
        batch = with_one(history, candidate, at)
        tokens = model.tokens(batch)
        row = int(tokens.items[-1])
        total = model.backbone.attention_sizes(tokens.x, tokens.layout, row)
        of_events = total[tokens.items[:-1]] + total[tokens.actions[:-1]] * (tokens.actions[:-1] != tokens.items[:-1])
        out.append(of_events / of_events.sum().clamp(min=1e-12))
    return torch.stack(out)


@torch.no_grad()
def shares_of_the_last(model: SequentialModel, history: SequenceBatch) -> Tensor:
    """[T] of the T events of a history, whose last one says what comes next: the weight of its attention on each, summed
    in size over layers and heads, as a share of the whole. It is the same for all items."""
    total = model.attention_sizes(model.events(history), history, len(history.ids) - 1)
    return total / total.sum().clamp(min=1e-12)


def with_one(history: SequenceBatch, item: int, at: int) -> SequenceBatch:
    """The history with one more event, of which nothing but the item is known."""
    length = len(history.ids)
    known = {"ids": item, "timestamps": at, "query_timestamps": at, "values": torch.nan, "prefix_lengths": length}
    longer = {
        name: torch.cat([x, x.new_full((1, *x.shape[1:]), known.get(name, 0))])
        for name, x in event_fields(history).items()
    }
    return replace(history, offsets=torch.tensor([0, length + 1]), **longer)


def most(attention: Sequence[float], count: int) -> list[int]:
    return sorted(range(len(attention)), key=lambda n: -attention[n])[:count]
