"""The embedded synthetic log: small enough for a laptop's minute, and with a clear order to learn."""

from louder.data.config import DataConfig
from louder.models import HSTUConfig
from louder.training.config import Config, TrainingConfig


def demo() -> Config:
    """A small HSTU, stopped when validation no longer gains."""
    # on validation, batches of 32 users learn faster than 128; half the width or one layer saves little and ranks worse
    return Config(
        name="demo",
        data=DataConfig(table="tables/demo", max_len=100, users_per_batch=32),
        model=HSTUConfig(max_len=128, width=64, qk_width=32, v_width=32, heads=2),
        training=TrainingConfig(epochs=20, patience=3),
    )
