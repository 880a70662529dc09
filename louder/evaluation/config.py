"""How a run is measured, and by what its best epoch is chosen."""

from dataclasses import dataclass

import numpy as np

from louder.errors import InputError
from louder.evaluation.retrieval_metrics import retrieval_metrics

RETRIEVAL_SELECTORS = tuple(retrieval_metrics(np.ones(1)))
RANKING_SELECTORS = "ne", "log_loss", "auc"  # of the main action


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """seen: items left out of the ranking, because the user has had them: those in the model's "window" (the official
    code), in the whole "history", or "none" """

    seen: str = "window"
    every_epochs: int = 1
    select: str = "ndcg@10"  # the metric that chooses the best epoch

    def __post_init__(self) -> None:
        if self.seen not in ("window", "history", "none"):
            raise InputError(f"evaluation.seen must be window, history or none, but it is {self.seen!r}.")
        if self.every_epochs < 1:
            raise InputError(f"evaluation.every_epochs must be at least 1, but it is {self.every_epochs}.")
        names = *RETRIEVAL_SELECTORS, *RANKING_SELECTORS
        if self.select not in names:
            raise InputError(f"evaluation.select is {self.select!r}, but it must be one of {', '.join(names)}.")
