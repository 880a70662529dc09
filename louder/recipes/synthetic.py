"""The paper's non-stationary stream (appendix C, Table 2): one pass over it in order, no times, no relative bias.

    louder data synth dirichlet -o stream.parquet
    louder etl stream.parquet --schema stream.yaml -o tables/dirichlet

The paper gives neither sizes nor rates for this test; these are near the ML-1M ones. As the stream is described, no
model can reach the paper's figures on it (docs/design.md), so compare models with each other.
"""

from dataclasses import replace

from louder.config import override
from louder.data.config import DataConfig
from louder.data.targets import SplitConfig
from louder.models import DLRMConfig, HSTUConfig, RankingConfig, TransformerConfig
from louder.training.config import Config, EvaluationConfig, TrainingConfig


def hstu() -> Config:
    """HSTU without relative attention bias: the stream has no times."""
    return Config(
        name="synthetic-hstu",
        protocol="official",  # the first 90 % of the records train, the last 10 % test; there is nothing to choose
        data=DataConfig(
            table="tables/dirichlet", split=SplitConfig(kind="users", test_users=0.1), max_len=127, shuffle=False
        ),
        model=HSTUConfig(max_len=128, position_bias=False, time_bias=False, width=64, qk_width=64, v_width=64),
        training=TrainingConfig(epochs=1),
    )


def hstu_softmax() -> Config:
    """The paper's ablation: softmax in place of SiLU."""
    return override(hstu(), ["name=synthetic-hstu-softmax", "model.attention=softmax"])


def transformer() -> Config:
    """A LLaMA-style Transformer."""
    return replace(hstu(), name="synthetic-transformer", model=TransformerConfig(width=64, hidden=176, max_len=128))


def rank_hstu() -> Config:
    """Ranking on a log whose truth is known: likes depend on the user's mood, an auxiliary series, and on how many items
    of the category were liked before.

    louder data synth ranking --users 6000 -o logs/ranking
    louder etl logs/ranking/log.parquet --schema logs/ranking/schema.yaml -o tables/synthetic-ranking

    Watch times tell more of the truth than likes do, so they weigh as much. What the truth scores: docs/results.md.
    """
    return Config(
        name="synthetic-rank-hstu",
        data=DataConfig(table="tables/synthetic-ranking", max_len=200, users_per_batch=16),
        model=HSTUConfig(
            layers=3, heads=2, width=64, qk_width=32, v_width=32, max_len=404, dropout=0.1, linear_dropout=0.1
        ),
        ranking=RankingConfig(
            item_attributes=("category",), log_values=("watch",), value_weight=1.0, attribute_dropout=0.0
        ),
        training=TrainingConfig(schedule="cosine", epochs=5, learning_rate=4e-3),
        evaluation=EvaluationConfig(select="ne"),
    )


def rank_without_series() -> Config:
    """The same without the mood: it loses most of what there is to know."""
    return override(rank_hstu(), ["name=synthetic-rank-without-series", "data.auxiliary=false"])


def rank_softmax() -> Config:
    """The same with softmax attention. Counts should be harder to see, but it does not lose (docs/results.md)."""
    return override(rank_hstu(), ["name=synthetic-rank-softmax", "model.attention=softmax"])


def rank_dlrm() -> Config:
    """A DLRM with counters."""
    base = rank_hstu()
    return replace(base, name="synthetic-rank-dlrm", model=DLRMConfig(), data=replace(base.data, users_per_batch=256))
