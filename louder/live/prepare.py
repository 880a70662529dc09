"""What a live demo begins with: a world that was watched for a day, the table of what was done, and a model that learnt from it."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from louder.data.config import DataConfig
from louder.data.world import CLICK, HOUR, LIKED, World, WorldSettings
from louder.data.world_log import items_of, play
from louder.etl import LogSpec, SideFile, build_table
from louder.models import HSTUConfig
from louder.schema import ITEM, TIME, USER
from louder.training.config import Config, TrainingConfig
from louder.training.loop import train

WATCHED = 48  # hours before the demo
EPOCHS = 12


def recipe(table: Path) -> Config:
    """A small HSTU that foretells the next click."""
    return Config(
        name="live",
        data=DataConfig(table=str(table), max_len=64, users_per_batch=32, positive=(CLICK,)),
        model=HSTUConfig(max_len=64, width=48, qk_width=24, v_width=24, heads=2),
        training=TrainingConfig(epochs=EPOCHS, patience=3, device="cpu"),
    )


def watched_world(settings: WorldSettings, hours: int, folder: Path, tell: Callable[[int], None]) -> World:
    """A world after WATCHED hours, and folder/table of what was done in them. The table has the items that will be launched in the
    `hours` to come, too: a model has a place for each, which knows nothing yet."""
    world, ahead = World(settings), World(settings)
    _, events, _, _ = play(world, WATCHED, tell=tell, measure=False)
    ahead.step(world.now + hours * HOUR)
    log: dict[str, list[int]] = {USER: [], ITEM: [], TIME: [], CLICK: [], LIKED: []}
    for event in events:
        row = int(event.user), int(event.item), event.time, *(int(name in event.actions) for name in (CLICK, LIKED))
        for column, value in zip(log.values(), row):
            column.append(value)
    items = folder / "items.parquet"
    pq.write_table(items_of(ahead).select([ITEM, "title", "topic"]), items)
    spec = LogSpec(actions={CLICK: CLICK, LIKED: LIKED}, items=SideFile(file=str(items)))
    build_table(pa.table(log), folder / "table", spec=spec, name="a world of its own")
    return world


def prepare(settings: WorldSettings, hours: int, folder: Path, tell: Callable[[int], None]) -> World:
    """folder/table and folder/frozen, the run. Raises InputError where the folder is taken."""
    world = watched_world(settings, hours, folder, tell)
    train(recipe(folder / "table"), folder / "frozen")
    return world
