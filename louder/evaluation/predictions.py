"""What a ranker says of every exposure of a part, kept, so that it can be looked at from several sides."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from louder.data.ranking import RankingLoader
from louder.models import AnyRanker


@dataclass(frozen=True)
class Predictions:
    """Of M exposures: users [M] and rows of the table [M], int64; probabilities [M, A] float32 and labels [M, A] bool of
    each action; values [M, V], predicted, and true_values [M, V], NaN where absent, float32; requests [M], -1 where the
    log has none."""

    users: np.ndarray
    rows: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    true_values: np.ndarray
    requests: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@torch.no_grad()
def predictions(model: AnyRanker, loader: RankingLoader, device: torch.device) -> Iterator[Predictions]:
    """A batch of the part at a time: each exposure predicted from all events before its request, those of the same part
    included. The model is as it is to be measured, without dropout."""
    for batch in loader.batches():
        logits, values = model(batch.to(device))
        owner = np.searchsorted(batch.sequences.offsets.numpy(), batch.target_positions.numpy(), side="right") - 1
        yield Predictions(
            users=batch.users.numpy()[owner],
            rows=batch.rows.numpy(),
            probabilities=torch.sigmoid(logits).cpu().numpy(),
            labels=batch.labels.numpy() > 0,
            values=values.cpu().numpy(),
            true_values=batch.value_targets.numpy(),
            requests=loader.requests(batch),
        )


def all_predictions(
    model: AnyRanker, loader: RankingLoader, device: torch.device, on_batch: Callable[[int], None] | None = None
) -> Predictions:
    """Those of all batches, in one; `on_batch(exposures)` after each."""
    parts = []
    for part in predictions(model, loader, device):
        parts.append(part)
        if on_batch:
            on_batch(len(part))
    return Predictions(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})
