"""MovieLens-1M with the official hyper-parameters (configs/ml-1m of the official code). Results: experiments/results."""

from dataclasses import replace

from louder.data.loader import DataConfig
from louder.models import HSTUConfig, SASRecConfig, TransformerConfig
from louder.training.config import Config


def hstu() -> Config:
    """HSTU: 2 layers, 1 head."""
    # 211 = 200 events + 11: the official code pads to that, so its positions and its attention scale go by it
    return Config(name="ml1m-hstu", data=_data(), model=HSTUConfig(max_len=211))


def hstu_large() -> Config:
    """HSTU-large: 4 times the layers, 2 times the heads."""
    base = hstu()
    return replace(
        base, name="ml1m-hstu-large", model=HSTUConfig(layers=8, heads=2, qk_width=25, v_width=25, max_len=211)
    )


def sasrec() -> Config:
    """SASRec: 2 layers, 1 head."""
    return replace(hstu(), name="ml1m-sasrec", model=SASRecConfig(max_len=211))


def transformer() -> Config:
    """A LLaMA-style Transformer of HSTU's depth and width. The official code has no such config."""
    return replace(hstu(), name="ml1m-transformer", model=TransformerConfig(max_len=211))


def _data() -> DataConfig:
    # the official code gives models the films, not the ratings, and takes every rating as positive
    return DataConfig(table="tables/ml-1m", max_len=200, actions=False)
