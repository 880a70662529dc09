"""Next item: what the loop needs to train and to measure a retrieval model on a table."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from louder.batch import RetrievalBatch
from louder.data.retrieval import RetrievalLoader
from louder.data.table import Table
from louder.errors import InputError
from louder.evaluation.retrieval import Evaluation, evaluate, model_scorer, popularity_scorer
from louder.inference.run import Run
from louder.models import MoL, SequentialModel, Vocabulary, build
from louder.results import Row
from louder.training.config import Config
from louder.training.losses import RetrievalLoss, mol_loss
from louder.training.task import OnBatch, Score, dropout_off


def vocabulary(table: Table, config: Config) -> Vocabulary:
    """The sizes of the model's tables."""
    data, manifest = config.data, table.manifest
    return Vocabulary(
        items=manifest.items,
        actions=len(manifest.actions) if data.actions else 0,
        series=tuple(manifest.series.values()) if data.auxiliary else (),
    )


def part_loader(table: Table, config: Config, part: str) -> RetrievalLoader:
    """Batches of "train", "validation" or "test". Raises InputError if nobody is in that part."""
    loader = RetrievalLoader(table, part, config.data, held_out=config.held_out, seed=config.training.seed)
    if not len(loader):
        raise InputError(
            f"Nobody in {table.path} has enough events for the {part} part under protocol {config.protocol!r}: "
            f"a user needs at least {config.held_out + 2 if part == 'train' else 2}. "
            "Use a larger log, or another split: --set data.split.kind=users."
        )
    if part != "train" and config.evaluation.users is not None:
        loader.thin(config.evaluation.users)
    return loader


def popularity(table: Table, loader: RetrievalLoader) -> np.ndarray:
    """[I] int64: how often each item occurs in the training spans. Nothing held out is counted."""
    return np.bincount(table.ids[training_rows(table, loader)], minlength=table.items)


def training_rows(table: Table, loader: RetrievalLoader) -> np.ndarray:
    """Rows of the targets within the spans of the training part, ascending; the first of a history is among them."""
    inside = np.zeros(len(table.ids) + 1, dtype=np.int64)
    np.add.at(inside, loader.spans.starts, 1)
    np.add.at(inside, loader.spans.lasts + 1, -1)
    return np.flatnonzero((np.cumsum(inside)[:-1] > 0) & loader.positive)


class RetrievalTask:
    """See task.py."""

    def __init__(self, config: Config, table: Table) -> None:
        self.config, self.table = config, table
        self.vocabulary = vocabulary(table, config)
        self.loader = part_loader(table, config, "train")
        part_loader(table, config, config.selection_part)  # fails now rather than after an epoch
        self.counts = popularity(table, self.loader)
        self.losses = RetrievalLoss(config.loss, torch.from_numpy(self.counts).double())

    def build(self) -> SequentialModel:
        return build(self.config.model, self.vocabulary, self.config.mol)

    def load(self, run: Run) -> SequentialModel:
        model = run.sequential()
        run.require_table(self.table.path)
        return model

    def loss(self, model: SequentialModel, batch: RetrievalBatch, device: torch.device) -> Tensor:
        return batch_loss(model, self.losses, batch, device)

    def evaluate(self, model: SequentialModel, part: str, device: torch.device) -> Score:
        metrics = evaluate_part(model, self.table, self.config, part, device).metrics()
        headline = f"HR@10 {metrics['hr@10']:.4f}  NDCG@10 {metrics['ndcg@10']:.4f}"
        return Score(metrics, metrics[self.config.evaluation.select], headline)

    def report(self, model: SequentialModel, part: str, device: torch.device, on_batch: OnBatch | None = None) -> Row:
        """Every metric, also by length of the history, by the gap to the target and under both filters of seen items, and
        those of what is most popular."""
        beside = () if self.config.evaluation.seen == "none" else ("window", "history")
        result = evaluate_part(model, self.table, self.config, part, device, on_batch, beside=beside)
        loader, seen = part_loader(self.table, self.config, part), self.config.evaluation.seen
        popular = evaluate(popularity_scorer(self.counts), loader, seen=seen)
        return {
            "seen_items_left_out": seen,
            "query_time": self.config.data.query_time,
            **result.report(),
            "popularity": popular.metrics(),
        }


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
    on_batch: OnBatch | None = None,
    *,
    beside: Sequence[str] = (),
) -> Evaluation:
    """Rank the targets of "validation" or "test" with the model as it is (dropout off)."""
    loader, seen = part_loader(table, config, part), config.evaluation.seen
    with dropout_off(model):
        return evaluate(model_scorer(model, device), loader, seen=seen, beside=beside, on_batch=on_batch)
