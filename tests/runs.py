"""Runs with random weights, made in no time: whatever a model reads shows in its answers."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from louder import checkpoint
from louder.config import to_dict
from louder.training.config import Config
from louder.training.tasks import open_task


def untrained_run(config: Config, run: Path, seed: int = 0) -> Path:
    """A run folder whose best checkpoint has weights far from zero."""
    task = open_task(config)
    torch.manual_seed(seed)
    model = task.build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    state = {
        "progress": {"best_epoch": 0},
        "config": to_dict(config),
        "vocabulary": asdict(task.vocabulary),
        "actions": task.table.manifest.actions,
        "values": task.table.manifest.values,
    }
    folder = checkpoint.step_folder(run, 1)
    weights = {name: x.clone() for name, x in model.state_dict().items()}
    checkpoint.save(folder, model=weights, optimizer={}, state=state, beside=task.table.path)
    (run / "best.json").write_text(json.dumps({"checkpoint": folder.name}))
    return run
