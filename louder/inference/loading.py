"""A run's best checkpoint -> the model."""

from pathlib import Path
from typing import Any

from louder import checkpoint, models
from louder.config import from_dict
from louder.data.attributes import Column, encode, vectors
from louder.data.table import item_attributes
from louder.errors import InputError
from louder.models import AnyRanker, MoLConfig, RankingConfig, SequentialModel, Vocabulary


def load_model(run: Path) -> tuple[SequentialModel, dict[str, Any], Path]:
    """The model of a run's best checkpoint (dropout off), its state and its folder. Raises InputError if it is damaged."""
    folder = checkpoint.best(run)
    state = checkpoint.load_state(folder)
    if state["config"].get("ranking"):
        raise InputError(
            f"{run} is a ranking run, which recommends nothing by itself. Ask what a user will do with items: "
            f"louder rank {run} --user ID --items A,B,C."
        )
    config = models.config_from_dict(state["config"]["model"])
    mol = state["config"].get("mol")
    model = models.build(
        config, from_dict(Vocabulary, state["vocabulary"]), from_dict(MoLConfig, mol, "mol") if mol else None
    )
    checkpoint.load_into(model, checkpoint.load_tensors(folder, "model"), folder)
    return model.eval(), state, folder


def load_ranker(run: Path) -> tuple[AnyRanker, dict[str, Any], Path]:
    """The ranker of a run's best checkpoint (dropout off), its state and its folder. Raises InputError if the run is
    of another task, or damaged."""
    folder = checkpoint.best(run)
    state = checkpoint.load_state(folder)
    if not state["config"].get("ranking"):
        raise InputError(
            f"{run} predicts the next item, not what is done with it. Recommend with it (louder recommend {run} "
            "--user ID), or train a ranker: louder train ml1m:rank_hstu."
        )
    config = models.config_from_dict(state["config"]["model"])
    ranking = from_dict(RankingConfig, state["config"]["ranking"], "ranking")
    attributes: list[Column] = []
    if ranking.item_attributes or ranking.item_vectors:
        table = item_attributes(folder)
        if table is None:
            raise InputError(
                f"{folder} has no items.parquet, which its model needs. Copy it from the table, or train again."
            )
        attributes = [*encode(table, ranking.item_attributes), *vectors(table, ranking.item_vectors)]
    model = models.build_ranker(config, ranking, from_dict(Vocabulary, state["vocabulary"]), attributes)
    checkpoint.load_into(model, checkpoint.load_tensors(folder, "model"), folder)
    return model.eval(), state, folder
