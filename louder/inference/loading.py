"""A run's best checkpoint -> the model."""

from pathlib import Path
from typing import Any

from louder import checkpoint, models
from louder.config import from_dict
from louder.models import SequentialModel, Vocabulary


def load_model(run: Path) -> tuple[SequentialModel, dict[str, Any], Path]:
    """The model of a run's best checkpoint (dropout off), its state and its folder. Raises InputError if it is damaged."""
    folder = checkpoint.best(run)
    state = checkpoint.load_state(folder)
    config = models.config_from_dict(state["config"]["model"])
    model = models.build(config, from_dict(Vocabulary, state["vocabulary"]))
    checkpoint.load_into(model, checkpoint.load_tensors(folder, "model"), folder)
    return model.eval(), state, folder
