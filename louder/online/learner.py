"""A model that learns from a stream: the batches of a window scored by it as it is, then trained on once."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from louder import checkpoint
from louder.batch import RankingBatch, RetrievalBatch
from louder.config import from_dict
from louder.errors import InputError
from louder.histories import Names
from louder.inference.run import Run
from louder.models import AnyRanker, ImpressionConfig, RankingModel, SequentialModel, Vocabulary
from louder.online.config import StreamConfig
from louder.online.items import PREFIX, Items
from louder.online.measure import Actions, NextItem, foretold, next_item_scores
from louder.online.sequences import Asked, Sequences
from louder.online.window import Window
from louder.results import Row
from louder.training import ranking, retrieval
from louder.training.average import LATEST, Average
from louder.training.config import Config
from louder.training.loop import choose_device
from louder.training.losses import RetrievalLoss
from louder.training.memory import keep_freed_memory
from louder.training.optimizers import (
    Optimizers,
    make_optimizers,
    moments,
    restore_moments,
    take_step,
)
from louder.training.task import dropout_off

TARGETS = "stream.targets"  # in a checkpoint beside the moments: how often each item was to be foretold


class Measured(NamedTuple):
    """A window that was foretold: the metrics as a row has them, and the probabilities [M, A] of each action."""

    row: Row
    probabilities: np.ndarray


class Learner:
    """Takes up the checkpoint of a run.

    step     optimizer steps of the stream
    task     what the model reads and is asked
    targets  [I] float64, how often each item was to be foretold: negatives by popularity are drawn by it
    items    that come and go; None where those of the run stay
    free     [I] bool, slots that nobody had when the latest window was foretold; None where there were none
    """

    def __init__(self, run: Run, settings: StreamConfig) -> None:
        self.run, self.config = run, from_dict(Config, run.config)
        require_streamable(self.config)
        keep_freed_memory()
        training = self.config.training
        self.device = choose_device(training.device)
        self.model: SequentialModel | AnyRanker = (
            run.sequential() if run.ranking is None else run.generative_ranker()
        ).to(self.device)
        tensors = checkpoint.load_tensors(run.folder, "optimizer")
        self.items: Items | None = None
        self.free: Tensor | None = None
        if settings.item_budget:
            self.items = Items(run, self.model, settings, tensors)
        self.optimizers = with_dense_rate(make_optimizers(self.model, training), self.model, settings.dense_rate)
        self.average = None if training.ema_decay is None else Average(self.model, training.ema_decay)
        self.targets = tensors.pop(TARGETS, torch.zeros(run.vocabulary.items, dtype=torch.float64))
        if self.average is not None and any(name.endswith(LATEST) for name in tensors):
            self.average.restore(tensors)
        own = {key: x for key, x in tensors.items() if not key.endswith(LATEST) and not key.startswith(PREFIX)}
        restore_moments(self.optimizers, self.model, own)
        self.step = int(checkpoint.load_state(run.folder)["progress"].get("step", 0))
        self.names = Names(run.actions, run.values)
        data = self.config.data
        self.task = Asked(
            reader=run.reader if self.items is None else replace(run.reader, reads_new=True),
            ranking=run.ranking is not None,
            next=run.retrieves,
            positive=sum(1 << run.actions.index(name) for name in data.positive),
        )

    def batches(self, window: Sequences) -> Iterator[tuple[np.ndarray, RetrievalBatch | RankingBatch]]:
        """The sequences of each batch, and the batch."""
        data = self.config.data
        numbers = torch.from_numpy(self.run.user_ids.ids(window.users)) if window.users else torch.zeros(0)
        for chosen in window.plan(data.users_per_batch, data.events_per_batch):
            users = numbers[torch.from_numpy(window.owners[chosen])]
            if self.task.ranking:
                yield chosen, window.ranking(chosen, users, len(self.run.actions), self.context(window, chosen))
            else:
                yield chosen, window.retrieval(chosen, users)

    def context(self, window: Sequences, chosen: np.ndarray) -> Tensor | None:
        """[B, C] codes of the users' attributes: those of the training, of a new user unknown"""
        codes = [self.run.context_of(window.users[owner], None) for owner in window.owners[chosen]]
        return torch.cat([own for own in codes if own is not None]) if codes and codes[0] is not None else None

    @torch.no_grad()
    def measure(self, window: Sequences, model: SequentialModel | AnyRanker | None = None) -> "Measured":
        """Metrics of the window by the model as it is, or by another with other weights, with intervals."""
        with nullcontext() if model is not None else self.kept_weights():
            if model is None:
                model, self.free = self.model, None if self.items is None else self.items.free()
            with dropout_off(model):
                next_item, actions = NextItem(), Actions(self.run.actions, self.run.value_names)
                catalogue = self.catalogue(model)
                for chosen, batch in self.batches(window):
                    owners = window.owners[chosen]
                    if isinstance(batch, RetrievalBatch):
                        self.measure_next(model, next_item, batch, batch.targets, owners, catalogue)
                    else:
                        self.measure_next(model, next_item, batch, batch.next_items, owners, catalogue)
                        self.measure_actions(model, actions, batch, owners, window)
        row: Row = {"next_item": next_item.report()} if self.task.next else {}
        return Measured(row | ({"ranking": actions.report()} if self.task.ranking else {}), actions.probabilities())

    def catalogue(self, model: SequentialModel | AnyRanker) -> Tensor | None:
        if isinstance(model, SequentialModel):
            return model.catalogue()
        return model.item_vectors() if isinstance(model, RankingModel) and self.task.next else None

    def follow(self, window: Window) -> bool:
        """Let items come and go by what happened in a window; whether any did. Sequences that were made before are of the
        items as they were."""
        changes = None if self.items is None else self.items.follow(window, self.model, self.optimizers)
        if self.items is None or changes is None:
            return False
        targets = torch.zeros(changes.capacity, dtype=torch.float64)
        targets[: len(self.targets)] = self.targets
        targets[torch.cat([changes.evicted.slots, changes.admitted.slots])] = 0
        self.targets = targets
        if self.free is None:
            self.free = torch.zeros(len(self.task.reader.item_ids), dtype=torch.bool)
        self.free = F.pad(self.free, (0, changes.capacity - len(self.free)), value=True)
        self.task = replace(self.task, reader=replace(self.task.reader, item_ids=self.items.ids))
        return True

    def scores(self, model: SequentialModel | AnyRanker, queries: Tensor, catalogue: Tensor) -> Tensor:
        """[R, I]; -inf of slots that nobody had when the window was foretold"""
        found = model.scores(queries, catalogue) if isinstance(model, SequentialModel) else queries @ catalogue.T
        if self.free is not None:
            found[:, self.free.to(found.device)] = -torch.inf
        return found

    def measure_next(
        self,
        model: SequentialModel | AnyRanker,
        into: NextItem,
        batch: RetrievalBatch | RankingBatch,
        targets: Tensor,
        owners: np.ndarray,
        catalogue: Tensor | None,
    ) -> None:
        rows = foretold(targets)
        if not len(rows) or catalogue is None:
            return
        sequences = batch.sequences.to(self.device)
        if isinstance(model, SequentialModel):
            users = batch.users.repeat_interleave(batch.sequences.lengths)[rows].to(self.device)
            queries = model.similarity.queries(model(sequences)[rows.to(self.device)], users)
        else:
            assert isinstance(model, RankingModel)
            tokens = model.tokens(sequences)
            queries = model.next_item_states(model.states(tokens), tokens.actions[rows.to(self.device)])
        ranks, logs = next_item_scores(
            queries,
            lambda some: self.scores(model, some, catalogue),
            batch.sequences,
            rows,
            targets[rows],
            temperature=self.run.temperature,
            items=len(catalogue),
            seen=self.config.evaluation.seen != "none",
        )
        into.add(ranks, logs, owners[owner_of(batch.sequences.offsets, rows)])

    def measure_actions(
        self,
        model: SequentialModel | AnyRanker,
        into: Actions,
        batch: RankingBatch,
        owners: np.ndarray,
        window: Sequences,
    ) -> None:
        if not len(batch.target_positions):
            return
        logits, values = model(batch.to(self.device))
        into.add(
            torch.sigmoid(logits).cpu().numpy(),
            batch.labels.numpy(),
            owners[owner_of(batch.sequences.offsets, batch.target_positions)],
            window.requests[batch.rows.numpy()],
            values.cpu().numpy(),
            batch.value_targets.numpy(),
        )

    def train(self, window: Sequences) -> list[float]:
        """One pass; the loss of each step."""
        targets = self.targets.clone()
        losses = self.losses() if self.task.next else None
        self.model.train()
        found = []
        for _, batch in self.batches(window):
            foreseen = batch.targets if isinstance(batch, RetrievalBatch) else batch.next_items
            targets += torch.bincount(foreseen[foreseen >= 0], minlength=len(targets))
            found.append(self.train_step(batch, losses))
        self.targets = targets  # what is drawn in a window depends on the windows before it alone
        return found

    def losses(self) -> RetrievalLoss:
        catalogue = None if self.items is None else self.items.catalogue()
        if catalogue is None:
            return RetrievalLoss(self.config.loss, self.targets)
        return RetrievalLoss(self.config.loss, self.targets[catalogue], catalogue.to(self.device))

    def train_step(self, batch: RetrievalBatch | RankingBatch, losses: RetrievalLoss | None) -> float:
        training = self.config.training
        steps = self.step + 1  # the rate is constant after the warm-up: a stream has no end to fall towards
        loss_of = partial(self.loss, batch, losses)
        value = take_step(self.model, self.optimizers, loss_of, training, self.step, steps, self.average)
        self.step = steps
        if not math.isfinite(value):
            raise InputError(
                f"The loss became {value} at step {self.step}. What was learnt before is in the latest checkpoint. Lower the "
                "rate (--set training.learning_rate=1e-4) or clip (--set training.clip_norm=1) in another stream."
            )
        return value

    def loss(self, batch: RetrievalBatch | RankingBatch, losses: RetrievalLoss | None) -> Tensor:
        if isinstance(batch, RetrievalBatch):
            assert losses is not None and isinstance(self.model, SequentialModel)
            return retrieval.batch_loss(self.model, losses, batch, self.device)
        assert self.config.ranking is not None and not isinstance(self.model, SequentialModel)
        return ranking.batch_loss(self.model, self.config.ranking, losses, batch, self.device)

    def kept_weights(self) -> AbstractContextManager[dict[str, Tensor]]:
        """The model is what is measured and saved meanwhile. Gives what training goes on with, if that is another."""
        return nullcontext({}) if self.average is None else self.average.in_place()

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside the weights."""
        items = {} if self.items is None else self.items.tensors()
        return moments(self.optimizers, self.model) | {TARGETS: self.targets} | items

    def vocabulary(self) -> Vocabulary:
        """Sizes of the model as it is now."""
        if self.items is None:
            return self.run.vocabulary
        return replace(self.run.vocabulary, items=self.model.tables()[0].size, dynamic=True)


def owner_of(offsets: Tensor, rows: Tensor) -> np.ndarray:
    """[R] the sequence of each row"""
    found: np.ndarray = np.searchsorted(offsets.numpy(), rows.numpy(), side="right") - 1
    return found


def require_streamable(config: Config) -> None:
    if isinstance(config.model, ImpressionConfig):
        raise InputError(
            f"{config.name} is a model of single impressions, whose counters only a table has. Stream a sequential model: "
            "louder stream ml1m:rank_hstu."
        )
    if config.data.max_gap is not None:
        raise InputError("data.max_gap is of training on a table, and a stream knows none: --set data.max_gap=null.")
    if config.ranking is not None and config.ranking.next_item_by:
        raise InputError(
            "ranking.next_item_by names actions, but a stream learns any next item alone yet. Stream a run without: "
            "--set ranking.next_item_by=[]."
        )
    if config.ranking is not None and config.ranking.item_counters:
        raise InputError(
            "ranking.item_counters is true, but a stream does not count items yet. Stream a run without: "
            "--set ranking.item_counters=false."
        )
    if config.ranking is not None and not config.ranking.acts_apart:
        raise InputError(
            "ranking.tokens is 'added', with which items of one answer would see each other: "
            "--set ranking.tokens=paired."
        )


def with_dense_rate(optimizers: Optimizers, model: SequentialModel | AnyRanker, share: float) -> Optimizers:
    """The weights that are no rows of tables in a group of their own, at a share of the rate."""
    if share == 1:
        return optimizers
    rows = {id(weight) for table in model.tables() for weight in table.parameters()}
    for optimizer in optimizers:
        split = []
        for group in optimizer.param_groups:
            for dense in (True, False):
                own = [weight for weight in group["params"] if (id(weight) not in rows) == dense]
                rate = group["initial_lr"] * (share if dense else 1)
                split += [group | {"params": own, "lr": rate, "initial_lr": rate}] if own else []
        optimizer.param_groups = split
    return optimizers
