"""KuaiRand-Pure: videos that were shown, with eight actions and the watch time. Results: experiments/results.

Of 14 days (China time) the last but one is for validation, the last for the test. Histories are short: 9 exposures a
user, half of them shorter than 7.
"""

from louder.data.loader import DataConfig
from louder.data.targets import SplitConfig
from louder.evaluation.retrieval import EvaluationConfig
from louder.models import (
    DLRMConfig,
    HSTUConfig,
    ImpressionConfig,
    ModelConfig,
    RankingConfig,
    TransformerConfig,
    WukongConfig,
)
from louder.training.config import Config, TrainingConfig

SPLIT = SplitConfig(kind="time", validation_from=1_651_852_800, test_from=1_651_939_200)  # 7 and 8 May 2022, UTC+8
CONTEXT = "user_active_degree", "is_video_author", "follow_user_num_range", "fans_user_num_range", "register_days_range"
VIDEO = "author_id", "video_type", "upload_type", "music_type", "tag"


def rank_hstu() -> Config:
    """The joint generative ranker: what is done with a video, how long is it watched, and which is shown next?"""
    # 256 = two tokens for each of 120 events, the context and the candidate
    return _config("hstu", HSTUConfig(layers=3, heads=2, width=64, qk_width=32, v_width=32, max_len=256), next_item=0.1)


def rank_transformer() -> Config:
    """The same with a LLaMA-style Transformer."""
    model = TransformerConfig(layers=3, heads=2, width=64, hidden=176, max_len=256)
    return _config("transformer", model, next_item=0.1)


def rank_dlrm() -> Config:
    """A DLRM (DIN, DCN-v2, MMoE) with counters, one exposure at a time, on the same events."""
    return _config("dlrm", DLRMConfig())


def rank_wukong() -> Config:
    """Wukong, likewise."""
    return _config("wukong", WukongConfig())


def _config(name: str, model: ModelConfig, next_item: float = 0.0) -> Config:
    one_by_one = isinstance(model, ImpressionConfig)
    return Config(
        name=f"kuairand-rank-{name}",
        data=DataConfig(
            table="tables/kuairand-pure", split=SPLIT, max_len=120, users_per_batch=1024 if one_by_one else 128
        ),
        model=model,
        ranking=RankingConfig(
            main="click", context=CONTEXT, item_attributes=VIDEO, log_values=("play_time_ms",), next_item=next_item
        ),
        training=TrainingConfig(epochs=20, patience=3, weight_decay=1e-2),
        evaluation=EvaluationConfig(select="ne"),
    )
