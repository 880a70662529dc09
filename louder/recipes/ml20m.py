"""MovieLens-20M with the official hyper-parameters (configs/ml-20m of the official code)."""

from dataclasses import replace

from louder.data.config import DataConfig
from louder.models import HSTUConfig, SASRecConfig, TransformerConfig
from louder.training.config import Config


def hstu() -> Config:
    """HSTU: 4 layers, 4 heads."""
    return Config(
        name="ml20m-hstu",
        data=DataConfig(table="tables/ml-20m", max_len=200, actions=False),
        model=HSTUConfig(layers=4, heads=4, width=256, qk_width=64, v_width=64, max_len=211),
    )


def hstu_large() -> Config:
    """HSTU-large: 16 layers, 8 heads."""
    model = HSTUConfig(layers=16, heads=8, width=256, qk_width=32, v_width=32, max_len=211)
    return replace(hstu(), name="ml20m-hstu-large", model=model)


def sasrec() -> Config:
    """SASRec: 4 layers, 4 heads."""
    model = SASRecConfig(layers=4, heads=4, width=256, hidden=256, max_len=211)
    return replace(hstu(), name="ml20m-sasrec", model=model)


def transformer() -> Config:
    """A LLaMA-style Transformer of HSTU's depth and width. The official code has no such config."""
    model = TransformerConfig(layers=4, heads=4, width=256, hidden=688, max_len=211)
    return replace(hstu(), name="ml20m-transformer", model=model)
