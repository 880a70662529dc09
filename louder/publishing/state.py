"""All that answers depend on of a model: its weights, and what stands for what."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from louder import checkpoint
from louder.data.table import read_attributes
from louder.ids import IdMap
from louder.inference.run import Run
from louder.inference.scoring import scoring_of

SCORING = "scoring"
ATTRIBUTES = "items", "users"  # files of attributes, a row for each id


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """A model at one moment; whoever publishes it may go on training once `publish` has returned.

    weights     as `model.state_dict()` has them
    state       state.json of a checkpoint: config, vocabulary (sizes), actions, values, progress; SCORING: how a joint run
                weighs P(next), as scoring.Scoring
    raws        "item", "user" and each series -> raw ids, position = id; null where a number is nobody's now
    attributes  "items", "users" -> a row for each id, where the log has some
    """

    weights: Mapping[str, Tensor]
    state: Mapping[str, Any]
    raws: Mapping[str, pa.Array]
    attributes: Mapping[str, pa.Table] = field(default_factory=dict)


def state_of_run(run: Path) -> ModelState:
    """Of the best checkpoint of a run, with how a joint run weighs P(next) if that was chosen. Raises InputError if there is
    none, or if it is damaged."""
    opened = Run.open(run)
    model = read_state(opened.folder)
    if opened.ranking is None or not opened.retrieves:
        return model
    return replace(model, state={**model.state, SCORING: asdict(scoring_of(opened, opened))})


def read_state(folder: Path) -> ModelState:
    """Of a checkpoint, or of a whole version. Weights are mapped from the file, and a page is private once it is changed."""
    raws = {file.stem: IdMap.read(file).raw for file in sorted((folder / "vocabulary").glob("*.parquet"))}
    found = {name: read_attributes(folder, name) for name in ATTRIBUTES}
    attributes = {name: table for name, table in found.items() if table is not None}
    state, weights = checkpoint.load_state(folder), checkpoint.load_tensors(folder, "model")
    return ModelState(weights=weights, state=state, raws=raws, attributes=attributes)


def write_state(model: ModelState, folder: Path) -> None:
    """As a checkpoint, without what an optimizer keeps."""
    checkpoint.write_tensors(folder / "model.safetensors", model.weights)
    for name, raw in model.raws.items():
        IdMap(raw).write(folder / "vocabulary" / f"{name}.parquet")
    for name, table in model.attributes.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    write_json(folder / "state.json", {"format_version": checkpoint.FORMAT_VERSION, **model.state})


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
