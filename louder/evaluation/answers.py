"""The whole answer of two stages, as the service gives it: would the item that came next have been in the list, and the item
that was liked? Beside it what retrieval alone, the ranker alone and popularity would have answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from louder.data.config import DataConfig
from louder.data.table import Table
from louder.data.targets import part_rows
from louder.errors import InputError
from louder.evaluation.retrieval_metrics import hit_rate, ndcg
from louder.inference.catalogue import counted
from louder.inference.engine import Engine
from louder.inference.request import Request, Result, TableUser
from louder.inference.scoring import Scoring
from louder.results import Row


class Nobody(InputError):
    """There is nobody in a part who could be answered."""


CUTOFF = 10  # items of a list
TOGETHER = 32  # requests of one batch


@dataclass(frozen=True)
class Answers:
    """What was answered to N requests, each just before an event that was held out.

    users [N] of the table     liked [N] whether the event had the main action
    items, log_next, worth     N arrays [n] of the candidates: ids, log P(next) as `scoring` has it, and expected worth
    targets [N] the item of the event
    popular [N] its rank by popularity in the training part
    scoring    by which the engine put them in order
    """

    users: np.ndarray
    liked: np.ndarray
    items: list[np.ndarray]
    log_next: list[np.ndarray]
    worth: list[np.ndarray]
    targets: np.ndarray
    popular: np.ndarray
    scoring: Scoring
    catalogue: int


def held_out_rows(table: Table, part: str, config: DataConfig, held_out: int, most: int) -> np.ndarray:
    """[N] rows of a part's engagements that have a history, at most so many: the same number of each user, evenly spread,
    the last one among them; where there are more users than that, the last of users in equal steps."""
    rows = np.flatnonzero(part_rows(table, part, config.split, held_out=held_out))
    owner = np.searchsorted(table.offsets, rows, side="right") - 1
    rows = rows[table.request_rows()[rows] > table.offsets[owner]]
    owner = np.searchsorted(table.offsets, rows, side="right") - 1
    counts = np.bincount(owner, minlength=table.users)
    number = np.arange(len(rows)) - (np.cumsum(counts) - counts)[owner]
    there = int((counts > 0).sum())
    of_user, place = counts[owner], np.cumsum(counts > 0)[owner] - 1
    taken = np.minimum(of_user, max(1, most // max(1, there)))
    chosen = (number + 1) * taken // of_user > number * taken // of_user  # the last of each of `taken` equal shares
    if there > most:
        chosen &= (place + 1) * most // there > place * most // there
    return rows[chosen]


def answers(
    engine: Engine,
    part: str,
    data: DataConfig,
    *,
    held_out: int,
    requests: int,
    seen: bool = False,
    candidates: int = 500,
    on_batch: Callable[[int], None] | None = None,
) -> Answers:
    """Ask the engine before each event of held_out_rows. `on_batch(requests)` is called after each batch.

    held_out  see louder.data.targets.split
    requests  at most so many, see held_out_rows
    seen      whether items of the history may be in the answer
    Raises InputError for an engine that does not rank what it finds, or if there is nobody to ask for.
    """
    if engine.ranker is None or engine.retriever is None:
        raise InputError(f"{engine.run.path} has no two stages to measure together. Give a ranker: --ranker RUN.")
    table = engine.table
    rows = held_out_rows(table, part, data, held_out, requests)
    if not len(rows):
        raise Nobody(f"There is nobody to answer: no user of the {part} part has a history before an event.")
    users = np.searchsorted(table.offsets, rows, side="right") - 1
    heads, raws = table.request_rows()[rows], engine.run.user_ids.raws(users)
    asked = [
        Request(
            history=TableUser(table, user, int(head - table.offsets[user])),
            at=int(table.times[head]),
            user=raw,
            k=candidates,
            retrieve=candidates,
            seen=seen,
        )
        for user, head, raw in zip(users.tolist(), heads.tolist(), raws)
    ]
    known_by_then = counted(table, part_rows(table, "train", data.split, held_out=held_out))
    engine.catalogue.popularity, engine.catalogue.first_times = known_by_then
    counts = known_by_then[0].astype(np.float64)
    found: list[Result] = []
    for first in range(0, len(asked), TOGETHER):
        batch = engine.recommend_batch(asked[first : first + TOGETHER])
        for answer in batch:
            if isinstance(answer, InputError):
                raise answer
            found.append(answer)
        if on_batch:
            on_batch(len(batch))
    assert table.actions is not None
    weights = np.array([name == engine.main for name in engine.actions], dtype=np.float64)
    past = [table.ids[table.offsets[u] : head] for u, head in zip(users, heads)]
    return Answers(
        users=users,
        liked=(table.actions[rows] & table.action_mask((engine.main,))) != 0,
        items=[x.items for x in found],
        # who has seen the whole catalogue has an answer without items
        log_next=[np.log(np.maximum(needed(x.next), 1e-300)) if len(x.items) else np.zeros(0) for x in found],
        worth=[needed(x.probabilities) @ weights if len(x.items) else np.zeros(0) for x in found],
        targets=table.ids[rows],
        popular=np.array([rank_by(counts, target, () if seen else own) for target, own in zip(table.ids[rows], past)]),
        scoring=engine.scoring,
        catalogue=len(engine.catalogue),
    )


def needed(column: np.ndarray | None) -> np.ndarray:
    assert column is not None, "an answer of two stages has probabilities"
    return column


def rank_by(scores: np.ndarray, target: int, excluded: Sequence[int] | np.ndarray = ()) -> float:
    """1 + items that score higher + half of the others that score the same; infinite if the target is left out."""
    mine = scores[target]
    scores = scores.copy()
    scores[np.asarray(excluded, dtype=np.int64)] = -np.inf
    if scores[target] != mine:
        return np.inf
    return 1 + float((scores > mine).sum()) + (float((scores == mine).sum()) - 1) / 2


def ranks(found: Answers, scores: Sequence[np.ndarray]) -> np.ndarray:
    """[N] of the targets among the candidates, by scores of each answer's [n]; infinite where it is not among them"""
    out = np.full(len(found.targets), np.inf)
    for n, (items, own, target) in enumerate(zip(found.items, scores, found.targets)):
        (at,) = np.nonzero(items == target)
        if len(at):
            out[n] = rank_by(own, int(at[0]))
    return out


