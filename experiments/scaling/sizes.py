"""One dial for each model, and what a user costs: shapes, windows and floating-point operations."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from experiments.scaling.stream import Scale
from experiments.scaling.tasks import task_of
from louder.batch import RankingBatch, RetrievalBatch, SequenceBatch
from louder.data.config import DataConfig
from louder.data.synthetic_tastes import LENGTH
from louder.data.targets import SplitConfig
from louder.data.window import window_start
from louder.models import (
    DLRMConfig,
    HSTUConfig,
    ModelConfig,
    RankingConfig,
    SASRecConfig,
    SequentialConfig,
    WukongConfig,
)
from louder.models.flops import flops, hstu_flops, ranker_flops
from louder.training.config import Config, EvaluationConfig, TrainingConfig

EVERYBODY = SplitConfig(kind="time", validation_from=1 << 40, test_from=1 << 41)  # all of a lot is one part
EVENTS_A_BATCH = 1024  # events read; of impression-level models exposures, each with its history
WARMUP = 0.05  # share of the exposures over which the rate rises


def events(size: int) -> int:
    """Latest events that are read."""
    return min(LENGTH, 24 * size)


def hstu(size: int) -> HSTUConfig:
    """Width, layers, heads and length grow together: eight numbers of width for each step of the dial."""
    width, heads = 8 * size, max(1, size // 4)
    return HSTUConfig(
        layers=-(-size // 2),
        heads=heads,
        width=width,
        qk_width=width // heads,
        v_width=width // heads,
        max_len=2 * events(size) + 1,
        dropout=0.0,
        linear_dropout=0.0,
    )


def dlrm(size: int) -> DLRMConfig:
    return DLRMConfig(
        width=4 * size,
        cross_layers=max(1, size // 3),
        expert_hidden=(16 * size, 8 * size),
        tower_hidden=8 * size,
        history=events(size),
        unit_hidden=4 * size,
        counter_hidden=16 * size,
        dropout=0.0,
    )


def wukong(size: int) -> WukongConfig:
    return WukongConfig(
        width=4 * size,
        layers=max(1, size // 3),
        fmb=4 + size // 2,
        lcb=4 + size // 2,
        rank=4 + size // 2,
        fmb_hidden=(32 * size,),
        hidden=(32 * size,),
        history=events(size),
        unit_hidden=4 * size,
        counter_hidden=16 * size,
        dropout=0.0,
    )


def next_hstu(size: int) -> HSTUConfig:
    return replace(hstu(size), max_len=events(size))


def next_sasrec(size: int) -> SASRecConfig:
    of = hstu(size)
    heads = max(n for n in range(1, of.heads + 1) if of.width % n == 0)
    return SASRecConfig(
        layers=of.layers, heads=heads, width=of.width, hidden=4 * of.width, max_len=events(size), dropout=0.0
    )


# models that are asked whether an exposure is liked, and those that are asked what is shown next
RANKERS: dict[str, Callable[[int], ModelConfig]] = {"hstu": hstu, "dlrm": dlrm, "wukong": wukong}
NEXT_ITEM: dict[str, Callable[[int], ModelConfig]] = {"next-hstu": next_hstu, "next-sasrec": next_sasrec}
MODELS = RANKERS | NEXT_ITEM


def config_of(model: str, size: int, *, learning_rate: float = 1e-3, seed: int = 0, exposures: int = 1) -> Config:
    """The whole config of a point. Its warm-up is counted in exposures, as the schedule is."""
    return Config(
        name=f"scaling-{model}-{size}",
        protocol="official",
        data=DataConfig(
            table="made as it is read",
            split=EVERYBODY,
            max_len=events(size),
            windows="latest" if model in RANKERS else "all",
            events_per_batch=EVENTS_A_BATCH * (events(size) if model in ("dlrm", "wukong") else 1),
        ),
        model=MODELS[model](size),
        ranking=RankingConfig(item_attributes=("category",), attribute_dropout=0.0) if model in RANKERS else None,
        training=TrainingConfig(
            epochs=1,
            learning_rate=learning_rate,
            schedule="cosine",
            warmup_steps=round(WARMUP * exposures),
            clip_norm=1.0,
            embedding_optimizer="rowwise_adamw" if model in RANKERS else "adamw",  # a softmax uses most items
            seed=seed,
        ),
        evaluation=EvaluationConfig(select="ne" if model in RANKERS else "hr@10"),
    )


def windows(length: int, most: int) -> list[int]:
    """Events of each window in which a user's exposures are predicted; see louder.data.window."""
    firsts = window_start(np.arange(length), most)
    begins, last = np.unique(firsts[::-1], return_index=True)
    return (length - last - begins).tolist()


@cache
def flops_per_user(model: str, size: int, length: int = LENGTH) -> int:
    """Of a forward pass over all exposures of a user: of HSTU by its formula, of the others counted on a batch. The next
    item is compared with the target and the negatives."""
    config = config_of(model, size)
    shape, most = config.model, config.data.max_len
    against = 0
    if config.ranking is None:
        assert isinstance(shape, SequentialConfig)
        against = 2 * (length - 1) * (1 + config.loss.num_negatives) * shape.width
    if not isinstance(shape, HSTUConfig):
        task = task_of(config, Scale(length=length))
        return against + sum(flops(task.build(), given(batch)) for batch in task.loader(0, users=1).batches())
    if config.ranking is not None:
        return ranker_flops(shape, config.ranking, 1, windows(length, most), length)
    whole, rest = divmod(length - 1, most)
    action = 2 * (length - 1) * shape.width  # of one kind, added to an event's item
    return against + action + hstu_flops(shape, [most] * whole + [rest])


def given(batch: RankingBatch | RetrievalBatch) -> RankingBatch | SequenceBatch:
    """What a model is called with."""
    return batch if isinstance(batch, RankingBatch) else batch.sequences


def training_flops(model: str, size: int, users: int, length: int = LENGTH) -> int:
    """Forward and backward: three times forward."""
    return 3 * users * flops_per_user(model, size, length)


def users_for(model: str, size: int, compute: float, length: int = LENGTH) -> int:
    return max(1, round(compute / training_flops(model, size, 1, length)))
