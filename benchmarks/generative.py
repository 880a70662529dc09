"""Generative training beside impression-level training of the same ranker ("Actions Speak Louder than Words", section
2.3): all exposures of a history in one pass, or a pass for each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import histories
from benchmarks.measure import Case
from benchmarks.request import ACTIONS, ITEMS
from benchmarks.step import stepper
from louder import recipes
from louder.batch import RankingBatch
from louder.data.config import DataConfig
from louder.data.table import Table
from louder.data.targets import SplitConfig
from louder.models import HSTUConfig
from louder.results import Row
from louder.schema import Manifest
from louder.training.config import Config
from louder.training.ranking import RankingTask
from louder.version import __version__

LABELS = 4000  # of a generative step
SAMPLED_TOKENS = 16_000  # of an impression-level step, about
QUICK: Row = {"exposures": [50, 200], "labels": LABELS, "sampled_tokens": SAMPLED_TOKENS}
FULL = QUICK | {"exposures": [200, 1000]}
BARE: Row = {"context": (), "item_attributes": (), "item_vectors": (), "id_dropout": 0.0, "next_item": 0.0}


def cases(
    exposures: Sequence[int], *, labels: int, sampled_tokens: int, device: torch.device, memory: float
) -> Iterator[Case]:
    """Users with so many exposures each, and the ranker of ml1m:rank_hstu without attributes and next item. A step is
    forward, loss, backward and optimizer.

    louder                all exposures of some users, each user in one pass
    one pass an exposure  of the same users, each exposure in a pass of its own over what was before it: measured on a
                          sample, evenly from the first exposure to the last, and the time multiplied
    """
    for count in exposures:
        users = max(1, labels // count)
        generative = task_of(count, users, one_pass=True)
        single = task_of(count, users, one_pass=False)
        sample = evenly(len(single.loader), max(1, sampled_tokens // count))
        every = generative.loader.batch(np.arange(users))
        some = single.loader.batch(sample)
        config = generative.config.model
        assert isinstance(config, HSTUConfig)
        labels_of_all, labels_of_some = len(every.target_positions), len(some.target_positions)
        shape = {"exposures": count, "users": users, "labels": labels_of_all, "max_len": count, "dtype": "float32"}
        shape |= {"layers": config.layers, "width": config.width}
        case = Case(f"{count:,} exposures a user", shape, memory, unit="labels")
        case.add("louder", steps(generative, every, device), tokens=2 * len(every.sequences.ids))
        facts = {"measured_labels": labels_of_some, "tokens": 2 * len(some.sequences.ids)}
        run = steps(single, some, device)
        case.add("one pass an exposure", run, share=labels_of_some / labels_of_all, **facts)
        yield case


def evenly(count: int, wanted: int) -> np.ndarray:
    """The middles of equal parts of 0 .. count."""
    return ((np.arange(wanted) + 0.5) * count / wanted).astype(np.int64)


def task_of(exposures: int, users: int, *, one_pass: bool) -> RankingTask:
    recipe = recipes.load("ml1m:rank_hstu")
    assert recipe.ranking is not None
    assert isinstance(recipe.model, HSTUConfig)
    config = Config(
        name="bench-generative",
        data=DataConfig(max_len=exposures, split=SplitConfig(kind="users", test_users=1e-9), shuffle=False),
        model=replace(recipe.model, max_len=2 * exposures + 1),
        ranking=replace(recipe.ranking, **BARE, one_pass=one_pass),
        training=recipe.training,
        evaluation=recipe.evaluation,
    )
    return RankingTask(config, table_of(exposures, users + 2))  # one is for validation and one for the test


def table_of(exposures: int, users: int) -> Table:
    """A table in memory, of users with so many exposures each."""
    batch = histories.histories([exposures] * users, items=ITEMS)
    times = batch.timestamps.numpy()
    made: Row = {"louder": __version__, "command": "", "name": "bench", "sources": [], "dropped": {}, "filters": {}}
    counts: Row = {"users": users, "items": ITEMS, "events": len(times), "tokens": len(times)}
    span: Row = {"has_times": True, "first_time": int(times[0]), "last_time": int(times[-1])}
    actions = [f"action {number}" for number in range(ACTIONS)]
    manifest = Manifest(**made, **counts, **span, actions=actions, values=["value"])
    draw = np.random.default_rng(0)
    return Table(
        path=Path("memory"),
        manifest=manifest,
        offsets=batch.offsets.numpy(),
        kinds=np.zeros(len(times), dtype=np.uint8),
        ids=batch.ids.numpy(),
        times=times,
        actions=draw.integers(0, 1 << ACTIONS, len(times)),
        values={"value": draw.standard_normal(len(times)).astype(np.float32)},
    )


def steps(task: RankingTask, batch: RankingBatch, device: torch.device) -> Callable[[], float]:
    torch.manual_seed(task.config.training.seed)
    return stepper(task.build().train(), task.loss, [batch], task.config, device)
