"""What is done with an item: what the loop needs to train and to measure a ranker on a table."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from louder.batch import RankingBatch
from louder.data.attributes import Attribute, Column, Vectors, encode, vectors
from louder.data.counters import count
from louder.data.item_counts import item_counters
from louder.data.ranking import RankingLoader
from louder.data.table import Table, read_attributes
from louder.data.window import log1p
from louder.errors import InputError
from louder.evaluation.ranking import evaluate, next_item_ranks
from louder.evaluation.retrieval_metrics import retrieval_metrics
from louder.inference.run import Run
from louder.models import AnyRanker, ImpressionConfig, RankingConfig, RankingModel, Vocabulary, build_ranker
from louder.models.flops import flops
from louder.models.ranking import Tokens
from louder.results import Row
from louder.training.config import Config
from louder.training.losses import RetrievalLoss
from louder.training.task import OnBatch, Score, dropout_off, open_config_table

if TYPE_CHECKING:
    import pyarrow as pa

C = TypeVar("C", Attribute, Vectors)


def open_ranking_table(config: Config) -> Table:
    """The table a config names, with what ranking reads. Raises InputError if it lacks what the config asks for."""
    assert config.ranking is not None
    table = open_config_table(config)
    if not table.manifest.actions:
        raise InputError(
            f"{table.path} has no actions, so there is nothing to rank by. Make it with some: "
            "louder etl LOG --action 'like=rating >= 4'."
        )
    if config.ranking.main and config.ranking.main not in table.manifest.actions:
        raise InputError(
            f"ranking.main is {config.ranking.main!r}, but the actions are {', '.join(table.manifest.actions)}."
        )
    for name in config.ranking.next_item_by:
        if name not in table.manifest.actions:
            have = ", ".join(table.manifest.actions)
            raise InputError(f"ranking.next_item_by names {name!r}, but the actions are {have}.")
    for name in config.ranking.log_values:
        if name not in table.values:
            have = ", ".join(table.values) or "none"
            raise InputError(f"ranking.log_values names {name!r}, but the values are: {have}.")
        table.values[name] = log1p(table.values[name])
    return table


class RankingTask:
    """See task.py."""

    def __init__(self, config: Config, table: Table) -> None:
        assert config.ranking is not None
        self.config, self.ranking, self.table = config, config.ranking, table
        about_items, about_users = (read_attributes(table.path, name) for name in ("items", "users"))
        categories = read(encode, about_items, self.ranking.item_attributes, "ranking.item_attributes", "items")
        self.items: list[Column] = [
            *categories,
            *read(vectors, about_items, self.ranking.item_vectors, "ranking.item_vectors", "items"),
        ]
        self.context = read(encode, about_users, self.ranking.context, "ranking.context", "users")
        self.counters = None
        self.one_pass = self.ranking.one_pass and not isinstance(config.model, ImpressionConfig)
        if isinstance(config.model, ImpressionConfig):
            self.counters = count(table, categories).values
        elif self.ranking.item_counters:
            self.counters = item_counters(table)
        manifest = table.manifest
        self.vocabulary = Vocabulary(
            items=manifest.items,
            users=manifest.users,
            actions=len(manifest.actions),
            values=len(manifest.values),
            series=tuple(manifest.series.values()) if config.data.auxiliary else (),
            context=tuple(attribute.size for attribute in self.context),
            counters=0 if self.counters is None else self.counters.shape[1],
        )
        self.loader = self.part("train")
        self.parts = {part: self.part(part) for part in {config.selection_part, "test"}}
        self.retrieval = None
        if self.ranking.next_item:
            counts = np.bincount(table.ids[self.loader.is_target], minlength=table.items)
            self.retrieval = RetrievalLoss(config.loss, torch.from_numpy(counts).double())

    def part(self, part: str) -> RankingLoader:
        """Raises InputError if nobody is in that part."""
        loader = RankingLoader(
            self.table,
            part,
            self.config.data,
            held_out=self.config.held_out,
            one_pass=self.one_pass,
            seed=self.config.training.seed,
            context=self.context,
            counters=self.counters,
            next_by=self.ranking.next_item_by,
        )
        if not len(loader):
            raise InputError(
                f"{self.table.path} has no exposures in the {part} part under protocol {self.config.protocol!r}. "
                "Use a larger log, or another split: --set data.split.kind=leave_last_out."
            )
        return loader

    def build(self) -> AnyRanker:
        model = build_ranker(self.config.model, self.ranking, self.vocabulary, self.items)
        if self.vocabulary.values:
            columns = [self.table.values[name][self.loader.is_target] for name in self.table.manifest.values]
            model.set_value_scale(
                torch.tensor([np.nanmean(x) for x in columns]).float(),
                torch.tensor([max(float(np.nanstd(x)), 1e-6) for x in columns]).float(),
            )
        return model

    def load(self, run: Run) -> AnyRanker:
        model = run.ranker()
        run.require_table(self.table.path)
        here, there = ([attribute.labels for attribute in x.context] for x in (self, run))
        if here != there or self.vocabulary.counters != run.vocabulary.counters:
            raise InputError(
                f"{self.table.path} does not have the attributes of users that {run.path} was trained on. "
                "Use the table it was trained on, or train on this one: louder train RECIPE."
            )
        return model

    def loss(self, model: AnyRanker, batch: RankingBatch, device: torch.device) -> Tensor:
        return batch_loss(model, self.ranking, self.retrieval, batch, device)

    def evaluate(self, model: AnyRanker, part: str, device: torch.device) -> Score:
        report = self.measure(model, part, device)
        metrics, main = flat(report), self.main
        selected = report["actions"][main][self.config.evaluation.select]
        if selected is None:
            raise InputError(
                f"The {part} part has no {self.config.evaluation.select} of {main!r}: all its labels are alike. "
                "Choose another action: --set ranking.main=NAME."
            )
        down = self.config.evaluation.select in ("ne", "log_loss")
        headline = f"{main}: NE {metrics[f'{main}.ne']:.4f}  AUC {metrics[f'{main}.auc']:.4f}"
        return Score(metrics, -selected if down else selected, headline)

    @property
    def main(self) -> str:
        """The action that chooses the epoch."""
        return self.ranking.main or self.table.manifest.actions[0]

    def report(self, model: AnyRanker, part: str, device: torch.device, on_batch: OnBatch | None = None) -> Row:
        """Every metric of every action and value, and what a prediction of the part's first batch costs."""
        batch = next(self.parts[part].batches())
        found = self.measure(model, part, device, on_batch)
        for action in self.ranking.next_item_by:
            with dropout_off(model):
                by_any = self.next_by(model, self.parts[part], device, action, "")
            found["next_item_by"][action]["by_any"] = by_any
        return {
            "task": "ranking",
            "main": self.main,
            "parameters": sum(x.numel() for x in model.parameters()),
            "flops_per_exposure": flops(model, batch) / len(batch.target_positions),
            **found,
        }

    def next_by(
        self, model: AnyRanker, loader: RankingLoader, device: torch.device, action: str, query: str | None = None
    ) -> Row:
        """Metrics of the next item that an action happens with, by the action's query or by that for another; "" any next."""
        assert isinstance(model, RankingModel)
        seen = self.config.evaluation.seen
        ranks = next_item_ranks(model, loader, device, seen=seen, action=action, query=query)
        return {"targets": len(ranks)} | retrieval_metrics(ranks) if len(ranks) else {"targets": 0}

    def measure(self, model: AnyRanker, part: str, device: torch.device, on_batch: OnBatch | None = None) -> Row:
        """Every metric of every action and value; of a joint model those of the next item, too."""
        names = [f"log {name}" if name in self.ranking.log_values else name for name in self.table.manifest.values]
        loader = self.parts[part]
        with dropout_off(model):
            report = evaluate(model, loader, self.table.manifest.actions, names, device, on_batch)
            if self.ranking.next_item:
                assert isinstance(model, RankingModel)
                ranks = next_item_ranks(model, loader, device, seen=self.config.evaluation.seen)
                report["next_item"] = {"targets": len(ranks)} | retrieval_metrics(ranks)
            for action in self.ranking.next_item_by:
                report.setdefault("next_item_by", {})[action] = self.next_by(model, loader, device, action)
        return report


