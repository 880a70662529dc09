"""Which recipe a log is trained with where none is named."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from louder.config import override
from louder.models import HSTUConfig
from louder.recipes.demo import demo
from louder.schema import Manifest
from louder.training.config import Config


def chosen(manifest: Manifest, table: Path, settings: Sequence[str]) -> tuple[Config, list[str]]:
    """A config for a table, and what was chosen and why, in sentences."""
    config = demo()
    assert isinstance(config.model, HSTUConfig)
    model = replace(config.model, time_bias=manifest.has_times)
    config = replace(config, data=replace(config.data, table=str(table)), model=model)
    said = ["No recipe is named: a small HSTU that finds the next item (the recipe demo)."]
    if not manifest.has_times:
        said.append("The log has no times: no bias by time.")
    return override(config, list(settings)), said
