"""SequenceBatch in, one state a token out. One file per paper."""

from typing import Any

from louder.config import from_dict
from louder.errors import InputError
from louder.models.embeddings import Vocabulary
from louder.models.hstu import HSTU, HSTUConfig
from louder.models.sasrec import SASRec, SASRecConfig
from louder.models.sequential import SequentialModel
from louder.models.transformer import Transformer, TransformerConfig

ModelConfig = HSTUConfig | SASRecConfig | TransformerConfig
KINDS: dict[str, type] = {"hstu": HSTUConfig, "sasrec": SASRecConfig, "transformer": TransformerConfig}


def config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """The config of a model from plain values, such as those of a checkpoint."""
    kind = values.get("kind")
    if kind not in KINDS:
        raise InputError(f"model.kind is {kind!r}, but it must be one of {', '.join(KINDS)}.")
    return from_dict(KINDS[kind], values, "model")


def build(config: ModelConfig, vocabulary: Vocabulary) -> SequentialModel:
    """The model that a config describes, with random weights."""
    if isinstance(config, HSTUConfig):
        return HSTU(config, vocabulary)
    if isinstance(config, SASRecConfig):
        return SASRec(config, vocabulary)
    return Transformer(config, vocabulary)


__all__ = [
    "HSTU",
    "HSTUConfig",
    "ModelConfig",
    "SASRec",
    "SASRecConfig",
    "SequentialModel",
    "Transformer",
    "TransformerConfig",
    "Vocabulary",
    "build",
    "config_from_dict",
]
