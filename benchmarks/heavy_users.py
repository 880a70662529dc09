"""What users get who did more than the store keeps: how much of it they had already, how far scores are from those of their
whole history, and how often the cache holds.

python -m benchmarks.heavy_users runs/ml1m-rank-hstu --table tables/ml-1m

Of a joint run, whose table says what the users did. New events are of items that they had before, one after each request.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from louder.data.histories import histories, names_of
from louder.data.table import Table
from louder.histories import Arrival, History, HistoryStore, open_store
from louder.ids import RawId
from louder.inference.engine import Engine
from louder.inference.request import Request, TableUser
from louder.results import Row, append_row, provenance

K, CANDIDATES, REQUESTS = 20, 100, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--keep", type=int, default=1_000)
    parser.add_argument("--users", type=int, default=5, help="the heaviest ones")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/serving.jsonl"))
    options = parser.parse_args()
    engine = Engine(options.run, table=options.table)
    events, _ = engine.table.engagements()
    heaviest = np.argsort(-np.diff(events.offsets), kind="stable")[: options.users]
    lengths = np.diff(events.offsets)[heaviest].tolist()
    users = engine.table.user_ids.raws(heaviest)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"{folder}/store", names=names_of(events), keep=options.keep)
        store.fill((user, history) for user, history in histories(events, options.keep) if user in users)
        found = [measured(engine, events, store, user) for user in users]
        store.close()
    sums: Row = {name: round(max(x[name] for x in found), 6) for name in ("score_off", "most_had_already")}
    sums |= {name: sum(x[name] for x in found) for name in ("had_already", "answered", "misses", "requests")}
    row = {"bench": "heavy_users", "case": f"the {len(users)} heaviest users, {lengths[-1]:,} to {lengths[0]:,} events"}
    row |= {"implementation": f"keep {options.keep:,}", **sums, **provenance()}
    append_row(options.json, row)
    print(row)


def measured(engine: Engine, events: Table, store: HistoryStore, user: RawId) -> dict[str, float]:
    number = events.user_ids.id(user)
    own = events.of_user(number)
    at, items = int(own.times[-1]) + 60, events.item_ids.raws(own.ids)
    answer = engine.twin().recommend(Request(history=store.history(user), user=user, at=at, k=K))
    had = int(np.isin(answer.items, own.ids).sum())
    candidates = events.item_ids.raws(range(CANDIDATES))
    kept, whole = (
        engine.twin().recommend(ranking(history, user, at, candidates)).scores
        for history in (store.history(user), TableUser(events, number))
    )
    cache = engine.caches[0]
    before = cache.misses
    for n in range(REQUESTS):
        engine.recommend(ranking(store.history(user), user, at, candidates))
        store.append([Arrival(user, str(n), items[n], at - 60 + n, ("like",))])
    return {
        "had_already": had,
        "most_had_already": had,
        "answered": len(answer.items),
        "score_off": float(np.abs(kept - whole).max()),
        "misses": cache.misses - before - 1,  # the first one finds nothing
        "requests": REQUESTS - 1,
    }


def ranking(history: History | TableUser, user: RawId, at: int, candidates: Sequence[RawId]) -> Request:
    return Request(history=history, user=user, at=at, candidates=candidates, k=len(candidates))


if __name__ == "__main__":
    main()
