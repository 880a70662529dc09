"""MovieLens-1M with the official hyper-parameters (configs/ml-1m of the official code). Results: experiments/results.

The rankers' settings are the best of as many random ones for each of HSTU, DLRM and Wukong, by NE on the validation part
(experiments/ranking_search.py); of HSTU and DLRM those that the search began with were the best.
"""

from dataclasses import replace

from louder.config import override
from louder.data.config import DataConfig
from louder.data.targets import SplitConfig
from louder.models import (
    DLRMConfig,
    HSTUConfig,
    ImpressionConfig,
    RankingConfig,
    SASRecConfig,
    TransformerConfig,
    WukongConfig,
)
from louder.training.config import Config, EvaluationConfig, TrainingConfig

# about 80 % of the ratings for training, 10 % each for validation and for the test; by time, so nobody sees the future
SPLIT = SplitConfig(kind="time", validation_from=975_768_738, test_from=978_133_376)


def hstu() -> Config:
    """HSTU: 2 layers, 1 head."""
    # 211 = 200 events + 11: the official code pads to that, so its positions and its attention scale go by it
    return Config(name="ml1m-hstu", data=_data(), model=HSTUConfig(max_len=211))


def hstu_large() -> Config:
    """HSTU-large: 4 times the layers, 2 times the heads."""
    model = HSTUConfig(layers=8, heads=2, qk_width=25, v_width=25, max_len=211)
    return replace(hstu(), name="ml1m-hstu-large", model=model)


def hstu_mol() -> Config:
    """HSTU with a mixture of logits in place of the dot product."""
    return _with_mol(hstu())


def hstu_large_mol() -> Config:
    """HSTU-large with a mixture of logits (RAILS, hstu-mol-sampled-softmax-n128-8x4x64)."""
    return _with_mol(hstu_large())


def _with_mol(base: Config) -> Config:
    settings = ["model.normalised=false", "loss.temperature=1", "training.weight_decay=1e-3"]
    rows_of_users = "mol.user_rows=6040"  # all of ML-1M's
    return override(base, [f"name={base.name}-mol", rows_of_users, *settings])


def sasrec() -> Config:
    """SASRec: 2 layers, 1 head."""
    return replace(hstu(), name="ml1m-sasrec", model=SASRecConfig(max_len=211))


def transformer() -> Config:
    """A LLaMA-style Transformer of HSTU's depth and width. The official code has no such config."""
    return replace(hstu(), name="ml1m-transformer", model=TransformerConfig(max_len=211))


def _data() -> DataConfig:
    # the official code gives models the films, not the ratings, and takes every rating as positive
    return DataConfig(table="tables/ml-1m", max_len=200, actions=False)


def rank_hstu() -> Config:
    """The joint generative ranker: will a film be liked (rated 4 or 5), how is it rated, and which comes next?"""
    return Config(
        name="ml1m-rank-hstu",
        data=DataConfig(table="tables/ml-1m", split=SPLIT, max_len=200, users_per_batch=64),
        # 404 = an item and an action for each of 200 events, 3 attributes of the user, and the candidate
        model=HSTUConfig(layers=4, heads=2, width=64, qk_width=32, v_width=32, max_len=404),
        ranking=RankingConfig(context=("gender", "age", "occupation"), item_attributes=("genres",), next_item=0.2),
        training=TrainingConfig(epochs=20, patience=3),
        evaluation=EvaluationConfig(select="ne"),
    )


def rank_hstu_cross() -> Config:
    """The same, and beside its head cross layers over the state, the film, the user's attributes and what everybody did
    with the film before."""
    settings = ["name=ml1m-rank-hstu-cross", "ranking.cross_layers=3", "ranking.item_counters=true"]
    return override(rank_hstu(), settings)


def rank_transformer() -> Config:
    """rank_hstu with a LLaMA-style Transformer."""
    model = TransformerConfig(layers=4, heads=2, width=64, hidden=176, max_len=404)
    return replace(rank_hstu(), name="ml1m-rank-transformer", model=model)


def rank_dlrm() -> Config:
    """A DLRM (DIN, DCN-v2, MMoE) with counters, one exposure at a time, on the same events."""
    return _one_by_one("ml1m-rank-dlrm", DLRMConfig(), users_per_batch=1024)


def rank_wukong() -> Config:
    """Wukong, likewise."""
    model = WukongConfig(width=32, layers=1, rank=24, dropout=0.1)
    config = _one_by_one("ml1m-rank-wukong", model, users_per_batch=256)
    return replace(config, training=TrainingConfig(schedule="cosine", epochs=1, learning_rate=1e-3))


def _one_by_one(name: str, model: ImpressionConfig, *, users_per_batch: int) -> Config:
    base = override(rank_hstu(), [f"data.users_per_batch={users_per_batch}", "ranking.next_item=0"])
    return replace(base, name=name, model=model)