def next_item_loss(
    model: RankingModel, retrieval: RetrievalLoss, tokens: Tokens, states: Tensor, targets: Tensor, action: str = ""
) -> Tensor:
    """Of the events that have a target [L]; 0 where none has."""
    (rows,) = torch.where(targets >= 0)
    if not len(rows):
        return states.sum() * 0.0
    return retrieval.of(model, model.next_item_states(states, tokens.actions[rows], action), targets[rows])


def batch_loss(
    model: AnyRanker, ranking: RankingConfig, retrieval: RetrievalLoss | None, batch: RankingBatch, device: torch.device
) -> Tensor:
    """Log-loss of the actions, summed over them; squared error of the values, on their scale; and of a joint model the next
    item's loss, by `retrieval`. Each is a mean over its targets."""
    batch = batch.to(device)
    if not isinstance(model, RankingModel):
        return action_loss(model, ranking, model(batch), batch)
    tokens = model.tokens(batch.sequences)
    states = model.states(tokens)
    loss = action_loss(model, ranking, model.exposed(tokens, states, batch), batch)
    if retrieval is not None and (batch.next_items >= 0).any():
        with torch.autocast(device.type, enabled=False):
            after = states.float()
            loss = loss + ranking.next_item * next_item_loss(model, retrieval, tokens, after, batch.next_items)
    if retrieval is not None and batch.next_items_by is not None:
        with torch.autocast(device.type, enabled=False):
            for action, targets in zip(ranking.next_item_by, batch.next_items_by):
                of_action = next_item_loss(model, retrieval, tokens, states.float(), targets, action)
                loss = loss + ranking.next_item * of_action
    return loss


