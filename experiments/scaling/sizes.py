"""One dial for each model, and what a user costs: shapes, windows and floating-point operations."""

from collections.abc import Callable
from functools import cache

import numpy as np

from louder.data.config import DataConfig
from louder.data.synthetic_tastes import CATEGORIES, ITEMS, LENGTH
from louder.data.targets import SplitConfig
from louder.data.window import window_start
from louder.models import DLRMConfig, HSTUConfig, ModelConfig, RankingConfig, WukongConfig
from louder.models.flops import flops, ranker_flops
from louder.training.config import Config, EvaluationConfig, TrainingConfig

EVERYBODY = SplitConfig(kind="time", validation_from=1 << 40, test_from=1 << 41)  # all of a lot is one part
EXPOSURES_A_BATCH = 1024  # events read, or exposures where each is read alone
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


SHAPES: dict[str, Callable[[int], ModelConfig]] = {"hstu": hstu, "dlrm": dlrm, "wukong": wukong}


def config_of(model: str, size: int, *, learning_rate: float = 1e-3, seed: int = 0, exposures: int = 1) -> Config:
    """The whole config of a point. Its warm-up is counted in exposures, as the schedule is."""
    return Config(
        name=f"scaling-{model}-{size}",
        protocol="official",
        data=DataConfig(
            table="made as it is read", split=EVERYBODY, max_len=events(size), events_per_batch=tokens(model, size)
        ),
        model=SHAPES[model](size),
        ranking=RankingConfig(item_attributes=("category",), attribute_dropout=0.0),
        training=TrainingConfig(
            epochs=1,
            learning_rate=learning_rate,
            schedule="cosine",
            warmup_steps=round(WARMUP * exposures),
            clip_norm=1.0,
            embedding_optimizer="rowwise_adamw",
            seed=seed,
        ),
        evaluation=EvaluationConfig(select="ne"),
    )


def tokens(model: str, size: int) -> int:
    """Events that a batch reads."""
    return EXPOSURES_A_BATCH * (1 if model == "hstu" else events(size))


def windows(length: int, most: int) -> list[int]:
    """Events of each window in which a user's exposures are predicted; see louder.data.window."""
    firsts = window_start(np.arange(length), most)
    begins, last = np.unique(firsts[::-1], return_index=True)
    return (length - last - begins).tolist()


@cache
def flops_per_user(model: str, size: int, length: int = LENGTH) -> int:
    """Of a forward pass over all exposures of a user: of HSTU by its formula, of the others counted on a batch."""
    config = config_of(model, size)
    if isinstance(config.model, HSTUConfig):
        assert config.ranking is not None
        return ranker_flops(config.model, config.ranking, 1, windows(length, config.data.max_len), length)
    from experiments.scaling.stream import Stream

    stream = Stream(config, ITEMS, CATEGORIES, length)
    loader = stream.loader(0, users=1)
    return sum(flops(stream.build(), batch) for batch in loader.batches())


def training_flops(model: str, size: int, users: int, length: int = LENGTH) -> int:
    """Forward and backward: three times forward."""
    return 3 * users * flops_per_user(model, size, length)


def users_for(model: str, size: int, compute: float, length: int = LENGTH) -> int:
    return max(1, round(compute / training_flops(model, size, 1, length)))
