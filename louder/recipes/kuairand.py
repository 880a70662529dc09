"""KuaiRand-Pure: videos that were shown, with eight actions and the watch time. Results: experiments/results.

Of 14 days (China time) the last but one is for validation, the last for the test. Histories are short: 9 exposures a
user, half of them shorter than 7.

Rates, dropout, sizes and weights of HSTU, DLRM and Wukong are the best of as many random settings each, by NE of clicks
on the validation part (experiments/ranking_search.py). One pass is best: in a second DLRM and Wukong learn it by heart.
"""

from dataclasses import replace

from louder.config import override
from louder.data.config import DataConfig
from louder.data.targets import SplitConfig
from louder.models import DLRMConfig, HSTUConfig, ModelConfig, RankingConfig, TransformerConfig, WukongConfig
from louder.training.config import Config, EvaluationConfig, TrainingConfig

SPLIT = SplitConfig(kind="time", validation_from=1_651_852_800, test_from=1_651_939_200)  # 7 and 8 May 2022, UTC+8
CONTEXT = "user_active_degree", "is_video_author", "follow_user_num_range", "fans_user_num_range", "register_days_range"
VIDEO = "author_id", "video_type", "upload_type", "music_type", "tag"


def rank_hstu() -> Config:
    """The generative ranker: what is done with a video, and how long is it watched?"""
    # 256 = two tokens for each of 120 events, the context and the candidate
    model = HSTUConfig(
        layers=3, heads=2, width=64, qk_width=32, v_width=32, max_len=256, dropout=0.2, linear_dropout=0.0
    )
    training = TrainingConfig(schedule="cosine", epochs=1, learning_rate=1e-3, weight_decay=0.1)
    return _config("hstu", model, training, users_per_batch=16, value_weight=0.3)


def rank_hstu_cross() -> Config:
    """The same, and beside its head cross layers over the state, the video, the user's attributes and what everybody did
    with the video before."""
    settings = ["name=kuairand-rank-hstu-cross", "ranking.cross_layers=3", "ranking.item_counters=true"]
    return override(rank_hstu(), settings)


def rank_joint() -> Config:
    """rank_hstu, trained for the next engagement as well, so that one model retrieves and ranks."""
    return override(rank_hstu(), ["name=kuairand-rank-joint", "ranking.next_item=0.2"])


def rank_transformer() -> Config:
    """rank_hstu with a LLaMA-style Transformer."""
    model = TransformerConfig(layers=3, heads=2, width=64, hidden=176, max_len=256)
    return replace(rank_hstu(), name="kuairand-rank-transformer", model=model)


def rank_dlrm() -> Config:
    """A DLRM (DIN, DCN-v2, MMoE) with counters, one exposure at a time, on the same events."""
    model = DLRMConfig(width=16, cross_layers=3, expert_hidden=(256, 128), dropout=0.1)
    training = TrainingConfig(schedule="cosine", epochs=1, learning_rate=4e-3, weight_decay=0.1)
    return _config("dlrm", model, training, users_per_batch=256, value_weight=0.0)


def rank_wukong() -> Config:
    """Wukong, likewise."""
    model = WukongConfig(width=32, layers=1, rank=24, dropout=0.1)
    training = TrainingConfig(schedule="cosine", epochs=1, learning_rate=2e-3, weight_decay=0.0)
    return _config("wukong", model, training, users_per_batch=128, value_weight=0.3)


def _config(
    name: str, model: ModelConfig, training: TrainingConfig, *, users_per_batch: int, value_weight: float
) -> Config:
    return Config(
        name=f"kuairand-rank-{name}",
        data=DataConfig(table="tables/kuairand-pure", split=SPLIT, max_len=120, users_per_batch=users_per_batch),
        model=model,
        ranking=RankingConfig(
            main="click",
            context=CONTEXT,
            item_attributes=VIDEO,
            log_values=("play_time_ms",),
            value_weight=value_weight,
        ),
        training=training,
        evaluation=EvaluationConfig(select="ne"),
    )
