"""Next item: what the loop needs to train and to measure a retrieval model on a table."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from louder.config import from_dict
from louder.data.loader import Loader, RetrievalBatch
from louder.data.table import Table, open_table
from louder.data.targets import split
from louder.errors import InputError
from louder.evaluation.retrieval import Evaluation, evaluate, model_scorer, popularity_scorer
from louder.inference.loading import load_model
from louder.models import HSTUConfig, MoL, SequentialModel, Vocabulary, build
from louder.training.config import Config
from louder.training.losses import RetrievalLoss
from louder.training.mol import mol_loss
from louder.training.task import Score


def open_config_table(config: Config) -> Table:
    """The table a config names. Raises InputError if there is none, or if the config asks for what it lacks."""
    if not config.data.table:
        raise InputError("The config names no table. Say which: --table FOLDER. Make one: louder etl SOURCE -o FOLDER.")
    table = open_table(config.data.table)
    model = config.model
    if not table.manifest.has_times and isinstance(model, HSTUConfig) and model.time_bias:
        raise InputError(
            f"{table.path} has no times, so a bias by time has nothing to learn: --set model.time_bias=false."
        )
    if not table.manifest.has_times and config.data.split.kind == "time":
        raise InputError(f"{table.path} has no times to split by: --set data.split.kind=leave_last_out.")
    return table


def vocabulary(table: Table, config: Config) -> Vocabulary:
    """The sizes of the model's tables."""
    data, manifest = config.data, table.manifest
    return Vocabulary(
        items=manifest.items,
        actions=len(manifest.actions) if data.actions else 0,
        series=tuple(manifest.series.values()) if data.auxiliary else (),
    )


def part_loader(table: Table, config: Config, part: str) -> Loader:
    """Batches of "train", "validation" or "test". Raises InputError if nobody is in that part."""
    positive = table.action_mask(config.data.positive)
    spans = split(table, part, config.data.split, held_out=config.held_out, positive=positive)
    every_row = part == "train"
    loader = Loader(table, spans, config.data, every_row=every_row, seed=config.training.seed)
    if not len(loader.spans):
        raise InputError(
            f"Nobody in {table.path} has enough events for the {part} part under protocol {config.protocol!r}: "
            f"a user needs at least {config.held_out + 2 if part == 'train' else 2}. "
            "Use a larger log, or another split: --set data.split.kind=users."
        )
    return loader


def popularity(table: Table, loader: Loader) -> np.ndarray:
    """[I] int64: how often each item occurs in the training spans. Nothing held out is counted."""
    inside = np.zeros(len(table.ids) + 1, dtype=np.int64)
    np.add.at(inside, loader.spans.starts, 1)
    np.add.at(inside, loader.spans.lasts + 1, -1)
    rows = (np.cumsum(inside)[:-1] > 0) & loader.targets
    return np.bincount(table.ids[rows], minlength=table.items)


class RetrievalTask:
    """Next item, for the training loop (see task.py)."""

    def __init__(self, config: Config, table: Table) -> None:
        self.config, self.table = config, table
        self.vocabulary = vocabulary(table, config)
        self.loader = part_loader(table, config, "train")
        part_loader(table, config, config.selection_part)  # fails now rather than after an epoch
        self.losses = RetrievalLoss(config.loss, torch.from_numpy(popularity(table, self.loader)).double())

    def build(self) -> SequentialModel:
        return build(self.config.model, self.vocabulary, self.config.mol)

    def loss(self, model: SequentialModel, batch: RetrievalBatch, device: torch.device) -> Tensor:
        return batch_loss(model, self.losses, batch, device)

    def evaluate(
        self,
        model: SequentialModel,
        part: str,
        device: torch.device,
        on_batch: Callable[[int], None] | None = None,
    ) -> Score:
        metrics = evaluate_part(model, self.table, self.config, part, device, on_batch).metrics()
        headline = f"HR@10 {metrics['hr@10']:.4f}  NDCG@10 {metrics['ndcg@10']:.4f}"
        return Score(metrics, metrics[self.config.evaluation.select], headline)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # states [L, D], item vectors [I, D], targets [L]  ->  scalar


def batch_loss(model: SequentialModel, loss: Loss, batch: RetrievalBatch, device: torch.device) -> Tensor:
    """Mean loss of the rows that have a target; 0 where none has."""
    states_LD = model(batch.sequences.to(device))
    targets = batch.targets.to(device)
    (rows,) = torch.where(targets >= 0)
    if not len(rows):
        return states_LD.sum() * 0.0
    with torch.autocast(device.type, enabled=False):  # logits over a small temperature need all of float32's digits
        if isinstance(model.similarity, MoL):
            assert isinstance(loss, RetrievalLoss)
            users = batch.users.repeat_interleave(batch.sequences.lengths).to(device)
            return mol_loss(model, loss, states_LD[rows].float(), users[rows], targets[rows])
        if isinstance(loss, RetrievalLoss):
            return loss.of(model, states_LD[rows].float(), targets[rows])
        return loss(states_LD[rows].float(), model.item_vectors().float(), targets[rows])


def evaluate_part(
    model: SequentialModel,
    table: Table,
    config: Config,
    part: str,
    device: torch.device,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Rank the targets of "validation" or "test" with the model as it is (dropout off)."""
    loader = part_loader(table, config, part)
    training = model.training
    model.eval()
    result = evaluate(model_scorer(model, device), loader, seen=config.evaluation.seen, on_batch=on_batch)
    model.train(training)
    return result


def popularity_baseline(table: Table, config: Config, part: str = "test") -> Evaluation:
    """Recommend to everybody what is used most in training."""
    counts = popularity(table, part_loader(table, config, "train"))
    return evaluate(popularity_scorer(counts), part_loader(table, config, part), seen=config.evaluation.seen)


def evaluate_run(
    run: Path,
    *,
    part: str = "test",
    table: str | None = None,
    seen: str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate the best checkpoint of a run, beside popularity. The result says which protocol chose the epoch."""
    model, state, folder = load_model(run)
    config = from_dict(Config, state["config"])
    if table:
        config = replace(config, data=replace(config.data, table=table))
    if part == "validation" and config.protocol == "official":
        raise InputError(
            f"{run} was trained under protocol 'official', which keeps no validation part. Use --part test."
        )
    if seen:
        config = replace(config, evaluation=replace(config.evaluation, seen=seen))
    data = open_config_table(config)
    if data.items != model.vocabulary.items:
        raise InputError(
            f"{data.path} has {data.items} items, but {run} was trained on {model.vocabulary.items}. Train on this table: louder train RECIPE."
        )
    if config.mol is not None and config.mol.user_rows:
        from louder.ids import IdMap

        learnt = IdMap.read(folder / "vocabulary" / "user.parquet")
        if not learnt.raw.equals(data.user_ids.raw):
            raise InputError(
                f"{data.path} has other users than {run} was trained on, which has learnt a vector for each of its own: "
                f"--table {state['config']['data']['table']}."
            )
    result = evaluate_part(model, data, config, part, torch.device("cpu"), on_batch)
    baseline = popularity_baseline(data, config, part)
    return {
        "run": config.name,
        "protocol": config.protocol,
        "part": part,
        "seen_items_left_out": config.evaluation.seen,
        "query_time": config.data.query_time,
        "seed": config.training.seed,
        "epoch": state["progress"]["best_epoch"],
        "items": data.items,
        **result.report(),
        "popularity": baseline.metrics(),
    }
