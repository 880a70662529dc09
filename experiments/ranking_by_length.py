"""At what length of a history does reading it replace counting? NE of rankers by how many events came before the request."""

import argparse
from pathlib import Path

import numpy as np
import torch

from louder.config import from_dict
from louder.inference.run import Run
from louder.results import append_row, provenance
from louder.schema import ENGAGEMENT
from louder.training.config import Config
from louder.training.ranking import RankingTask, open_ranking_table
from louder.training.task import dropout_off

BOUNDS = 0, 1, 3, 7, 15, 31  # the first length of each group


def losses(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, Config]:
    """Of each exposure of the test [M]: events of the user before its request, log-loss and label of the main action."""
    run = Run.open(path)
    config = from_dict(Config, run.config)
    task = RankingTask(config, open_ranking_table(config))
    model, loader, table = task.load(run), task.parts["test"], task.table
    number, heads = task.table.manifest.actions.index(task.main), table.request_rows()
    engaged = np.append(0, np.cumsum(table.kinds == ENGAGEMENT))
    lengths, found, labels = [], [], []
    with dropout_off(model), torch.no_grad():
        for batch in loader.batches():
            logits, label = model(batch)[0][:, number].double(), batch.labels[:, number].double()
            rows = batch.rows.numpy()
            begins = table.offsets[np.searchsorted(table.offsets, rows, side="right") - 1]
            lengths.append(engaged[heads[rows]] - engaged[begins])
            found.append(torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none").numpy())
            labels.append(label.numpy())
    return np.concatenate(lengths), np.concatenate(found), np.concatenate(labels), config


def entropy(share: float) -> float:
    return float(-(share * np.log(share) + (1 - share) * np.log1p(-share)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--row", type=Path, required=True)
    arguments = parser.parse_args()
    for path in arguments.runs:
        lengths, loss, labels, config = losses(path)
        group = np.searchsorted(BOUNDS, lengths, side="right") - 1
        parts = []
        for number, first in enumerate(BOUNDS):
            own = group == number
            if own.any() and 0 < labels[own].mean() < 1:
                ne = loss[own].mean() / entropy(labels[own].mean())
                parts.append({"from": first, "exposures": int(own.sum()), "ne": float(ne)})
        row = {"experiment": config.name, "run": config.name, "seed": config.training.seed, "ne_by_length": parts}
        append_row(arguments.row, row | provenance())
        print(config.name, config.training.seed, [(part["from"], round(part["ne"], 4)) for part in parts], flush=True)


if __name__ == "__main__":
    main()
