"""What the two tasks share: next item (retrieval.py), and what is done with an item (ranking.py), on one table.

    build()                          a model with random weights
    load(run)                        the model of a run's best checkpoint; InputError if it is of another table
    loss(model, batch, device)       the scalar to lower
    evaluate(model, part, device)    how good the model is on "validation" or "test", dropout off
    report(model, part, device)      the same with all that a result's row holds

The loop reads `table`, `vocabulary` and `loader`, which makes the batches of the training part, besides.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from louder.data.table import Table, open_table
from louder.errors import InputError
from louder.models import HSTUConfig
from louder.schema import Manifest
from louder.training.config import Config

OnBatch = Callable[[int], None]  # told how many were measured, after each batch


@dataclass(frozen=True)
class Score:
    """A measured part: every metric by name, and the one that chooses the best epoch (the higher the better)."""

    metrics: dict[str, float]
    selected: float
    headline: str  # what a person reads of it, in a few words


def open_config_table(config: Config) -> Table:
    """The table a config names. Raises InputError if there is none, or if the config needs times that it lacks."""
    if not config.data.table:
        raise InputError("The config names no table. Pass --table FOLDER. Make one: louder etl SOURCE -o FOLDER.")
    folder = Path(config.data.table)
    ranks = config.ranking is not None
    table = open_table(folder, values=Manifest.read(folder).values if ranks else (), requests=ranks)
    if table.manifest.has_times:
        return table
    if isinstance(config.model, HSTUConfig) and config.model.time_bias:
        raise InputError(
            f"{table.path} has no times, so a bias by time has nothing to learn: --set model.time_bias=false."
        )
    if config.data.split.kind == "time":
        raise InputError(f"{table.path} has no times to split by: --set data.split.kind=leave_last_out.")
    return table


@contextmanager
def dropout_off(model: nn.Module) -> Iterator[None]:
    """The model as it is measured; then in the mode it was in."""
    training = model.training
    model.eval()
    yield
    model.train(training)
