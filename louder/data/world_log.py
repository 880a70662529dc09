"""What a world's people did while half of each list was popular and half was any: a log to begin with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from louder.data.synthetic import require, write_log
from louder.data.world import CLICK, HOUR, LIKED, TOPICS, Impression, World, examined
from louder.folders import FolderKind, new_folder, write_text
from louder.histories import Arrival
from louder.schema import ITEM, REQUEST, TIME, USER

SHOWN = 10  # items of a list
STEP_S = 600
FILES = "log.parquet", "shown.parquet", "items.parquet", "log.yaml"
WORLD_FOLDER = FolderKind("a synthetic world", "shown.yaml", "click", FILES)
SCHEMA: Mapping[str, Mapping[str, str]] = {
    "actions": {CLICK: CLICK, LIKED: LIKED},
    "items": {"file": "items.parquet"},
}


@dataclass(frozen=True)
class WorldLog:
    """events  user_id, item_id, timestamp, request_id, click, like: what was done, an action a row
    shown   the same for each item that was shown, with its position, and the true probability of a click there
    items   item_id, title, topic, and the second of the launch
    earned  expected clicks of a list, on average: of the lists that were shown, and of what they could have been
    """

    events: pa.Table
    shown: pa.Table
    items: pa.Table
    earned: dict[str, float]


def mixed(world: World, user: int) -> list[int]:
    """Half popular, half any, in turns."""
    pairs = zip(world.popular(user, SHOWN), world.random(user, SHOWN))
    return list(dict.fromkeys(item for pair in pairs for item in pair))[:SHOWN]


def play(
    world: World,
    hours: int,
    lists: Callable[[World, int], list[int]] = mixed,
    tell: Callable[[int], None] = lambda n: None,
    *,
    measure: bool = True,
) -> tuple[list[Impression], list[Arrival], list[np.ndarray], dict[str, float]]:
    """Let a world go on for some hours -> what was shown, what was done, the probability of each click [items], and what lists
    earned: those that were shown and, with `measure`, the others that could have been. `tell` is called with the hours that have
    passed since it was called last."""
    require(hours >= 1, "hours", hours, "at least 1")
    impressions, events, chances, looks = list[Impression](), list[Arrival](), list[np.ndarray](), examined(SHOWN)
    earned: dict[str, list[float]] = {"shown": [], "oracle": [], "popular": [], "random": []}
    end = world.now + hours * HOUR
    while world.now < end:
        new: list[Impression] = []
        for time, user in world.visitors(world.now + STEP_S):
            items, wanted = lists(world, user), world.probabilities(user)
            new.append(Impression(str(len(impressions) + len(new) + 1), user, time, tuple(items)))
            chances.append(wanted[np.array(items) - 1] * looks[: len(items)])
            alternatives = ("oracle", "popular", "random") if measure else ()
            others = {name: getattr(World, name)(world, user, SHOWN) for name in alternatives}
            for name, some in ({"shown": items} | others).items():
                earned[name].append(float(wanted[np.array(some) - 1] @ looks[: len(some)]))
        events += world.step(world.now + STEP_S, new)
        impressions += new
        if (world.now - world.start) % HOUR == 0:
            tell(1)
    return impressions, events, chances, {name: float(np.mean(x)) if x else 0.0 for name, x in earned.items()}


def world_log(world: World, hours: int, tell: Callable[[int], None] = lambda n: None) -> WorldLog:
    impressions, events, chances, earned = play(world, hours, tell=tell)
    done = {(int(x.request or 0), x.item, x.actions[0]) for x in events}
    rows = [(x.user, item, x.time, int(x.request), place) for x in impressions for place, item in enumerate(x.items, 1)]
    columns = dict(zip((USER, ITEM, TIME, REQUEST, "position"), map(list, zip(*rows)))) if rows else {}
    for action in CLICK, LIKED:
        columns[action] = [int((request, item, action) in done) for _, item, _, request, _ in rows]
    columns["probability"] = np.concatenate(chances).tolist() if chances else []
    acted = [
        (x.user, x.item, x.time, int(x.request or 0), *(int(x.actions == (a,)) for a in (CLICK, LIKED))) for x in events
    ]
    log = dict(zip((USER, ITEM, TIME, REQUEST, CLICK, LIKED), map(list, zip(*acted))))
    return WorldLog(pa.table(log), pa.table(columns), items_of(world), earned)


def items_of(world: World) -> pa.Table:
    """What is known of the items that were launched so far."""
    numbers = np.arange(1, len(world.topic) + 1)
    titles, topics = [world.title(n) for n in numbers.tolist()], [TOPICS[n] for n in world.topic.tolist()]
    return pa.table({ITEM: numbers, "title": titles, "topic": topics, "launched": world.launched})


def write_world_log(
    log: WorldLog, folder: Path | str, *, made_by: Mapping[str, str | float] | None = None, overwrite: bool = False
) -> None:
    """Write log.parquet, shown.parquet, a schema file of each, and items.parquet.

    The folder appears when it is whole. Raises InputError if it exists, or if the disk is full.
    """
    import yaml

    with new_folder(folder, WORLD_FOLDER, overwrite=overwrite) as new:
        for name, table in ("log", log.events), ("shown", log.shown), ("items", log.items):
            write_log(table.to_batches(), new / f"{name}.parquet", made_by=made_by)
        for name in "log", "shown":
            write_text(new / f"{name}.yaml", yaml.safe_dump({**SCHEMA}, sort_keys=False))
