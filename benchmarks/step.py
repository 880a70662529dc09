"""One whole step of training: forward, loss, backward, optimizer."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import histories
from benchmarks.measure import Case, require_known
from benchmarks.padded import hstu_attention, sampled_softmax
from benchmarks.plain import PlainHSTU, PlainSASRec, naive_attention
from louder import recipes
from louder.batch import RetrievalBatch
from louder.data import negatives
from louder.errors import InputError
from louder.models import AnyModel, HSTUConfig, ImpressionConfig, SASRecConfig, SequentialModel, Vocabulary, build
from louder.ops.sampled_softmax import naive
from louder.results import Row
from louder.training import retrieval
from louder.training.config import Config
from louder.training.losses import LossConfig, RetrievalLoss
from louder.training.optimizers import make_optimizers, update
from louder.training.task import open_config_table

RECIPES = "ml1m:hstu", "ml1m:hstu_large", "ml1m:sasrec"
ITEMS = 3883
SAME_SECOND = 0.8  # share of ML-1M's ratings at the second of the one before
BATCHES = 4
QUICK: Row = {"names": RECIPES, "users": 32}
FULL = QUICK | {"users": 128}


def cases(
    names: Sequence[str],
    *,
    users: int,
    device: torch.device,
    memory: float,
    table: Path | None = None,
    epoch: bool = False,
) -> Iterator[Case]:
    """`users` histories as in ML-1M, or of a table; each run takes the next of a few batches.

    louder   as `louder train` does it
    naive    torch ops, attention one user at a time, the naive loss
    padded   torch ops, attention padded to max_len (SASRec: all of it), [L, R, D] negatives, as the official code

    `epoch` adds a case of a whole epoch of the table, as `louder train` runs it.
    """
    require_known("recipe", names, RECIPES)
    if epoch and not table:
        raise InputError("--epoch runs through a whole table. Pass one: --table tables/ml-1m.")
    for name in names:
        if epoch and table:
            yield epoch_case(name, table, device, memory)
        config = recipes.load(name)
        assert not isinstance(config.model, ImpressionConfig)
        batches, vocabulary = real(config, table, users) if table else synthetic(config, users)
        torch.manual_seed(config.training.seed)
        model = build(config.model, vocabulary)
        model.train()
        tokens = [len(batch.targets) for batch in batches]
        shape: Row = {"recipe": name, "data": "table" if table else "synthetic", "users": users}
        shape |= {"tokens": round(sum(tokens) / len(tokens))}
        shape |= {of: getattr(config.model, of) for of in ("max_len", "width", "layers", "heads")}
        shape |= {"items": vocabulary.items, "negatives": config.loss.num_negatives}
        shape |= {"dtype": config.training.precision}
        case = Case(f"{name}, {users} users", shape, memory)
        loss = RetrievalLoss(config.loss, torch.zeros(vocabulary.items, dtype=torch.float64))
        plain, official = plain_model(model, padded=False), plain_model(model, padded=True)
        turns = batches, config, device
        case.add("louder", stepper(model, partial(batch_loss, loss), *turns))
        case.add("naive", stepper(plain, partial(batch_loss, partial(naive_loss, config.loss)), *turns))
        scores = users * config.model.max_len**2 * (16 * config.model.heads + 8)
        gathered = 4 * max(tokens) * config.loss.num_negatives * config.model.width
        needs = config.model.layers * scores + 2.2 * gathered
        own_loss = partial(batch_loss, partial(official_loss, official, config.loss))
        case.add("padded", stepper(official, own_loss, *turns), needs=needs)
        yield case


def epoch_case(name: str, folder: Path, device: torch.device, memory: float) -> Case:
    config = recipes.load(name)
    config = replace(config, data=replace(config.data, table=str(folder)))
    task = retrieval.RetrievalTask(config, open_config_table(config))
    torch.manual_seed(config.training.seed)
    model = task.build().train().to(device)
    optimizers = make_optimizers(model, config.training)
    tokens = sum(len(batch.targets) for batch in task.loader.batches())
    shape = {
        "recipe": name,
        "data": "table",
        "users": len(task.loader.spans.users),
        "tokens": tokens,
        "dtype": "float32",
    }

    def run() -> float:
        for batch in task.loader.batches():
            loss = task.loss(model, batch, device)
            update(model, optimizers, loss, config.training.clip_norm)
        return loss.item()

    case = Case(f"{name}, one epoch", shape, memory)
    case.add("louder", run)
    return case


def synthetic(config: Config, users: int) -> tuple[list[RetrievalBatch], Vocabulary]:
    batches = []
    for seed in range(BATCHES):
        lengths = histories.ml1m(users, max_len=config.data.max_len, seed=seed)
        sequences = histories.histories(lengths, items=ITEMS, same_second=SAME_SECOND, seed=seed)
        targets = torch.from_numpy(np.random.default_rng(seed).integers(0, ITEMS, sum(lengths)))
        of_users = torch.zeros(users, dtype=torch.int64)  # a step reads neither who they are nor where they end
        batches.append(RetrievalBatch(sequences=sequences, targets=targets, users=of_users, rows=of_users))
    return batches, Vocabulary(items=ITEMS)


def real(config: Config, folder: Path, users: int) -> tuple[list[RetrievalBatch], Vocabulary]:
    config = replace(config, data=replace(config.data, table=str(folder), users_per_batch=users))
    table = open_config_table(config)
    loader = retrieval.part_loader(table, config, "train")
    return list(itertools.islice(loader.batches(), BATCHES)), retrieval.vocabulary(table, config)


def plain_model(model: SequentialModel, *, padded: bool) -> SequentialModel:
    """The model with torch ops alone, and with its weights."""
    config = model.config
    plain: SequentialModel
    if isinstance(config, HSTUConfig):
        attention = partial(hstu_attention, length=config.max_len) if padded else naive_attention
        plain = PlainHSTU(config, model.vocabulary, attention)
    else:
        assert isinstance(config, SASRecConfig)
        plain = PlainSASRec(config, model.vocabulary, padded=padded)
    plain.load_state_dict(model.state_dict())
    return plain.train(model.training)


def stepper(
    model: AnyModel, loss: Callable[..., Tensor], batches: Sequence[Any], config: Config, device: torch.device
) -> Callable[[], float]:
    """A function that does the next step; the loss is called with the model, the next of the batches and the device."""
    optimizers = make_optimizers(model.to(device), config.training)
    turns = itertools.cycle(batches)

    def step() -> float:
        value = loss(model, next(turns), device)
        update(model, optimizers, value, config.training.clip_norm)
        return value.item()

    return step


def batch_loss(loss: retrieval.Loss, model: SequentialModel, batch: RetrievalBatch, device: torch.device) -> Tensor:
    return retrieval.batch_loss(model, loss, batch, device)


def naive_loss(config: LossConfig, states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    drawn = negatives.uniform(len(targets), config.num_negatives, len(table)).to(targets.device)
    return naive.sampled_softmax(states, table, targets, drawn, config.temperature, None).mean()


def official_loss(model: SequentialModel, config: LossConfig, states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """The official code normalises the vectors that it gathered, so this reads the model's table, not the normalised one."""
    drawn = negatives.uniform(len(targets), config.num_negatives, len(table)).to(targets.device)
    raw = model.events.items.vectors()
    how: Row = {"temperature": config.temperature, "normalised": model.config.normalised}
    return sampled_softmax(states, raw, targets, drawn, **how).mean()
