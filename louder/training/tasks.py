"""Which task a config is for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from louder import checkpoint
from louder.config import from_dict
from louder.training import ranking, retrieval
from louder.training.config import Config
from louder.training.task import Task


def open_task(config: Config) -> Task:
    """The task with the table that the config names. Raises InputError where they do not fit."""
    if config.ranking is not None:
        return ranking.RankingTask(config, ranking.open_ranking_table(config))
    return retrieval.RetrievalTask(config, retrieval.open_config_table(config))


def evaluate_run(
    run: Path,
    *,
    part: str = "test",
    table: str | None = None,
    seen: str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Measure the best checkpoint of a run. The result says which protocol chose the epoch."""
    state = checkpoint.load_state(checkpoint.best(run))
    if from_dict(Config, state["config"]).ranking is not None:
        return ranking.evaluate_run(run, part=part, table=table, seen=seen, on_batch=on_batch)
    return retrieval.evaluate_run(run, part=part, table=table, seen=seen, on_batch=on_batch)