def action_loss(
    model: AnyRanker, ranking: RankingConfig, predicted: tuple[Tensor, Tensor], batch: RankingBatch
) -> Tensor:
    logits, values = predicted
    if not len(batch.target_positions):
        return logits.sum() * 0.0
    loss = F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none").sum(1).mean()
    if values.shape[1] and ranking.value_weight:
        error = ((values - batch.value_targets) / model.value_scale).nan_to_num(0.0)
        loss = loss + ranking.value_weight * error.square().sum(1).mean()
    return loss


def read(
    function: Callable[..., list[C]], table: "pa.Table | None", names: tuple[str, ...], setting: str, what: str
) -> list[C]:
    """The columns that a setting names, by `encode` or `vectors`."""
    if not names:
        return []
    if table is None:
        raise InputError(
            f"{setting} names {', '.join(names)}, but the table came without attributes of {what}. "
            f"Leave them out (--set {setting}=[]), or make the table with them: louder etl LOG --{what} FILE."
        )
    try:
        return function(table, names)
    except InputError as error:
        raise InputError(f"{setting} is [{', '.join(names)}]. {error}") from error


def flat(report: Row) -> dict[str, float]:
    """ACTION.METRIC, VALUE.METRIC and next_item.METRIC as one level, without those that are not defined."""
    groups = {**report["actions"], **report["values"], "next_item": report.get("next_item", {})}
    groups |= {f"next_item.{action}": metrics for action, metrics in report.get("next_item_by", {}).items()}
    return {
        f"{name}.{metric}": float(value)
        for name, metrics in groups.items()
        for metric, value in metrics.items()
        if value is not None
    }
