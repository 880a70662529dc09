"""Which task a config is for, and how good a run of it is."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from louder.config import from_dict
from louder.errors import InputError
from louder.inference.run import Run
from louder.results import Row
from louder.training import ranking, retrieval
from louder.training.config import Config
from louder.training.task import OnBatch, open_config_table
from louder.training.two_stages import REQUESTS, answer_report

Task = ranking.RankingTask | retrieval.RetrievalTask


def open_task(config: Config) -> Task:
    """The task with the table that the config names. Raises InputError where they do not fit."""
    if config.ranking is not None:
        return ranking.RankingTask(config, ranking.open_ranking_table(config))
    return retrieval.RetrievalTask(config, open_config_table(config))


def evaluate_run(
    run: Path,
    *,
    part: str = "test",
    table: str | None = None,
    seen: str | None = None,
    ranker: Path | None = None,
    sources: Sequence[str] = (),
    requests: int = REQUESTS,
    on_batch: OnBatch | None = None,
) -> Row:
    """Measure the best checkpoint of a run. The result says which protocol chose the epoch.

    part    "test" or "validation"
    table   another folder than that of the run; it needs the same items, and what else the model learnt of
    seen    in place of evaluation.seen; of a ranking run it is of the next item alone
    ranker  a ranking run beside it, as the service has one: then the answer of both together is measured, too
    sources  of candidates besides the run's retrieval, see louder.inference.sources
    requests at most so many for the answer of two stages
    raises  InputError: no such run, a damaged one, another table, or a part that its protocol does not keep
    """
    opened = Run.open(run)
    config = from_dict(Config, opened.config)
    if part == "validation" and config.protocol == "official":
        raise InputError(
            f"{run} was trained under protocol 'official', which keeps no validation part. Use --part test."
        )
    if table:
        config = replace(config, data=replace(config.data, table=table))
    if seen:
        config = replace(config, evaluation=replace(config.evaluation, seen=seen))
    task = open_task(config)
    model: Any = task.load(opened)
    measured = {
        "run": config.name,
        "protocol": config.protocol,
        "part": part,
        "seed": config.training.seed,
        "epoch": opened.epoch,
        "items": task.table.items,
        **task.report(model, part, torch.device("cpu"), on_batch),
    }
    if ranker is not None or config.two_stages:
        measured["answer"] = answer_report(
            run, part, table=table, seen=seen, ranker=ranker, sources=sources, requests=requests
        )
    return measured