def final_scores(found: Answers, weight: float, temperature: float | None = None) -> list[np.ndarray]:
    """The final scores of every answer under another weight or temperature than it was given with."""
    scoring = replace(found.scoring, weight=weight, temperature=temperature or found.scoring.temperature)
    pairs = zip(found.log_next, found.worth)
    return [scoring.score(scoring.next(logits_of(found, own)), torch.tensor(worth)).numpy() for own, worth in pairs]


def logits_of(found: Answers, log_next: np.ndarray) -> Tensor:
    """[n] retrieval's scores of the candidates of an answer, but for a constant, from their log_next [n]"""
    return torch.from_numpy(log_next * found.scoring.temperature)


def list_metrics(found: Answers, scores: Sequence[np.ndarray] | None) -> Row:
    """Of the lists by these scores; None: by popularity, whose lists are not kept."""
    place = found.popular if scores is None else ranks(found, scores)
    row: Row = {
        f"hr@{CUTOFF}": hit_rate(place, CUTOFF),
        f"ndcg@{CUTOFF}": ndcg(place, CUTOFF),
        f"liked_hr@{CUTOFF}": hit_rate(place[found.liked], CUTOFF) if found.liked.any() else None,
        f"liked_ndcg@{CUTOFF}": ndcg(place[found.liked], CUTOFF) if found.liked.any() else None,
    }
    if scores is not None:
        lists = [np.argsort(-own, kind="stable")[:CUTOFF] for own in scores]
        shown = np.unique(np.concatenate([items[best] for items, best in zip(found.items, lists)]))
        row[f"coverage@{CUTOFF}"] = len(shown) / found.catalogue
        row["mean_worth"] = float(np.mean([worth[best].mean() for worth, best in zip(found.worth, lists) if len(best)]))
    return row


def report(found: Answers) -> Row:
    """The default list, and beside it retrieval alone, the ranker alone and popularity."""
    default = final_scores(found, found.scoring.weight)
    ours, alone = ranks(found, default), ranks(found, found.log_next)
    return {
        "requests": len(found.targets),
        "users": len(np.unique(found.users)),
        "liked": int(found.liked.sum()),
        "weight": found.scoring.weight,
        "temperature": found.scoring.temperature,
        "default": list_metrics(found, default),
        "retrieval": list_metrics(found, found.log_next),
        "ranker": list_metrics(found, found.worth),
        "popularity": list_metrics(found, None),
        "hr_above_retrieval": difference(found.users, ours, alone),
        "liked_hr_above_retrieval": difference(found.users[found.liked], ours[found.liked], alone[found.liked]),
        "hr_above_popularity": difference(found.users, ours, found.popular),
        "liked_hr_above_popularity": difference(
            found.users[found.liked], ours[found.liked], found.popular[found.liked]
        ),
    }


def difference(users: np.ndarray, these: np.ndarray, those: np.ndarray) -> Row:
    """By how much HR@10 of some ranks [N] is above that of others, with a 95 % interval over users [N], who are independent."""
    if not len(users):
        return {"mean": None, "low": None, "high": None}
    better = (these <= CUTOFF).astype(float) - (those <= CUTOFF)
    mean = float(better.mean())
    of_user = np.bincount(np.unique(users, return_inverse=True)[1], better - mean)
    half = 1.96 * float(np.sqrt((of_user**2).sum())) / len(users)
    return {"mean": mean, "low": mean - half, "high": mean + half}
