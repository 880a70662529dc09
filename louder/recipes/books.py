"""Amazon Books (2014 ratings) with the official hyper-parameters (configs/amzn-books of the official code).

The official filter is one pass: louder etl ratings_Books.csv --min-user-events 5 --min-item-events 5 -o tables/books
"""

from dataclasses import replace

from louder.data.config import DataConfig
from louder.models import HSTUConfig, SASRecConfig, TransformerConfig
from louder.training.config import Config, EvaluationConfig, TrainingConfig
from louder.training.losses import LossConfig


def hstu() -> Config:
    """HSTU: 4 layers, 4 heads."""
    return Config(
        name="books-hstu",
        data=DataConfig(table="tables/books", max_len=50, actions=False),
        model=HSTUConfig(
            layers=4, heads=4, width=64, qk_width=16, v_width=16, max_len=61, dropout=0.5, linear_dropout=0.5
        ),
        loss=LossConfig(num_negatives=512),
        training=TrainingConfig(epochs=201),
        evaluation=EvaluationConfig(every_epochs=5),
    )


def hstu_large() -> Config:
    """HSTU-large: 16 layers, 8 heads."""
    model = HSTUConfig(layers=16, heads=8, width=64, qk_width=8, v_width=8, max_len=61, dropout=0.5, linear_dropout=0.5)
    return replace(hstu(), name="books-hstu-large", model=model)


def sasrec() -> Config:
    """SASRec: 4 layers, 4 heads."""
    model = SASRecConfig(layers=4, heads=4, width=64, hidden=64, max_len=61, dropout=0.5)
    return replace(hstu(), name="books-sasrec", model=model)


def transformer() -> Config:
    """A LLaMA-style Transformer of HSTU's depth and width. The official code has no such config."""
    model = TransformerConfig(layers=4, heads=4, width=64, hidden=176, max_len=61, dropout=0.5)
    return replace(hstu(), name="books-transformer", model=model)
