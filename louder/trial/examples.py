"""A few users who were held out: what they did, what would have been recommended, why, and what they did next."""

from pathlib import Path

import numpy as np

from louder.data.table import Table
from louder.histories.history import Names
from louder.inference.recommender import Recommender
from louder.inference.request import Event, Request, history_of
from louder.results import Row
from louder.schema import ENGAGEMENT
from louder.trial.systems import Held

LATEST = 6  # events that are shown of each history
LISTED = 5
BECAUSE = 2  # events that are named for a recommendation
READ = 500  # latest events of a history


def examples(run: Path, table: Table, held: Held, ranks: np.ndarray, *, users: int = 4, seed: int = 0) -> list[Row]:
    """Drawn at random, so that misses are shown as often as there are: half of them with a hit in the first ten, if some are."""
    draw = np.random.default_rng(seed)
    hits, misses = (draw.permutation(np.flatnonzero(found)) for found in (ranks <= 10, ranks > 10))
    chosen = [*hits[: users // 2], *misses[: users - min(len(hits), users // 2)]]
    recommender = Recommender(run, table.path)
    return [one(recommender, table, held, int(at), float(ranks[at])) for at in chosen]


def one(recommender: Recommender, table: Table, held: Held, at: int, rank: float) -> Row:
    engine, row = recommender.engine, int(held.rows[at])
    first = int(table.offsets[held.users[at]])
    past = np.flatnonzero(table.kinds[first:row] == ENGAGEMENT)[-READ:] + first
    names = table.manifest.actions

    def acts(at: int) -> tuple[str, ...]:
        bits = int(table.actions[at]) if table.actions is not None else 0
        return tuple(name for bit, name in enumerate(names) if bits >> bit & 1 and name in engine.actions)

    events = [
        Event(item=raw, time=int(table.times[at]), actions=acts(at))
        for raw, at in zip(table.item_ids.raws(table.ids[past]), past.tolist())
    ]
    when = int(table.times[row]) if table.manifest.has_times else None
    request = Request(
        history=history_of(events, Names(engine.actions, engine.values)),
        at=when,
        k=LISTED,
        seen=recommender.engine.shows_seen(None),
    )
    answer = engine.recommend(request)
    reasons = engine.reasons(request, answer.items, BECAUSE)

    def name(item: int) -> str:
        raw, title = engine.catalogue.describe(item)
        return title or str(raw)

    def of_event(number: int) -> Row:
        return {"item": name(int(table.ids[past[number]])), "time": int(table.times[past[number]]) if when else None}

    listed = [
        {"item": name(item), "hit": item == int(held.targets[at]), "because": [of_event(x.row)["item"] for x in own]}
        for item, own in zip(answer.items.tolist(), reasons)
    ]
    return {
        "user": table.user_ids.raws([int(held.users[at])])[0],
        "events": len(past),
        "history": [of_event(number) for number in range(max(0, len(past) - LATEST), len(past))],
        "next": name(int(held.targets[at])),
        "time": when,
        "rank": rank,
        "recommended": listed,
    }
